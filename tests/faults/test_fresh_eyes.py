"""What a second reader broke: slow TLS records, late writers, leaked signatures, endless waits."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from modelbay.digest import Digest
from modelbay.errors import (
    ModelbayError,
    NetworkError,
    NotFound,
    RateLimited,
)
from modelbay.http import Client, Hosts
from modelbay.http.hosts import Patience
from modelbay.location import Credential, Http, Location
from modelbay.text import Secret
from modelbay.transfer import Engine, journal
from modelbay.transfer.bucket import Bucket
from modelbay.transfer.order import Order, Progress, Stop
from tests.faults import catalogue
from tests.faults.certificates import Authority
from tests.faults.harness import LARGE, PIECE, SIZE, SMALL, Fetching
from tests.faults.server import MIB, Content, Exchange, FaultServer, noise

CANARY = "canaryCANARYcanary"
UNNAMED = Content(noise(SIZE), etag=None, last_modified=None)


def within(seconds: float, act: Callable[[], Any]) -> Any:
    """What `act` gives or raises; a failure when that takes longer."""
    found: list[Any] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            found.append(act())
        except BaseException as error:  # noqa: BLE001 - handed on below
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    assert found, f"nothing came within {seconds} seconds"
    return found[0]


@dataclass
class SlowLine:
    """Passes connections on to `port`, and what comes back in 4 KiB at most every 0.15 s."""

    port: int
    listener: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> int:
        return int(self.listener.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self.listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.port))
                for one, other, rest in ((near, far, 0.0), (far, near, 0.15)):
                    threading.Thread(target=_pass, args=(one, other, rest), daemon=True).start()


def _pass(one: socket.socket, other: socket.socket, rest: float) -> None:
    with contextlib.suppress(OSError), one:
        while received := one.recv(4096):
            other.sendall(received)
            threading.Event().wait(rest)
        other.shutdown(socket.SHUT_WR)


def test_tls_records_that_arrive_piecemeal_are_no_end_of_the_body(
    fetching: Fetching, authority: Authority, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    content = Content(noise(40_000))
    with (
        FaultServer(content, tls=authority.server()) as server,
        SlowLine(server.port) as port,
    ):
        order = fetching.order(lambda: Http(f"https://127.0.0.1:{port}/model.bin"), content)
        fetching.limits.stall, fetching.limits.floor_seconds = 5, 60

        assert fetching.run(order).bytes == content.body
        assert len(server.log) == 1


def garbage(exchange: Exchange) -> None:
    """Bytes that are no TLS record, in the middle of a body."""
    reply = exchange.reply()
    exchange.deliver(reply, upto=MIB // 2)
    socket.socket.send(exchange.socket, b"no record of any kind")
    exchange.close()


def test_a_tls_record_damaged_on_the_way_is_asked_for_again(
    fetching: Fetching, authority: Authority, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    secure = authority.server()
    with FaultServer(LARGE, catalogue.first(1, garbage), tls=secure) as server:
        assert fetching.get(server).bytes == LARGE.body


class TestSecrets:
    def test_a_signature_is_not_made_for_where_a_redirect_led(self, fetching: Fetching):
        def sign(_method: str, _url: str, headers: Mapping[str, str]) -> Mapping[str, str]:
            return {**headers, "Authorization": f"AWS4-HMAC-SHA256 {CANARY}"}

        with FaultServer(LARGE) as other:
            with FaultServer(LARGE, catalogue.redirect(other.url())) as first:
                url = first.url()
                outcome = fetching.run(fetching.order(lambda: Http(url, sign=sign), LARGE))

            assert outcome.bytes == LARGE.body
            assert len(other.log) > 1
            assert not [request for request in other.log if CANARY in str(request.headers)]

    def test_a_cookie_is_not_kept_for_others(self, fetching: Fetching):
        with FaultServer(LARGE) as other:
            target = {"Location": other.url(), "Set-Cookie": f"session={CANARY}; Path=/"}
            with FaultServer(LARGE, catalogue.status(302, b"", target)) as first:
                assert fetching.get(first).bytes == LARGE.body

            assert not [request for request in other.log if request.secrets]

    def test_a_token_that_is_no_header_is_refused_without_showing_it(self, fetching: Fetching):
        with FaultServer(SMALL) as server:
            credential = Credential(
                "Authorization",
                Secret(f"Bearer {CANARY}é"),
                frozenset({f"http://127.0.0.1:{server.port}"}),
            )
            with pytest.raises(ModelbayError) as caught:
                fetching.client.ask(server.url(), credential=credential)

            assert CANARY not in f"{caught.value} {caught.value.hint}"
            assert server.log == []


class TestHosts:
    def test_a_stop_during_the_one_try_leaves_the_host_to_others(self, fetching: Fetching):
        fetching.limits.first_byte = 5
        client = Client(hosts=Hosts(Patience(0.02, 0.1, 4, 5.0)), first_byte=5)
        engine = Engine(client, fetching.limits)
        broken = catalogue.first(1, catalogue.status(503), catalogue.slow_headers(5))
        with FaultServer(SMALL, broken) as server:
            url, stop = server.url(), Stop()
            order = fetching.order(lambda: Http(url), SMALL)
            thread = threading.Thread(target=lambda: _quietly(engine, order, stop))
            thread.start()
            _await(lambda: len(server.log) == 2)
            stop.set()
            thread.join()
            server.fault = catalogue.first(0, catalogue.status(503))

            fetched = within(5, lambda: engine.fetch(order, Progress(), Stop()))
            assert fetched.size == len(SMALL.body)
        client.close()

    def test_a_wait_that_is_too_long_is_not_made_by_the_next_question(self, fetching: Fetching):
        with FaultServer(SMALL, catalogue.rate_limited("86400")) as server:
            for _ in range(2):
                with pytest.raises(RateLimited):
                    within(3, lambda: fetching.client.ask(server.url()))

    def test_a_file_is_located_again_though_every_connection_is_in_use(self, fetching: Fetching):
        client = Client(hosts=Hosts(Patience(0.02, 0.1, 4, 5.0), connections=2), first_byte=1)
        engine = Engine(client, fetching.limits)
        signed = catalogue.SignedUrls(life=SIZE // 4)
        with FaultServer(LARGE, catalogue.at({"/ask": catalogue.status(200)}, signed)) as server:

            def locate() -> Location:
                client.ask(server.url("/ask"))
                return Http(server.url(signed.issue()))

            order = fetching.order(locate, LARGE)
            fetched = within(10, lambda: engine.fetch(order, Progress(), Stop()))
            assert fetched.size == SIZE
        client.close()

    @pytest.mark.parametrize(
        "value",
        [b"\xb2", b"Fri, 20 Nov 99999999999999999999 00:00:00 GMT", b"9" * 5000],
        ids=["superscript", "year", "digits"],
    )
    def test_a_retry_after_that_means_nothing_is_passed_over(
        self, fetching: Fetching, value: bytes
    ):
        def odd(exchange: Exchange) -> None:
            exchange.send_raw(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nRetry-After: ")
            exchange.send_raw(value + b'\r\nRateLimit: "a";r=0;t=' + b"9" * 5000 + b"\r\n\r\n")
            exchange.close()

        with FaultServer(LARGE, odd) as server, pytest.raises(NetworkError):
            within(5, lambda: fetching.get(server).bytes)


def _quietly(engine: Engine, order: Order, stop: Stop) -> None:
    with contextlib.suppress(ModelbayError):
        engine.fetch(order, Progress(), stop)


def _await(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        threading.Event().wait(0.01)


class TestPieces:
    def test_a_slow_connection_does_not_write_over_what_a_faster_one_brought(
        self, fetching: Fetching
    ):
        """The slow one goes on with other bytes once the fast one overtook it."""
        limits = fetching.limits
        limits.stall = limits.first_byte = limits.floor_seconds = 20
        limits.window = 4 * MIB
        overtaken = threading.Event()
        slow: list[int] = []

        def fault(exchange: Exchange) -> None:
            reply, start = exchange.reply(), exchange.request.start
            if not slow and start >= SIZE // 4:
                slow.append(start)
                reply.headers["Content-Length"] = str(len(reply.body))
                exchange.send_head(reply.status, reply.headers)
                overtaken.wait(10)
                exchange.send_body(bytes(len(reply.body)))
                return
            exchange.deliver(reply)
            if slow == [start]:
                threading.Timer(0.2, overtaken.set).start()

        with FaultServer(LARGE, fault, rate=2 * MIB) as server:
            outcome = within(20, lambda: fetching.get(server))

        assert overtaken.is_set()
        assert outcome.bytes == LARGE.body

    def test_connections_that_meet_a_dead_address_together_stay_at_work(self, fetching: Fetching):
        fetching.limits.relocate_seconds = 0.0
        signed = catalogue.SignedUrls(life=SIZE // 2)
        most: list[int] = []
        progress = Progress()
        with FaultServer(LARGE, signed, rate=2 * MIB) as server:
            order = fetching.order(lambda: Http(server.url(signed.issue())), LARGE)
            thread = threading.Thread(target=lambda: fetching.run(order, progress))
            thread.start()
            while thread.is_alive():
                if signed.issued > 1 and progress.received > SIZE * 5 // 8:
                    most.append(progress.connections)
                thread.join(0.02)

        assert max(most) >= fetching.limits.connections - 1

    @pytest.mark.parametrize("cut", [3, 9])
    @pytest.mark.parametrize("suffix", [".safetensors", ".gguf"])
    def test_a_connection_that_breaks_in_the_first_bytes_is_no_verdict_on_the_file(
        self, fetching: Fetching, cut: int, suffix: str
    ):
        head = {".safetensors": (64).to_bytes(8, "little") + b"{", ".gguf": b"GGUF"}[suffix]
        content = Content(head + noise(SIZE))
        with FaultServer(content, catalogue.first(1, catalogue.reset(after=cut))) as server:
            assert fetching.get(server, content, name=f"model{suffix}").bytes == content.body

    def test_a_range_without_its_end_is_read_no_further_than_asked(self, fetching: Fetching):
        def endless(exchange: Exchange) -> None:
            start, size = exchange.request.start, len(exchange.content.body)
            reply = exchange.reply()
            reply.body = memoryview(exchange.content.body)[start:]
            reply.headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
            exchange.deliver(reply)

        fetching.engine.bucket.rate = 60 * MIB
        content = Content(noise(5 * MIB + 77))
        with FaultServer(content, endless) as server:
            outcome = within(20, lambda: fetching.get(server, content))

            assert outcome.bytes == content.body

    @pytest.mark.parametrize("rate", [1.0, 1e4, 1e9])
    def test_a_bite_is_never_more_than_was_asked_for(self, rate: float):
        assert Bucket(rate).bite(100) == 100

    def test_a_refusal_is_not_held_back_until_a_long_part_is_hashed(self, fetching: Fetching):
        size = 12 << 30
        digest = Digest.sha256("a" * 64)
        with FaultServer(LARGE, catalogue.status(404)) as server:
            url = server.url()
            order = fetching.order(lambda: Http(url), LARGE, size=size, digests=(digest,))
            order.part.touch()
            os.truncate(order.part, size)
            journal.write(order.part, journal.Journal(size, str(digest), ((0, size - PIECE),)))
            outcome = within(30, lambda: _timed(lambda: fetching.run(order)))

        seconds, found = outcome
        assert isinstance(found.error, NotFound)
        # Hashing what is held would take six seconds and more.
        assert seconds < 4


def _timed(act: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.monotonic()
    found = act()
    return time.monotonic() - begun, found


class TestEnds:
    def test_a_source_that_fails_while_it_explains_ends_the_transfer(self, fetching: Fetching):
        def explain(_status: int, _headers: Mapping[str, str], _body: str) -> ModelbayError:
            raise LookupError("a bug of that source")

        with FaultServer(LARGE, catalogue.status(404)) as server:
            url = server.url()
            order = fetching.order(lambda: Http(url, explain=explain), LARGE)
            with pytest.raises(LookupError):
                within(5, lambda: fetching.run(order))

    def test_a_server_that_denies_an_empty_file_is_not_asked_for_ever(self, fetching: Fetching):
        with FaultServer(Content(b""), catalogue.unsatisfiable) as server:
            outcome = within(5, lambda: fetching.get(server, Content(b""), size=None, digests=()))

            assert isinstance(outcome.failure, ModelbayError)
            assert len(server.log) <= 10

    def test_a_redirect_whose_own_body_never_ends_is_followed(self, fetching: Fetching):
        def endless(exchange: Exchange) -> None:
            headers = {"Location": "/moved.bin", "Transfer-Encoding": "chunked"}
            exchange.send_head(302, headers)
            while not exchange.server.stopping:
                exchange.send_raw(b"10000\r\n" + bytes(65536) + b"\r\n")

        with FaultServer(LARGE, catalogue.at({"/model.bin": endless})) as server:
            assert within(10, lambda: fetching.get(server).bytes) == LARGE.body

    def test_a_damaged_encoding_is_trouble_of_the_server(self, fetching: Fetching):
        broken = catalogue.status(200, b"no gzip at all", {"Content-Encoding": "gzip"})
        with FaultServer(SMALL, broken) as server, pytest.raises(NetworkError):
            fetching.client.ask(server.url())

    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("SSL_CERT_FILE", "/nowhere/ca.pem"),
            ("HTTP_PROXY", "gopher://x:1"),
            ("ALL_PROXY", "socks5://127.0.0.1:9"),
        ],
    )
    def test_an_environment_that_makes_no_client_is_named(
        self, fetching: Fetching, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
    ):
        monkeypatch.setenv(variable, value)
        with FaultServer(SMALL) as server:
            with pytest.raises(ModelbayError) as caught:
                fetching.client.ask(server.url())

            assert variable in f"{caught.value} {caught.value.hint}"
