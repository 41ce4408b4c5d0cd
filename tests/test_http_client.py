"""The client over real sockets: kept connections, cuts, redirects, the guard, proxies, names."""

import contextlib
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from modelbay.errors import ModelbayError, RedirectRefused, ServerTrouble, Unreachable
from modelbay.http import Client, Cut, Hosts, Landing, Reply
from modelbay.http.hosts import Patience
from modelbay.http.kept import request_head
from modelbay.http.reply import DirectReply
from modelbay.http.sockets import connect, guarding, is_private
from modelbay.http.trouble import explained
from modelbay.location import Credential, Http, origin_of
from modelbay.text import Secret
from tests.faults import catalogue
from tests.faults.certificates import Authority, make_authority
from tests.faults.server import Content, Exchange, Fault, FaultServer, honest, noise

QUICK = Patience(backoff=0.01, backoff_cap=0.02, tries=2, wait_cap=1.0)
CANARY = "c4n4ry-of-the-client"
SMALL = Content(b"twelve bytes")
LARGE = Content(noise(4 << 20, seed=3))


@pytest.fixture(autouse=True)
def plain_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(hosts=Hosts(QUICK), first_byte=2.0) as made:
        yield made


def opened(
    client: Client, url: str, *, cut: Cut | None = None, landed: Landing | None = None
) -> Reply:
    return client.open(Http(url), own={}, landed=landed, cut=cut)


def drained(reply: Reply) -> bytes:
    found, view = b"", memoryview(bytearray(1 << 18))
    with reply:
        while count := reply.read_into(view, 2.0):
            found += view[:count]
    return found


def got(client: Client, url: str) -> bytes:
    return drained(opened(client, url))


def raw(*parts: bytes, closes: bool = False) -> Fault:
    def fault(exchange: Exchange) -> None:
        for part in parts:
            exchange.send_raw(part)
        if closes:
            exchange.close()

    return fault


def by_path(**faults: Fault) -> Fault:
    return catalogue.at({f"/{path}": fault for path, fault in faults.items()})


# Connections that are kept.


@pytest.mark.parametrize("way", ["open", "ask", "probe"])
def test_requests_that_are_read_to_their_end_share_a_connection(client: Client, way: str):
    short = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")
    with FaultServer(SMALL, short) as server:
        for _ in range(3):
            answer = (
                got(client, server.url()) if way == "open" else _body(client, way, server.url())
            )
            assert answer == b"1"

        assert len(server.log) == 3
        assert server.connections == 1


def _body(client: Client, way: str, url: str) -> bytes:
    body: bytes = getattr(client, way)(url).body
    return body


def test_an_idle_connection_that_the_server_closed_costs_one_more_and_no_error(client: Client):
    with FaultServer(
        SMALL, raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1", closes=True)
    ) as s:
        for _ in range(3):
            assert got(client, s.url()) == b"1"
            s.await_idle()

        assert len(s.log) == s.connections == 3


@pytest.mark.parametrize("how", [Exchange.close, Exchange.reset], ids=["fin", "rst"])
def test_a_connection_given_up_as_it_is_asked_is_replaced_once(client: Client, how):
    def second_time(exchange: Exchange) -> None:
        if exchange.request.number % 2:
            how(exchange)
        honest(exchange)

    with FaultServer(SMALL, second_time) as server:
        assert got(client, server.url()) == SMALL.body
        assert got(client, server.url()) == SMALL.body

        assert len(server.log) == 3
        assert server.connections == 2


def test_a_new_connection_that_is_given_up_is_not_replaced(client: Client):
    with FaultServer(SMALL, Exchange.close) as server:
        with pytest.raises(Unreachable) as caught:
            opened(client, server.url())

        assert caught.value.transient
        assert len(server.log) == 1


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_connection_with_bytes_beyond_its_answer_is_not_asked_again(
    client: Client, authority: Authority, monkeypatch: pytest.MonkeyPatch, secure: bool
):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    forged = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
    # In two parts: the second is one TLS record, of which the body is the beginning.
    both = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", b"true" + forged)
    with FaultServer(SMALL, both, tls=authority.server() if secure else None) as server:
        assert got(client, server.url()) == b"true"
        assert got(client, server.url()) == b"true"

        assert server.connections == 2


@pytest.mark.parametrize("upto", [0, 5])
def test_a_body_left_unread_ends_its_connection(client: Client, upto: int):
    with FaultServer(LARGE) as server:
        with opened(client, server.url()) as reply:
            reply.read_into(memoryview(bytearray(upto)), 2.0)
        server.await_idle()
        assert got(client, server.url()) == LARGE.body

        assert server.connections == 2
        assert server.gets[0].sent < len(LARGE.body)


def test_an_answer_that_frames_itself_twice_ends_its_connection(client: Client):
    twice = raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nhi\r\n0\r\n\r\n"
    )
    with FaultServer(SMALL, twice) as server:
        assert [got(client, server.url()) for _ in range(2)] == [b"hi"] * 2
        assert server.connections == 2


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_body_says_so_whatever_it_announces(client: Client, status: int):
    head = f"HTTP/1.1 {status} No\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with FaultServer(SMALL, raw(head)) as server:
        for _ in range(2):
            with opened(client, server.url()) as reply:
                assert reply.status == status
                assert reply.read_into(memoryview(bytearray(9)), 0.5) == 0
        assert server.connections == 1


def test_a_connection_idle_for_long_is_not_asked_again(client: Client):
    with FaultServer(SMALL) as server:
        got(client, server.url())
        (kept,) = client._kept._idle[origin_of(server.url())]
        kept.idle_since -= 31
        got(client, server.url())

        assert server.connections == 2


def test_a_small_redirect_keeps_its_connection(client: Client):
    page = b"<a href=/there>moved</a>"
    moved = b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: %d\r\n\r\n%b"
    with FaultServer(SMALL, by_path(here=raw(moved % (len(page), page)))) as server:
        assert got(client, server.url("/here")) == SMALL.body

        assert len(server.log) == 2
        assert server.connections == 1


@pytest.mark.parametrize("way", ["open", "ask"])
@pytest.mark.parametrize(
    "framing",
    [
        "Transfer-Encoding: chunked",
        "X-Length: none",
        "Content-Length: 9000",
        "Content-Length: 9999999",
    ],
)
def test_a_redirect_whose_body_never_ends_is_not_waited_for(client: Client, way: str, framing: str):
    def endless(exchange: Exchange) -> None:
        head = f"HTTP/1.1 302 Found\r\nLocation: /there\r\n{framing}\r\n\r\n"
        exchange.send_raw(head.encode())
        for _ in range(200):
            exchange.send_raw(b"1\r\nx\r\n")
            exchange.hold(0.1)

    with FaultServer(SMALL, by_path(here=endless)) as server:
        began = time.monotonic()
        if way == "open":
            assert got(client, server.url("/here")) == SMALL.body
        else:
            assert client.ask(server.url("/here")).body == SMALL.body

        assert time.monotonic() - began < 7


def test_a_connection_that_comes_back_after_the_close_is_ended():
    client = Client()
    with FaultServer(SMALL) as server:
        reply = opened(client, server.url())
        client.close()
        assert drained(reply) == SMALL.body

        assert isinstance(reply, DirectReply)
        assert reply._connection.sock.fileno() == -1


def dripping(head: bytes) -> Fault:
    """`head`, then a byte now and then for as long as anybody reads."""

    def fault(exchange: Exchange) -> None:
        exchange.send_raw(head)
        for _ in range(100):
            exchange.send_raw(b"x")
            exchange.hold(0.1)

    return fault


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\nX-Name: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n"],
    ids=["head", "body"],
)
def test_a_whole_answer_that_drips_is_given_up_once_its_time_is_over(head: bytes):
    with (
        FaultServer(SMALL, dripping(head)) as server,
        Client(hosts=Hosts(QUICK), first_byte=2.0, whole_answer=0.5) as client,
    ):
        began = time.monotonic()
        with pytest.raises(Unreachable, match="did not answer in time"):
            client.ask(server.url())

        assert time.monotonic() - began < 3
        assert len(server.log) == 1


# Another thread's cut.


def _falling(cut: Cut, after: float = 0.1) -> threading.Thread:
    thread = threading.Timer(after, cut.fall)
    thread.start()
    return thread


def test_a_cut_ends_the_wait_for_a_head(client: Client):
    cut = Cut()
    with FaultServer(SMALL, lambda exchange: exchange.hold(5)) as server:
        falling, began = _falling(cut), time.monotonic()
        with pytest.raises(Unreachable):
            opened(client, server.url(), cut=cut)
        falling.join()

        assert time.monotonic() - began < 1
        assert len(server.log) == 1


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_cut_ends_a_body(
    client: Client, authority: Authority, monkeypatch: pytest.MonkeyPatch, secure: bool
):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    cut, view = Cut(), memoryview(bytearray(len(LARGE.body)))
    tls = authority.server() if secure else None
    with FaultServer(LARGE, catalogue.stall(after=100_000), tls=tls) as server:
        reply, began = opened(client, server.url(), cut=cut), time.monotonic()
        falling = _falling(cut)
        with reply, pytest.raises(Unreachable):  # noqa: PT012 - the read that is cut is any
            while reply.read_into(view, 5.0):
                pass
        falling.join()

        assert time.monotonic() - began < 1


@pytest.mark.parametrize("warm", [False, True], ids=["new", "kept"])
def test_a_cut_that_fell_lets_no_request_out(client: Client, warm: bool):
    cut = Cut()
    cut.fall()
    with FaultServer(SMALL) as server:
        if warm:
            got(client, server.url())
        before = server.connections, len(server.log)
        with pytest.raises(Unreachable):
            opened(client, server.url(), cut=cut)

    # The server has taken every connection there was by the time it is closed.
    assert (server.connections, len(server.log)) == before


def test_a_cut_leaves_a_connection_alone_that_was_given_back(client: Client):
    cut = Cut()
    with FaultServer(SMALL) as server:
        drained(opened(client, server.url(), cut=cut))
        cut.fall()
        assert got(client, server.url()) == SMALL.body

        assert server.connections == 1


# Redirects.

TARGETS = {
    "same": (lambda first, other: "/there", True),
    "relative": (lambda first, other: "there?x=1", True),
    "whole": (lambda first, other: first.url("/there"), True),
    "fragment": (lambda first, other: "/there#part", True),
    "userinfo-same": (lambda first, other: first.url("/there", host="me:pw@127.0.0.1"), True),
    "port": (lambda first, other: other.url("/there"), False),
    "no-scheme": (lambda first, other: other.url("/there").removeprefix("http:"), False),
    "host": (lambda first, other: other.url("/there", host="localhost"), False),
    "userinfo": (lambda first, other: other.url("/there", host="me:pw@127.0.0.1"), False),
    "looks-same": (
        lambda first, other: f"http://127.0.0.1:{first.port}@127.0.0.1:{other.port}/there",
        False,
    ),
    "backslash": (
        lambda first, other: f"http://127.0.0.1:{first.port}\\@127.0.0.1:{other.port}/there",
        False,
    ),
}


@pytest.mark.parametrize("way", ["open", "ask", "probe"])
@pytest.mark.parametrize(
    ("kind", "code"),
    [*((kind, 302) for kind in TARGETS), *(("port", code) for code in (301, 303, 307, 308))],
)
def test_what_we_carry_goes_to_its_own_origin_only(client: Client, way, kind, code):
    target, own = TARGETS[kind]
    with FaultServer(SMALL) as other, FaultServer(SMALL) as first:
        there = target(first, other)
        first.fault = by_path(here=catalogue.redirect(there, code))
        url = first.url("/here")
        headers = {"X-Api-Key": CANARY, "Cookie": f"a={CANARY}", "X-Own": CANARY}
        credential = Credential("Authorization", Secret(CANARY), frozenset({origin_of(url)}))
        if way == "open":
            location = Http(url, headers, credential)
            assert drained(client.open(location, own={}, landed=None, cut=None)) == SMALL.body
        else:
            answer = getattr(client, way)(url, headers=headers, credential=credential)
            assert SMALL.body.startswith(answer.body)
            assert "@" not in answer.url.replace("\\@", "")

        landed = first if own else other
        assert landed.log[-1].target.partition("?")[0] == "/there"
        assert len(first.log) + len(other.log) == 2
        carried = [sum(CANARY in value for _, value in r.headers) for r in first.log]
        assert carried == ([4, 4] if own else [4])
        assert CANARY not in str(other.log)
        assert "pw" not in str(landed.log[-1].headers)
        assert landed.log[-1].header("authorization") == (CANARY if own else None)


SUBDOMAINS = """
    from modelbay.http import Client
    from modelbay.location import Credential, Http, origin_of
    from modelbay.text import Secret
    from tests.faults import catalogue
    from tests.faults.server import Content, FaultServer, honest

    def asked(client, way, url):
        headers, where = {"X-Own": "canary"}, frozenset({origin_of(url)})
        credential = Credential("Authorization", Secret("canary"), where)
        if way == "open":
            client.open(Http(url, headers, credential), own={}, landed=None, cut=None).close()
        else:
            getattr(client, way)(url, headers=headers, credential=credential)

    for way in ("open", "ask", "probe"):
        for first, second in (("hub.test", "cdn.hub.test"), ("cdn.hub.test", "hub.test"), ("hub.test", "hub.test.")):
            with FaultServer(Content(b"x")) as server, Client() as client:
                there = server.url("/there", host=second)
                server.fault = catalogue.at({"/here": catalogue.redirect(there)})
                asked(client, way, server.url("/here", host=first))
                assert ["canary" in str(r.headers) for r in server.log] == [True, False], server.log
    print("held")
"""


@pytest.mark.real
def test_what_we_carry_goes_to_no_sub_or_parent_domain(tmp_path: Path):
    names = tmp_path / "hosts"
    names.write_text("127.0.0.1 localhost hub.test cdn.hub.test hub.test.\n")
    done = _in_a_network_of_its_own(SUBDOMAINS, f"mount --bind {names} /etc/hosts")

    assert (done.stdout, done.stderr) == ("held\n", "")


@pytest.mark.parametrize("way", ["open", "ask", "probe"])
@pytest.mark.parametrize(
    "target",
    [
        *("file:///etc/passwd", "ftp://127.0.0.1/x", "javascript:alert(1)", "data:,x"),
        *("//", "http://", "http://[x", "http://h:x/", "http://h:99999/", "ws://h/"),
        *("unix:/run/x", "about:blank", "http://@/", "\x01file:///x"),
    ],
)
def test_a_redirect_to_what_is_no_web_address_is_refused(client: Client, way: str, target: str):
    with FaultServer(SMALL, by_path(here=catalogue.redirect(target))) as server:
        with pytest.raises(ModelbayError) as caught:
            _asked(client, way, server.url("/here"))

        assert isinstance(caught.value, RedirectRefused)
        assert not caught.value.transient
        assert len(server.log) == 1


def _asked(client: Client, way: str, url: str) -> object:
    return opened(client, url) if way == "open" else getattr(client, way)(url)


@pytest.mark.parametrize("way", ["open", "ask"])
@pytest.mark.parametrize("ring", [1, 2, 50])
def test_a_ring_of_redirects_ends_after_eleven_requests(client: Client, way: str, ring: int):
    with FaultServer(SMALL, catalogue.redirect_loop(ring)) as server:
        with pytest.raises(RedirectRefused, match="circle"):
            _asked(client, way, server.url())

        assert len(server.log) <= 11


def test_ten_hops_are_followed(client: Client):
    def down(exchange: Exchange) -> None:
        left = int(exchange.request.target[1:])
        if not left:
            honest(exchange)
            return
        catalogue.redirect(f"/{left - 1}")(exchange)

    with FaultServer(SMALL, down) as server:
        assert got(client, server.url("/10")) == SMALL.body
        with pytest.raises(RedirectRefused):
            got(client, server.url("/11"))


@pytest.mark.parametrize("way", ["open", "ask"])
def test_redirects_are_answers_when_nobody_is_to_follow(client: Client, way: str):
    with FaultServer(SMALL, catalogue.redirect("/there")) as server:
        answer = client.ask(server.url("/here"), follow="none")

        assert (answer.status, answer.header("Location")) == (302, "/there")
        assert len(server.log) == 1


@pytest.mark.parametrize("way", ["open", "ask"])
@pytest.mark.parametrize(
    ("location", "asked"),
    [
        (b"/a b", b"/a%20b"),
        (b"/caf\xc3\xa9", b"/caf%C3%A9"),
        (b"/%7Ea%2Fb?x=%20", b"/%7Ea%2Fb?x=%20"),
        (b"/a\x01b", b"/a%01b"),
        (b"/sig?X-Amz-Signature=a%2Fb+c/d==", b"/sig?X-Amz-Signature=a%2Fb+c/d=="),
        (b"/x HTTP/1.1\tX-Evil: 1", b"/x%20HTTP/1.1X-Evil:%201"),
    ],
)
def test_a_location_is_asked_for_as_it_was_written(client: Client, way, location, asked):
    moved = b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % location
    with FaultServer(SMALL, by_path(here=raw(moved))) as server:
        _read(client, way, server.url("/here"))

        assert server.log[-1].target.encode("latin-1") == asked
        assert server.log[-1].header("x-evil") is None


def _read(client: Client, way: str, url: str) -> bytes:
    return got(client, url) if way == "open" else client.ask(url).body


@pytest.mark.parametrize("way", ["open", "ask"])
def test_a_server_that_is_gone_right_after_its_redirect_is_followed(client: Client, way: str):
    with FaultServer(SMALL) as other:
        there = other.url("/there").encode()
        head = b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % there

        def hop(exchange: Exchange) -> None:
            exchange.send_raw(head)
            exchange.reset()

        with FaultServer(SMALL, hop) as first:
            for _ in range(10):
                assert _read(client, way, first.url("/here")) == SMALL.body


@pytest.mark.parametrize("way", ["open", "ask"])
def test_no_cookie_is_kept(client: Client, way: str):
    set_cookie = raw(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 1\r\n\r\n1")
    with FaultServer(SMALL, set_cookie) as server:
        _read(client, way, server.url("/one"))
        _read(client, way, server.url("/two"))

        assert [request.header("cookie") for request in server.log] == [None, None]


@pytest.mark.parametrize("way", ["open", "ask", "probe"])
@pytest.mark.parametrize(
    "url",
    [
        *("http://", "http:///x", "http://[x/", "http://h:x/", "http://h:99999/", "ftp://h/x"),
        *("", "h/x", "file:///etc/passwd", "http://" + "a" * 300 + ".test/", "http://a..b/"),
        *("http://\udc80/", "http://ex\u2100mple/", "http://xn--a/", "http://a b/"),
    ],
    ids=ascii,
)
def test_what_is_no_address_is_an_error_of_ours(client: Client, way: str, url: str):
    with pytest.raises(ModelbayError) as caught:
        _asked(client, way, url)

    assert caught.value.hint


def test_a_request_keeps_to_its_lines():
    head = request_head("http://me:pw@host:81/a b\r\nX: 1?q=\x01#frag", {"A": "b"})

    assert head == b"GET /a%20bX:%201?q=%01 HTTP/1.1\r\nHost: host:81\r\nA: b\r\n\r\n"
    with pytest.raises(ValueError, match="line break"):
        request_head("http://host/", {"A": "b\r\nX: 1"})


@pytest.mark.parametrize("way", ["ask", "probe"])
@pytest.mark.parametrize(
    "nonsense",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nxx",
        b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://" + b"a" * 300 + b"/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://\xc2\xb2\xe2\x84\x80/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
    ],
    ids=lambda nonsense: repr(nonsense[:60]),
)
def test_no_answer_ends_in_anything_but_an_answer_or_an_error_of_ours(client, way, nonsense):
    with FaultServer(SMALL, raw(nonsense, closes=True)) as server:
        try:
            outcome = getattr(client, way)(server.url()).status
        except ModelbayError as error:
            outcome = error.hint

        assert outcome
        assert len(server.log) <= QUICK.tries + 1


def test_a_small_answer_that_unpacks_without_end_is_cut_off(client: Client):
    import gzip

    body = gzip.compress(gzip.compress(bytes(200 << 20), 9), 9)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip, gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    with (
        FaultServer(SMALL, raw(head.encode(), body)) as server,
        pytest.raises(ServerTrouble, match="32 MiB"),
    ):
        client.ask(server.url())


# The guard (row 23).


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.9.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "0.0.0.0", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0"),
        *("fc00::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "192.0.2.1", "2001:db8::1"),
        *("64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1", "224.0.0.1"),
        *("ff02::1", "nonsense"),
    ],
)
def test_an_address_of_no_public_host_is_private(address: str):
    assert is_private(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_an_address_of_the_internet_is_not_private(address: str):
    assert not is_private(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "::1", "0.0.0.0", "2130706433", "0x7f.1"]
)
def test_a_guarded_connection_is_not_made_to_a_private_address(host: str):
    with FaultServer(SMALL) as server:
        with guarding(on=True), pytest.raises(OSError, match="private address"):
            connect(host, server.port, 1.0)

        assert server.connections == 0


def test_the_guard_ends_with_its_block_and_is_of_one_thread():
    seen: list[bool] = []

    def other() -> None:
        connect("127.0.0.1", server.port, 1.0).close()
        seen.append(True)

    with FaultServer(SMALL) as server:
        with guarding(on=True):
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
        connect("127.0.0.1", server.port, 1.0).close()

    assert seen == [True]


@pytest.mark.parametrize("warm", [False, True], ids=["new", "kept"])
def test_where_a_public_host_led_us_is_never_asked_on_a_private_address(client: Client, warm: bool):
    with FaultServer(SMALL) as server:
        if warm:
            got(client, server.url())
        before = len(server.log)
        with pytest.raises(RedirectRefused, match="private"):
            opened(client, server.url(), landed=Landing(server.url(), guarded=True))

        assert len(server.log) == before


def test_the_library_connects_through_our_backend(client: Client):
    """Fails when the library stops honouring the private attribute that `_made` sets."""
    with FaultServer(SMALL) as server:
        with guarding(on=True), pytest.raises(httpx2.ConnectError, match="private"):
            client._client().get(server.url())
        assert server.connections == 0

        assert client.ask(server.url()).body == SMALL.body


PUBLIC = """
    import sys
    from modelbay.errors import RedirectRefused
    from modelbay.http import Client, Hosts, Landing
    from modelbay.location import Http
    from tests.faults import catalogue
    from tests.faults.server import Content, FaultServer

    def public(server):
        return server.url("/here", host="9.9.9.9")

    def tried(way, url):
        with Client(first_byte=2.0) as client:
            if way == "open":
                client.open(Http(url), own={}, landed=None, cut=None).close()
            else:
                getattr(client, way)(url)

    import socket
    create = socket.create_server
    socket.create_server = lambda address, **more: create(("", address[1]), **more)
    hops = ["http://127.0.0.1:{}/", "http://localhost:{}/", "http://2130706433:{}/",
            "http://[::ffff:127.0.0.1]:{}/", "http://0:{}/", "http://10.1.2.3:{}/"]
    for way in ("open", "ask", "probe"):
        for hop in hops:
            with FaultServer(Content(b"x")) as inner:
                away = catalogue.redirect(hop.format(inner.port))
                with FaultServer(Content(b"x"), away) as outer:
                    try:
                        tried(way, public(outer))
                    except RedirectRefused as error:
                        assert "private" in str(error), error
                    else:
                        sys.exit(f"{way} {hop} was followed")
                    assert len(outer.log) == 1, outer.log
                assert inner.connections == 0, (way, hop)
        with FaultServer(Content(b"x")) as inner:
            with FaultServer(Content(b"x"), catalogue.redirect(public(inner))) as outer:
                tried(way, public(outer))
            assert len(inner.log) == 1
            with FaultServer(Content(b"x"), catalogue.redirect(inner.url())) as outer:
                tried(way, outer.url())
            assert len(inner.log) == 2
    print("held")
"""


def _in_a_network_of_its_own(code: str, *setup: str) -> subprocess.CompletedProcess[str]:
    script = "; ".join(["set -e", "ip link set lo up", *setup, 'exec "$0" -c "$1"'])
    command = ["unshare", "-n", "-m", "sh", "-c", script, sys.executable, textwrap.dedent(code)]
    root = Path(__file__).parents[1]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=root,
        env={**os.environ, "PYTHONPATH": f"{root}:{root / 'src'}"},
    )  # fmt: skip


@pytest.mark.real
def test_a_public_host_leads_to_no_private_address():
    done = _in_a_network_of_its_own(
        PUBLIC, "ip addr add 9.9.9.9/32 dev lo", "ip addr add 10.1.2.3/32 dev lo"
    )

    assert (done.stdout, done.stderr) == ("held\n", "")


# Names (row 31).


@pytest.mark.parametrize(
    ("number", "transient", "said"),
    [
        (socket.EAI_NONAME, False, "not known"),
        (socket.EAI_NODATA, False, "not known"),
        (socket.EAI_FAIL, False, "not known"),
        (socket.EAI_AGAIN, True, "just now"),
    ],
)
def test_only_a_name_service_in_trouble_is_tried_again(number, transient: bool, said: str):
    error = explained(socket.gaierror(number, "as the system says"), "http://host.test/x")

    assert isinstance(error, Unreachable)
    assert error.transient is transient
    assert said in str(error)
    assert "host.test" in str(error)


NAMES = """
    import socket, sys, threading, time
    from modelbay.errors import Unreachable
    from modelbay.http import Client, Hosts
    from modelbay.http.hosts import Patience
    from modelbay.location import Http

    asked = []
    service = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    service.bind(("127.0.0.1", 53))

    def serve():
        while True:
            question, whence = service.recvfrom(4096)
            code = 3 if b"missing" in question else 2
            asked.append(code)
            end = question.index(bytes(1), 12) + 5
            head = question[:2] + bytes([0x81, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0])
            service.sendto(head + question[12:end], whence)

    threading.Thread(target=serve, daemon=True).start()
    for way in ("open", "ask", "probe"):
        for name, transient in (("missing.test", False), ("trouble.test", True)):
            waits = []
            with Client(hosts=Hosts(Patience(0.01, 0.02, 3, 1))) as client:
                try:
                    if way == "open":
                        client.open(Http(f"http://{name}/"), own={}, landed=None, cut=None)
                    else:
                        getattr(client, way)(f"http://{name}/", wait=lambda s: (waits.append(s), time.sleep(s)))
                except Unreachable as error:
                    assert error.transient is transient, error
                    assert name in str(error)
                    assert bool(waits) is (transient and way != "open"), (way, name, waits)
                else:
                    sys.exit("found")
    print("held")
"""


@pytest.mark.real
def test_a_name_that_is_missing_is_asked_once_and_a_service_in_trouble_again(tmp_path: Path):
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    done = _in_a_network_of_its_own(NAMES, f"mount --bind {resolver} /etc/resolv.conf")

    assert (done.stdout, done.stderr) == ("held\n", "")


# Proxies (row 30).


def forwarding(exchange: Exchange) -> None:
    """A proxy: CONNECT as a tunnel, an absolute address by asking for it."""
    where = exchange.request.target
    if exchange.request.method != "CONNECT":
        where = where.removeprefix("http://").partition("/")[0]
    host, _, port = where.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as far:
        if exchange.request.method == "CONNECT":
            exchange.send_raw(b"HTTP/1.1 200 Connected\r\n\r\n")
        else:
            path = "/" + exchange.request.target.split("/", 3)[3]
            lines = [f"GET {path} HTTP/1.1", *(f"{n}: {v}" for n, v in exchange.request.headers)]
            far.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
            far.shutdown(socket.SHUT_WR)
        back = threading.Thread(target=_pump, args=(far, exchange.socket))
        back.start()
        if exchange.request.method == "CONNECT":
            _pump(exchange.socket, far)
        back.join()
    exchange.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(1 << 16):
            sink.sendall(chunk)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    with FaultServer(SMALL, forwarding) as proxy:
        address = f"http://me:{CANARY}@127.0.0.1:{proxy.port}"
        monkeypatch.setenv("HTTP_PROXY", address)
        monkeypatch.setenv("HTTPS_PROXY", address)
        yield proxy


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_large_body_through_a_proxy_is_equal(
    proxied: FaultServer, authority: Authority, monkeypatch: pytest.MonkeyPatch, secure: bool
):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    tls = authority.server() if secure else None
    with FaultServer(LARGE, tls=tls) as server, Client() as client:
        assert got(client, server.url()) == LARGE.body
        assert client.probe(server.url()).body == LARGE.body[:1]

        assert {request.method for request in proxied.log} == {"CONNECT" if secure else "GET"}
        assert all(request.header("proxy-authorization") for request in proxied.log)
        assert not [r for r in server.log if secure and r.header("proxy-authorization")]


@pytest.mark.parametrize("named", ["127.0.0.1", "*", "other.test,127.0.0.1"])
def test_a_host_in_no_proxy_is_asked_directly(proxied, monkeypatch: pytest.MonkeyPatch, named):
    monkeypatch.setenv("NO_PROXY", named)
    with FaultServer(LARGE) as server, Client() as client:
        assert got(client, server.url()) == LARGE.body

        assert len(server.log) == 1
        assert proxied.log == []


def test_no_proxy_alone_is_no_proxy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_PROXY", "localhost")
    with FaultServer(SMALL) as server, Client(first_byte=2.0) as client:
        assert got(client, server.url()) == SMALL.body

        assert client._made is None


REFUSED = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("way", ["open", "ask", "probe"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_name_says_so_without_the_password(proxied, way: str, scheme: str):
    proxied.fault = raw(REFUSED)
    with Client(hosts=Hosts(QUICK), first_byte=2.0) as client:
        with pytest.raises(Unreachable, match="proxy") as caught:
            _asked(client, way, f"{scheme}://host.test/x")

        assert "name and a password" in str(caught.value)
        assert f"{scheme.upper()}_PROXY" in caught.value.hint
        assert CANARY not in f"{caught.value}{caught.value.hint}{caught.value.__cause__!r}"
        assert len(proxied.log) == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Exchange.close, id="closes"),
        pytest.param(Exchange.reset, id="resets"),
        pytest.param(raw(b"nonsense\r\n\r\n", closes=True), id="nonsense"),
        pytest.param(lambda exchange: exchange.hold(5), id="silent"),
    ],
)
def test_a_proxy_that_fails_is_trouble_that_may_pass(proxied, scheme: str, fault: Fault):
    proxied.fault = fault
    with Client(hosts=Hosts(QUICK), first_byte=0.3) as client:
        with pytest.raises(Unreachable) as caught:
            client.ask(f"{scheme}://host.test/x")

        assert caught.value.transient
        assert "host.test could not be read through the proxy 127.0.0.1" in str(caught.value)
        assert CANARY not in f"{caught.value}{caught.value.hint}{caught.value.__cause__!r}"
        assert len(proxied.log) == QUICK.tries


def test_a_proxy_that_is_not_there_is_trouble_that_may_pass(monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTP_PROXY", f"http://me:{CANARY}@127.0.0.1:{free.getsockname()[1]}")
        with Client(hosts=Hosts(QUICK)) as client, pytest.raises(Unreachable) as caught:
            client.ask("http://host.test/x")

    assert caught.value.transient
    assert CANARY not in f"{caught.value}{caught.value.hint}{caught.value.__cause__!r}"


@pytest.mark.parametrize(
    "value",
    [f"socks5://me:{CANARY}@127.0.0.1:1", f"nonsense://{CANARY}@x"],
)
@pytest.mark.parametrize("way", ["open", "ask"])
def test_a_proxy_setting_that_cannot_be_used_is_named_without_its_value(monkeypatch, way, value):
    monkeypatch.setenv("ALL_PROXY", value)
    with Client() as client, pytest.raises(ModelbayError, match="ALL_PROXY") as caught:
        _asked(client, way, "http://host.test/x")

    assert CANARY not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize("way", ["open", "ask"])
def test_a_proxy_whose_name_is_none_is_an_error_of_ours(monkeypatch, way: str):
    monkeypatch.setenv("HTTP_PROXY", f"http://{'a' * 300}.test:3128")
    with (
        Client(hosts=Hosts(QUICK), first_byte=2.0) as client,
        pytest.raises(Unreachable, match="proxy"),
    ):
        _asked(client, way, "http://host.test/x")


@pytest.mark.parametrize("way", ["open", "ask"])
def test_a_proxy_whose_name_is_unknown_is_the_one_that_is_named(monkeypatch, way: str):
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{CANARY}@proxy.invalid:3128")
    with Client(hosts=Hosts(QUICK)) as client, pytest.raises(Unreachable) as caught:
        _asked(client, way, "https://host.test/x")

    assert "the name of the proxy proxy.invalid" in str(caught.value)
    assert CANARY not in f"{caught.value}{caught.value.hint}{caught.value.__cause__!r}"


@pytest.mark.parametrize("way", ["open", "ask"])
@pytest.mark.parametrize("direct", ["127.0.0.1,localhost", "other.test"])
def test_a_redirect_out_of_a_proxy_reaches_no_private_host(
    proxied, monkeypatch: pytest.MonkeyPatch, way: str, direct: str
):
    """The proxy's own address is private as a rule, and says nothing about the host behind."""
    monkeypatch.setenv("NO_PROXY", direct)
    with FaultServer(SMALL) as inner, Client(hosts=Hosts(QUICK)) as client:
        proxied.fault = catalogue.redirect(inner.url())
        with pytest.raises(RedirectRefused, match="private"):
            _read(client, way, "http://public.invalid/x")

        assert inner.connections == 0
        assert len(proxied.log) == 1


@pytest.mark.parametrize("way", ["open", "ask"])
def test_a_private_host_behind_a_proxy_may_redirect_to_its_like(proxied, way: str):
    with FaultServer(SMALL) as inner, Client(hosts=Hosts(QUICK)) as client:
        with FaultServer(SMALL, catalogue.redirect(inner.url())) as outer:
            assert _read(client, way, outer.url()) == SMALL.body

        assert len(inner.log) == 1
