"""The sockets under the HTTP client: large reads, bodies without copies, guarded addresses.

Three things the library underneath does not give, all on this side of its own
`NetworkBackend` protocol:

* `read` does one blocking receive and then drains what is already there, up to 1 MiB.
  The library asks for 64 KiB at a time, and TLS hands over 16 KiB records; on a verified
  GiB this alone saved a third of the CPU (ARCHITECTURE.md, the engine).
* On request (`Call.raw`) the parser is handed the head of an answer only, rewritten to
  announce an empty body, and the body is left on the socket for `Connection.read_into`,
  which fills a buffer of the caller's. The parser sees a finished exchange, so the
  connection stays alive for the next piece: draining it the plain way costs a handshake
  and a slow start per piece.
* Every connection is made to an address that was checked after resolution, and the
  connections of a transfer can be cut from another thread (`Cut`).
"""

import contextlib
import ipaddress
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpcore2 as httpcore

READ_SIZE = 1 << 20
_HEAD_LIMIT = 100 * 1024
_PATIENT_SECONDS = 0.1
_END_OF_HEAD = b"\r\n\r\n"
_turn = threading.Lock()
_WAITING = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)


class Cut:
    """The live connections of one transfer, so that another thread can end them."""

    def __init__(self) -> None:
        self._connections: set[Connection] = set()
        self._lock = threading.Lock()
        self._fallen = False

    def add(self, connection: "Connection") -> None:
        with self._lock:
            self._connections.add(connection)
            fallen = self._fallen
        if fallen:
            connection.shut()

    def remove(self, connection: "Connection") -> None:
        with self._lock:
            self._connections.discard(connection)

    def fall(self) -> None:
        """Ends every connection now and every later one at once."""
        with self._lock:
            self._fallen = True
            connections = list(self._connections)
        for connection in connections:
            connection.shut()


@dataclass(slots=True)
class Call:
    """What the request that this thread is sending wants of its connection."""

    raw: bool = False
    guarded: bool = False
    cut: Cut | None = None


class _Current(threading.local):
    call: Call = Call()


_current = _Current()


@contextlib.contextmanager
def calling(call: Call) -> Iterator[None]:
    """Requests sent by this thread inside the block are made as `call` says.

    The client is synchronous, so a request's connection is opened, written and read on the
    thread that sends it.
    """
    before, _current.call = _current.call, call
    try:
        yield
    finally:
        _current.call = before


@contextlib.contextmanager
def _mapped(timeout: type[Exception], failure: type[Exception]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise timeout(error) from error
    except (OSError, ValueError) as error:
        raise failure(error) from error


@dataclass(eq=False, slots=True)
class Connection(httpcore.NetworkStream):
    """One connected socket, plain or TLS."""

    sock: socket.socket
    raw_length: int = 0
    """Body bytes of the current raw answer that `read_into` has not given yet."""
    _left: bytes = b""
    _head: bytearray | None = None
    _raw: bool = False
    _failure: OSError | None = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the size asked for is a hint
        with _mapped(httpcore.ReadTimeout, httpcore.ReadError):
            self.sock.settimeout(timeout)
            if self._raw:
                return self._read_head()
            return self._drain()

    def _drain(self) -> bytes:
        first = self.sock.recv(1 << 16)
        if len(first) < (1 << 14):
            return first
        chunks, size = [first], len(first)
        timeout = self.sock.gettimeout()
        self.sock.settimeout(0)
        try:
            while size < READ_SIZE:
                more = self.sock.recv(READ_SIZE - size)
                if not more:
                    break
                chunks.append(more)
                size += len(more)
        except _WAITING:
            pass
        finally:
            self.sock.settimeout(timeout)
        return b"".join(chunks)

    def _read_head(self) -> bytes:
        head = self._head if self._head is not None else bytearray()
        while True:
            end = head.find(_END_OF_HEAD)
            if end >= 0 or len(head) > _HEAD_LIMIT:
                break
            more = self.sock.recv(1 << 16)
            if not more:
                break
            head += more
        self._head = None
        end += len(_END_OF_HEAD)
        if 100 <= _status(head) < 200 and end >= len(_END_OF_HEAD):
            self._head = head[end:]
            return bytes(head[:end])
        self._raw = False
        length = _plain_length(head[:end]) if end >= len(_END_OF_HEAD) else None
        if length is None:
            return bytes(head)
        self._left = bytes(head[end:])
        self.raw_length = length
        return _announcing_nothing(bytes(head[:end]))

    def read_into(self, view: memoryview, timeout: float | None) -> int:
        """Body bytes of a raw answer into `view`: how many, 0 at its end.

        Returns when `view` is full, or with what came within a tenth of a second. Raises
        OSError; a body cut short is a ConnectionError.
        """
        if self._failure is not None:
            raise self._failure
        want = min(len(view), self.raw_length)
        filled = min(len(self._left), want)
        if filled:
            view[:filled] = self._left[:filled]
            self._left = self._left[filled:]
        filled = self._fill(view[:want], filled, timeout)
        self.raw_length -= filled
        return filled

    def _fill(self, view: memoryview, filled: int, timeout: float | None) -> int:
        """Waits for bytes, then drains what is there, one connection of the process at a time.

        A TLS record is 16 KiB, and each costs a release of the interpreter lock. Threads that
        drain side by side hand that lock over 65,000 times a GiB; taking turns, they hand it
        over once for each buffer.
        """
        enough = time.monotonic() + _PATIENT_SECONDS
        while filled < len(view):
            try:
                if not self._pending() and not self._arrived(filled, timeout, enough):
                    break
                with _turn:
                    filled += self._drain_into(view[filled:])
            except OSError as error:
                if not filled:
                    raise
                self._failure = error
                break
            if time.monotonic() > enough:
                break
        return filled

    def _pending(self) -> bool:
        return isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0

    def _arrived(self, filled: int, timeout: float | None, enough: float) -> bool:
        """Whether there is something to read: for the first byte `timeout` seconds are given,
        for more of it what is left of a tenth of a second.
        """
        if filled:
            return _readable(self.sock, max(0.0, enough - time.monotonic()))
        if not _readable(self.sock, timeout):
            raise TimeoutError("no byte came in time")
        return True

    def _drain_into(self, view: memoryview) -> int:
        if self.sock.gettimeout() != 0:
            self.sock.settimeout(0)
        receive, filled, want = self.sock.recv_into, 0, len(view)
        try:
            while filled < want:
                count = receive(view[filled:])
                if not count:
                    raise ConnectionError("the connection ended before the body did")
                filled += count
        except _WAITING:
            pass
        except OSError as error:
            if not filled:
                raise
            self._failure = error
        return filled

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        call = _current.call
        self._raw = call.raw
        if call.cut is not None:
            call.cut.add(self)
        with _mapped(httpcore.WriteTimeout, httpcore.WriteError):
            self.sock.settimeout(timeout)
            self.sock.sendall(buffer)

    def shut(self) -> None:
        """Ends the connection from any thread: a blocked read returns at once."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def close(self) -> None:
        if _current.call.cut is not None:
            _current.call.cut.remove(self)
        self.sock.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        if isinstance(self.sock, ssl.SSLSocket):
            raise httpcore.ConnectError("TLS inside TLS (an https proxy) is not supported")
        with _mapped(httpcore.ConnectTimeout, httpcore.ConnectError):
            try:
                self.sock.settimeout(timeout)
                wrapped = ssl_context.wrap_socket(self.sock, server_hostname=server_hostname)
            except BaseException:
                self.close()
                raise
        return Connection(wrapped)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return _readable(self.sock, 0)
        if info == "socket":
            return self.sock
        if info == "server_addr":
            return self.sock.getpeername()
        if info == "client_addr":
            return self.sock.getsockname()
        if info == "ssl_object" and isinstance(self.sock, ssl.SSLSocket):
            return self.sock
        return None


def _readable(sock: socket.socket, timeout: float | None) -> bool:
    """Whether there is something to read, or an end, within `timeout` seconds."""
    number = sock.fileno()
    if number < 0:
        return True
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


def _status(head: bytearray) -> int:
    parts = bytes(head[:16]).split(b" ")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0


def _plain_length(head: bytearray) -> int | None:
    """The length of a body that comes as it is and is wanted raw, else None."""
    if _status(head) not in {200, 206}:
        return None
    lengths = set()
    for line in bytes(head).lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            lengths.add(value.strip())
    if len(lengths) != 1:
        return None
    length = lengths.pop()
    return int(length) if length.isdigit() else None


def _announcing_nothing(head: bytes) -> bytes:
    lines = [
        line for line in head.split(b"\r\n") if line.partition(b":")[0].lower() != b"content-length"
    ]
    lines.insert(1, b"Content-Length: 0")
    return b"\r\n".join(lines)


class Backend(httpcore.NetworkBackend):
    """Resolves, checks each address, and connects to the first that answers.

    `checks` is off for connections to a proxy, which resolves the names itself.
    """

    def __init__(self, *, checks: bool = True) -> None:
        self._checks = checks

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        with _mapped(httpcore.ConnectTimeout, httpcore.ConnectError):
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            if self._checks and _current.call.guarded:
                addresses = [found for found in addresses if not is_private(str(found[4][0]))]
                if not addresses:
                    raise OSError(PRIVATE)
            sock = _first_connected(_interleaved(addresses), timeout, local_address)
        for option in socket_options or ():
            sock.setsockopt(*option)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Connection(sock)


PRIVATE = "a private address, which this host's name must not lead to"


def is_private(address: str) -> bool:
    """Whether an address is not one of the public internet (loopback, link-local, …)."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return True
    mapped = getattr(ip, "ipv4_mapped", None)
    return not (mapped or ip).is_global


def _interleaved(addresses: list[Any]) -> list[Any]:
    """The families in turn, the resolver's first choice first (RFC 8305 §4)."""
    families = list(dict.fromkeys(found[0] for found in addresses))
    queues = [[found for found in addresses if found[0] == family] for family in families]
    longest = max(map(len, queues), default=0)
    return [queue[i] for i in range(longest) for queue in queues if i < len(queue)]


_HEAD_START = 0.5


def _first_connected(
    addresses: list[Any], timeout: float | None, local_address: str | None
) -> socket.socket:
    """Tries in order; every address but the last gets half a second alone, then all the rest
    of the time is the next one's: a black hole costs at most that.
    """
    failure: OSError = OSError("the name has no address")
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        last = number == len(addresses) - 1
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(timeout if last else min(_HEAD_START, timeout or _HEAD_START))
            if local_address is not None:
                sock.bind((local_address, 0))
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
            continue
        return sock
    raise failure
