"""Connecting: addresses checked after resolution, at each connection."""

import contextlib
import ipaddress
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

PRIVATE = "a private address, which this host's name must not lead to"
_HEAD_START = 0.5
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_CARRIERS = [ipaddress.IPv6Network(n) for n in ("::/96", "::ffff:0:0/96", "64:ff9b::/96")]


class _Current(threading.local):
    guarded: bool = False
    until: float | None = None


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


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """What this thread reads inside the block has so many seconds in all, however alive the
    other end looks.
    """
    before, _current.until = _current.until, time.monotonic() + seconds
    try:
        yield
    finally:
        _current.until = before


def time_left(timeout: float | None) -> float | None:
    """`timeout`, or less of it where the block of `within` ends earlier. Raises TimeoutError
    when that is over.
    """
    if _current.until is None:
        return timeout
    left = _current.until - time.monotonic()
    if left <= 0:
        raise TimeoutError("the answer took too long")
    return left if timeout is None else min(timeout, left)


def is_private(address: str) -> bool:
    """Whether an address is not one of the public internet (loopback, link-local, …)."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return True
    ip = _carried(ip)
    return not ip.is_global or ip.is_multicast


def _carried(ip: _Address) -> _Address:
    """The IPv4 address that an IPv6 one stands for, where there is one (RFC 4291, 6052, 3056)."""
    if isinstance(ip, ipaddress.IPv6Address):
        if any(ip in network for network in _CARRIERS):
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        return ip.sixtofour or ip
    return ip


def is_guarded() -> bool:
    """Whether this thread is inside a `guarding` block that is on."""
    return _current.guarded


def has_private_peer(sock: socket.socket) -> bool:
    """Whether the other end of `sock` is no public address; asked while it is surely open."""
    try:
        return is_private(str(sock.getpeername()[0]))
    except OSError:
        return False


def leads_to_private(host: str, *, at_all: bool = False) -> bool:
    """Whether `host` has private addresses and no other, or has one `at_all`; False when its
    name is unknown here.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        return False
    private = [is_private(str(row[4][0])) for row in found]
    return any(private) if at_all else all(private)


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
