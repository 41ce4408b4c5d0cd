"""A raw HTTP/1.1 server on loopback that serves known bytes and misbehaves on request.

It is written on sockets, since a well-made server library refuses to do most of what
`catalogue` asks for. What a request gets is decided by a fault: a function of one
`Exchange`. `honest` is the fault that does nothing wrong.
"""

import contextlib
import fcntl
import functools
import hashlib
import random
import re
import select
import socket
import ssl
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Self
from urllib.parse import urlsplit

from modelbay.digest import Digest

MIB = 2**20
LAST_MODIFIED = "Wed, 11 Nov 2026 08:00:00 GMT"
CHUNK = 256 * 1024
SECRET_HEADERS = frozenset({"authorization", "cookie", "x-api-key", "proxy-authorization"})
_REASONS = {200: "OK", 206: "Partial Content", 302: "Found", 416: "Range Not Satisfiable"}


@functools.lru_cache(maxsize=8)
def noise(size: int, seed: int = 1) -> bytes:
    """`size` bytes that no compressor shrinks, the same for the same seed."""
    return random.Random(seed).randbytes(size)


@dataclass(frozen=True, slots=True)
class Content:
    """What stands behind an address: bytes and their validators."""

    body: bytes
    etag: str | None = '"content-one"'
    last_modified: str | None = LAST_MODIFIED
    kind: str = "application/octet-stream"

    @property
    def sha256(self) -> Digest:
        return _sha256(self.body)


@functools.lru_cache(maxsize=16)
def _sha256(body: bytes) -> Digest:
    return Digest.sha256(hashlib.sha256(body).hexdigest())


def _unreceived(connection: socket.socket) -> int:
    """Bytes sent that the peer's kernel has not acknowledged (Linux: SIOCOUTQ)."""
    answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4)
    return int.from_bytes(answer, sys.byteorder)


@dataclass(slots=True)
class Request:
    """One request as it came, and how many body bytes it was answered with."""

    number: int
    at: float
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    connection: int
    status: int = 0
    sent: int = 0
    abandoned: bool = False
    """The client closed while the server was still holding the answer."""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name.lower()), None)

    @property
    def start(self) -> int:
        """The first byte asked for: 0 without a Range."""
        span = byte_range(self.header("range"))
        return span[0] if span else 0

    @property
    def secrets(self) -> tuple[str, ...]:
        """Names of the headers that carry a credential."""
        return tuple(name for name, _ in self.headers if name in SECRET_HEADERS)


def byte_range(header: str | None) -> tuple[int, int | None] | None:
    """First and last byte of a `bytes=a-b` or `bytes=a-`; None for anything else."""
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", header or "")
    if found is None:
        return None
    return int(found[1]), int(found[2]) if found[2] else None


@dataclass(slots=True)
class Reply:
    """An answer before it is sent; faults change it."""

    status: int
    headers: dict[str, str]
    body: memoryview


class Gone(Exception):
    """The connection is of no further use; its thread ends."""


@dataclass(slots=True)
class Exchange:
    """One request and the means to answer it, well or badly."""

    server: "FaultServer"
    request: Request
    socket: socket.socket

    @property
    def content(self) -> Content:
        return self.server.content

    def reply(self, content: Content | None = None) -> Reply:
        """What an honest server says to this request."""
        content = content or self.content
        whole = memoryview(content.body)
        headers = {"Accept-Ranges": "bytes", "Content-Type": content.kind}
        if content.etag:
            headers["ETag"] = content.etag
        if content.last_modified:
            headers["Last-Modified"] = content.last_modified
        span = byte_range(self.request.header("range"))
        if span is None or not self._range_holds(content):
            return Reply(200, headers, whole)
        start, last = span
        if start >= len(whole):
            headers["Content-Range"] = f"bytes */{len(whole)}"
            return Reply(416, headers, memoryview(b""))
        end = len(whole) if last is None else min(last + 1, len(whole))
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(whole)}"
        return Reply(206, headers, whole[start:end])

    def _range_holds(self, content: Content) -> bool:
        """RFC 9110 §13.1.5: a weak or other validator means the whole, from byte 0."""
        condition = self.request.header("if-range")
        if condition is None:
            return True
        if condition.startswith(("W/", '"')):
            return condition == content.etag and not condition.startswith("W/")
        return condition == content.last_modified

    def send_head(self, status: int, headers: dict[str, str], version: str = "HTTP/1.1") -> None:
        self.request.status = status
        lines = [f"{version} {status} {_REASONS.get(status, 'Because')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.send_raw(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def send_raw(self, raw: bytes) -> None:
        try:
            self.socket.sendall(raw)
        except OSError as error:
            raise Gone from error

    def send_body(self, body: memoryview | bytes) -> None:
        """Sends `body` and counts what the kernel took. A HEAD gets none."""
        if self.request.method == "HEAD":
            return
        view = memoryview(body)
        pace = self.server.rate
        step = CHUNK if pace is None else max(1, pace // 100)
        for offset in range(0, len(view), step):
            piece = view[offset : offset + step]
            self.send_raw(piece)  # type: ignore[arg-type]
            self.server.count(self.request, len(piece))
            if pace is not None:
                self.server.pause(len(piece) / pace)

    def deliver(self, reply: Reply, *, upto: int | None = None) -> None:
        """Sends `reply` as it is, its true length added where none is said."""
        reply.headers.setdefault("Content-Length", str(len(reply.body)))
        self.send_head(reply.status, reply.headers)
        self.send_body(reply.body if upto is None else reply.body[:upto])

    def close(self) -> None:
        """Ends the connection in good order."""
        raise Gone

    def reset(self) -> None:
        """Ends the connection with a RST, once the client has what was sent."""
        self._wait_until_received()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Gone

    def _wait_until_received(self) -> None:
        """A RST throws away what still waits in our buffer, which would blur the counts."""
        deadline = time.monotonic() + 2
        while _unreceived(self.socket) and time.monotonic() < deadline:
            self.server.pause(0.001)

    def hold(self, seconds: float) -> None:
        """Says nothing for that long, or until the client has gone."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self.server.stopping:
            readable, _, _ = select.select([self.socket], [], [], min(left, 0.1))
            if readable:
                self.request.abandoned = True
                raise Gone


Fault = Callable[[Exchange], None]


def honest(exchange: Exchange) -> None:
    exchange.deliver(exchange.reply())


@dataclass
class FaultServer:
    """Serves `content` on a free port of 127.0.0.1, through `fault`, until closed.

    `rate` limits each connection, in bytes per second.
    """

    content: Content
    fault: Fault = honest
    tls: ssl.SSLContext | None = None
    rate: int | None = None
    log: list[Request] = field(default_factory=list)
    sent: int = 0
    connections: int = 0
    refused_handshakes: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._open: dict[threading.Thread, socket.socket] = {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        # Small, so that what was sent and what was received differ by little.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHUNK)
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def url(self, path: str = "/model.bin", host: str = "127.0.0.1") -> str:
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{path}"

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def pause(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def count(self, request: Request, sent: int) -> None:
        with self._lock:
            request.sent += sent
            self.sent += sent

    @property
    def gets(self) -> list[Request]:
        return [request for request in self.log if request.method == "GET"]

    @property
    def starts(self) -> list[int]:
        """The first byte that each GET asked for, in order of arrival."""
        return [request.start for request in self.gets]

    def await_idle(self, seconds: float = 5.0) -> None:
        """Returns once every connection has ended."""
        deadline = time.monotonic() + seconds
        while self._open and time.monotonic() < deadline:
            self.pause(0.005)

    def close(self) -> None:
        self._stop.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._accepting.join(timeout=5)
        self._listener.close()
        with self._lock:
            still_open = dict(self._open)
        for thread, connection in still_open.items():
            with contextlib.suppress(OSError):
                # Past the TLS layer, whose own state belongs to the other thread.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            thread.join(timeout=5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self.stopping:
                connection.close()
                return
            self.connections += 1
            number = self.connections
            thread = threading.Thread(target=self._talk, args=(connection, number), daemon=True)
            with self._lock:
                self._open[thread] = connection
            thread.start()

    def _talk(self, plain: socket.socket, number: int) -> None:
        connection = plain
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is not None:
                connection = self._secured(plain, self.tls)
            for request in self._requests(connection, number):
                self.fault(Exchange(self, request, connection))
        except (Gone, OSError):
            return
        finally:
            with self._lock:
                self._open.pop(threading.current_thread(), None)
            connection.close()

    def _secured(self, plain: socket.socket, tls: ssl.SSLContext) -> socket.socket:
        connection = tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._open[threading.current_thread()] = connection
        try:
            connection.do_handshake()
        except OSError:
            self.refused_handshakes += 1
            connection.close()
            raise
        return connection

    def _requests(self, connection: socket.socket, number: int) -> Iterator[Request]:
        waiting = b""
        while not self.stopping:
            while b"\r\n\r\n" not in waiting:
                received = connection.recv(65536)
                if not received:
                    return
                waiting += received
            head, _, waiting = waiting.partition(b"\r\n\r\n")
            with self._lock:
                request = _parse(head, len(self.log), number)
                self.log.append(request)
            length = int(request.header("content-length") or 0)
            while len(waiting) < length:
                waiting += connection.recv(65536)
            waiting = waiting[length:]
            yield request


def _parse(head: bytes, number: int, connection: int) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    pairs = (line.partition(":") for line in lines)
    headers = tuple((name.lower(), value.strip()) for name, _, value in pairs)
    return Request(number, time.monotonic(), method, target, headers, connection)


def path_of(request: Request) -> str:
    return urlsplit(request.target).path


def other_version(content: Content, *, etag: str | None = '"content-two"') -> Content:
    """Another file of the same length."""
    return replace(content, body=noise(len(content.body), seed=99), etag=etag)
