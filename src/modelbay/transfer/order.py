"""What the engine is asked for, what it tells meanwhile, and what it answers."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from modelbay.digest import Digest
from modelbay.errors import Interrupted
from modelbay.location import Location

State = Literal[
    "waiting", "connecting", "downloading", "verifying", "retrying", "placing", "done", "failed"
]


@dataclass(frozen=True, slots=True)
class Damaged:
    """A file in place that has other bytes than it had. `sums` are those of the right bytes:
    sha256 of the file up to each 16 MiB, the last of the whole.
    """

    path: Path
    sums: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """One file to bring into `part`. `size` in bytes, None when nobody knows it."""

    name: str
    size: int | None
    digests: tuple[Digest, ...]
    part: Path
    locate: Callable[[], Location]
    validator: str | None = None
    """The strong ETag known beforehand; a part of another one is not continued."""
    suffix: str = ""
    """The extension that the first bytes must agree with (`.safetensors`)."""
    damaged: Damaged | None = None
    """What of this file is still right is taken from there instead of being fetched."""
    tries: int | None = None
    """How often in a row it may fail; None: as often as the engine's patience has it."""


@dataclass(slots=True)
class Progress:
    """Plain counters, bumped by the engine and sampled by faces; never locked."""

    size: int | None = None
    received: int = 0
    """Durable or in flight, of this file, including what an earlier run left."""
    hashed: int = 0
    state: State = "waiting"
    note: str = ""
    """A sentence for people: why it waits, what was restarted."""
    retry_at: float | None = None
    """Monotonic seconds of the next try, while `state` is `retrying`."""
    connections: int = 0
    resumed: int = 0
    """Bytes an earlier run left that are used."""
    fetched: int = 0
    """Bytes that came over the network in this run, wasted ones included."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A verified, fsynced part. `digests` are observed: sha256 and whatever was claimed."""

    part: Path
    size: int
    digests: tuple[Digest, ...]
    sums: tuple[bytes, ...] = ()
    """sha256 of the file up to each 16 MiB, the last of the whole, for repair."""
    etag: str | None = None
    notes: tuple[str, ...] = ()
    """What a person should know of how it came: that it was started over, and why."""


@dataclass(slots=True)
class Stop:
    """One switch for one transfer, or for all. Setting it wakes every waiter."""

    _event: threading.Event = field(default_factory=threading.Event)
    _hooks: list[Callable[[], None]] = field(default_factory=list)

    def set(self) -> None:
        self._event.set()
        for hook in list(self._hooks):
            hook()

    @contextmanager
    def calling(self, hook: Callable[[], None]) -> Iterator[None]:
        """Calls `hook` when set inside the block, or at once when it was before."""
        self._hooks.append(hook)
        try:
            if self.is_set():
                hook()
            yield
        finally:
            self._hooks.remove(hook)

    def check(self) -> None:
        """Raises Interrupted once set."""
        if self._event.is_set():
            raise Interrupted("stopped; what arrived is kept", hint="run the same command again")

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> None:
        """Sleeps at most that long. Raises Interrupted once set."""
        self._event.wait(max(0.0, seconds))
        self.check()
