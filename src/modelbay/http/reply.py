"""One open answer, whose body goes straight into the caller's buffers."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from modelbay.errors import ModelbayError
from modelbay.http.backend import Connection, Cut, is_private
from modelbay.http.trouble import explained, translated

if TYPE_CHECKING:
    import httpx2

_WORTH_READING = 16 << 10
"""A rest of at most this is read, so that the connection (after a redirect, say) lives on."""


@dataclass(frozen=True, slots=True)
class Landing:
    """Where redirects ended. `guarded`: they began on a public host, and must not lead to a
    private address.
    """

    url: str
    guarded: bool


class Reply:
    """Status, headers (lower case) and body of one answer. Close it, or use `with`.

    `length` is how many body bytes the answer announced, None when it did not say.
    """

    def __init__(
        self, response: "httpx2.Response", url: str, *, cut: Cut | None, expects_body: bool = True
    ) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = {
            name.lower(): value for name, value in response.headers.items()
        }
        self.url = url
        self.landing = Landing(url, guarded=False)
        self._response = response
        self._cut = cut
        stream = response.extensions.get("network_stream")
        self._connection = stream if isinstance(stream, Connection) else None
        self._raw = (
            expects_body and self._connection is not None and self._connection.raw_length > 0
        )
        self.length = self._announced()
        self._rest: Iterator[bytes] | None = None
        self._left = memoryview(b"")
        self._ended = False

    def _announced(self) -> int | None:
        if self._raw and self._connection is not None:
            return self._connection.raw_length
        value = self.headers.get("content-length", "")
        return int(value) if value.isdigit() else None

    def read_into(self, view: memoryview, timeout: float | None) -> int:
        """Body bytes into `view`: how many, 0 at the end. Blocks at most `timeout` seconds
        for the first of them. Raises Unreachable (transient) when the body is cut short.
        """
        if not (self._raw and self._connection is not None):
            with translated(self.url):
                return self._read_parsed(view)
        try:
            count = self._connection.read_into(view, timeout)
        except (OSError, ValueError) as error:
            raise explained(error, self.url) from error
        self._ended = not self._connection.raw_length
        return count

    def _read_parsed(self, view: memoryview) -> int:
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
        return self._response.iter_bytes()

    def from_private_host(self) -> bool:
        """Whether the host that answered is on this machine or a private network."""
        if self._connection is None:
            return False
        try:
            return is_private(str(self._connection.sock.getpeername()[0]))
        except OSError:
            return False

    def close(self) -> None:
        """Gives the connection back when the body was read to its end, else ends it."""
        try:
            if self._raw and self._ended:
                with translated(self.url):
                    for _ in self._response.iter_raw():
                        pass
            elif self._raw and self._connection is not None:
                self._connection.close()
            elif self._unread() and self.length is not None and self.length <= _WORTH_READING:
                with contextlib.suppress(ModelbayError), translated(self.url):
                    for _ in self._response.iter_raw():
                        pass
        finally:
            if self._cut is not None and self._connection is not None:
                self._cut.remove(self._connection)
            self._response.close()

    def _unread(self) -> bool:
        return not (self._ended or self._response.is_stream_consumed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
