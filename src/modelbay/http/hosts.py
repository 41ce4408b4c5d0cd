"""Manners towards each host: its back-off, its rate limit, our share of its connections.

One `Hosts` is shared by everything that talks through a client, so that eight workers in
front of a server in trouble are one visitor and not eight.
"""

import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

CONNECTIONS_PER_HOST = 16
_LARGE_SHARE = 0.75
"""Of a host's connections, what pieces of large files may take: small ones never wait for them."""
_POLL = 0.1
_RATE_LIMIT = re.compile(r"(?:^|;)\s*(r|t)=([0-9]{1,9})(?![0-9])")

Wait = Callable[[float], None]
"""Sleeps that many seconds or less; raises when the work was stopped meanwhile."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long trouble is borne. Seconds; `tries` counts tries without progress."""

    backoff: float = 1.0
    backoff_cap: float = 60.0
    tries: int = 8
    wait_cap: float = 600.0

    def pause(self, failures: int) -> float:
        """The jittered wait after that many failures in a row (1 is the first)."""
        whole = min(self.backoff_cap, self.backoff * 2.0 ** min(failures - 1, 16))
        return whole * random.uniform(0.75, 1.25)  # noqa: S311 - jitter, not a secret


@dataclass(slots=True)
class _Host:
    slots: threading.BoundedSemaphore
    large: threading.BoundedSemaphore
    until: float = 0.0
    failures: int = 0
    probe: object | None = None
    """The visit that tries a host in trouble, until it is known what came of it."""
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Delay:
    """A host that is waited for: why, and in how many seconds it is tried again."""

    host: str
    cause: str
    seconds: float


@dataclass(slots=True)
class Hosts:
    """The state of every host met, by `host:port`."""

    patience: Patience = field(default_factory=Patience)
    connections: int = CONNECTIONS_PER_HOST
    _hosts: dict[str, _Host] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def _of(self, url: str) -> _Host:
        key = urlsplit(url).netloc.rpartition("@")[2].lower()
        with self._lock:
            host = self._hosts.get(key)
            if host is None:
                share = max(1, int(self.connections * _LARGE_SHARE))
                host = self._hosts[key] = _Host(
                    threading.BoundedSemaphore(self.connections), threading.BoundedSemaphore(share)
                )
            return host

    @contextmanager
    def visit(self, url: str, wait: Wait, *, large: bool = False) -> Iterator[None]:
        """Holds one of the host's connections, once its back-off allows. Pieces of `large`
        files take at most three quarters of them.

        While a host is in trouble one visitor at a time tries it; the others wait for
        what he finds.
        """
        host = self._of(url)
        with _held(host.large, wait) if large else nullcontext(), _held(host.slots, wait):
            visit = object()
            try:
                self._await_turn(host, visit, wait)
                yield
            finally:
                with self._lock:
                    # A visit that was stopped tells nothing; the next one tries.
                    if host.probe is visit:
                        host.probe = None

    def _await_turn(self, host: _Host, visit: object, wait: Wait) -> None:
        while True:
            with self._lock:
                pause = host.until - time.monotonic()
                if pause <= 0 and host.probe is None:
                    host.probe = visit if host.failures else None
                    return
            wait(min(max(pause, 0.01), _POLL))

    def fine(self, url: str) -> None:
        """The host answered; whoever waited may go on."""
        host = self._of(url)
        if host.failures or host.probe is not None:
            with self._lock:
                host.failures, host.probe = 0, None

    def trouble(self, url: str, asked: float | None = None, *, cause: str = "") -> float:
        """The host is in trouble: seconds until it is tried again. `asked` is its own wish,
        `cause` a sentence about it.

        Several failures reported during one back-off count as one.
        """
        host = self._of(url)
        with self._lock:
            now = time.monotonic()
            if host.until <= now or host.probe is not None:
                host.failures += 1
                host.until = now + self.patience.pause(host.failures)
            if asked is not None:
                host.until = max(host.until, now + asked)
            host.probe, host.cause = None, cause or host.cause
            return host.until - now

    def delays(self) -> list[Delay]:
        """The hosts in trouble now, by name."""
        with self._lock:
            now = time.monotonic()
            return [
                Delay(name, host.cause, max(0.0, host.until - now))
                for name, host in sorted(self._hosts.items())
                if host.failures or host.until > now
            ]

    def note_rate(self, url: str, headers: Mapping[str, str]) -> None:
        """Obeys `RateLimit: "name";r=0;t=17` (IETF draft 9, as the Hub sends it).

        Answers from a shared cache repeat somebody else's figures and are passed over.
        """
        if headers.get("age", "0") not in {"", "0"} or "ratelimit" not in headers:
            return
        found = dict(_RATE_LIMIT.findall(headers["ratelimit"]))
        if found.get("r") == "0" and "t" in found:
            host = self._of(url)
            with self._lock:
                wish = time.monotonic() + min(int(found["t"]) + 1, self.patience.wait_cap)
                host.until = max(host.until, wish)


@contextmanager
def _held(slots: threading.BoundedSemaphore, wait: Wait) -> Iterator[None]:
    while not slots.acquire(timeout=_POLL):
        wait(0)
    try:
        yield
    finally:
        slots.release()


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that the answer asks to wait: `Retry-After` as seconds or a date (one in the
    past is 0), else the reset of an exhausted `RateLimit`; None when it does not say.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    if value:
        try:
            when = parsedate_to_datetime(value)
        except (TypeError, ValueError, OverflowError):
            return None
        now = datetime.now(UTC) if when.tzinfo else datetime.now(UTC).replace(tzinfo=None)
        return max(0.0, (when - now).total_seconds())
    found = dict(_RATE_LIMIT.findall(headers.get("ratelimit", "")))
    return float(found["t"]) + 1 if found.get("r") == "0" and "t" in found else None
