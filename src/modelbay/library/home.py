"""One `.modelbay` folder: parts, records, trash; the engine adds its quarantine.

It lies on the same file system as what it serves. Deleting it loses partials, trash and
metadata, never a model.
"""

import contextlib
import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from modelbay.digest import Digest, disagreement, find
from modelbay.errors import DiskError, Interrupted, NotWritable, WrongBytes
from modelbay.files import (
    LockUnsupported,
    clone,
    disk_error,
    disk_errors,
    folder_below,
    hash_file,
    locked,
    make_dir,
    publish_new,
    publish_over,
    taken_by,
)
from modelbay.library.records import Records
from modelbay.library.trash import HOME, Trash
from modelbay.plan import Step
from modelbay.snapshot import ModelFile, Snapshot
from modelbay.text import clean

NAME = HOME
_LONGEST_NAME = 255
_DEAD_SECONDS = 600
Tick = Callable[[int], None]
"""Hears the bytes of every read while a file is copied or hashed; raises to stop."""


class Home:
    """The `.modelbay` folder in `base`. Nothing is made before `prepare`."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.folder = base / NAME
        self.parts = self.folder / "parts"
        self.records = Records(self.folder)
        self.trash = Trash(base)
        self._lockless = False
        self._lock_folders: set[Path] = set()
        self._ready = False
        self._elsewhere: dict[str, bool] = {}
        """Of folders with final names: whether a mount lies between here and there."""

    def prepare(self) -> None:
        """Makes the folder. Raises NotWritable, NoSpace, TargetTaken when a link has its name."""
        if self._ready:
            return
        make_dir(self.folder, private=True)
        with disk_errors(self.parts), folder_below(self.base, (NAME, "parts"), make=True):
            self._ready = True
            self._sweep()

    def _sweep(self) -> None:
        """Removes temporary names that a kill left; a write takes no ten minutes."""
        dead = time.time() - _DEAD_SECONDS
        for path in self.folder.glob("*/.*.tmp"):
            with contextlib.suppress(OSError):
                if path.lstat().st_mtime < dead:
                    path.unlink()

    def part_of(self, snapshot: Snapshot, file: ModelFile, final: Path) -> Path:
        """Where the bytes for `final` gather: here, or beside it on another file system."""
        key, folder = part_key(snapshot, file), os.fspath(final).rpartition("/")[0]
        elsewhere = self._elsewhere.get(folder)
        if elsewhere is None:
            elsewhere = self._elsewhere[folder] = _mounted_elsewhere(self.base, final)
        if not elsewhere:
            return self.parts / f"{key}.part"
        name = f".{final.name}{NAME}-part"
        if len(os.fsencode(name)) > _LONGEST_NAME:
            name = f".{key[:32]}{NAME}-part"
        return final.with_name(name)

    def open_folder_of(self, part: Path) -> None:
        """Makes the folder of a part that lies beside its final name. Raises TargetTaken."""
        if part.parent != self.parts:
            with folder_below(self.base, part.relative_to(self.base).parts[:-1], make=True):
                pass

    @contextlib.contextmanager
    def locked(
        self,
        path: Path,
        *,
        pause: Callable[[float], None],
        tell: Callable[[str], None],
        remove: bool = False,
    ) -> Iterator[bool]:
        """As `files.locked`. Where nothing can be locked, `tell` hears so once, and work goes
        on: no byte depends on it.
        """
        with contextlib.ExitStack() as stack:
            waited = False
            if not self._lockless:
                try:
                    if path.parent not in self._lock_folders:
                        _make_lock_folder(path.parent)
                        self._lock_folders.add(path.parent)
                    waited = stack.enter_context(
                        locked(path, pause=pause, tell=tell, remove=remove)
                    )
                except LockUnsupported as trouble:
                    self._lockless = True
                    tell(f"going on without locks ({trouble}): a file may be fetched twice")
            yield waited

    def finish(self, record: str, snapshot: Snapshot) -> None:
        """Writes what was learnt. A folder that cannot be written to keeps no records, which
        costs hashing and nothing else. Raises DiskError.
        """
        with contextlib.suppress(NotWritable), disk_errors(self.folder):
            if self.records.has_news(record, snapshot):
                self.prepare()
                self.records.write(record, snapshot)

    def discard(self, path: Path, *, keep_name: bool, ref: str = "", why: str = "") -> Path | None:
        """Puts `path` into the trash under its old name and gives where it is now; None
        when it is a link, which has no bytes to keep. With `keep_name` it also stays where
        it is, for a rename to replace, where the file system has hard links. Raises OSError.
        """
        if path.is_symlink():
            return None
        return self.trash.put(path, keep_name=keep_name, ref=ref, why=why)

    def publish(
        self, part: Path, root: Path, final: Path, observed: tuple[Digest, ...], *, over: bool
    ) -> None:
        """The verified, fsynced `part` as `final`, durably; no link below `root` is followed.
        `over` replaces what has the name. Raises TargetTaken, OSError.
        """
        *folders, name = final.relative_to(root).parts
        with folder_below(root, folders, make=True) as folder:
            try:
                _rename(part, folder, name, over=over)
            except FileExistsError:
                raise taken_by(final, "the name was free when the plan was made") from None
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                _rename(_carried(part, final, observed), folder, name, over=over)
                part.unlink()
        journal_of(part).unlink(missing_ok=True)

    def note(
        self,
        record: str,
        snapshot: Snapshot,
        step: Step,
        path: Path,
        observed: tuple[Digest, ...],
    ) -> None:
        """Records `path` as placed; what nobody observed yet is read for it."""
        digests = observed or self.records.observe(path, ("sha256",))
        self.records.add(record, snapshot, step.file.path, path, digests)

    def linked_in(
        self, step: Step, observed: tuple[Digest, ...] = (), *, tick: Tick | None = None
    ) -> tuple[Digest, ...]:
        """The bytes of the source of `step` as its part, ready to be published, and their
        digests: those `observed` of the source before, as long as no byte was copied.

        Until the bytes are proven, what an earlier run left of the part stays as it is. Raises
        WrongBytes when they are not the wanted ones (any more), DiskError when the source
        is gone, OSError.
        """
        source, part = step.source or step.blob, step.part
        self.prepare()
        self.open_folder_of(part)
        near = _link_part(part)
        near.unlink(missing_ok=True)
        before = _status(source)
        way = clone(source, near, ways=step.ways, tick=tick)
        known = observed or self.records.unchanged(source)
        if way == "copy" or not _covers(known, step.file.digests) or _status(source) != before:
            known = _proven(near, step.file.digests, tick=tick)
        # Without its journal nobody goes on writing into a part, which may be the source's inode;
        # and a rename onto another name of the same inode would do nothing.
        journal_of(part).unlink(missing_ok=True)
        part.unlink(missing_ok=True)
        near.rename(part)
        return known


def journal_of(part: Path) -> Path:
    """The name of the engine's journal, which goes when its part does."""
    return part.with_name(part.name.removesuffix(".part") + ".journal")


def _link_part(part: Path) -> Path:
    """Where the bytes of a link wait until they are proven, on the file system of `part`."""
    stem, dot, _ = part.name.rpartition(".part")
    if dot and part.name.endswith(".part"):
        return part.with_name(f"{stem}.link.part")
    key = hashlib.sha256(os.fsencode(part.name)).hexdigest()
    return part.with_name(f".{key[:32]}.link{NAME}-part")


def _status(source: Path) -> tuple[int, int, int, int]:
    """What changes when a file does. Raises DiskError when it is no file that can be read."""
    try:
        status = source.stat()
    except OSError as error:
        raise disk_error(error, source) from error
    if not stat.S_ISREG(status.st_mode) or not os.access(source, os.R_OK):
        raise DiskError(
            f"{clean(source)} cannot be read as a file, and a link was to be made from it",
            hint="run the same command again: its bytes are then fetched instead",
        )
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _covers(known: tuple[Digest, ...], wanted: tuple[Digest, ...]) -> bool:
    """Whether bytes with the digests `known` are those that are wanted, for certain."""
    return find(known, "sha256") is not None and all(digest in known for digest in wanted)


def part_key(snapshot: Snapshot, file: ModelFile) -> str:
    """What a part is named by: the content where it is known, else where it comes from."""
    if file.sha256 is not None:
        return file.sha256.hex
    validator = file.etag or (file.digests[0].hex if file.digests else "")
    return hashlib.sha256(f"{snapshot.ref}\0{file.path}\0{validator}".encode()).hexdigest()


def _mounted_elsewhere(base: Path, final: Path) -> bool:
    """Whether a mount lies between the two. A link on the way is not followed: it is refused
    when the file is placed, and nothing gathers behind it until then.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        folder, device = os.fspath(base), base.stat().st_dev
        for part in final.relative_to(base).parts[:-1]:
            folder = f"{folder}/{part}"
            status = os.lstat(folder)
            if not stat.S_ISDIR(status.st_mode):
                return False
            if status.st_dev != device:
                return True
    return False


def record_name(snapshot: Snapshot) -> str:
    """A record's name for a folder that several models share: the same at every revision."""
    ref = str(snapshot.ref.at(None))
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", snapshot.ref.name)[-60:].strip("-.")
    return f"{readable}-{hashlib.sha256(ref.encode()).hexdigest()[:12]}"


def _make_lock_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except PermissionError as error:
        raise LockUnsupported(f"{clean(folder)}: {error.strerror}") from error


def _rename(part: Path, folder: int, name: str, *, over: bool) -> None:
    (publish_over if over else publish_new)(part, folder, name)


def _carried(part: Path, final: Path, observed: tuple[Digest, ...]) -> Path:
    """`part` on the file system of `final`, which a mount hid from the plan."""
    near = final.with_name(f".{part.stem[:32]}{NAME}-part")
    near.unlink(missing_ok=True)
    clone(part, near, ways=("reflink", "copy"))
    _proven(near, observed)
    return near


def _proven(
    copy: Path, wanted: tuple[Digest, ...], *, tick: Tick | None = None
) -> tuple[Digest, ...]:
    algorithms = dict.fromkeys(["sha256", *(digest.algorithm for digest in wanted)])
    try:
        found = hash_file(copy, algorithms, tick=tick)
    except Interrupted:
        copy.unlink()
        raise
    wrong = disagreement(wanted, found)
    if wrong is not None:
        copy.unlink()
        raise WrongBytes(
            f"a copy for {clean(copy.parent.parent)} came out wrong: expected {wrong[0]}, "
            f"got {wrong[1]}",
            hint="run the same command again: the bytes are then fetched instead",
        )
    return found
