"""What the headless face needs of a Bay; commands get theirs from `Face.open_bay`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from modelbay.config import Settings
    from modelbay.errors import ModelbayError
    from modelbay.library.base import Layout
    from modelbay.plan import Plan
    from modelbay.refs import ModelRef
    from modelbay.selection import Selection
    from modelbay.snapshot import Hit, Query, Snapshot
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
    def plan(self) -> Plan: ...
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


class Bay(Protocol):
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def parse(self, text: str) -> ModelRef: ...
    def search(
        self, query: Query, sources: Sequence[str] = ()
    ) -> Iterator[Hit | ModelbayError]: ...
    def resolve(self, ref: ModelRef) -> Snapshot: ...
    def select(
        self,
        snapshot: Snapshot,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        variant: str | None = None,
        path: str | None = None,
    ) -> Selection: ...
    def layout(
        self,
        name: str | None,
        ref: ModelRef,
        *,
        to: Path | None = None,
        category: str | None = None,
    ) -> Layout: ...
    def plan(self, selection: Selection, layout: Layout, *, replacing: bool = False) -> Plan: ...
    def carry(self, plans: Sequence[Plan]) -> Run: ...


class OpenBay(Protocol):
    def __call__(
        self,
        *,
        settings: Settings | None = None,
        environ: Mapping[str, str] | None = None,
        workspace: Path | None = None,
    ) -> Bay: ...
