"""One open answer, whose body goes straight into the caller's buffers."""

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self

from modelbay.http.exchange import Body, Connection, Head
from modelbay.http.kept import Cut, Kept
from modelbay.http.trouble import explained

WORTH_READING = 16 << 10
"""A rest of at most this is read, so that the connection (after a redirect, say) lives on."""
REST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Landing:
    """Where redirects ended. `guarded`: they began on a public host, and must not lead to a
    private address.
    """

    url: str = field(repr=False)
    guarded: bool


class Reply(Protocol):
    """Status, headers (lower case) and body of one answer. Close it, or use `with`."""

    status: int
    headers: Mapping[str, str]
    url: str
    landing: Landing
    length: int | None
    """How many body bytes were announced, None when the answer did not say."""

    def read_into(self, view: memoryview, timeout: float | None) -> int:
        """Body bytes into `view`: how many, 0 at the end. Blocks at most `timeout` seconds
        for the first of them. Raises Unreachable (transient) when the body is cut short.
        """
        ...

    def from_private_host(self) -> bool:
        """Whether the host that answered is on this machine or a private network."""
        ...

    def close(self) -> None:
        """Gives the connection back when the body was read to its end, else ends it."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


class DirectReply:
    """An answer over a connection of our own."""

    def __init__(
        self, exchange: tuple[Connection, Head, Body], url: str, kept: Kept, cut: Cut | None
    ) -> None:
        self._connection, head, self._body = exchange
        self.status, self.headers, self.length = head.status, head.headers, head.length
        self.url = url
        self.landing = Landing(url, guarded=False)
        self._keeps = head.keeps
        self._kept, self._cut = kept, cut
        self._closed = False

    def read_into(self, view: memoryview, timeout: float | None) -> int:
        try:
            return self._body.read_into(view, timeout)
        except (OSError, ValueError) as error:
            raise explained(error, self.url, agreed=True) from error

    def from_private_host(self) -> bool:
        return self._connection.private

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError):
            self._read_rest()
        if self._cut is not None:
            self._cut.remove(self._connection)
        if self._body.ended and self._keeps:
            self._kept.give(self.url, self._connection)
        else:
            self._connection.close()

    def _read_rest(self) -> None:
        if self.status in {200, 206} or self.length is None or self.length > WORTH_READING:
            return
        view = memoryview(bytearray(WORTH_READING))
        until = time.monotonic() + REST_SECONDS
        while (left := until - time.monotonic()) > 0 and self._body.read_into(view, left):
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
