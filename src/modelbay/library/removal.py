"""What removing a model would do, and doing it: everything goes to the trash.

Only files that a record says we put there, unchanged since, and that no other model below
the same root needs. Whatever else lies there stays, and is named with the reason. The Hub's
cache has rules of its own, in `hub_removal`.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NoReturn

from modelbay.digest import find
from modelbay.errors import DiskError, UnsafeName
from modelbay.files import (
    LockUnsupported,
    Usage,
    disk_errors,
    locked,
    mount_of,
    mounts,
    usage,
)
from modelbay.library.dir import stands_at
from modelbay.library.home import NAME, part_key
from modelbay.library.ollama_layout import stored_name
from modelbay.library.records import Known, Record, read_record, records_in, write_record
from modelbay.library.trash import Trash
from modelbay.plan import Action, Plan, Step
from modelbay.refs import ModelRef
from modelbay.safepath import SafeRelPath
from modelbay.snapshot import ModelFile, Snapshot
from modelbay.text import clean

SHARING_NOTE: Final = (
    "its file system lets files share blocks (reflinks), which nobody counts: less may come free"
)
REMOVED: Final = "removed"
_COMMIT_LENGTH = 40


@dataclass(frozen=True, slots=True)
class Move:
    """Names that go to the trash under `locks`, in this order, and the steps they are for."""

    paths: tuple[Path, ...]
    locks: tuple[Path, ...] = ()
    steps: tuple[Step, ...] = ()
    known: Known | None = None
    """What the file must still be when it goes."""
    ours: bool = True
    """The locks' files are ours, and go when the locks do."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What removing one model, or one file of it, does; nothing is touched yet.

    The plan has a REMOVE step for each file that goes, and a BLOCKED one, with its reason, for
    each that stays.
    """

    plan: Plan
    base: Path
    moves: tuple[Move, ...]
    usage: Usage
    """`freed` is what emptying the trash will free: blocks without another name."""
    notes: tuple[str, ...] = ()
    record: Record | None = None
    """What is known of the files that go."""
    folders: tuple[Path, ...] = ()
    """Folders to take away when they are left empty, the deepest first."""
    finish: Callable[[Trash, Sequence[Path]], frozenset[Path]] = field(
        default=lambda _trash, _gone: frozenset(), compare=False
    )
    """Called with what went; gives what had to come back."""

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(path for move in self.moves for path in move.paths)


@dataclass(frozen=True, slots=True)
class Removed:
    """What became of a removal: names that went, and steps that were in use by then."""

    removal: Removal
    gone: tuple[Path, ...]
    busy: tuple[Step, ...] = ()


class Busy(Exception):
    """Raised inside when another process holds the lock of a file; says which."""


def recorded(
    base: Path,
    record: Record,
    ref: ModelRef,
    *,
    layout: str,
    path: str | None = None,
    revision: str | None = None,
    needed: Callable[[Path], str] = lambda _: "",
) -> Removal:
    """Removing what `record`, whose ref is `ref`, says we put below `base`; the file `path`,
    or the rows of one `revision`, alone if that is given. `needed` tells which other model has
    a file too. Raises DiskError.
    """
    rows = [row for row in _rows(record) if path in {None, row.path}]
    if revision is not None:
        rows = [row for row in rows if names_revision(revision, row.revision, ref.revision)]
    others = _records_with(base, record)
    there = [row for row in rows if _present(base / row.file)]
    steps = [_step(base, row, others.get(row.file) or needed(base / row.file)) for row in there]
    snapshot = Snapshot(
        ref, record.revision, tuple(step.file for step in steps), record.table, fresh=False
    )
    pairs = zip(steps, there, strict=True)
    going = [(step, row) for step, row in pairs if step.action is Action.REMOVE]
    moves = tuple(
        Move((step.target,), _locks(base, snapshot, row), (step,), row) for step, row in going
    )
    staying = {row.file for row in there} - {row.file for _, row in going}
    leaving = {row.file for row in rows} - staying
    return Removal(
        Plan(snapshot, layout, _root_of(base, rows), tuple(steps), str(ref)),
        base,
        moves,
        usage(path for move in moves for path in move.paths),
        notes_for(base) if moves else (),
        replace(record, files=tuple(row for row in record.files if row.file in leaving)),
        tuple(_emptied(base, (step.target for step, _ in going), keep=int(layout == "folders"))),
    )


def names_revision(asked: str, commit: str, name: str | None) -> bool:
    """Whether `asked` is that commit, the beginning of it, or its name."""
    return asked in {commit, name} or (len(asked) >= 7 and commit.startswith(asked))


def notes_for(base: Path) -> tuple[str, ...]:
    return (SHARING_NOTE,) if mount_of(base, mounts()).may_clone else ()


def carry_out(removal: Removal, trash: Trash) -> Removed:
    """Moves everything into `trash`, the list and the records of it first. Safe to be killed
    anywhere: what went can come back, and running it again ends it. Raises DiskError.
    """
    gone: list[Path] = []
    busy: list[Step] = []
    with disk_errors(removal.base):
        if removal.moves:
            if removal.record is not None and removal.record.files:
                trash.keep_record(removal.record)
            trash.announce(removal.paths, ref=str(removal.plan.snapshot.ref), why=REMOVED)
        for move in removal.moves:
            try:
                with _held(move):
                    gone += [path for path in move.paths if _put(trash, path)]
            except Busy as reason:
                busy += [_blocked(step, str(reason)) for step in move.steps]
        back = removal.finish(trash, gone)
        for folder in removal.folders:
            with suppress(OSError):
                folder.rmdir()
        if removal.record is not None:
            _forget(removal.base, removal.record)
    return Removed(removal, tuple(path for path in gone if path not in back), tuple(busy))


def _put(trash: Trash, path: Path) -> bool:
    try:
        trash.put(path)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _held(move: Move) -> Iterator[None]:
    """Holds the locks that whoever moves those bytes holds. Raises Busy."""
    with ExitStack() as stack:
        for lock in move.locks:
            stack.enter_context(lock_now(lock, remove=move.ours))
        if move.known is not None:
            with suppress(FileNotFoundError):
                if not move.known.matches(move.paths[0].lstat()):
                    raise Busy("it changed meanwhile")
        yield


@contextmanager
def lock_now(path: Path, *, remove: bool = False) -> Iterator[None]:
    """Holds the lock on the file `path`, or raises Busy saying who does. Where nothing can be
    locked it holds none.
    """
    said: list[str] = []

    def give_up(_: float) -> NoReturn:
        raise Busy(said[-1].removeprefix("waiting for "))

    with ExitStack() as stack:
        with suppress(LockUnsupported):
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(path, pause=give_up, tell=said.append, remove=remove))
        yield


def holder(lock: Path) -> str | None:
    """Who holds the lock on the file `lock`, in words; None when nobody does."""
    if not lock.exists():
        return None
    try:
        with lock_now(lock):
            return None
    except Busy as busy:
        return str(busy)
    except DiskError:
        return None


def _rows(record: Record) -> Iterator[Known]:
    """Its files, without names that no layout of ours makes."""
    for row in record.files:
        with suppress(UnsafeName):
            stored_name(row.file)
            SafeRelPath.parse(row.path)
            yield row


def _records_with(base: Path, record: Record) -> dict[str, str]:
    """Files that other records below `base` have too, with one of their refs."""
    return {
        row.file: other.ref
        for other in records_in(base)
        if other.name != record.name
        for row in other.files
    }


def _present(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _step(base: Path, row: Known, other: str) -> Step:
    target = base / row.file
    file = ModelFile(SafeRelPath.parse(row.path), row.size, row.digests)
    step = Step(file, Action.REMOVE, target, target, target)
    why = _stays(base, row, other)
    return _blocked(step, why) if why else step


def _blocked(step: Step, why: str) -> Step:
    return replace(step, action=Action.BLOCKED, reason=why)


def _stays(base: Path, row: Known, other: str) -> str:
    """Why the file stays, which `other` may need; empty when it goes."""
    target = base / row.file
    with disk_errors(target):
        standing = stands_at(base, target)
        if standing.path is None:
            return standing.taken or "it is gone"
        status = target.lstat()
        if not row.placed:
            return "modelbay did not put it there"
        if not row.matches(status):
            return "it changed since modelbay put it there"
        if other:
            return f"{clean(other)} needs it too"
        if status.st_dev != (base / NAME).stat().st_dev:
            return "it lies on another file system than its trash; delete it by hand"
    return ""


def _locks(base: Path, snapshot: Snapshot, row: Known) -> tuple[Path, ...]:
    """The locks that a fetch of that file would hold: its key depends on what was claimed."""
    path = SafeRelPath.parse(row.path)
    claims = [row.digests, *((one,) for one in (find(row.digests, "git-sha1"),) if one)]
    keys = dict.fromkeys(part_key(snapshot, ModelFile(path, row.size, one)) for one in claims)
    return tuple(base / NAME / "parts" / f"{key}.lock" for key in keys)


def _root_of(base: Path, rows: Sequence[Known]) -> Path:
    folders = [os.path.dirname(row.file) for row in rows]  # noqa: PTH120 - texts, not paths
    return base / os.path.commonpath(folders) if folders else base


def _emptied(base: Path, targets: Iterable[Path], *, keep: int) -> list[Path]:
    """The folders of `targets` below `base`, the deepest first; the upper `keep` levels, which
    are the application's own, left out.
    """
    found = {
        parent
        for target in targets
        for parent in target.parents
        if parent.is_relative_to(base) and len(parent.relative_to(base).parts) > keep
    }
    return sorted(found, key=lambda folder: (-len(folder.parts), folder))


def _forget(base: Path, record: Record) -> None:
    """Takes the rows of `record` whose names are gone out of what is known below `base`."""
    path = base / NAME / "meta" / f"{record.name}.json"
    before = read_record(path)
    if before is None:
        return
    leaving = {row.file for row in record.files}
    stay = tuple(
        row
        for row in before.files
        if row.file not in leaving or _present(_reader_name(base, record, row))
    )
    if stay != before.files:
        write_record(path, replace(before, files=stay))


def _reader_name(base: Path, record: Record, row: Known) -> Path:
    """The name that readers know a file by; in the Hub's cache records are named by commits."""
    snapshot = base / "snapshots"
    if len(record.name) == _COMMIT_LENGTH and snapshot.is_dir():
        return snapshot / record.name / row.path
    return base / row.file
