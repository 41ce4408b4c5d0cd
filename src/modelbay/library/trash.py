"""What was taken away and can come back: `.modelbay/trash/<date>-<n>/`.

A bundle is what one run took away below one root, each file at its old path. `<date>-<n>.jsonl`
beside it has a line for each, written before the file moves: what it was, and why it went. A
bundle without that list is read from its files. Records of what went lie in the bundle too, so
that what comes back is known as ours again.
"""

import hashlib
import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from modelbay.errors import DiskError, NoSpace, TargetTaken
from modelbay.files import (
    Usage,
    append,
    below,
    disk_errors,
    folder_below,
    make_dir,
    publish_new,
    standing,
    sync_dir,
    usage,
)
from modelbay.library.records import Record, read_record, write_record
from modelbay.text import clean

HOME: Final = ".modelbay"
_NAME = re.compile(r"(\d{4}-\d\d-\d\d)-(\d+)")
_GOING = ".going-"
_DAY = 86_400.0
_STARTING = 3_600.0
"""Seconds after which a bundle has its first file, if it ever gets one."""


@dataclass(frozen=True, slots=True)
class Discarded:
    """One file in the trash. `path` is its old one below the root, `when` unix seconds."""

    path: str
    size: int
    when: float
    ref: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What one run took away below `base`, in the order in which it went."""

    base: Path
    name: str
    files: tuple[Discarded, ...]
    when: float

    @property
    def id(self) -> str:
        """The same on every day and in every listing; unique where two roots have a `name`."""
        mark = hashlib.sha256(str(self.base).encode()).hexdigest()[:4]
        return f"{self.name}.{mark}"

    @property
    def folder(self) -> Path:
        return self.base / HOME / "trash" / self.name

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def refs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(file.ref for file in self.files if file.ref))

    def usage(self) -> Usage:
        """What emptying it would free. Reads every name of it."""
        return usage(below(self.folder))


class Trash:
    """The trash of the `.modelbay` folder in `base`. Thread-safe; one bundle for each object."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._folder = base / HOME / "trash"
        self._bundle: Path | None = None
        self._announced: set[Path] = set()
        self._lock = threading.Lock()

    def announce(self, paths: Iterable[Path], *, ref: str = "", why: str = "") -> None:
        """Writes down, in one go, that `paths` are about to be put here. Raises OSError."""
        with self._lock:
            self._announce(tuple(paths), ref, why)

    def put(self, path: Path, *, keep_name: bool = False, ref: str = "", why: str = "") -> Path:
        """Takes `path` away and gives where it is now. A link goes as the link it is. With
        `keep_name` a file also stays where it is, for a rename to replace, where the file system
        has hard links. Raises OSError.
        """
        with self._lock:
            if path not in self._announced:
                self._announce((path,), ref, why)
            self._announced.discard(path)
            old = self._opened() / path.relative_to(self._base)
        old.parent.mkdir(parents=True, exist_ok=True)
        if not (keep_name and not path.is_symlink() and _linked(path, old)):
            path.rename(old)
        sync_dir(old.parent)
        return old

    def give_back(self, path: Path) -> None:
        """Undoes `put` of `path` by this object. Raises FileExistsError, OSError."""
        *folders, name = path.relative_to(self._base).parts
        with folder_below(self._base, folders, make=True) as folder:
            publish_new(self._opened() / path.relative_to(self._base), folder, name)

    def keep_record(self, record: Record) -> None:
        """Puts what is known of files that are about to go beside them. Raises OSError."""
        with self._lock:
            path = self._opened() / HOME / "meta" / f"{record.name}.json"
        before = read_record(path)
        write_record(path, merged(before, record) if before is not None else record)

    def _announce(self, paths: Sequence[Path], ref: str, why: str) -> None:
        folder = self._opened(tuple(path.relative_to(self._base) for path in paths))
        now = round(time.time(), 3)
        lines = [
            json.dumps(
                {
                    "path": path.relative_to(self._base).as_posix(),
                    "size": 0 if path.is_symlink() else path.lstat().st_size,
                    "when": now,
                    "ref": ref,
                    "why": why,
                }
            )
            for path in paths
        ]
        append(_list_of(folder), "".join(f"{line}\n" for line in lines).encode())
        self._announced.update(paths)

    def _opened(self, coming: Sequence[Path] = ()) -> Path:
        """The bundle; another one where a name of `coming` is in it already."""
        taken = self._bundle is not None and any(
            (self._bundle / name).exists() or (self._bundle / name).is_symlink() for name in coming
        )
        if self._bundle is None or taken:
            self._bundle = _numbered(self._folder)
        return self._bundle

    def bundles(self) -> list[Bundle]:
        """What is here, the oldest first."""
        found = [self._read(path) for path in _folders(self._folder)]
        return sorted((one for one in found if one.files), key=lambda one: (one.when, one.name))

    def _read(self, folder: Path) -> Bundle:
        began = _mtime(folder)
        listed = {one.path: one for one in _listed(_list_of(folder))}
        there = {
            path.relative_to(folder).as_posix(): path
            for path in below(folder)
            if path.relative_to(folder).parts[0] != HOME
        }
        files = [one for one in listed.values() if one.path in there]
        unlisted = sorted(set(there) - set(listed))
        files += [Discarded(name, there[name].lstat().st_size, began) for name in unlisted]
        when = min((one.when for one in files), default=began)
        return Bundle(self._base, folder.name, tuple(files), when)

    def restore(self, bundle: Bundle, files: Sequence[Discarded] | None = None) -> list[Path]:
        """Brings `files` of `bundle`, or all of it, back under their old names, the last one that
        went first; what of it stands there already with the same content stays in place.

        Raises TargetTaken, before anything moves, where another file has a name; DiskError.
        """
        wanted = bundle.files if files is None else tuple(files)
        self._refuse_taken(bundle, wanted)
        self._remember(bundle, {one.path for one in wanted})
        back = []
        for one in reversed(wanted):
            final = self._base / one.path
            with disk_errors(final):
                if self._return(bundle.folder / one.path, final):
                    back.append(final)
        if len(wanted) == len(bundle.files):
            self._drop(bundle.folder)
        return back

    def _refuse_taken(self, bundle: Bundle, wanted: Sequence[Discarded]) -> None:
        taken = [
            self._base / one.path
            for one in wanted
            if not _is_pointer(bundle.base, one.path)
            and _stands(self._base / one.path)
            and not _equal(bundle.folder / one.path, self._base / one.path)
        ]
        if taken:
            more = f" and {len(taken) - 1} more are" if len(taken) > 1 else " is"
            raise TargetTaken(
                f"{clean(taken[0])}{more} there again, so {bundle.id} cannot come back",
                hint="move what stands there away, or remove it with `modelbay rm`, and run the "
                "same command again",
            )

    def _return(self, old: Path, final: Path) -> bool:
        """False where the name is taken by the same content, or by a newer ref."""
        *folders, name = final.relative_to(self._base).parts
        with folder_below(self._base, folders, make=True) as folder:
            try:
                publish_new(old, folder, name)
            except FileExistsError:
                return False
        return True

    def _remember(self, bundle: Bundle, paths: set[str]) -> None:
        for path in sorted((bundle.folder / HOME / "meta").glob("*.json")):
            record = read_record(path)
            if record is None:
                continue
            back = tuple(known for known in record.files if known.file in paths)
            own = self._base / HOME / "meta" / path.name
            before = read_record(own)
            with disk_errors(own):
                returned = replace(record, files=back)
                write_record(own, merged(before, returned) if before is not None else returned)

    def empty(self, bundle: Bundle) -> int:
        """Deletes `bundle` for good and gives the bytes that this freed. Raises DiskError."""
        freed = bundle.usage().freed
        self._drop(bundle.folder)
        return freed

    def _drop(self, folder: Path) -> None:
        """A bundle that is half deleted is none: its name goes first."""
        going = folder.with_name(f"{_GOING}{folder.name}")
        with disk_errors(folder):
            shutil.rmtree(going, ignore_errors=True)
            folder.rename(going)
            _list_of(folder).unlink(missing_ok=True)
            shutil.rmtree(going)

    def expire(self, days: int, *, now: Callable[[], float] = time.time) -> int:
        """Deletes what has been here for `days`; how many bundles. Only the names in one folder
        are read where nothing is that old. Raises DiskError.
        """
        dead = now() - days * _DAY
        old = [path for path in _folders(self._folder) if _day(path.name) < dead]
        gone = [one for one in map(self._read, old) if one.when <= dead]
        for bundle in gone:
            self._drop(bundle.folder)
        return len(gone)

    def sweep(self) -> None:
        """Ends deletions that a kill stopped; takes lists without a bundle away, and bundles
        that a kill left without a file. Raises DiskError.
        """
        for folder in _folders(self._folder):
            if _mtime(folder) < time.time() - _STARTING and not self._read(folder).files:
                self._drop(folder)
        with disk_errors(self._folder), suppress(FileNotFoundError):
            for path in list(self._folder.iterdir()):
                if path.name.startswith(_GOING):
                    shutil.rmtree(path)
                elif path.suffix == ".jsonl" and not path.with_suffix("").is_dir():
                    path.unlink(missing_ok=True)


def expire(bases: Iterable[Path], days: int) -> None:
    """Empties what is older than `days` in `bases`, which are about to be written to. A trash
    that cannot be emptied is no reason not to work.
    """
    for base in dict.fromkeys(bases):
        with suppress(DiskError, OSError):
            Trash(base).expire(days)


def with_trash(error: NoSpace, bases: Iterable[Path], wanting: Iterable[Path]) -> NoSpace:
    """`error`, whose hint also says what emptying the trash in `bases` frees on the file
    systems that hold the paths `wanting`.
    """
    volumes = {standing(path).stat().st_dev for path in wanting}
    near = [base for base in dict.fromkeys(bases) if standing(base).stat().st_dev in volumes]
    freed = sum(bundle.usage().freed for base in near for bundle in Trash(base).bundles())
    if not freed:
        return error
    from humanize import naturalsize

    shown = naturalsize(freed).replace(" Bytes", " B")
    return NoSpace(str(error), hint=f"`modelbay trash empty` frees {shown} there; or {error.hint}")


def merged(one: Record, other: Record) -> Record:
    """`one` with the files of `other`, which win."""
    rows = {(known.file, known.path): known for known in (*one.files, *other.files)}
    return replace(one, files=tuple(rows.values()))


def _is_pointer(base: Path, path: str) -> bool:
    """Whether it is a ref of the Hub's cache, which may name a newer commit by now."""
    return path.startswith("refs/") and base.joinpath("snapshots").is_dir()


def _stands(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _equal(one: Path, other: Path) -> bool:
    """Whether two names lead to the same file, or are links that say the same."""
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    # A blob of the Hub's cache is named by its content.
    return one.samefile(other) or (
        one.parent.name == "blobs" and one.stat().st_size == other.stat().st_size
    )


def _linked(path: Path, old: Path) -> bool:
    with suppress(OSError):
        old.hardlink_to(path)
        return True
    return False


def _list_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.jsonl")


def _folders(trash: Path) -> Iterator[Path]:
    with suppress(OSError):
        for path in sorted(trash.iterdir()):
            if _NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                yield path


def _listed(path: Path) -> Iterator[Discarded]:
    """The lines of a list; one that a kill cut off says nothing."""
    with suppress(OSError):
        for line in path.read_text("utf-8", "replace").splitlines():
            with suppress(ValueError, KeyError, TypeError):
                row = json.loads(line)
                yield Discarded(
                    str(row["path"]),
                    int(row["size"]),
                    float(row["when"]),
                    str(row["ref"]),
                    str(row["why"]),
                )


def _mtime(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return time.time()


def _day(name: str) -> float:
    """When the day began that a bundle is named by, in unix seconds."""
    with suppress(ValueError):
        return datetime.fromisoformat(name[:10]).replace(tzinfo=UTC).timestamp()
    return 0.0


def _numbered(trash: Path) -> Path:
    make_dir(trash.parent, private=True)
    make_dir(trash)
    day = datetime.now(UTC).date().isoformat()
    number = 1
    while True:
        folder = trash / f"{day}-{number}"
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder
