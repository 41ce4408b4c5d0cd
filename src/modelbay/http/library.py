"""The library's side of the client: API calls, and everything behind a proxy.

Imported when it is first needed: a plain download over connections of our own does without.
"""

import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Self
from urllib.parse import urlsplit

import httpcore2
import httpx2

from modelbay.errors import ModelbayError, Unreachable
from modelbay.http.redact import shown_url
from modelbay.http.reply import REST_SECONDS, WORTH_READING, Landing
from modelbay.http.sockets import (
    connect,
    has_private_peer,
    leads_to_private,
    readable,
    secured,
    time_left,
)
from modelbay.http.tls import context, environment
from modelbay.http.trouble import explained
from modelbay.text import clean


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Turns what the library raises about `url` into a NetworkError."""
    try:
        yield
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpcore2.UnsupportedProtocol) as error:
        raise Unreachable(
            f"{shown_url(url)} is not an address that can be asked: {clean(error)}",
            hint="write it as https://host/path",
        ) from error
    except (
        httpx2.RequestError,
        httpcore2.NetworkError,
        httpcore2.TimeoutException,
        httpcore2.ProtocolError,
        httpcore2.ProxyError,
        TimeoutError,
        UnicodeError,  # the name of a proxy that no name service could know
    ) as error:
        raise explained(error, url) from error


def made(first_byte: float, connect_seconds: float) -> httpx2.Client:
    """The library's client: no cookies, no redirects, no word in the logs. Times in seconds.
    Raises UsageError for proxy or certificate variables that cannot be right.
    """
    for name in ("httpx2", "httpcore2"):
        # At INFO and DEBUG these write whole addresses and headers.
        logging.getLogger(name).propagate = False
        logging.getLogger(name).addHandler(logging.NullHandler())
    with environment(httpx2.InvalidURL):
        client = httpx2.Client(
            verify=context(),
            # Not one is kept: a cookie knows no port, and would follow a redirect to another.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            timeout=httpx2.Timeout(first_byte, connect=connect_seconds, pool=None),
            limits=httpx2.Limits(
                max_connections=None, max_keepalive_connections=64, keepalive_expiry=30
            ),
            follow_redirects=False,
        )
    # The library takes no network backend of ours, its pool does; a test holds this line.
    client._transport._pool._network_backend = Backend()  # type: ignore[attr-defined]  # noqa: SLF001
    return client


class LibraryReply:
    """An answer through the library: API calls, and everything behind a proxy."""

    def __init__(self, response: httpx2.Response, url: str) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = {
            name.lower(): value for name, value in response.headers.items()
        }
        self.url = url
        self.landing = Landing(url, guarded=False)
        value = self.headers.get("content-length", "")
        self.length = int(value) if value.isdigit() else None
        self._response = response
        self._rest: Iterator[bytes] | None = None
        self._left = memoryview(b"")
        self._ended = False

    def read_into(self, view: memoryview, timeout: float | None) -> int:  # noqa: ARG002 - the library has its own
        with translated(self.url):
            while not self._left:
                if self._rest is None:
                    self._rest = self._response.iter_raw()
                chunk = next(self._rest, None)
                if chunk is None:
                    self._ended = True
                    return 0
                self._left = memoryview(chunk)
        count = min(len(self._left), len(view))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def decoded(self) -> Iterator[bytes]:
        """The body with its Content-Encoding undone, for small answers."""
        self._ended = True
        return self._response.iter_bytes()

    def from_private_host(self) -> bool:
        stream = self._response.extensions.get("network_stream")
        if isinstance(stream, Stream):
            return stream.private
        # The peer is a proxy, whose address says nothing about the host behind it.
        return leads_to_private(urlsplit(self.url).hostname or "")

    @property
    def refused_by_proxy(self) -> bool:
        """Whether a proxy wants to know who asks (a plain http address; https fails earlier)."""
        stream = self._response.extensions.get("network_stream")
        return self.status == 407 and not isinstance(stream, Stream)

    def close(self) -> None:
        if not self._ended and self.length is not None and self.length <= WORTH_READING:
            until = time.monotonic() + REST_SECONDS
            with contextlib.suppress(ModelbayError), translated(self.url):
                for _ in self._response.iter_raw() if self._rest is None else self._rest:
                    if time.monotonic() > until:
                        break
        self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Stream(httpcore2.NetworkStream):
    """A connected socket, plain or TLS, as the library wants it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.private = has_private_peer(sock)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _mapped(httpcore2.ReadTimeout, httpcore2.ReadError):
            self.sock.settimeout(time_left(timeout))
            return self.sock.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with _mapped(httpcore2.WriteTimeout, httpcore2.WriteError):
            self.sock.settimeout(timeout)
            self.sock.sendall(buffer)

    def close(self) -> None:
        self.sock.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        if isinstance(self.sock, ssl.SSLSocket):
            raise httpcore2.ConnectError("TLS inside TLS (an https proxy) is not supported")
        with _mapped(httpcore2.ConnectTimeout, httpcore2.ConnectError):
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


class Backend(httpcore2.NetworkBackend):
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
    ) -> httpcore2.NetworkStream:
        with _mapped(httpcore2.ConnectTimeout, httpcore2.ConnectError):
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
