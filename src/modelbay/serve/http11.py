"""A small HTTP/1.1 server: kept-alive connections, one thread each, large writes.

It knows no routes. The standard library's would do, but parses a request's headers as
an e-mail, which costs more than answering a small file does.
"""

import contextlib
import ipaddress
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import BinaryIO, Final
from urllib.parse import parse_qsl

from modelbay.serve.content import Content, OnDisk
from modelbay.text import clean

_HEAD_LIMIT: Final = 64 << 10
_BODY_LIMIT: Final = 1 << 20
_IDLE_SECONDS: Final = 60
_SMALL: Final = 64 << 10
"""Up to here, head and body leave in one write."""


@dataclass(frozen=True, slots=True)
class Request:
    """`target` as it was sent; `path` its part before `?`, still percent-encoded."""

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    """Names in lower case. Not shown: a token may be among them."""
    body: bytes = field(default=b"", repr=False)
    peer: str = ""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(self.target.partition("?")[2], keep_blank_values=True)


@dataclass(frozen=True, slots=True)
class Slice:
    """`[start, stop)` of a content, as a body."""

    content: Content
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | Slice = b""

    def adding(self, *headers: tuple[str, str]) -> "Response":
        """The same with more headers."""
        return Response(self.status, self.headers + headers, self.body)


class _Unreadable(Exception):
    """A request that cannot be answered; `args[0]` is the status."""


class Listener:
    """Answers on one loopback port until `close()`.

    The port is taken at once, and answered from `start()` on. `answer` is called on the
    connection's thread and must not raise. `log` keeps the newest `record` requests, in
    the order they came.
    """

    def __init__(
        self,
        answer: Callable[[Request], Response],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        record: int = 0,
    ) -> None:
        self._answer = answer
        self.log: deque[Request] = deque(maxlen=record)
        family = socket.AF_INET6 if _is_v6(host) else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=256)
        self._live: set[socket.socket] = set()
        self._closed = False
        shown = f"[{host}]" if family is socket.AF_INET6 else host
        self.origin = f"http://{shown}:{self._socket.getsockname()[1]}"
        self._accepting = threading.Thread(target=self._accept, name="serve", daemon=True)

    def start(self) -> None:
        """Answers from now on; who connected before that was kept waiting."""
        self._accepting.start()

    def close(self) -> None:
        """Stops listening and cuts every connection. Idempotent."""
        self._closed = True
        with contextlib.suppress(OSError):
            # Not every system wakes an accept() whose socket is closed under it.
            socket.create_connection(self._socket.getsockname()[:2], timeout=1).close()
        if self._accepting.is_alive():
            self._accepting.join(timeout=5)
        self._socket.close()
        for live in list(self._live):
            with contextlib.suppress(OSError):
                live.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, peer = self._socket.accept()
            except OSError:
                continue
            if self._closed:
                connection.close()
                return
            self._live.add(connection)
            threading.Thread(
                target=self._converse, args=(connection, str(peer[0])), daemon=True
            ).start()

    def _converse(self, connection: socket.socket, peer: str) -> None:
        try:
            with connection, connection.makefile("rb") as reader:
                connection.settimeout(_IDLE_SECONDS)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while self._turn(connection, reader, peer) and not self._closed:
                    pass
        except OSError:
            return  # the client left, or close() did; there is nobody to tell
        finally:
            self._live.discard(connection)

    def _turn(self, connection: socket.socket, reader: BinaryIO, peer: str) -> bool:
        """One request and its answer; whether another may follow."""
        try:
            request = _read_request(reader, peer)
        except _Unreadable as refusal:
            refused = Response(refusal.args[0], (("Connection", "close"),))
            _send(connection, refused, head_only=False)
            return False
        if request is None:
            return False
        self.log.append(request)
        stays = request.headers.get("connection", "").lower() != "close"
        response = self._answer(request)
        if not stays:
            response = response.adding(("Connection", "close"))
        _send(connection, response, head_only=request.method == "HEAD")
        return stays


def _is_v6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _read_request(reader: BinaryIO, peer: str) -> Request | None:
    """The next request, or None when the client has no more."""
    first = reader.readline(_HEAD_LIMIT)
    if not first.strip():
        return None
    words = first.decode("latin-1").split()
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise _Unreadable(400)
    headers = dict(_read_headers(reader))
    if words[2] == "HTTP/1.0":
        headers["connection"] = "close"
    return Request(words[0], words[1], headers, _read_body(reader, headers), peer)


def _read_headers(reader: BinaryIO) -> Iterator[tuple[str, str]]:
    room = _HEAD_LIMIT
    while True:
        line = reader.readline(room)
        room -= len(line)
        if not line.endswith(b"\n"):
            raise _Unreadable(431 if room <= 0 else 400)
        if line in {b"\r\n", b"\n"}:
            return
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or name != name.strip():
            raise _Unreadable(400)
        yield name.lower(), value.strip()


def _read_body(reader: BinaryIO, headers: Mapping[str, str]) -> bytes:
    if "transfer-encoding" in headers:
        if "content-length" in headers:
            raise _Unreadable(400)
        return b"".join(_read_chunks(reader))
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) < 16):
        raise _Unreadable(400)
    if int(length) > _BODY_LIMIT:
        raise _Unreadable(413)
    return reader.read(int(length))


def _read_chunks(reader: BinaryIO) -> Iterator[bytes]:
    room = _BODY_LIMIT
    while True:
        try:
            size = int(reader.readline(1024).partition(b";")[0], 16)
        except ValueError:
            raise _Unreadable(400) from None
        room -= size
        if size < 0 or room < 0:
            raise _Unreadable(413)
        if size == 0:
            break
        yield reader.read(size)
        reader.readline(16)
    while reader.readline(1024).strip():
        pass


def _send(connection: socket.socket, response: Response, *, head_only: bool) -> None:
    lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
    lines += [f"{name}: {_one_line(value)}" for name, value in response.headers]
    if response.status != 304 and not any(
        name.lower() == "content-length" for name, _ in response.headers
    ):
        lines.append(f"Content-Length: {len(response.body)}")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
    body = response.body
    if head_only or not len(body):
        connection.sendall(head)
    elif isinstance(body, bytes):
        connection.sendall(head + body)
    elif len(body) <= _SMALL:
        connection.sendall(b"".join((head, *body.content.pieces(body.start, body.stop))))
    else:
        connection.sendall(head)
        _send_slice(connection, body)


def _one_line(value: str) -> str:
    """A header's value that cannot begin another: parts of it may be what a client sent."""
    return value if value.isascii() and value.isprintable() else clean(value)


def _send_slice(connection: socket.socket, body: Slice) -> None:
    if isinstance(body.content, OnDisk):
        with body.content.opened() as file:
            sent = connection.sendfile(file, body.start, len(body))
        if sent != len(body):
            raise OSError("the file became shorter while it was sent")
        return
    for piece in body.content.pieces(body.start, body.stop):
        connection.sendall(piece)
