"""Connections of the engine: kept alive between pieces, and cut when a transfer stops."""

import ssl
import threading
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from modelbay.http.exchange import Body, Connection, Head
from modelbay.http.sockets import connect, has_private_peer, is_guarded, secured
from modelbay.http.tls import context, environment
from modelbay.location import origin_of

_IDLE_SECONDS = 30.0
_MOST_IDLE = 64


class Cut:
    """The live connections of one transfer, so that another thread can end them."""

    def __init__(self) -> None:
        self._connections: set[Connection] = set()
        self._lock = threading.Lock()
        self._fallen = False

    def add(self, connection: Connection) -> None:
        with self._lock:
            self._connections.add(connection)
        if self.fallen:
            connection.shut()

    @property
    def fallen(self) -> bool:
        with self._lock:
            return self._fallen

    def remove(self, connection: Connection) -> None:
        with self._lock:
            self._connections.discard(connection)

    def fall(self) -> None:
        """Ends every connection now and every later one at once."""
        with self._lock:
            self._fallen = True
            # Under the lock: a connection that was removed belongs to somebody else by now.
            for connection in self._connections:
                connection.shut()


class Kept:
    """Idle connections by origin. Thread-safe."""

    def __init__(self, *, connect_seconds: float, first_byte: float) -> None:
        self._connect_seconds = connect_seconds
        self._first_byte = first_byte
        self._idle: dict[str, list[Connection]] = {}
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._closed = False

    def exchange(
        self, url: str, headers: Mapping[str, str], cut: Cut | None
    ) -> tuple[Connection, Head, Body]:
        """Asks for `url` and reads the head of the answer. Raises OSError, ssl.SSLError.

        A kept connection that the server gave up meanwhile is replaced by a new one, once.
        """
        origin, request = origin_of(url), request_head(url, headers)
        kept = self._taken(origin)
        if kept is not None:
            try:
                return self._asked(kept, request, cut)
            except (EOFError, BrokenPipeError, ConnectionResetError):
                pass
        if cut is not None and cut.fallen:
            raise ConnectionError("the transfer was stopped")
        try:
            return self._asked(self._new(origin), request, cut)
        except EOFError as error:
            raise ConnectionError("the connection ended without an answer") from error

    def _asked(
        self, connection: Connection, request: bytes, cut: Cut | None
    ) -> tuple[Connection, Head, Body]:
        if cut is not None:
            cut.add(connection)
        try:
            connection.ask(request, self._first_byte)
            head = connection.read_head(self._first_byte)
            return connection, head, Body(connection, head)
        except BaseException:
            if cut is not None:
                cut.remove(connection)
            connection.close()
            raise

    def _taken(self, origin: str) -> Connection | None:
        while True:
            with self._lock:
                idle = self._idle.get(origin)
                connection = idle.pop() if idle else None
            if connection is None:
                return None
            young = time.monotonic() - connection.idle_since < _IDLE_SECONDS
            allowed = not (connection.private and is_guarded())
            if young and allowed and connection.is_fresh():
                return connection
            connection.close()

    def _new(self, origin: str) -> Connection:
        parts = urlsplit(origin)
        tls = self._tls() if parts.scheme == "https" else None
        sock = connect(parts.hostname or "", parts.port or 0, self._connect_seconds)
        if tls is not None:
            sock = secured(sock, tls, parts.hostname, self._connect_seconds)
        return Connection(sock, private=has_private_peer(sock))

    def _tls(self) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                with environment():
                    self._context = context()
                self._context.set_alpn_protocols(["http/1.1"])
            return self._context

    def give(self, url: str, connection: Connection) -> None:
        """Takes back a connection whose answer was read to its end; ends it when it is one too
        many, or when everything was closed meanwhile.
        """
        connection.idle_since = time.monotonic()
        with self._lock:
            idle = self._idle.setdefault(origin_of(url), [])
            if len(idle) < _MOST_IDLE and not self._closed:
                idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            connections = [one for idle in self._idle.values() for one in idle]
            self._idle.clear()
        for connection in connections:
            connection.close()


def request_head(url: str, headers: Mapping[str, str]) -> bytes:
    """The bytes of a GET. Raises ValueError for what would break out of its line."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = parts.netloc.rpartition("@")[2]
    lines = [f"GET {escaped(target)} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if any("\r" in line or "\n" in line or "\0" in line for line in lines):
        raise ValueError("a header or an address holds a line break")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def escaped(target: str) -> str:
    """A path or query with what may not stand in a request line percent-encoded."""
    if target.isascii() and target.isprintable() and " " not in target:
        return target
    from urllib.parse import quote

    return quote(target, safe="%/?:@!$&'()*+,;=-._~[]|{}\"<>\\^`")
