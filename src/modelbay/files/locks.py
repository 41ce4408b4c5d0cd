"""Locks between processes: courtesy, so that the same bytes are not fetched twice.

Nothing rests on them: parts are verified before they get a name, and names appear by
rename. A file system that cannot lock, or lies about it, costs bandwidth and no bytes.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from modelbay.files.durable import disk_errors
from modelbay.text import clean

_BUSY = {errno.EAGAIN, errno.EACCES}
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
_MODE = 0o664
"""Whatever the umask: others of the group that share a cache wait for the same locks."""
_POLL = 0.1
_SAY_AGAIN = 10.0


class LockUnsupported(Exception):
    """Raised where the file system, or this login, cannot lock."""


@contextlib.contextmanager
def locked(
    path: Path,
    *,
    pause: Callable[[float], None],
    tell: Callable[[str], None],
    remove: bool = False,
) -> Iterator[bool]:
    """Holds the lock on the file `path`, made with mode 0664 when absent.

    Gives whether another held it meanwhile: what was planned may be done by now. While it
    waits, `tell` hears at once and then every 10 s for whom, and `pause` sleeps, or raises
    to stop waiting. `remove` takes the file away at the end (never for locks that other
    programs know). Raises LockUnsupported, DiskError.
    """
    descriptor, waited = _acquire(path, pause, tell)
    try:
        yield waited
    finally:
        if remove:
            with contextlib.suppress(OSError):
                path.unlink()
        os.close(descriptor)


def _acquire(
    path: Path, pause: Callable[[float], None], tell: Callable[[str], None]
) -> tuple[int, bool]:
    waited = False
    while True:
        descriptor = _open(path)
        try:
            waited = _wait(descriptor, path, pause, tell) or waited
            if _still_named(descriptor, path):
                return descriptor, waited
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _open(path: Path) -> int:
    flags = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, os.O_RDWR | flags, _MODE)
    except PermissionError:
        with contextlib.suppress(OSError):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        raise LockUnsupported(f"{clean(path)} may not be opened by this login") from None
    except OSError as error:
        if error.errno in _UNSUPPORTED | {errno.EROFS}:
            raise LockUnsupported(f"{clean(path)}: {error.strerror}") from error
        with disk_errors(path):
            raise
    with contextlib.suppress(OSError):
        if os.fstat(descriptor).st_size == 0:
            os.fchmod(descriptor, _MODE)
    return descriptor


def _wait(
    descriptor: int, path: Path, pause: Callable[[float], None], tell: Callable[[str], None]
) -> bool:
    next_word = started = time.monotonic()
    while not _try(descriptor, path):
        now = time.monotonic()
        if now >= next_word:
            after = f", {now - started:.0f} s so far" if next_word > started else ""
            tell(f"waiting for {holder(descriptor)}, which is fetching the same file{after}")
            next_word = now + _SAY_AGAIN
        pause(_POLL)
    return next_word > started


def _try(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        if error.errno in _UNSUPPORTED:
            raise LockUnsupported(f"{clean(path)}: {error.strerror}") from error
        with disk_errors(path):
            raise
    return True


def _still_named(descriptor: int, path: Path) -> bool:
    held = os.fstat(descriptor)
    try:
        named = path.lstat()
    except FileNotFoundError:
        return False
    return (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino)


def holder(descriptor: int) -> str:
    """Who holds the flock on that file, for people: Linux tells, elsewhere nobody does."""
    wanted = os.fstat(descriptor)
    place = f"{os.major(wanted.st_dev):02x}:{os.minor(wanted.st_dev):02x}:{wanted.st_ino}"
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/locks").read_text("ascii").splitlines():
            fields = line.split()
            if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == place:
                pid = int(fields[4])
                name = Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
                return f"{clean(name)} (process {pid})"
    return "another program"
