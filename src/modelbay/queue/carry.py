"""Carries rows: fetch, verify, place, link. One model's failure does not stop the others."""

import threading
import time
from collections.abc import Callable, Container, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from modelbay.errors import (
    DiskError,
    Interrupted,
    ModelbayError,
    NoSpace,
    NotWritable,
    TargetTaken,
    WrongBytes,
)
from modelbay.library.base import Layout
from modelbay.library.elsewhere import Elsewhere, InPlace, bytes_of
from modelbay.location import Location
from modelbay.plan import MOVES, Action, Plan, Step
from modelbay.planner import plan_file
from modelbay.queue import alternates
from modelbay.queue.crew import Crew
from modelbay.queue.report import Report, outcome_of
from modelbay.queue.rows import Ending, Event, Row, Rows, Slot
from modelbay.snapshot import ModelFile, Snapshot
from modelbay.text import clean
from modelbay.transfer import Engine, Order, Stop, held_bytes

_TICK = 0.2
_STOP_SECONDS = 1.6
"""How long a stop waits for journals; with the signal's own way it stays under 2 s."""

_MOST_SOURCES = 4
"""Of files that are said to have the wanted bytes, as many are tried before they are fetched."""

Locate = Callable[[Snapshot, ModelFile], Location]


@dataclass
class Carrier:
    """What carrying takes of the rest of modelbay."""

    engine: Engine
    rows: Rows
    locate: Locate
    elsewhere: Elsewhere | None = None
    at: alternates.At | None = None
    """Where an alternate is; without it none is asked."""
    mirrors: alternates.Mirrors | None = None

    def start(self, plans: Sequence[tuple[Plan, Layout]]) -> "Run":
        """Adds the plans' rows and starts carrying them; returns at once."""
        for plan, layout in plans:
            self.rows.add(plan, layout)
        ways = self.elsewhere, self.at, self.mirrors
        run = Run(self.engine, self.rows, self.locate, list(plans), *ways)
        run.start()
        return run


@dataclass
class Run:
    """One carrying, sampled by faces from any thread."""

    engine: Engine
    _rows: Rows
    locate: Locate
    plans: list[tuple[Plan, Layout]]
    elsewhere: Elsewhere | None = None
    at: alternates.At | None = None
    mirrors: alternates.Mirrors | None = None
    switch: Stop = field(default_factory=Stop)
    _began: float = field(default_factory=time.monotonic)
    _ended: float | None = None
    _threads: list[threading.Thread] = field(default_factory=list)
    _crew: Crew = field(default_factory=Crew)
    _prepared: dict[int, ModelbayError | None] = field(default_factory=dict)
    _told: dict[int, ModelbayError] = field(default_factory=dict)
    _asked: set[int] = field(default_factory=set)
    """Plans whose gate is being asked: their rows hold no carrier meanwhile."""
    _gate: threading.Condition = field(default_factory=threading.Condition)
    _finished: threading.Event = field(default_factory=threading.Event)

    @property
    def rows(self) -> Sequence[Row]:
        return self._rows.all()

    def events(self) -> Sequence[Event]:
        return self._rows.events()

    def start(self) -> None:
        limits = self.engine.limits
        waiting = [row.slot for row in self.rows]
        slots: dict[Slot, int] = {
            "large": min(limits.jobs, waiting.count("large")),
            "small": min(limits.small_jobs, waiting.count("small")),
            "link": min(1, waiting.count("link")),
        }
        for slot, count in slots.items():
            for number in range(count):
                thread = threading.Thread(
                    target=self._carry, args=(slot, number), name=f"modelbay-{slot}", daemon=True
                )
                self._threads.append(thread)
        for thread in self._threads:
            thread.start()
        threading.Thread(target=self._end, name="modelbay-end", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Whether everything ended within `seconds`."""
        return self._finished.wait(seconds)

    def stop(self) -> None:
        """Journals what is under way and stops; blocks for at most about 1.6 s."""
        self.switch.set()
        self._finished.wait(_STOP_SECONDS)

    def _end(self) -> None:
        for thread in self._threads:
            thread.join()
        try:
            learnt = {id(plan) for plan, layout in self.plans if _has_news(plan, layout)}
            for plan, layout in self.plans:
                self._finish(plan, layout)
            self._note_all(learnt)
        finally:
            self._ended = time.monotonic()
            self._finished.set()

    def _finish(self, plan: Plan, layout: Layout) -> None:
        """Records what is in place, also after failures. A plan that only keeps still gets its
        ref, where the folder can be written.
        """
        only_kept = all(step.action is Action.KEEP for step in plan.steps)
        try:
            if only_kept:
                layout.prepare(plan.snapshot)
            if only_kept or id(plan) in self._prepared:
                layout.finish(plan.snapshot)
        except ModelbayError as error:
            if not (only_kept and isinstance(error, NotWritable)):
                self._rows.tell(Event("warning", str(plan.snapshot.ref), str(error)))

    def _note_all(self, learnt: Container[int]) -> None:
        """What is in place now is known to the next run, wherever it wants the same bytes.
        `learnt` are plans, by `id`, of which this run knows more than the records did.
        """
        if self.elsewhere is None:
            return
        rows: dict[int, dict[str, Row]] = {id(plan): {} for plan, _ in self.plans}
        for row in self.rows:
            rows[id(row.plan)][row.name] = row
        for plan, layout in self.plans:
            lying = (_in_place(step, rows[id(plan)].get(step.file.path)) for step in plan.steps)
            in_place = [one for one in lying if one is not None]
            self.elsewhere.note(plan, layout, in_place, as_recorded=id(plan) not in learnt)
        for note in self.elsewhere.notes():
            self._rows.tell(Event("warning", "index", note))

    def _carry(self, slot: Slot, number: int) -> None:
        while not self._rows.settled():
            if slot == "small" and number >= self._crew.size(self.engine.limits.small_jobs):
                self._rows.await_end(_TICK)
                continue
            row = self._next(slot)
            if row is None:
                if slot != "link":
                    return
                self._rows.await_change(_TICK)
                continue
            with self._crew.at_work() if slot == "small" else nullcontext():
                self._carry_row(row)

    def _next(self, slot: Slot) -> Row | None:
        """A row that may start, or None. Whoever gets the first of a plan asks its gate; the
        others of that plan may start once it is known what came of it.
        """
        with self._gate:
            while (row := self._rows.claim(slot, besides=self._asked)) is None and self._asked:
                self._gate.wait(_TICK)
            if row is not None and id(row.plan) not in self._prepared:
                self._asked.add(id(row.plan))
            return row

    def _carry_row(self, row: Row) -> None:
        try:
            self._prepare(row)
            ending = self._step(row)
        except Interrupted as error:
            self._rows.settle(row, "stopped", error)
        except ModelbayError as error:
            self._fail(row, error)
        except Exception as error:  # noqa: BLE001 - a foreign source's bug must not stop the others
            bug = ModelbayError(f"{clean(row.name)}: {type(error).__name__}: {clean(error)}")
            bug.__cause__ = error
            self._fail(row, bug)
        else:
            self._rows.tell(Event("placed", row.name, f"{clean(row.name)} is in place, verified"))
            self._rows.settle(row, ending)

    def _fail(self, row: Row, error: ModelbayError) -> None:
        if id(error) not in self._told:
            self._told[id(error)] = error
            self._rows.tell(Event("failed", row.name, str(error)))
        self._rows.settle(row, "failed", error)

    def _prepare(self, row: Row) -> None:
        """Once for each plan: passes its gate, then makes its folders.

        A gate that is shut fails every row of the plan with the same error.
        """
        key = id(row.plan)
        try:
            self.switch.check()
            if key not in self._prepared:
                self._prepared[key] = self._prepared_once(row)
        finally:
            if key in self._asked:
                with self._gate:
                    self._asked.discard(key)
                    self._gate.notify_all()
        refusal = self._prepared[key]
        if refusal is not None:
            raise refusal

    def _prepared_once(self, row: Row) -> ModelbayError | None:
        moving = row.plan.of(*MOVES)
        try:
            if moving:
                alternates.pass_gate(self.locate, row.plan.snapshot, moving[0].file)
            row.layout.prepare(row.plan.snapshot)
        except ModelbayError as error:
            return error
        return None

    def _step(self, row: Row) -> Ending:
        snapshot = row.plan.snapshot
        if row.step.action is Action.LINK and row.step.source in {None, row.step.blob}:
            row.progress.state = "placing"
            row.layout.place(snapshot, row.step, ())
            return "done"
        row.progress.state = "connecting"
        tell = _teller(self._rows, row)
        with row.layout.moving(
            snapshot, row.step.file, pause=self.switch.wait, tell=tell
        ) as waited:
            try:
                stale = waited or _came_meanwhile(row.step)
                return self._bring(row, self._replanned(row) if stale else row.step)
            except TargetTaken:
                # Another model of this run, or another process, may have brought the same file.
                if self._replanned(row).action is not Action.KEEP:
                    raise
                return "kept"

    def _bring(self, row: Row, step: Step) -> Ending:
        tried: list[Path] = []
        while step.action is Action.LINK:
            if self._linked(row, step, tried):
                return "done"
            step = self._without(row, tried)
        if step.action is Action.KEEP:
            return "kept"
        self._fetch(row, step)
        return "done"

    def _linked(self, row: Row, step: Step, tried: list[Path]) -> bool:
        """Whether the LINK was made. A source that is gone or has other bytes joins `tried`:
        what was said of it is no reason to fail.
        """
        row.progress.state = "placing"
        source = step.source or step.blob
        known = self.elsewhere.known(source) if self.elsewhere is not None else ()

        def tick(count: int) -> None:
            self.switch.check()
            row.progress.received = min(row.progress.size or 0, row.progress.received + count)

        try:
            row.layout.place(row.plan.snapshot, step, known, tick=tick)
        except (NoSpace, NotWritable):
            raise
        except (WrongBytes, DiskError) as error:
            tried.append(source)
            if self.elsewhere is not None:
                self.elsewhere.doubt(source)
            self._rows.tell(Event("note", row.name, f"not made from {clean(source)}: {error}"))
            row.progress.received = 0
            return False
        return True

    def _without(self, row: Row, tried: list[Path]) -> Step:
        """The step with none of `tried` to make it from: from another file, else fetched."""
        step = plan_file(
            row.plan.snapshot,
            row.step.file,
            row.layout,
            held=held_bytes,
            elsewhere=self.elsewhere,
            besides=tried if len(tried) < _MOST_SOURCES else None,
        )
        row.step = step
        return step

    def _replanned(self, row: Row) -> Step:
        """The step as it is after another process moved the same bytes."""
        return plan_file(row.plan.snapshot, row.step.file, row.layout, held=held_bytes)

    def _fetch(self, row: Row, step: Step) -> None:
        snapshot, file = row.plan.snapshot, step.file
        order = Order(
            name=file.path,
            size=file.size,
            digests=file.digests,
            part=step.part,
            locate=lambda: self.locate(snapshot, file),
            validator=file.extra.get("validator") or file.etag,
            suffix=file.path.suffix,
        )
        fetch = partial(self.engine.fetch, progress=row.progress, stop=self.switch)
        tell, fetched = _teller(self._rows, row), None
        if self.mirrors is not None:
            fetched = self.mirrors.fetched(fetch, order, snapshot, file, tell)
        if fetched is None:
            fetched = alternates.fetched(fetch, order, file.urls, self.at, tell)
        for note in fetched.notes:
            self._rows.tell(Event("note", row.name, note))
        row.progress.state = "placing"
        row.layout.place(snapshot, step, fetched.digests)
        row.observed = fetched.digests
        if self.elsewhere is not None:
            self.elsewhere.keep_sums(bytes_of(step), fetched.sums)

    def report(self) -> Report:
        """What became of the run so far."""
        rows: dict[int, list[Row]] = {id(plan): [] for plan, _ in self.plans}
        for row in self.rows:
            rows[id(row.plan)].append(row)
        outcomes = [outcome_of(plan, rows[id(plan)]) for plan, _ in self.plans]
        seconds = (self._ended or time.monotonic()) - self._began
        return Report(outcomes, sum(row.progress.fetched for row in self.rows), seconds)


def _came_meanwhile(step: Step) -> bool:
    """Whether another model of this run may have brought the same file."""
    return step.action in {Action.FETCH, Action.RESUME} and step.blob.exists()


def _teller(rows: Rows, row: Row) -> Callable[[str], None]:
    def tell(sentence: str) -> None:
        row.progress.note = sentence
        rows.tell(Event("waiting", row.name, sentence))

    return tell


def _has_news(plan: Plan, layout: Layout) -> bool:
    return len(plan.of(Action.KEEP)) < len(plan.steps) or layout.records(plan.snapshot).has_read


def _in_place(step: Step, row: Row | None) -> InPlace | None:
    """Where a step that ended well left the bytes; None for any other."""
    if row is None:
        return InPlace(step, placed=False) if step.action is Action.KEEP else None
    if row.ending not in {"done", "kept"}:
        return None
    return InPlace(row.step, placed=row.ending == "done", observed=row.observed)
