"""Rows: one for each file on its way. Claimed by a carrier, settled once."""

import threading
from collections import deque
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from modelbay.digest import Digest
from modelbay.errors import ModelbayError
from modelbay.library.base import Layout
from modelbay.plan import MOVES, Action, Plan, Step
from modelbay.transfer import Progress
from modelbay.transfer.limits import SMALL

Slot = Literal["large", "small", "link"]
Ending = Literal["done", "kept", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Event:
    """A fact, as a sentence. `kind` is one word: started, verified, placed, waiting, failed."""

    kind: str
    name: str
    message: str


@dataclass(eq=False, slots=True)
class Row:
    """One step of a plan that moves or links bytes."""

    plan: Plan
    step: Step
    layout: Layout
    progress: Progress = field(default_factory=Progress)
    error: ModelbayError | None = None
    ending: Ending | None = None
    observed: tuple[Digest, ...] = ()
    """Digests of the bytes that were fetched."""
    slot: Slot = field(init=False)
    """Whose turn it is, whatever the step turns out to be."""

    def __post_init__(self) -> None:
        if self.step.action not in MOVES:
            self.slot = "link"
            return
        size = self.step.file.size
        self.slot = "small" if size is not None and size < SMALL else "large"

    @property
    def name(self) -> str:
        return self.step.file.path

    @property
    def state(self) -> str:
        return self.progress.state


class Rows(Protocol):
    """Where rows live: a database for the background, memory for a command of its own."""

    def add(self, plan: Plan, layout: Layout) -> Sequence[Row]: ...
    def all(self) -> Sequence[Row]: ...
    def claim(self, slot: Slot, *, besides: Container[int] = ()) -> Row | None:
        """The next row for that slot, now the caller's; None when none may start. Those of
        the plans `besides`, by `id`, may not.
        """
        ...

    def settle(self, row: Row, ending: Ending, error: ModelbayError | None = None) -> None: ...
    def settled(self) -> bool:
        """Whether every row has its ending."""
        ...

    def await_change(self, seconds: float) -> None: ...
    def await_end(self, seconds: float) -> None:
        """Blocks that long, or until every row is settled."""
        ...

    def tell(self, event: Event) -> None: ...
    def events(self) -> Sequence[Event]:
        """The facts since the last call."""
        ...


class MemoryRows:
    """Rows that live and die with their command."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._waiting: dict[Slot, deque[Row]] = {
            "large": deque(),
            "small": deque(),
            "link": deque(),
        }
        self._open: dict[int, int] = {}
        self._links: dict[int, list[Row]] = {}
        self._bringing: dict[Path, Row] = {}
        self._after: dict[int, list[Row]] = {}
        """Links that wait for a row of another plan, by its `id`."""
        self._events: list[Event] = []
        self._unsettled = 0
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._over = threading.Condition(self._lock)

    def add(self, plan: Plan, layout: Layout) -> Sequence[Row]:
        made = [Row(plan, step, layout) for step in plan.of(*MOVES, Action.LINK)]
        moving = [row for row in made if row.slot != "link"]
        for row in made:
            row.progress.size = row.step.file.size
        with self._changed:
            self._rows += made
            self._unsettled += len(made)
            for row in moving:
                self._waiting[row.slot].append(row)
                self._bringing[row.step.blob] = row
            self._open[id(plan)] = len(moving)
            self._links[id(plan)] = [row for row in made if row.slot == "link"]
            self._free_links(plan)
            self._changed.notify_all()
        return made

    def _free_links(self, plan: Plan) -> None:
        """Links may be made of bytes that another step of their plan brings, or one of an
        earlier plan, so they wait.
        """
        if self._open[id(plan)]:
            return
        for link in self._links.pop(id(plan), ()):
            brings = self._bringing.get(link.step.source) if link.step.source else None
            if brings is None or brings.ending is not None:
                self._waiting["link"].append(link)
            else:
                self._after.setdefault(id(brings), []).append(link)

    def all(self) -> Sequence[Row]:
        return self._rows

    def claim(self, slot: Slot, *, besides: Container[int] = ()) -> Row | None:
        with self._changed:
            waiting = self._waiting[slot]
            row = next((row for row in waiting if id(row.plan) not in besides), None)
            if row is not None:
                waiting.remove(row)
            return row

    def settle(self, row: Row, ending: Ending, error: ModelbayError | None = None) -> None:
        with self._changed:
            row.error, row.ending = error, ending
            row.progress.state = "failed" if ending in {"failed", "stopped"} else "done"
            self._unsettled -= 1
            if row.slot != "link":
                self._open[id(row.plan)] -= 1
                self._free_links(row.plan)
                self._waiting["link"].extend(self._after.pop(id(row), ()))
            self._changed.notify_all()
            if not self._unsettled:
                self._over.notify_all()

    def settled(self) -> bool:
        return self._unsettled == 0

    def await_change(self, seconds: float) -> None:
        with self._changed:
            if self._unsettled:
                self._changed.wait(seconds)

    def await_end(self, seconds: float) -> None:
        with self._over:
            if self._unsettled:
                self._over.wait(seconds)

    def tell(self, event: Event) -> None:
        with self._changed:
            self._events.append(event)

    def events(self) -> Sequence[Event]:
        with self._changed:
            told, self._events = self._events, []
        return told
