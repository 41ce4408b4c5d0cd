"""Connecting: addresses checked after resolution, at each connection."""

import contextlib
import ipaddress
import select
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import httpcore2 as httpcore

PRIVATE = "a private address, which this host's name must not lead to"
_HEAD_START = 0.5


class _Current(threading.local):
    guarded: bool = False


_current = _Current()


@contextlib.contextmanager
def guarding(*, on: bool) -> Iterator[None]:
    """Connections that this thread makes inside the block go to public addresses only.

    The client is synchronous: a connection is made by the thread that needs it.
    """
    before, _current.guarded = _current.guarded, on
    try:
        yield
    finally:
        _current.guarded = before


def is_private(address: str) -> bool:
    """Whether an address is not one of the public internet (loopback, link-local, …)."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return True
    mapped = getattr(ip, "ipv4_mapped", None)
    return not (mapped or ip).is_global


def connect(host: str, port: int, timeout: float | None) -> socket.socket:
    """A socket connected to the first address of `host` that answers. Raises OSError.

    Families take turns (RFC 8305 §4); every address but the last gets half a second, so
    that a black hole costs at most that.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if _current.guarded:
        found = [row for row in found if not is_private(str(row[4][0]))]
        if not found:
            raise OSError(PRIVATE)
    failure: OSError = OSError("the name has no address")
    addresses = _interleaved(found)
    for number, (family, kind, protocol, _, address) in enumerate(addresses, 1):
        last = number == len(addresses)
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(timeout if last else min(_HEAD_START, timeout or _HEAD_START))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            failure = error
            continue
        return sock
    raise failure


def _interleaved(found: list[Any]) -> list[Any]:
    families = list(dict.fromkeys(row[0] for row in found))
    queues = [[row for row in found if row[0] == family] for family in families]
    longest = max(map(len, queues), default=0)
    return [queue[i] for i in range(longest) for queue in queues if i < len(queue)]


def readable(sock: socket.socket, timeout: float | None) -> bool:
    """Whether there is something to read, or an end, within `timeout` seconds."""
    number = sock.fileno()
    if number < 0:
        return True
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


class Stream(httpcore.NetworkStream):
    """A connected socket, plain or TLS, as the library wants it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _mapped(httpcore.ReadTimeout, httpcore.ReadError):
            self.sock.settimeout(timeout)
            return self.sock.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with _mapped(httpcore.WriteTimeout, httpcore.WriteError):
            self.sock.settimeout(timeout)
            self.sock.sendall(buffer)

    def close(self) -> None:
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
            return Stream(secured(self.sock, ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        match info:
            case "is_readable":
                return readable(self.sock, 0)
            case "socket":
                return self.sock
            case "server_addr":
                return self.sock.getpeername()
            case "client_addr":
                return self.sock.getsockname()
            case "ssl_object" if isinstance(self.sock, ssl.SSLSocket):
                return self.sock
        return None


def secured(
    sock: socket.socket, context: ssl.SSLContext, host: str | None, timeout: float | None
) -> ssl.SSLSocket:
    """`sock` under TLS; closed when the handshake fails. Raises OSError (ssl.SSLError)."""
    try:
        sock.settimeout(timeout)
        return context.wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise


class Backend(httpcore.NetworkBackend):
    """Hands the library our way of finding and checking addresses.

    Not for connections to a proxy, which resolves the names itself.
    """

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002 - never set by us
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        with _mapped(httpcore.ConnectTimeout, httpcore.ConnectError):
            sock = connect(host, port, timeout)
        for option in socket_options or ():
            sock.setsockopt(*option)
        return Stream(sock)


@contextlib.contextmanager
def _mapped(timeout: type[Exception], failure: type[Exception]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise timeout(error) from error
    except (OSError, ValueError) as error:
        raise failure(error) from error
