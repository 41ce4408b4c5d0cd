"""One GET over one kept connection, for the engine: the head parsed, the body left on the
socket for the caller's own buffers.

The library's way of a request costs 1.5 ms of CPU and copies every body twice; here it is
a tenth of that and no copy (ARCHITECTURE.md, the engine). Only what the engine needs: GET,
HTTP/1.1, no upgrade. RFC 9112 says what an answer is.
"""

import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from modelbay.http.sockets import readable

READ_SIZE = 1 << 20
_HEAD_LIMIT = 100 << 10
_MOST_HEADERS = 256
_PATIENT_SECONDS = 0.1
_CHUNK_LINE_LIMIT = 4096
_LONGEST_END = len(b"\r\n\r\n")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n]*)?")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LENGTH = re.compile(r"[0-9]{1,18}")
_SIZE = re.compile(rb"[0-9a-fA-F]{1,16}")
_BLANK = b" \t"
_WITHOUT_BODY = frozenset({204, 304})
_WAITING = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)
_turn = threading.Lock()


class BrokenAnswer(ConnectionError):
    """The server does not speak HTTP as it should."""


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of an answer, names in lower case."""

    status: int
    headers: Mapping[str, str]
    keeps: bool
    """Whether the connection may live on after the body."""

    @property
    def chunked(self) -> bool:
        return "transfer-encoding" in self.headers and self.status not in _WITHOUT_BODY

    @property
    def length(self) -> int | None:
        """Bytes of the body, None when only its end tells."""
        if self.status in _WITHOUT_BODY:
            return 0
        value = self.headers.get("content-length")
        return int(value) if value is not None and not self.chunked else None


@dataclass(eq=False, slots=True)
class Connection:
    """A connected socket and what was received beyond the last answer's head."""

    sock: socket.socket
    idle_since: float = field(default_factory=time.monotonic)
    private: bool = False
    """Whether the other end is on this machine or a private network."""
    _left: bytearray = field(default_factory=bytearray)
    _failure: OSError | None = None

    def ask(self, head: bytes, timeout: float | None) -> None:
        self.sock.settimeout(timeout)
        self.sock.sendall(head)

    def read_head(self, timeout: float | None) -> Head:
        """The head of the answer, interim ones passed over. Raises OSError.

        `EOFError` when the connection ended before a byte of it: a kept connection that the
        server had given up.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            head = parsed_head(self._head(deadline))
            if head.status == 101:
                raise BrokenAnswer("it changed the protocol, which nobody asked for")
            if head.status >= 200:
                return head

    def _head(self, deadline: float | None) -> bytes:
        searched = 0
        while True:
            end = _END_OF_HEAD.search(self._left, searched)
            if (end.start() if end else len(self._left)) > _HEAD_LIMIT:
                raise BrokenAnswer("its answer begins with more than 100 KiB of headers")
            if end is not None:
                raw = bytes(self._left[: end.start()])
                del self._left[: end.end()]
                return raw
            searched = max(0, len(self._left) - _LONGEST_END + 1)
            if not self._more(deadline):
                if not self._left:
                    raise EOFError
                raise BrokenAnswer("the connection ended within the headers")

    def _more(self, deadline: float | None) -> bool:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError("no answer came in time")
        self.sock.settimeout(left)
        received = self.sock.recv(1 << 16)
        self._left += received
        return bool(received)

    def fill(self, view: memoryview, timeout: float | None) -> int:
        """Received bytes into `view`: how many, 0 when the connection ended.

        Returns when `view` is full, or with what came within a tenth of a second of the
        first byte, for which `timeout` seconds are given. Raises OSError.
        """
        if self._failure is not None:
            raise self._failure
        filled = min(len(self._left), len(view))
        if filled:
            view[:filled] = self._left[:filled]
            del self._left[:filled]
        began = time.monotonic()
        enough = began + _PATIENT_SECONDS
        while filled < len(view):
            try:
                until = enough if filled else None if timeout is None else began + timeout
                if not self._pending() and not self._arrived(until, must=not filled):
                    break
                count, ended = self._drain(view[filled:])
            except OSError as error:
                if not filled:
                    raise
                self._failure = error
                break
            filled += count
            # Half a TLS record is readable and gives nothing; 0 would mean the end.
            if ended or (filled and time.monotonic() > enough):
                break
        return filled

    def _pending(self) -> bool:
        return isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0

    def _arrived(self, until: float | None, *, must: bool) -> bool:
        """Whether there is something to read before the monotonic time `until`. Raises
        TimeoutError when there `must` be.
        """
        left = None if until is None else max(0.0, until - time.monotonic())
        if readable(self.sock, left):
            return True
        if must:
            raise TimeoutError("no byte came in time")
        return False

    def _drain(self, view: memoryview) -> tuple[int, bool]:
        """What is there without waiting, and whether the connection ended.

        One connection of the process at a time: a TLS record is 16 KiB, and each costs a
        release of the interpreter's lock. Threads that drain side by side hand that lock over
        210,000 times a GiB; taking turns, 43,000 times (futex calls, two cores).
        """
        if self.sock.gettimeout() != 0:
            self.sock.settimeout(0)
        receive, filled, want = self.sock.recv_into, 0, len(view)
        with _turn:
            try:
                while filled < want:
                    count = receive(view[filled:])
                    if not count:
                        return filled, True
                    filled += count
            except _WAITING:
                pass
            except OSError as error:
                if not filled:
                    raise
                self._failure = error
        return filled, False

    def line(self, timeout: float | None) -> bytes:
        """Up to the next line feed, without it: the framing of chunks. Raises OSError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (end := self._left.find(b"\n")) < 0:
            if len(self._left) > _CHUNK_LINE_LIMIT:
                raise BrokenAnswer("its chunks are framed wrongly")
            if not self._more(deadline):
                raise ConnectionError("the connection ended before the body did")
        found = bytes(self._left[:end]).rstrip(b"\r")
        del self._left[: end + 1]
        return found

    def is_fresh(self) -> bool:
        """Whether nothing was received that nobody asked for, an end included."""
        return not (self._left or self._pending() or readable(self.sock, 0))

    def shut(self) -> None:
        """Ends the connection from any thread: a blocked read returns at once."""
        try:
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
        except OSError:
            return

    def close(self) -> None:
        self.sock.close()


def parsed_head(raw: bytes) -> Head:
    """Raises BrokenAnswer for what RFC 9112 does not allow."""
    first, *lines = raw.replace(b"\r\n", b"\n").split(b"\n")
    status = _STATUS.fullmatch(first)
    if status is None or len(lines) > _MOST_HEADERS:
        raise BrokenAnswer("its answer does not begin as HTTP does")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name) or b"\0" in value or b"\r" in value:
            raise BrokenAnswer("it sent a header that is none")
        key, text = name.decode("ascii").lower(), _text(value.strip(_BLANK))
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    _check_framing(headers)
    connection = headers.get("connection", "").lower()
    keeps = "close" not in connection if status[1] == b"1" else "keep-alive" in connection
    if "transfer-encoding" in headers and (status[1] == b"0" or "content-length" in headers):
        keeps = False  # RFC 9112 §6.1, §6.3: somebody on the way may have framed it otherwise
    return Head(int(status[2]), headers, keeps)


def _text(raw: bytes) -> str:
    """As the library reads it: servers that send more than ASCII mean UTF-8 as a rule."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _check_framing(headers: dict[str, str]) -> None:
    coding = headers.get("transfer-encoding", "chunked").lower()
    lengths = {part.strip(" \t") for part in headers.get("content-length", "0").split(",")}
    length = lengths.pop()
    if coding != "chunked" or lengths or not _LENGTH.fullmatch(length):
        raise BrokenAnswer("it frames its answer in a way that cannot be trusted")
    if "content-length" in headers:
        headers["content-length"] = length


class Body:
    """The body of one answer, read once, from its connection."""

    def __init__(self, connection: Connection, head: Head) -> None:
        self._connection = connection
        self._chunked = head.chunked
        self._to_the_end = not head.chunked and head.length is None
        self._left = head.length or 0
        self.ended = not head.chunked and head.length == 0

    def read_into(self, view: memoryview, timeout: float | None) -> int:
        """Body bytes into `view`: how many, 0 at its end. Raises OSError; a body cut short is
        a ConnectionError.
        """
        if self.ended or not view:
            return 0
        if self._chunked and not self._left and not self._next_chunk(timeout):
            return 0
        most = len(view) if self._to_the_end else min(len(view), self._left)
        count = self._connection.fill(view[:most], timeout)
        if self._to_the_end:
            self.ended = not count
            return count
        if not count:
            raise ConnectionError("the connection ended before the body did")
        self._left -= count
        if not self._left:
            self._close_part(timeout)
        return count

    def _close_part(self, timeout: float | None) -> None:
        if not self._chunked:
            self.ended = True
        elif self._connection.line(timeout):
            raise BrokenAnswer("its chunks are framed wrongly")

    def _next_chunk(self, timeout: float | None) -> bool:
        size = self._connection.line(timeout).partition(b";")[0].strip()
        if not _SIZE.fullmatch(size):
            raise BrokenAnswer("its chunks are framed wrongly")
        self._left = int(size, 16)
        if self._left:
            return True
        for _ in range(_MOST_HEADERS):
            if not self._connection.line(timeout):
                self.ended = True
                return False
        raise BrokenAnswer("its chunks are framed wrongly")
