"""Files in place, read again: in parallel, as fast as the cores hash."""

import errno
import os
import stat
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from modelbay import files
from modelbay.bay.session import Session
from modelbay.bay.subjects import Asked, Subject
from modelbay.bay.work import Task, Work
from modelbay.digest import Algorithm, Digest, disagreement, find
from modelbay.errors import (
    DiskError,
    FileNotFound,
    ModelbayError,
    NotFound,
    TargetTaken,
    WrongBytes,
)
from modelbay.library.home import NAME
from modelbay.library.index_rows import IndexedFile, IndexedModel
from modelbay.library.records import Known, Record, read_record, write_record
from modelbay.plan import Plan
from modelbay.text import clean
from modelbay.transfer import Stop
from modelbay.transfer.front import Hasher

Kind = Literal["damaged", "changed", "missing", "unreached", "taken", "unreadable"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is not as it should be. `paths` are all known names of the same bytes."""

    kind: Kind
    subject: Subject
    error: ModelbayError
    paths: Sequence[Path]
    unread: bool = False
    """The disk could not read some of it."""

    @property
    def mendable(self) -> bool:
        """Whether it is ours, and its bytes can be had again."""
        damaged = self.kind == "damaged" or self.unread
        return damaged and self.subject.placed and self.subject.origin is not None


@dataclass(slots=True)
class Inode:
    """One file on disk under all the names that are looked at; read once."""

    subjects: list[Subject]
    digests: tuple[Digest, ...] = ()
    sums: tuple[bytes, ...] = ()
    status: os.stat_result | None = None
    findings: list[Finding] = field(default_factory=list)


class Verification:
    """One reading of `asked`. `work` is what faces follow; `finish` writes what was learnt."""

    def __init__(self, session: Session, asked: Asked, *, threads: int | None = None) -> None:
        self._session = session
        self.asked = asked
        self.work: Work[Inode] = Work(
            _tasks(asked.subjects), self._read, threads=threads or files.cores()
        )

    @property
    def findings(self) -> list[Finding]:
        """What was found so far, by path."""
        found = [finding for task in self.work.rows for finding in task.item.findings]
        return sorted(found, key=lambda finding: finding.subject.path)

    @property
    def size(self) -> int:
        """Bytes that were read."""
        return sum(task.progress.fetched for task in self.work.rows)

    def _read(self, task: Task[Inode], stop: Stop) -> None:
        inode = task.item
        task.progress.state = "verifying"
        try:
            if _looks_like_a_file(inode):
                self._hash(task, stop)
        except DiskError as error:
            _note_unreadable(inode, error)
        for subject in inode.subjects:
            finding = self._judged(inode, subject)
            if finding is not None:
                inode.findings.append(finding)
        if inode.findings:
            raise inode.findings[0].error

    def _hash(self, task: Task[Inode], stop: Stop) -> None:
        inode, progress = task.item, task.progress
        hasher = Hasher(set(), None)

        def begin(status: os.stat_result) -> None:
            nonlocal hasher
            hasher = Hasher(_algorithms(inode.subjects), status.st_size)

        def feed(view: memoryview) -> None:
            stop.check()
            hasher.feed(view)
            progress.fetched = progress.received = progress.hashed = hasher.position

        inode.status = files.read_through(inode.subjects[0].path, feed, begin=begin)
        inode.digests, inode.sums = hasher.observed(), hasher.sums()

    def _judged(self, inode: Inode, subject: Subject) -> Finding | None:
        if inode.findings and inode.findings[0].kind in {"missing", "unreadable", "taken"}:
            return None
        wrong = disagreement(subject.digests, inode.digests)
        if wrong is not None and inode.status is not None:
            return self._differs(inode, subject, wrong, inode.status.st_size)
        if subject.reader is not None and not _leads(subject.reader, subject.path):
            return _unreached(subject)
        return None

    def _differs(
        self, inode: Inode, subject: Subject, wrong: tuple[Digest, Digest], size: int
    ) -> Finding:
        paths = self._names(inode, subject)
        shared = _shared(inode, [path for path in paths if path != subject.path])
        shown = clean(subject.path)
        if self._was_changed(inode, subject, size):
            error: ModelbayError = TargetTaken(
                f"{shown} was changed since modelbay put it there: {subject.size} bytes then, "
                f"{size} now{shared}",
                hint=f"to have the old one back: `modelbay get {subject.ref} --replace`",
            )
            return Finding("changed", subject, error, paths)
        hint = "modelbay did not put it there: delete it, and let its program fetch it again"
        if subject.placed:
            hint = f"fetch what is damaged again: {repair_command(subject)}"
        error = WrongBytes(
            f"{shown} is damaged: expected {wrong[0]}, found {wrong[1]}{shared}", hint=hint
        )
        return Finding("damaged", subject, error, paths)

    def _was_changed(self, inode: Inode, subject: Subject, size: int) -> bool:
        """Whether somebody made another file of it: of another size, and with nothing of ours
        in front. A name that is the content's digest never means other content.
        """
        if size in {subject.size, 0} or not subject.placed or subject.named_by_content:
            return False
        sha256 = find(subject.digests, "sha256")
        sums = self._session.index.sums_of(sha256) if sha256 is not None else ()
        return not sums or sums[0] != inode.sums[0]

    def _names(self, inode: Inode, subject: Subject) -> list[Path]:
        known = self._session.index.at(subject.path)
        twins = self._session.index.names_of(known) if known is not None else []
        return sorted({*twins, *(other.path for other in inode.subjects)})

    def finish(self) -> None:
        """Writes what was learnt: to the index when each file was read last, to the records
        which files have to be read again before anything relies on them.
        """
        read = [task.item for task in self.work.rows if task.item.status is not None]
        for model, several in _seen(read).values():
            self._session.index.note(model, several)
        self._keep_sums(read)
        for inode in read:
            for finding in inode.findings:
                self._doubt(finding.subject)
        known = [f for f in self.findings if f.kind == "missing" and f.subject.recorded is None]
        self._session.index.forget([finding.subject.path for finding in known])
        _renew_records(read)

    def _doubt(self, subject: Subject) -> None:
        """Nothing may be linked from `subject`. What it should be is still known: to its
        record, else to the index, as something that somebody claims.
        """
        index = self._session.index
        index.doubt(subject.path)
        if subject.recorded is None and subject.model is not None:
            claimed = [replace(digest, observed=False) for digest in subject.digests]
            with suppress(OSError):
                file = IndexedFile.seen(subject.path, claimed, name=subject.name)
                index.note(subject.model, [file])

    def _keep_sums(self, read: Sequence[Inode]) -> None:
        index = self._session.index
        for inode in read:
            subject = inode.subjects[0]
            right = not inode.findings and subject.placed and len(inode.sums) > 1
            if right and not index.sums(subject.path):
                with suppress(OSError):
                    index.keep_sums(subject.path, inode.sums)


def _seen(read: Sequence[Inode]) -> dict[int, tuple[IndexedModel, list[IndexedFile]]]:
    """Files that were read and are right, by model."""
    now, found = time.time(), dict[int, tuple[IndexedModel, list[IndexedFile]]]()
    for inode in read:
        wrong = {finding.subject.path for finding in inode.findings}
        for subject in inode.subjects:
            if subject.model is None or subject.path in wrong:
                continue
            with suppress(OSError):
                file = IndexedFile.seen(
                    subject.path,
                    inode.digests,
                    name=subject.name,
                    placed=subject.placed,
                    verified=now,
                )
                found.setdefault(subject.model.key, (subject.model, []))[1].append(file)
    return found


def _shared(inode: Inode, others: Sequence[Path]) -> str:
    """Which other names lead to the same bytes."""
    told = f"; the same bytes are also {', '.join(map(clean, others))}" if others else ""
    links = inode.status.st_nlink if inode.status is not None else 1
    unknown = links - 1 - len(others)
    if unknown > 0:
        told += f"; {unknown} more of its names are in no library that modelbay knows"
    return told


def repair_command(subject: Subject) -> str:
    return f"`modelbay verify {subject.ref} --repair`"


def _tasks(subjects: Iterable[Subject]) -> list[Task[Inode]]:
    found: dict[object, list[Subject]] = {}
    sizes: dict[object, int] = {}
    for subject in subjects:
        key: object = subject.path
        size = 0
        with suppress(OSError):
            status = subject.path.lstat()
            key, size = (status.st_dev, status.st_ino), status.st_size
        found.setdefault(key, []).append(subject)
        sizes[key] = size
    return [Task(Inode(several), several[0].name, sizes[key]) for key, several in found.items()]


def _looks_like_a_file(inode: Inode) -> bool:
    """False, and a finding for each name, where there is nothing to read."""
    for subject in inode.subjects:
        shown, hint = clean(subject.path), f"`modelbay get {subject.ref}` brings it again"
        kind: Kind = "taken"
        error: ModelbayError
        try:
            ordinary = stat.S_ISREG(subject.path.lstat().st_mode)
        except FileNotFoundError:
            kind, ordinary = "missing", False
            error = FileNotFound(f"{shown} is not there any more", hint=hint)
        else:
            why = subject.taken or f"{shown} is no ordinary file any more"
            error = TargetTaken(why, hint=f"move it away; {hint}")
        if not ordinary or subject.taken:
            inode.findings.append(Finding(kind, subject, error, [subject.path]))
    return not inode.findings


def _note_unreadable(inode: Inode, error: DiskError) -> None:
    cause = error.__cause__
    unread = isinstance(cause, OSError) and cause.errno == errno.EIO
    for subject in inode.subjects:
        inode.findings.append(Finding("unreadable", subject, error, [subject.path], unread))


def _unreached(subject: Subject) -> Finding:
    error: NotFound = FileNotFound(
        f"{clean(subject.reader)} does not lead to {clean(subject.path)}, which is whole",
        hint=f"`modelbay get {subject.ref}` makes the link again",
    )
    return Finding("unreached", subject, error, [subject.path])


def _leads(reader: Path, path: Path) -> bool:
    try:
        return reader.samefile(path)
    except OSError:
        return False


def _algorithms(subjects: Sequence[Subject]) -> set[Algorithm]:
    """sha256, which is always made, is enough where all say what it should be."""
    unsure = [subject for subject in subjects if find(subject.digests, "sha256") is None]
    return {digest.algorithm for subject in unsure for digest in subject.digests}


def _renew_records(read: Sequence[Inode]) -> None:
    """In the records: damaged files are to be read again, touched ones are as they are now."""
    news: dict[Path, dict[tuple[str, str], Known]] = {}
    for inode in read:
        wrong = {finding.subject.path for finding in inode.findings}
        now = inode.status.st_mtime_ns if inode.status is not None else 0
        for subject in inode.subjects:
            mtime_ns = 0 if subject.path in wrong else now
            for row in subject.records:
                if row.known.mtime_ns != mtime_ns:
                    record = row.base / NAME / "meta" / f"{row.record.name}.json"
                    known = replace(row.known, mtime_ns=mtime_ns)
                    news.setdefault(record, {})[known.file, known.path] = known
    for path, rows in news.items():
        # A folder that cannot be written to keeps its records, which costs reading again.
        with suppress(OSError):
            _renew(path, rows)


def _renew(path: Path, news: dict[tuple[str, str], Known]) -> None:
    record: Record | None = read_record(path)
    if record is not None:
        rows = tuple(news.get((known.file, known.path), known) for known in record.files)
        write_record(path, replace(record, files=rows))


def verify(plans: Sequence[Plan]) -> int:
    """Reads every file of `plans` again and compares it with its digests; how many bytes.
    Raises WrongBytes for the first that differs.
    """
    total = 0
    for step in (step for plan in plans for step in plan.steps):
        names = tuple(digest.algorithm for digest in step.file.digests)
        wrong = disagreement(step.file.digests, files.hash_file(step.target, names, follow=True))
        if wrong is not None:
            raise WrongBytes(
                f"{clean(step.target)} has other bytes than its lock says: expected "
                f"{wrong[0]}, found {wrong[1]}",
                hint="delete it, then run the same command again",
            )
        total += step.file.size or 0
    return total
