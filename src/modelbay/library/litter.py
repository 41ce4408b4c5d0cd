"""What nobody needs any more below one root: partials, wrong bytes, locks, temporary names.

Each piece says why it is safe to take away. What a process holds a lock on, and what is
younger than a day, stays: somebody may be at it.
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from modelbay.files import below, disk_errors, usage
from modelbay.library.home import NAME
from modelbay.library.hub_removal import Revision, blob_of, in_use, of_revision, revisions
from modelbay.library.records import records_in
from modelbay.library.removal import Busy, Removal, carry_out, holder, lock_now
from modelbay.library.trash import Trash
from modelbay.refs import ModelRef

Kind = Literal[
    "partial", "quarantine", "lock", "temporary", "trash", "folder", "blob", "revision", "repo"
]
GRACE: Final = 86_400.0
"""Seconds that something must have been left alone."""
_WRITING: Final = 600.0
"""No write under a temporary name takes longer."""
_PART = ".part"


@dataclass(frozen=True, slots=True)
class Litter:
    """One thing that can go. `frees` in bytes; what goes `to_trash` frees them when that is
    emptied.
    """

    kind: Kind
    base: Path
    paths: tuple[Path, ...]
    frees: int
    why: str
    lock: Path | None = None
    removal: Removal | None = None

    @property
    def to_trash(self) -> bool:
        return self.kind in {"blob", "revision"}


def litter_in(
    base: Path, *, everything: bool = False, now: float | None = None
) -> Iterator[Litter]:
    """What lies about in the `.modelbay` folder of `base`; with `everything` partials of today
    too. Looks, and takes no longer lock than a look.
    """
    home = base / NAME
    now = time.time() if now is None else now
    busy = in_use(base) if _is_repo(base) else ""
    if not busy:
        yield from _partials(base, home / "parts", now - (0 if everything else GRACE))
    yield from _quarantined(base, home / "quarantine")
    yield from _locks(base, home / "parts", now - GRACE)
    yield from _temporary(base, home, now - _WRITING)
    yield from _half_emptied(base, home / "trash")
    if not _is_repo(base):
        yield from _empty_folders(base)


def litter_in_repo(
    repo: Path, ref: ModelRef, *, detached: bool, now: float | None = None
) -> Iterator[Litter]:
    """What the Hub's cache can do without in the folder `repo`: partials of its own client,
    blobs that nothing leads to, and, when `detached`, revisions without a ref.
    """
    if in_use(repo):
        return
    dead = (time.time() if now is None else now) - GRACE
    for path in sorted((repo / "blobs").glob("*.incomplete")):
        if _newest((path,)) < dead:
            why = "the Hub's client left it yesterday or before, and begins anew"
            yield Litter("partial", repo, (path,), usage((path,)).freed, why)
    yield from _blobs(repo, dead)
    if detached:
        for revision in revisions(repo):
            if not revision.refs:
                yield _detached(revision, ref)


def clear(litter: Litter, trash: Trash) -> bool:
    """Takes it away; False when somebody is at it now. Raises DiskError."""
    with disk_errors(litter.base):
        if _is_repo(litter.base) and in_use(litter.base):
            return False
        if litter.removal is not None:
            return bool(carry_out(litter.removal, trash).gone)
        if litter.kind == "trash":
            trash.sweep()
            return True
        try:
            if litter.lock is not None:
                with lock_now(litter.lock, remove=litter.base / NAME in litter.lock.parents):
                    return _taken(litter, trash)
            return _taken(litter, trash)
        except Busy:
            return False


def _taken(litter: Litter, trash: Trash) -> bool:
    if litter.kind == "blob" and _pointed_at(litter.base) & set(litter.paths):
        return False
    if litter.to_trash:
        trash.announce(litter.paths, why="nothing led to it")
    done = False
    for path in litter.paths:
        with suppress(FileNotFoundError):
            if litter.to_trash:
                trash.put(path)
            elif litter.kind == "folder":
                path.rmdir()
            else:
                path.unlink()
            done = True
    return done


def _partials(base: Path, parts: Path, dead: float) -> Iterator[Litter]:
    journals = {path.stem: path for path in _names(parts) if path.suffix == ".journal"}
    bodies = {path.stem: path for path in _names(parts) if path.suffix == _PART}
    for key in sorted({*bodies, *journals}):
        paths = tuple(path for path in (bodies.get(key), journals.get(key)) if path is not None)
        lock = parts / f"{key}.lock"
        if _newest(paths) < dead and holder(lock) is None:
            why = "nobody is fetching it; it only saves fetching these bytes again"
            yield Litter("partial", base, paths, usage(paths).freed, why, lock)


def _quarantined(base: Path, folder: Path) -> Iterator[Litter]:
    for path in _names(folder):
        why = "these are wrong bytes, kept to be looked at"
        yield Litter("quarantine", base, (path,), usage((path,)).freed, why)


def _locks(base: Path, parts: Path, dead: float) -> Iterator[Litter]:
    for path in _names(parts):
        orphan = path.suffix == ".lock" and not path.with_suffix(_PART).exists()
        if orphan and _newest((path,)) < dead and holder(path) is None:
            yield Litter("lock", base, (path,), usage((path,)).freed, "no process holds it", path)


def _temporary(base: Path, home: Path, dead: float) -> Iterator[Litter]:
    for folder in (home, home / "parts", home / "meta", home / "trash"):
        for path in _names(folder):
            if path.suffix == ".tmp" and _newest((path,)) < dead:
                why = "a write that was stopped left it"
                yield Litter("temporary", base, (path,), usage((path,)).freed, why)


def _half_emptied(base: Path, trash: Path) -> Iterator[Litter]:
    left = [path for path in _entries(trash) if path.name.startswith(".going-")]
    for folder in left:
        names = tuple(below(folder))
        why = "the trash was being emptied of it"
        yield Litter("trash", base, (folder,), usage(names).freed, why)


def _empty_folders(base: Path) -> Iterator[Litter]:
    """Folders that hold nothing, and held a file of ours once."""
    ours = {
        parent
        for record in records_in(base)
        for row in record.files
        if row.placed and not Path(row.file).is_absolute() and ".." not in Path(row.file).parts
        for parent in (base / row.file).parents
        if base in parent.parents
    }
    for folder in sorted(ours, key=lambda one: (-len(one.parts), one)):
        with suppress(OSError):
            if not folder.is_symlink() and not any(folder.iterdir()):
                yield Litter(
                    "folder", base, (folder,), 0, "it is empty, and a model of ours was in it"
                )


def _blobs(repo: Path, dead: float) -> Iterator[Litter]:
    wanted = _pointed_at(repo)
    for path in _entries(repo / "blobs"):
        if path in wanted or path.name.endswith(".incomplete") or path.is_dir():
            continue
        with suppress(OSError):
            status = path.lstat()
            if max(status.st_mtime, status.st_ctime) < dead:
                lock = repo.parent / ".locks" / repo.name / f"{path.name}.lock"
                why = "no revision leads to it, and nobody linked it in the last 24 h"
                yield Litter("blob", repo, (path,), usage((path,)).freed, why, lock)


def _pointed_at(repo: Path) -> set[Path]:
    return {blob for link in below(repo / "snapshots") if (blob := blob_of(link)) is not None}


def _detached(revision: Revision, ref: ModelRef) -> Litter:
    removal = of_revision(revision, ref)
    return Litter(
        "revision",
        revision.repo,
        (revision.folder,),
        removal.usage.freed,
        "no ref leads to it; the Hub's own client prunes such revisions too",
        removal=removal,
    )


def _is_repo(base: Path) -> bool:
    return "--" in base.name and (base / "snapshots").is_dir()


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _names(folder: Path) -> list[Path]:
    """Ordinary files in `folder`, and links."""
    return [path for path in _entries(folder) if path.is_symlink() or path.is_file()]


def _newest(paths: tuple[Path, ...]) -> float:
    """When one of them was last written or linked; now when one has just gone."""
    try:
        return max(max(s.st_mtime, s.st_ctime) for s in (os.lstat(path) for path in paths))
    except OSError:
        return time.time()
