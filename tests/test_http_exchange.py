"""Answers as raw bytes: what is a head, where a body ends, what is refused (RFC 9112)."""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelbay.http.exchange import Body, BrokenAnswer, Connection, Head, parsed_head

GOOD = (
    b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 0-4/9\r\n"
    b'ETag: "one"\r\nX-Empty:\r\nDate: Wed, 11 Nov 2026 08:00:00 GMT\r\n\r\n'
)
KIB = 1024


@dataclass
class Pair:
    """A connection of ours and the server's end of it."""

    ours: Connection
    theirs: socket.socket

    def says(self, raw: bytes, *, ends: bool = True) -> "Pair":
        self.theirs.sendall(raw)
        if ends:
            self.theirs.shutdown(socket.SHUT_WR)
        return self

    def head(self, timeout: float = 2.0) -> Head:
        return self.ours.read_head(timeout)

    def body(self, head: Head, room: int = 64 * KIB) -> tuple[bytes, Body]:
        body, found, view = Body(self.ours, head), b"", memoryview(bytearray(room))
        while count := body.read_into(view, 2.0):
            found += view[:count]
        return found, body


@contextlib.contextmanager
def connected(kind: int = socket.SOCK_STREAM) -> Iterator[Pair]:
    ours, theirs = socket.socketpair(type=kind)
    with ours, theirs:
        yield Pair(Connection(ours), theirs)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with connected() as made:
        yield made


def answer(*lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode("latin-1") + body


# What a head is.


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_head_is_read_with_either_line_end(pair: Pair, end: bytes):
    head = pair.says(GOOD.replace(b"\r\n", end) + b"12345").head()

    assert (head.status, head.length, head.keeps) == (206, 5, True)
    assert head.headers["etag"] == '"one"'
    assert head.headers["x-empty"] == ""
    assert pair.body(head)[0] == b"12345"


def test_a_head_that_arrives_byte_by_byte_is_the_same(pair: Pair):
    def drip() -> None:
        for byte in GOOD:
            pair.theirs.sendall(bytes([byte]))

    dripping = threading.Thread(target=drip)
    dripping.start()
    head = pair.head()
    dripping.join()

    assert head == parsed_head(GOOD[:-4])


def test_a_slow_head_is_cut_off_at_the_deadline_however_alive_it_looks(pair: Pair):
    stopped = threading.Event()

    def drip() -> None:
        for byte in GOOD:
            if stopped.wait(0.05):
                return
            pair.theirs.sendall(bytes([byte]))

    dripping = threading.Thread(target=drip)
    dripping.start()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        pair.head(timeout=0.3)
    took = time.monotonic() - began
    stopped.set()
    dripping.join()

    assert 0.25 < took < 1.0


def test_interim_answers_are_passed_over(pair: Pair):
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"

    assert pair.says(raw + GOOD).head().status == 206


def test_interim_answers_without_end_are_cut_off_at_the_deadline(pair: Pair):
    def flood() -> None:
        with contextlib.suppress(OSError):
            while True:
                pair.theirs.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    flooding = threading.Thread(target=flood)
    flooding.start()
    began = time.monotonic()
    with pytest.raises(OSError):  # noqa: PT011 - broken or late, both end it
        pair.head(timeout=0.3)
    pair.ours.close()
    flooding.join()

    assert time.monotonic() - began < 2


def test_an_end_before_the_first_byte_is_told_apart_from_one_within_the_head(pair: Pair):
    with connected() as other, pytest.raises(BrokenAnswer, match="within the headers"):
        other.says(GOOD[:40]).head()
    with pytest.raises(EOFError):
        pair.says(b"").head()


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n", id="101"),
        pytest.param(b"HTTP/1.1 000 No\r\n\r\n", id="status-000"),
        pytest.param(b"HTTP/1.1 099 No\r\n\r\n", id="status-099"),
        pytest.param(b"HTTP/1.1 20 OK\r\n\r\n", id="two-digits"),
        pytest.param(b"HTTP/1.1 2000 OK\r\n\r\n", id="four-digits"),
        pytest.param(b"HTTP/1.1 +20 OK\r\n\r\n", id="signed-status"),
        pytest.param("HTTP/1.1 ٢٠٠ OK\r\n\r\n".encode(), id="arabic-digits"),
        pytest.param(b"HTTP/2 200 OK\r\n\r\n", id="http2"),
        pytest.param(b"HTTP/1.1  200 OK\r\n\r\n", id="two-spaces"),
        pytest.param(b"ICY 200 OK\r\n\r\n", id="icy"),
        pytest.param(b"\r\nHTTP/1.1 200 OK\r\n\r\n", id="empty-line-first"),
        pytest.param(b"<html>\n\n", id="html"),
        pytest.param(b"\x16\x03\x01\x00\x05\n\n", id="tls"),
        pytest.param(b"\n\n", id="nothing"),
        pytest.param(answer("X: a", " folded"), id="obs-fold"),
        pytest.param(answer("X: a", "\tfolded"), id="obs-fold-tab"),
        pytest.param(answer("X : a"), id="space-before-colon"),
        pytest.param(answer(": a"), id="no-name"),
        pytest.param(answer("no colon"), id="no-colon"),
        pytest.param(answer("X: a\rY: b"), id="bare-cr"),
        pytest.param(answer("X: a\0b"), id="nul"),
        pytest.param(answer("Ключ: a".encode().decode("latin-1")), id="name-beyond-ascii"),
        pytest.param(answer(*["X: a"] * 300), id="300-headers"),
        pytest.param(answer("X: " + "a" * 120 * KIB), id="120-kib-in-one"),
        pytest.param(answer(*[f"X{n}: " + "a" * KIB for n in range(120)]), id="120-kib-in-many"),
    ],
)
def test_what_is_no_head_is_refused(pair: Pair, raw: bytes):
    saying = threading.Thread(target=lambda: _says_what_is_taken(pair, raw))
    saying.start()
    with pytest.raises(BrokenAnswer):
        pair.head()
    pair.ours.close()
    saying.join()


def test_a_flood_of_headers_is_kept_to_100_kib_and_one_read(pair: Pair):
    flooding = threading.Thread(target=lambda: _says_what_is_taken(pair, b"X: y\r\n" * 500_000))
    flooding.start()
    with pytest.raises(BrokenAnswer, match="100 KiB"):
        pair.head()
    kept = len(pair.ours._left)
    pair.ours.close()
    flooding.join()

    assert kept <= (100 + 64) * KIB


def test_a_large_head_in_small_parts_is_searched_once():
    raw = b"HTTP/1.1 200 OK\r\nX: " + b"a" * 95 * KIB + b"\r\nContent-Length: 0\r\n\r\n"
    parts = [raw[start : start + 8] for start in range(0, len(raw), 8)]
    # Each part of a SEQPACKET is received by itself.
    with connected(socket.SOCK_SEQPACKET) as pair:
        dripping = threading.Thread(target=lambda: [pair.theirs.send(part) for part in parts])
        dripping.start()
        began = time.thread_time()
        head = pair.head(timeout=20)
        took = time.thread_time() - began
        dripping.join()

    assert head.length == 0
    assert took < 1


def _says_what_is_taken(pair: Pair, raw: bytes) -> None:
    with contextlib.suppress(OSError):
        pair.says(raw)


# Fuzz: nothing but BrokenAnswer, whatever a server says.

_PARTS = [
    *(b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b";", b",", b"\xff", b"-"),
    *(b"Content-Length: 7\r\n", b"Content-Length: -1\r\n", b"Content-Length: 1e3\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n"),
    *(b"HTTP/1.1 100 \r\n\r\n", b"HTTP/1.0 ", b"9" * 5000, b"A" * 3000, b"Connection: close\r\n"),
    *("²".encode("latin-1"), "٣".encode(), b"\x85", b"\xa0", b"\x1c", b"0x10", b"_", b"+"),
]


def _mutated(source: random.Random) -> bytes:
    raw = bytearray(GOOD)
    for _ in range(source.randint(1, 3)):
        at = source.randrange(len(raw) + 1)
        match source.randrange(4):
            case 0:
                raw[at : at + 1] = source.randbytes(1)
            case 1:
                del raw[at : at + source.randint(1, 20)]
            case 2:
                raw[at:at] = source.choice(_PARTS)
            case _:
                raw[at:at] = raw[: source.randrange(60)]
    return bytes(raw)


def test_ten_thousand_damaged_answers_are_read_or_refused_and_nothing_else():
    source, ends = random.Random(9112), {"read": 0, "cut short": 0, "refused": 0}
    for _ in range(10_000):
        with connected() as pair:
            rest = b"5\r\nhello\r\n0\r\n\r\n"
            pair.says(_mutated(source) + rest[: source.randrange(len(rest) + 1)])
            ends[_end_of(pair)] += 1

    assert min(ends.values()) > 500


def _end_of(pair: Pair) -> str:
    try:
        pair.body(pair.head())
    except (BrokenAnswer, EOFError):
        return "refused"
    except ConnectionError:
        return "cut short"
    return "read"


@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_a_broken_answer(raw: bytes):
    try:
        head = parsed_head(raw)
    except BrokenAnswer:
        return
    assert 100 <= head.status <= 999
    assert head.length is None or head.length >= 0


@given(
    st.from_regex(
        rb"HTTP/1\.1 [0-9]{3}\n([A-Za-z-]{1,20}: ?[ -\xff]{0,40}\n?){0,6}", fullmatch=True
    )
)
def test_any_likely_head_is_a_head_or_a_broken_answer(raw: bytes):
    try:
        head = parsed_head(raw)
    except BrokenAnswer:
        return
    assert all(name == name.lower() and "\n" not in value for name, value in head.headers.items())


# Where a body ends.

CHUNKS = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "body", "keeps"),
    [
        pytest.param(answer("Content-Length: 3", body=b"abc"), b"abc", True, id="length"),
        pytest.param(answer("Content-Length: 0"), b"", True, id="empty"),
        pytest.param(answer("Content-Length: 3, 3", body=b"abc"), b"abc", True, id="same-twice"),
        pytest.param(
            answer("Content-Length: 3", "Content-Length: 3", body=b"abc"),
            b"abc",
            True,
            id="same-in-two-lines",
        ),
        pytest.param(
            answer("Content-Length: 3", "Connection: close", body=b"abc"),
            b"abc",
            False,
            id="close",
        ),
        pytest.param(
            b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc", False, id="1.0-length"
        ),
        pytest.param(
            b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 3\r\n\r\nabc",
            b"abc",
            True,
            id="1.0-keep-alive",
        ),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nabc", b"abc", False, id="1.0-to-the-end"),
        pytest.param(answer(body=b"to the end"), b"to the end", None, id="1.1-to-the-end"),
        pytest.param(
            answer("Transfer-Encoding: Chunked", body=CHUNKS), b"hello world", True, id="chunked"
        ),
        pytest.param(
            answer("Transfer-Encoding: chunked", body=CHUNKS.replace(b"\r\n", b"\n")),
            b"hello world",
            True,
            id="chunked-lf",
        ),
        pytest.param(
            answer(
                "Transfer-Encoding: chunked", body=b'B;a=1;b="x y"\r\nhello world\r\n000\r\n\r\n'
            ),
            b"hello world",
            True,
            id="chunk-extensions",
        ),
        pytest.param(
            answer("Transfer-Encoding: chunked", body=CHUNKS[:-2] + b"X-Sum: 1\r\nY: 2\r\n\r\n"),
            b"hello world",
            True,
            id="trailers",
        ),
        pytest.param(
            answer("Transfer-Encoding: chunked", "Content-Length: 4", body=CHUNKS),
            b"hello world",
            False,
            id="smuggling",
        ),
        pytest.param(
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
            + CHUNKS,
            b"hello world",
            False,
            id="1.0-chunked",
        ),
        pytest.param(b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", b"", True, id="204"),
        pytest.param(b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", b"", True, id="304"),
        pytest.param(
            b"HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"", True, id="304-chunked"
        ),
        pytest.param(
            b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"", True, id="204-chunked"
        ),
    ],
)
@pytest.mark.parametrize("room", [1, 4, 64 * KIB])
def test_a_body_ends_where_its_framing_says(pair: Pair, raw, body, keeps, room):
    head = pair.says(raw).head()
    found, rest = pair.body(head, room)

    assert found == body
    assert rest.ended
    assert keeps is None or head.keeps is keeps
    assert pair.ours._left == b""


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 3, 4"],
        ["Content-Length: 3", "Content-Length: 4"],
        ["Content-Length: -3"],
        ["Content-Length: +3"],
        ["Content-Length: 3_0"],
        ["Content-Length: 0x3"],
        ["Content-Length: 3 3"],
        ["Content-Length: 3,"],
        ["Content-Length:"],
        ["Content-Length: \xb2"],
        ["Content-Length: \xa03"],
        ["Content-Length: " + "9" * 5000],
        ["Content-Length: " + "9" * 19],
        ["Transfer-Encoding: gzip"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunked\x85"],
        ["Transfer-Encoding:"],
    ],
    ids=lambda lines: " ".join(lines)[:40],
)
def test_a_framing_that_two_readers_could_read_differently_is_refused(pair: Pair, lines):
    with pytest.raises(BrokenAnswer, match="cannot be trusted"):
        pair.says(answer(*lines, body=CHUNKS)).head()


@pytest.mark.parametrize(
    "chunks",
    [
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"0_5\r\nhello\r\n0\r\n\r\n",
        b"5 5\r\nhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b";x=1\r\nhello\r\n0\r\n\r\n",
        b"g\r\nhello\r\n0\r\n\r\n",
        b"0" * 16 + b"5\r\nhello\r\n0\r\n\r\n",
        b"f" * 17 + b"\r\nhello\r\n0\r\n\r\n",
        b"5;" + b"x" * 9000,
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"5\r\nhelloX0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 300 + b"\r\n",
    ],
    ids=lambda chunks: repr(chunks[:20]),
)
def test_chunks_that_are_framed_wrongly_are_refused(pair: Pair, chunks: bytes):
    head = pair.says(answer("Transfer-Encoding: chunked", body=chunks)).head()

    with pytest.raises(BrokenAnswer, match="chunks"):
        pair.body(head)


@pytest.mark.parametrize(
    "raw",
    [
        answer("Content-Length: 9", body=b"short"),
        answer("Content-Length: 9"),
        answer("Transfer-Encoding: chunked", body=b"9\r\nshort"),
        answer("Transfer-Encoding: chunked", body=b"5\r\nshort\r\n"),
        answer("Transfer-Encoding: chunked", body=b"5\r\nshort"),
        answer("Transfer-Encoding: chunked", body=b"5\r\nshort\r\n0\r\n"),
        answer("Transfer-Encoding: chunked"),
        answer("Transfer-Encoding: chunked", body=b"f" * 16 + b"\r\nshort"),
    ],
    ids=lambda raw: repr(raw[-24:]),
)
def test_a_body_that_breaks_off_is_no_end(pair: Pair, raw: bytes):
    head = pair.says(raw).head()

    with pytest.raises(ConnectionError, match="ended before the body did"):
        pair.body(head)


def test_bytes_of_the_next_answer_stay_for_it(pair: Pair):
    pair.says(answer("Content-Length: 3", body=b"abc") + answer("Content-Length: 1", body=b"d"))

    assert pair.body(pair.head())[0] == b"abc"
    assert pair.body(pair.head())[0] == b"d"


@pytest.mark.parametrize(
    ("timeout", "limit"), [(None, 1.5), (2.0, 1.5)], ids=["no-timeout", "timeout"]
)
def test_chunks_that_pause_are_waited_for(pair: Pair, timeout: float | None, limit: float):
    parts = [b"5\r\nhel", b"lo", b"\r\n6", b"\r\n world\r\n", b"0\r\n", b"\r\n"]

    def drip() -> None:
        for part in parts:
            time.sleep(0.02)
            pair.theirs.sendall(part)

    pair.says(answer("Transfer-Encoding: chunked"), ends=False)
    body = Body(pair.ours, pair.head())
    dripping = threading.Thread(target=drip)
    dripping.start()
    found, view = b"", memoryview(bytearray(KIB))
    began = time.monotonic()
    while count := body.read_into(view, timeout):
        found += view[:count]
    dripping.join()

    assert found == b"hello world"
    assert time.monotonic() - began < limit


def test_a_body_that_stalls_is_a_timeout(pair: Pair):
    pair.says(answer("Content-Length: 9", body=b"123"), ends=False)
    body = Body(pair.ours, pair.head())
    view = memoryview(bytearray(KIB))

    assert body.read_into(view, 0.2) == 3
    with pytest.raises(TimeoutError):
        body.read_into(view, 0.2)


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "shut-by-us"])
def test_what_arrived_before_a_failure_is_handed_out_first(pair: Pair, reset: bool):
    pair.says(answer("Content-Length: 9", body=b"123"), ends=not reset)
    body = Body(pair.ours, pair.head())
    if reset:
        pair.ours.shut()
    view = memoryview(bytearray(KIB))

    assert body.read_into(view, 1.0) == 3
    assert bytes(view[:3]) == b"123"
    with pytest.raises(OSError):  # noqa: PT011 - whichever the system says
        body.read_into(view, 1.0)


@pytest.mark.parametrize(
    ("after", "fresh"),
    [
        pytest.param(lambda _: None, True, id="nothing"),
        pytest.param(
            lambda pair: pair.theirs.sendall(b"HTTP/1.1 408 Late\r\n\r\n"), False, id="bytes"
        ),
        pytest.param(lambda pair: pair.theirs.shutdown(socket.SHUT_WR), False, id="fin"),
        pytest.param(lambda pair: pair.ours.shut(), False, id="shut"),
        pytest.param(lambda pair: pair.ours.close(), False, id="closed"),
    ],
)
def test_a_connection_is_fresh_while_nothing_came_unasked(
    pair: Pair, after: Callable[[Pair], None], fresh: bool
):
    pair.says(answer("Content-Length: 3", body=b"abc"), ends=False)
    pair.body(pair.head())
    after(pair)

    assert pair.ours.is_fresh() is fresh
