"""Durable names, positioned writes, space."""

import contextlib
import errno
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelbay.errors import DiskError, NoSpace, NotWritable
from modelbay.text import clean

_FULL = {errno.ENOSPC, errno.EDQUOT}
_CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns OSErrors into DiskErrors that name `path` and the next step."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, path) from error


def disk_error(error: OSError, path: Path) -> DiskError:
    """The DiskError that says what `error` means for `path`."""
    shown = clean(path)
    if error.errno in _FULL:
        return NoSpace(
            f"{shown} could not be written: the file system is full ({error.strerror})",
            hint="free some room (`df -h`, `df -i`) and run the same command again: "
            "what arrived is kept",
        )
    if error.errno in _CLOSED:
        return NotWritable(
            f"{shown} could not be written: {error.strerror}",
            hint="choose another folder with --to, or make this one writable",
        )
    return DiskError(
        f"{shown}: {error.strerror or type(error).__name__}",
        hint="check the disk (`dmesg`), then run the same command again",
    )


def make_dir(path: Path, *, private: bool = False) -> None:
    """Makes `path` and its parents. With `private`, mode 0700. Raises NotWritable."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700 if private else 0o777, exist_ok=True)


def sync_dir(path: Path) -> None:
    """Makes the names in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync_names(descriptor)
    finally:
        os.close(descriptor)


def sync_names(descriptor: int) -> None:
    """Makes the names in an open folder durable, where its file system has a way to."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise


@dataclass(slots=True)
class _Syncs:
    """Calls for one folder: how many began, how many of them ended well."""

    begun: int = 0
    ended: int = 0


_syncs: dict[tuple[int, int], _Syncs] = {}
_syncing = threading.Condition()


def sync_folder(descriptor: int) -> None:
    """Makes the names in an open folder durable, together with whoever asks meanwhile.

    A call that begins after our rename covers it, whoever makes it: threads that publish into
    one folder share their calls. Raises OSError.
    """
    status = os.fstat(descriptor)
    with _syncing:
        syncs = _syncs.setdefault((status.st_dev, status.st_ino), _Syncs())
        covering = syncs.begun + 1
        _syncing.wait_for(lambda: syncs.ended >= covering or syncs.begun == syncs.ended)
        if syncs.ended >= covering:
            return
        syncs.begun += 1
    try:
        sync_names(descriptor)
    except BaseException:
        with _syncing:
            syncs.begun -= 1
            _syncing.notify_all()
        raise
    with _syncing:
        syncs.ended = syncs.begun
        _syncing.notify_all()


def sync_data(descriptor: int) -> None:
    """`fdatasync` where the system has it."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


def open_part(path: Path) -> int:
    """A descriptor for positioned reads and writes on a part of ours; made when absent.

    Never follows a link: a part is always an ordinary file of ours.
    """
    with disk_errors(path):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def open_read(path: Path) -> int:
    """A descriptor for positioned reads of a file in place. Raises OSError."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def write_at(descriptor: int, view: memoryview, offset: int) -> None:
    """Writes all of `view` at `offset`, however short each write is."""
    done = 0
    while done < len(view):
        done += os.pwrite(descriptor, view[done:], offset + done)


def read_at(descriptor: int, view: memoryview, offset: int) -> int:
    """Fills `view` from `offset` as far as the file goes; how many bytes. Raises OSError."""
    done = 0
    while done < len(view):
        count = os.preadv(descriptor, [view[done:]], offset + done)
        if not count:
            break
        done += count
    return done


def sync_file(descriptor: int) -> None:
    """Makes content and size durable. Never called again after it failed: Linux forgets the
    pages it could not write. Raises OSError.
    """
    os.fsync(descriptor)


def truncate(descriptor: int, size: int) -> None:
    os.ftruncate(descriptor, size)


def close(descriptor: int) -> None:
    os.close(descriptor)


def write_atomic(
    path: Path,
    content: bytes,
    *,
    mode: int = 0o666,
    durable: bool = True,
    via: Path | None = None,
    alone: bool = False,
) -> None:
    """`content` under `path`, old or new and never between. Raises OSError.

    `alone` says that nobody else writes it: the temporary name is always the same, so that
    what a kill leaves is used up by the next write.

    `via` is another folder of the same file system for the temporary name, where readers
    of the folder itself would stumble over one that a kill left.
    """
    mark = "new" if alone else random_mark()
    temporary = (via or path.parent) / f".{path.name}.{mark}.tmp"
    once = os.O_TRUNC if alone else os.O_EXCL
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | once | os.O_NOFOLLOW | os.O_CLOEXEC, mode
    )
    try:
        write_at(descriptor, memoryview(content), 0)
        if durable:
            os.fsync(descriptor)
        temporary.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    finally:
        os.close(descriptor)
    if durable:
        sync_dir(path.parent)


def append(path: Path, content: bytes) -> None:
    """`content` at the end of `path`, made when absent, durably. Raises OSError."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def random_mark() -> str:
    """Eight hexadecimal digits for a name that nobody else uses."""
    return os.urandom(4).hex()


def publish(part: Path, final: Path) -> None:
    """The fsynced `part` under its final name, durably. Same file system. Raises OSError."""
    part.rename(final)
    sync_dir(final.parent)
    if part.parent != final.parent:
        with contextlib.suppress(OSError):
            sync_dir(part.parent)


def free_space(path: Path) -> int:
    """Bytes free for us on the file system that holds `path` (or its nearest parent)."""
    return shutil.disk_usage(standing(path)).free


def standing(path: Path) -> Path:
    """`path`, or its nearest parent that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


@dataclass(frozen=True, slots=True)
class Room:
    """What a file system has, in bytes, and how many names it still takes (None: no limit)."""

    total: int
    free: int
    names: int | None


def room(path: Path) -> Room:
    """The room of the file system that holds `path`. Raises OSError."""
    found = os.statvfs(path)
    names = found.f_favail if found.f_files else None
    return Room(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize, names)


def may_write(folder: Path) -> bool:
    """Whether this login may make names in `folder`."""
    return os.access(folder, os.W_OK | os.X_OK)
