"""What the headless face reads of a run, and how it gets its Bay (`Face.bay`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from modelbay.bay import Bay
    from modelbay.config import Settings
    from modelbay.errors import ModelbayError
    from modelbay.plan import Plan
    from modelbay.transfer.order import Progress


class Event(Protocol):
    """A fact, as a sentence. `kind` is one word, like verified, placed, failed."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def message(self) -> str: ...


class Row(Protocol):
    """One file on its way."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def progress(self) -> Progress: ...
    @property
    def error(self) -> ModelbayError | None: ...


class Outcome(Protocol):
    """What became of one plan: how many files went which way, and which failed."""

    @property
    def plan(self) -> Plan: ...
    @property
    def fetched(self) -> int: ...
    @property
    def linked(self) -> int: ...
    @property
    def kept(self) -> int: ...
    @property
    def replaced(self) -> int: ...
    @property
    def blocked(self) -> int: ...
    @property
    def failed(self) -> Sequence[Row]: ...


class Report(Protocol):
    """What became of a run. `bytes` came over the network, in `seconds`."""

    @property
    def outcomes(self) -> Sequence[Outcome]: ...
    @property
    def bytes(self) -> int: ...
    @property
    def seconds(self) -> float: ...


class Run(Protocol):
    @property
    def rows(self) -> Sequence[Row]: ...
    def wait(self, seconds: float) -> bool: ...
    def stop(self) -> None: ...
    def events(self) -> Sequence[Event]: ...
    def report(self) -> Report: ...


class OpenBay(Protocol):
    def __call__(
        self,
        *,
        settings: Settings | None = None,
        environ: Mapping[str, str] | None = None,
        workspace: Path | None = None,
        root: Path | None = None,
    ) -> Bay: ...
