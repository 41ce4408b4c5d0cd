"""Damaged files of ours, mended: what is bad is fetched again, the old file goes to the trash."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from modelbay import files
from modelbay.bay.session import Session
from modelbay.bay.subjects import Origin, Subject
from modelbay.bay.verifying import Finding
from modelbay.bay.work import Task, Work
from modelbay.digest import Digest, disagreement, find
from modelbay.errors import ModelbayError, TargetTaken, WrongBytes
from modelbay.library.base import Layout
from modelbay.library.home import NAME
from modelbay.library.index_rows import IndexedFile
from modelbay.library.records import read_record, write_record
from modelbay.plan import Action, Plan, Step
from modelbay.planner import check_space, check_writable
from modelbay.snapshot import Snapshot
from modelbay.text import clean
from modelbay.transfer import Damaged, Order, Stop


@dataclass(slots=True)
class Mended:
    """One damaged file under every name of ours, and what came of it."""

    findings: Sequence[Finding]
    done: list[Path] = field(default_factory=list)

    @property
    def subject(self) -> Subject:
        return self.findings[0].subject


class Mending:
    """Mends what of `findings` is ours; the others are left. `work` is what faces follow."""

    def __init__(self, session: Session, findings: Sequence[Finding]) -> None:
        self._session = session
        several: dict[object, list[Finding]] = {}
        for finding in findings:
            if finding.mendable:
                several.setdefault(tuple(finding.paths), []).append(finding)
        tasks = [_task(Mended(each)) for each in several.values()]
        self.work: Work[Mended] = Work(tasks, self._mend, threads=session.engine.limits.jobs)

    @property
    def mended(self) -> list[Path]:
        """Every path that has its right bytes again."""
        return sorted(path for task in self.work.rows for path in task.item.done)

    @property
    def repaired(self) -> int:
        """How many files were mended, whatever number of names each has."""
        return sum(1 for task in self.work.rows if task.item.done)

    @property
    def fetched(self) -> int:
        """Bytes that came over the network."""
        return sum(task.progress.fetched for task in self.work.rows)

    @property
    def size(self) -> int:
        """Bytes of the files that were mended."""
        return sum(task.item.subject.size or 0 for task in self.work.rows if task.item.done)

    @property
    def failures(self) -> list[tuple[Finding, ModelbayError]]:
        """What could not be mended, and why."""
        rows = self.work.rows
        return [(task.item.findings[0], task.error) for task in rows if task.error is not None]

    def check(self) -> None:
        """Raises NoSpace and NotWritable before the first byte is fetched."""
        plans = []
        for task in self.work.rows:
            with suppress(ModelbayError):
                origin = _origin(task.item.subject)
                step, root = _step(origin), origin.layout.root(origin.snapshot)
                plans.append(Plan(origin.snapshot, origin.layout.name, root, (step,)))
        check_writable(plans)
        check_space(plans, reserve=self._session.settings.reserve.of)

    def _mend(self, task: Task[Mended], stop: Stop) -> None:
        first, *others = task.item.findings
        subject, progress = first.subject, task.progress
        progress.state = "connecting"
        sums = self._fetch(task, subject, stop)
        task.item.done.append(subject.path)
        progress.state = "placing"
        for finding in others:
            if finding.subject.path != subject.path:
                _share(subject.path, finding.subject)
                task.item.done.append(finding.subject.path)
        for finding in task.item.findings:
            self._note(finding.subject, sums)

    def _fetch(self, task: Task[Mended], subject: Subject, stop: Stop) -> tuple[bytes, ...]:
        """The sums of what stands there now."""
        origin = _origin(subject)
        snapshot, file, layout, step = origin.snapshot, origin.file, origin.layout, _step(origin)

        def tell(sentence: str) -> None:
            task.progress.note = sentence
            self.work.tell("waiting", task.name, sentence)

        with layout.moving(snapshot, file, pause=stop.wait, tell=tell) as waited:
            if waited and _is_right(subject):
                return ()
            order = Order(
                name=file.path,
                size=file.size,
                digests=file.digests,
                part=step.part,
                locate=lambda: self._session.sources.locate(snapshot, file),
                suffix=file.path.suffix,
                damaged=Damaged(subject.path, self._sums(subject)),
            )
            fetched = self._session.engine.fetch(order, task.progress, stop)
            for note in fetched.notes:
                self.work.tell("note", task.name, note)
            task.progress.state = "placing"
            _replace(layout, snapshot, step, fetched.digests)
            _keep_head(subject)
        return fetched.sums

    def _sums(self, subject: Subject) -> tuple[bytes, ...]:
        sha256 = find(subject.digests, "sha256")
        return tuple(self._session.index.sums_of(sha256)) if sha256 is not None else ()

    def _note(self, subject: Subject, sums: tuple[bytes, ...]) -> None:
        index = self._session.index
        with suppress(OSError):
            if len(sums) > 1:
                index.keep_sums(subject.path, sums)
            if subject.model is not None:
                file = IndexedFile.seen(
                    subject.path,
                    [Digest(one.algorithm, one.hex, observed=True) for one in subject.digests],
                    name=subject.name,
                    placed=True,
                    verified=time.time(),
                )
                index.note(subject.model, [file])


def _task(mended: Mended) -> Task[Mended]:
    return Task(mended, mended.subject.name, mended.subject.size or 0)


def _origin(subject: Subject) -> Origin:
    """How `subject` is had again. Raises ModelbayError where that is not known (any more)."""
    if subject.origin is None:
        raise TargetTaken(
            f"nothing says where {clean(subject.path)} came from",
            hint="delete it, and let its program fetch it again",
        )
    origin = subject.origin()
    there = origin.layout.place_of(origin.snapshot, origin.file).blob
    if there != subject.path:
        raise TargetTaken(
            f"{clean(subject.path)} is not where {subject.ref} puts it: that is {clean(there)}",
            hint=f"`modelbay get {subject.ref}` brings it where it belongs",
        )
    return origin


def _step(origin: Origin) -> Step:
    place = origin.layout.place_of(origin.snapshot, origin.file)
    return Step(origin.file, Action.REPLACE, place.target, place.blob, place.part, reason="damaged")


def _replace(layout: Layout, snapshot: Snapshot, step: Step, observed: tuple[Digest, ...]) -> None:
    """The part of `step` in place of what stands there, which goes to the trash."""
    layout.place(snapshot, step, observed)
    layout.finish(snapshot)


def _keep_head(subject: Subject) -> None:
    """A record whose newest files are of a later revision goes on to say so."""
    row = subject.recorded
    if row is None or row.known.revision in {"", row.record.revision}:
        return
    path = row.base / NAME / "meta" / f"{row.record.name}.json"
    now = read_record(path)
    if now is not None:
        head = row.record
        with files.disk_errors(path):
            write_record(path, replace(head, files=now.files))


def _share(mended: Path, twin: Subject) -> None:
    """The bytes of `mended` under another name that had the same damaged ones."""
    origin = _origin(twin)
    step = _step(origin)
    with files.disk_errors(twin.path):
        step.part.unlink(missing_ok=True)
        way = files.clone(mended, step.part)
    observed = tuple(Digest(one.algorithm, one.hex, observed=True) for one in twin.digests)
    if way == "copy":
        observed = files.hash_file(step.part, [digest.algorithm for digest in twin.digests])
        wrong = disagreement(twin.digests, observed)
        if wrong is not None:
            step.part.unlink()
            raise WrongBytes(
                f"a copy for {clean(twin.path)} came out wrong: expected {wrong[0]}, "
                f"got {wrong[1]}",
                hint="run the same command again",
            )
    _replace(origin.layout, origin.snapshot, step, observed)


def _is_right(subject: Subject) -> bool:
    """Whether another process has mended it meanwhile."""
    names = [digest.algorithm for digest in subject.digests]
    return disagreement(subject.digests, files.hash_file(subject.path, names)) is None
