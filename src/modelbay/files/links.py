"""The same bytes once more, as cheaply as the file system allows."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from modelbay.plan import LADDER, Way

FICLONE = 0x40049409
"""`ioctl(2)` request of Linux that clones a file's extents (linux/fs.h)."""
_COPY_SIZE = 1 << 20
_REAL_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EEXIST}


def clone(
    source: Path,
    new: Path,
    *,
    ways: Sequence[Way] = LADDER,
    tick: Callable[[int], None] | None = None,
) -> Way:
    """Makes `new` with the bytes of `source` in the first of `ways` that works; a copy does.

    Its bytes are durable when it returns; `new` must not exist, and is gone again after an
    error. A copy is not proven yet: hash it. `tick` hears the bytes of every read of a
    copy and stops it by raising. Raises OSError.
    """
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if "reflink" in ways and _filled(new, lambda writing: _reflink(reading, writing)):
            return "reflink"
        if "hard link" in ways and _hard_link(source, new):
            os.fsync(reading)
            return "hard link"
        _filled(new, lambda writing: _copy(reading, writing, tick))
        return "copy"
    finally:
        os.close(reading)


def reflink(source: Path, new: Path) -> bool:
    """Makes `new` share the bytes of `source` until one of the two is written to; False where
    the file system cannot. Durable; `new` must not exist. Raises OSError.
    """
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _filled(new, lambda writing: _reflink(reading, writing))
    finally:
        os.close(reading)


def _filled(new: Path, fill: Callable[[int], bool]) -> bool:
    writing = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    done = False
    try:
        done = fill(writing)
        if done:
            os.fsync(writing)
    finally:
        os.close(writing)
        if not done:
            with contextlib.suppress(OSError):
                new.unlink()
    return done


def _reflink(reading: int, writing: int) -> bool:
    try:
        fcntl.ioctl(writing, FICLONE, reading)
    except OSError as error:
        if error.errno in _REAL_TROUBLE:
            raise
        return False
    return True


def _hard_link(source: Path, new: Path) -> bool:
    try:
        os.link(source.resolve(), new)
    except OSError as error:
        if error.errno in _REAL_TROUBLE:
            raise
        return False
    return True


def _copy(reading: int, writing: int, tick: Callable[[int], None] | None) -> bool:
    while chunk := os.read(reading, _COPY_SIZE):
        view = memoryview(chunk)
        while view:
            view = view[os.write(writing, view) :]
        if tick is not None:
            tick(len(chunk))
    return True
