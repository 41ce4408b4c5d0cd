"""Each fault is proved to be the fault, by a client made of one socket."""

import gzip
import socket
import ssl
import time
from dataclasses import dataclass

import pytest

from tests.faults import catalogue
from tests.faults.certificates import Authority, old_protocol
from tests.faults.server import MIB, Content, Fault, FaultServer, honest, noise, other_version

CONTENT = Content(noise(MIB))


@dataclass
class Heard:
    """What came over one connection, and how it ended: `length`, `fin`, `rst` or `silence`."""

    status: int
    headers: dict[str, str]
    body: bytes
    end: str


def hear(server: FaultServer, *headers: str, path: str = "/model.bin", quiet: float = 0.3) -> Heard:
    with socket.create_connection(("127.0.0.1", server.port), timeout=quiet) as connection:
        lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        raw, end = _drain(connection)
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    pairs = dict(line.split(": ", 1) for line in rest)
    return Heard(int((first.split() or ["", "0"])[1]), pairs, body, end)


def _drain(connection: socket.socket) -> tuple[bytes, str]:
    raw = bytearray()
    while True:
        try:
            piece = connection.recv(MIB)
        except ConnectionResetError:
            return bytes(raw), "rst"
        except TimeoutError:
            return bytes(raw), "silence"
        if not piece:
            return bytes(raw), "fin"
        raw += piece
        head, found, body = raw.partition(b"\r\n\r\n")
        stated = _stated_length(bytes(head))
        if found and stated is not None and len(body) >= stated:
            return bytes(raw), "length"


def _stated_length(head: bytes) -> int | None:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length: "):
            return int(line.split()[1])
    return None


def one(fault: Fault, *headers: str, content: Content = CONTENT, path: str = "/model.bin") -> Heard:
    with FaultServer(content, fault) as server:
        return hear(server, *headers, path=path)


def test_an_honest_answer_has_the_whole_its_length_and_a_strong_validator():
    heard = one(honest)

    assert (heard.status, heard.body, heard.end) == (200, CONTENT.body, "length")
    assert heard.headers["ETag"] == '"content-one"'
    assert heard.headers["Content-Length"] == str(MIB)


@pytest.mark.parametrize(
    ("asked", "start", "end"), [("bytes=10-19", 10, 20), ("bytes=1048570-", MIB - 6, MIB)]
)
def test_a_range_is_answered_with_206_and_its_place(asked, start, end):
    heard = one(honest, f"Range: {asked}")

    assert heard.status == 206
    assert heard.body == CONTENT.body[start:end]
    assert heard.headers["Content-Range"] == f"bytes {start}-{end - 1}/{MIB}"


@pytest.mark.parametrize(
    ("condition", "status"),
    [('"content-one"', 206), ('"another"', 200), ('W/"content-one"', 200)],
)
def test_if_range_holds_for_the_same_strong_validator_only(condition, status):
    assert one(honest, "Range: bytes=5-", f"If-Range: {condition}").status == status


def test_a_range_past_the_end_is_416_with_the_true_size():
    heard = one(honest, f"Range: bytes={MIB}-")

    assert (heard.status, heard.headers["Content-Range"]) == (416, f"bytes */{MIB}")


def test_a_connection_is_kept_alive_and_each_request_is_logged():
    with FaultServer(CONTENT) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=2) as connection:
            for _ in range(2):
                connection.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\nCookie: c\r\n\r\n")
                assert _drain(connection)[1] == "length"

        server.await_idle()
        assert (server.connections, len(server.log), server.sent) == (1, 2, 2 * MIB)
        assert server.log[0].secrets == ("cookie",)


@pytest.mark.parametrize(
    ("fault", "body", "end"),
    [
        (catalogue.reset(after=300_000), 300_000, "rst"),
        (catalogue.early_fin(after=300_000), 300_000, "fin"),
        (catalogue.stall(after=300_000), 300_000, "silence"),
        (catalogue.without_length(), MIB, "fin"),
        (catalogue.without_length(upto=400), 400, "fin"),
        (catalogue.longer_length(500), MIB, "fin"),
        (catalogue.short(700_000), 700_000, "length"),
        (catalogue.range_ignored(), MIB, "length"),
        (catalogue.range_ignored(after=1000), 1000, "rst"),
    ],
)
def test_bodies_end_as_their_fault_says(fault, body, end):
    heard = one(fault)

    assert (heard.status, heard.body, heard.end) == (200, CONTENT.body[:body], end)


def test_a_reset_loses_nothing_that_was_sent_before_it():
    for _ in range(20):
        assert len(one(catalogue.reset(after=900_000)).body) == 900_000


def test_the_close_delimited_body_has_no_length():
    heard = one(catalogue.without_length(version="HTTP/1.0"), "Range: bytes=5-")

    assert heard.status == 200
    assert "Content-Length" not in heard.headers
    assert heard.body == CONTENT.body


def test_a_longer_length_is_told_in_both_forms():
    ranged = one(catalogue.longer_length(500), "Range: bytes=0-9")
    assert (ranged.status, ranged.headers["Content-Length"], ranged.end) == (206, "510", "fin")
    total = one(catalogue.longer_total(500), "Range: bytes=0-9")
    assert total.headers["Content-Range"] == f"bytes 0-9/{MIB + 500}"


def test_a_shifted_range_says_so():
    heard = one(catalogue.shifted_range(1000), "Range: bytes=10-19")

    assert heard.headers["Content-Range"] == f"bytes 1010-1019/{MIB}"
    assert heard.body == CONTENT.body[1010:1020]


def test_wrong_bytes_come_under_the_right_place():
    heard = one(catalogue.wrong_bytes(), "Range: bytes=10-19")

    assert heard.headers["Content-Range"] == f"bytes 10-19/{MIB}"
    assert heard.body == bytes(10)


def test_one_bit_is_flipped_and_only_one():
    heard = one(catalogue.wrong_bytes(offset=12), "Range: bytes=10-19")

    difference = int.from_bytes(heard.body) ^ int.from_bytes(CONTENT.body[10:20])
    assert difference == 1 << (8 * 7)


def test_a_changed_file_has_other_bytes_and_the_validator_asked_for():
    new = one(catalogue.serves(other_version(CONTENT)))
    same = one(catalogue.serves(other_version(CONTENT, etag=CONTENT.etag)))

    assert new.body == same.body != CONTENT.body
    assert (new.headers["ETag"], same.headers["ETag"]) == ('"content-two"', CONTENT.etag)


def test_a_file_without_validators_says_none():
    heard = one(honest, content=Content(noise(100), None, None))

    assert not {"ETag", "Last-Modified"} & set(heard.headers)


@pytest.mark.parametrize(
    ("fault", "status", "header"),
    [
        (catalogue.unsatisfiable, 416, ("Content-Range", f"bytes */{MIB}")),
        (catalogue.rate_limited("7"), 429, ("Retry-After", "7")),
        (catalogue.status(503), 503, ("Content-Length", "0")),
        (catalogue.redirect("file:///etc/passwd", 307), 307, ("Location", "file:///etc/passwd")),
        (catalogue.page(), 200, ("Content-Type", "text/html; charset=utf-8")),
        (catalogue.gzip_body, 200, ("Content-Encoding", "gzip")),
    ],
)
def test_a_refusal_carries_its_status_and_header(fault, status, header):
    heard = one(fault, "Range: bytes=0-")

    assert heard.status == status
    assert heard.headers[header[0]] == header[1]


def test_first_counts_requests_and_on_resume_looks_at_the_range():
    fault = catalogue.first(1, catalogue.status(500), catalogue.on_resume(catalogue.status(416)))
    with FaultServer(CONTENT, fault) as server:
        heard = [hear(server), hear(server), hear(server, "Range: bytes=1-")]

    assert [answer.status for answer in heard] == [500, 200, 416]


def test_after_bytes_waits_for_them():
    with FaultServer(CONTENT, catalogue.after_bytes(MIB, catalogue.status(500))) as server:
        assert [hear(server).status for _ in range(2)] == [200, 500]


def test_during_ends_with_its_time():
    with FaultServer(CONTENT, catalogue.during(0.2, catalogue.status(503))) as server:
        begun = time.monotonic()
        statuses: list[int] = []
        while not statuses or statuses[-1] == 503:
            statuses.append(hear(server).status)

    assert statuses[0] == 503
    assert statuses[-1] == 200
    assert time.monotonic() - begun >= 0.2


def test_a_signed_address_dies_after_its_life_and_a_new_one_works():
    signed = catalogue.SignedUrls(life=MIB)
    old, new = signed.issue(), signed.issue()
    with FaultServer(CONTENT, signed) as server:
        statuses = [hear(server, path=path).status for path in (old, old, new, "/model.bin")]

    assert statuses == [200, 403, 200, 403]


def test_a_redirect_ring_returns_to_its_start():
    with FaultServer(CONTENT, catalogue.redirect_loop(2)) as server:
        places = [hear(server, path=path).headers["Location"] for path in ("/m", "/hop0", "/hop1")]

    assert places == ["/hop0", "/hop1", "/hop0"]


def test_a_long_page_stops_at_64_kib_and_notices_the_client_leaving():
    with FaultServer(CONTENT, catalogue.long_page(40 * MIB)) as server:
        heard = hear(server)
        begun = time.monotonic()
        while not server.log[0].abandoned and time.monotonic() - begun < 2:
            server.pause(0.01)

        assert server.log[0].abandoned
    assert (len(heard.body), heard.end) == (65536, "silence")
    assert heard.body.startswith(b"<!DOCTYPE html>")


def test_the_gzip_body_is_the_file_and_the_bomb_is_small():
    assert gzip.decompress(one(catalogue.gzip_body).body) == CONTENT.body
    assert len(one(catalogue.gzip_bomb(64 * MIB)).body) < 100_000


def test_broken_chunks_turn_into_nonsense():
    heard = one(catalogue.broken_chunks(after=100))

    assert heard.headers["Transfer-Encoding"] == "chunked"
    assert heard.body == b"64\r\n" + CONTENT.body[:100] + b"\r\nnot-a-number\r\n"


def test_headers_are_many_or_long():
    assert len(one(catalogue.header_flood(5000)).headers) == 5000
    assert len(one(catalogue.long_header(100_000)).headers["X-Long"]) == 100_000


def test_slow_headers_and_a_trickle_are_slow():
    slow = one(catalogue.slow_headers(5))
    assert (slow.status, slow.end) == (0, "silence")
    with FaultServer(CONTENT, catalogue.trickle(after=10, every=0.1)) as server:
        begun = time.monotonic()
        with socket.create_connection(("127.0.0.1", server.port), timeout=2) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while time.monotonic() - begun < 0.55:
                assert connection.recv(4096)
        assert 10 < server.sent <= 10 + 7


def test_the_rate_is_held():
    with FaultServer(CONTENT, rate=4 * MIB) as server:
        begun = time.monotonic()
        hear(server)

    assert 0.2 < time.monotonic() - begun < 0.6


def secure(server: FaultServer, trust: str | None) -> bytes:
    context = ssl.create_default_context(cafile=trust)
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=2) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nRange: bytes=0-9\r\n\r\n")
        return _drain(connection)[0][-10:]


def test_the_good_certificate_is_good(authority: Authority):
    with FaultServer(CONTENT, tls=authority.server()) as server:
        assert secure(server, str(authority.ca)) == CONTENT.body[:10]


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ("self-signed", "self-signed certificate"),
        ("wrong-host", "Hostname mismatch"),
        ("expired", "expired"),
        ("old-protocol", "UNSUPPORTED_PROTOCOL|ALERT_PROTOCOL_VERSION|NO_PROTOCOLS"),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl:DeprecationWarning")
def test_a_bad_certificate_is_bad_for_its_reason(authority: Authority, bad, complaint):
    with FaultServer(CONTENT, tls=bad_context(authority, bad)) as server:
        with pytest.raises(ssl.SSLError, match=complaint):
            secure(server, str(authority.ca))

        begun = time.monotonic()
        while not server.refused_handshakes and time.monotonic() - begun < 2:
            server.pause(0.01)
        assert server.refused_handshakes == 1


def bad_context(authority: Authority, bad: str) -> ssl.SSLContext:
    makers = {
        "self-signed": authority.self_signed,
        "wrong-host": lambda: authority.server("wrong", host="elsewhere.example"),
        "expired": lambda: authority.server("expired", days=-1),
        "old-protocol": lambda: old_protocol(authority.server("old")),
    }
    return makers[bad]()


def test_a_reset_cuts_through_tls(authority: Authority):
    context = ssl.create_default_context(cafile=str(authority.ca))
    with (
        FaultServer(CONTENT, catalogue.reset(after=5), tls=authority.server()) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=2) as plain,
        context.wrap_socket(
            plain, server_hostname="localhost", suppress_ragged_eofs=False
        ) as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        # CPython tells a RST inside TLS as an end without close_notify.
        with pytest.raises(ssl.SSLEOFError):
            _drain(connection)
