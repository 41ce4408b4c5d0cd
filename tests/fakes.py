"""A Bay whose answers are written down beforehand, for tests of the faces."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from modelbay.config import Settings
from modelbay.digest import Digest
from modelbay.errors import ModelbayError, RefError
from modelbay.http import Delay
from modelbay.library.base import Layout
from modelbay.plan import Action, Plan, Step
from modelbay.refs import ModelRef
from modelbay.safepath import SafeRelPath
from modelbay.selection import Selection, select
from modelbay.snapshot import Hit, Licence, ModelFile, Query, Snapshot
from modelbay.transfer.order import Progress

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def ref(name: str, source: str = "huggingface", scheme: str = "hf") -> ModelRef:
    return ModelRef(source, scheme, name)


def model_file(path: str, size: int | None, fill: str = "a") -> ModelFile:
    digests = () if size is None else (Digest.sha256(fill * 64),)
    return ModelFile(SafeRelPath.parse(path), size, digests)


def snapshot(name: str, files: Sequence[ModelFile], **more: object) -> Snapshot:
    given: dict[str, object] = {"licence": Licence("apache-2.0", "apache-2.0"), **more}
    return Snapshot(ref(name), COMMIT, tuple(files), **given)  # type: ignore[arg-type]


@dataclass
class FakeLayout:
    name: str
    category: str | None = None


@dataclass
class FakeEvent:
    kind: str
    name: str
    message: str


@dataclass
class FakeRow:
    name: str
    plan: Plan
    progress: Progress
    state: str = "waiting"
    error: ModelbayError | None = None


@dataclass
class FakeOutcome:
    plan: Plan
    fetched: int = 0
    linked: int = 0
    kept: int = 0
    replaced: int = 0
    blocked: int = 0
    failed: Sequence[FakeRow] = ()


@dataclass
class FakeReport:
    outcomes: Sequence[FakeOutcome]
    bytes: int = 0
    seconds: float = 0.0


@dataclass
class FakeRun:
    """`script` is played one entry per wait; the run ends with it."""

    rows: list[FakeRow]
    answer: FakeReport
    script: list[Callable[["FakeRun"], None]] = field(default_factory=list)
    said: list[FakeEvent] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    endless: bool = False
    hangs: bool = False
    """Whether stopping takes longer than anybody waits."""

    def wait(self, seconds: float) -> bool:
        if self.endless:
            return self.stopped.wait(seconds)
        if not self.script:
            return True
        self.script.pop(0)(self)
        return False

    def stop(self) -> None:
        self.stopped.set()
        if self.hangs:
            threading.Event().wait(60)

    def events(self) -> list[FakeEvent]:
        said, self.said = self.said, []
        return said

    def report(self) -> FakeReport:
        return self.answer


@dataclass
class FakeBay:
    """`snapshots` by name; `actions` by path decide the plan; `errors` by path the run."""

    root: Path
    snapshots: Mapping[str, Snapshot | Exception] = field(default_factory=dict)
    hits: Sequence[Hit | ModelbayError] = ()
    actions: Mapping[str, Action] = field(default_factory=dict)
    errors: Mapping[str, ModelbayError] = field(default_factory=dict)
    script: list[Callable[[FakeRun], None]] = field(default_factory=list)
    endless: bool = False
    hangs: bool = False
    asked: list[object] = field(default_factory=list)

    def __call__(
        self,
        *,
        settings: Settings | None = None,
        environ: Mapping[str, str] | None = None,
        workspace: Path | None = None,
        root: Path | None = None,
    ) -> Any:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.asked.append("closed")

    def delays(self) -> list[Delay]:
        return []

    def parse(self, text: str) -> ModelRef:
        if " " in text:
            raise RefError(f"{text!r} cannot be read as a model's name", hint="try hf://org/name")
        return ref(text)

    def search(self, query: Query, sources: Sequence[str] = ()) -> Iterator[Hit | ModelbayError]:
        self.asked.append((query, tuple(sources)))
        yield from self.hits

    def resolve(self, ref: ModelRef) -> Snapshot:
        answer = self.snapshots[ref.name]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def select(
        self,
        snapshot: Snapshot,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        variant: str | None = None,
        path: str | None = None,
    ) -> Selection:
        return select(snapshot, include=include, exclude=exclude, variant=variant, path=path)

    def layout(
        self,
        name: str | None,
        ref: ModelRef,
        *,
        to: Path | None = None,
        category: str | None = None,
        told: str | None = None,
    ) -> Layout:
        chosen = name or ("dir" if to else "folders" if category else "hf-cache")
        self.asked.append((chosen, to, category))
        return cast("Layout", FakeLayout(chosen))

    def plan(self, selection: Selection, layout: Layout, *, replacing: bool = False) -> Plan:
        root = self.root / selection.snapshot.ref.name.replace("/", "--")
        steps = tuple(self._step(file, root) for file in selection.files)
        return Plan(selection.snapshot, layout.name, root, steps)

    def _step(self, file: ModelFile, root: Path) -> Step:
        action = self.actions.get(file.path, Action.FETCH)
        target = root / file.path
        held = (file.size or 0) // 4 if action is Action.RESUME else 0
        reasons = {
            Action.LINK: "the same bytes as hf://org/other",
            Action.BLOCKED: "a file that is not ours stands there",
        }
        return Step(file, action, target, target, root / "part", held, reasons.get(action, ""))

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def carry(self, plans: Sequence[Plan]) -> FakeRun:
        rows = [
            FakeRow(step.file.path, plan, Progress(size=step.file.size))
            for plan in plans
            for step in plan.steps
        ]
        for row in rows:
            row.error = self.errors.get(row.name)
        outcomes = [self._outcome(plan, rows) for plan in plans]
        come = sum(plan.bytes_to_fetch for plan in plans)
        report = FakeReport(outcomes, come, 2.0)
        return FakeRun(rows, report, self.script, endless=self.endless, hangs=self.hangs)

    def _outcome(self, plan: Plan, rows: Sequence[FakeRow]) -> FakeOutcome:
        failed = [row for row in rows if row.plan is plan and row.error is not None]
        return FakeOutcome(
            plan,
            len(plan.of(Action.FETCH, Action.RESUME)) - len(failed),
            len(plan.of(Action.LINK)),
            len(plan.of(Action.KEEP)),
            len(plan.of(Action.REPLACE)),
            len(plan.of(Action.BLOCKED)),
            failed,
        )
