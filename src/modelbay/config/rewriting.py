"""A person's file written anew: whole or not at all, one program after the other."""

import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from modelbay.errors import DiskError, NotWritable
from modelbay.files import (
    LockUnsupported,
    disk_errors,
    locked,
    make_dir,
    may_write,
    write_atomic,
)
from modelbay.text import clean

LONGEST_WAIT: Final = 20.0
"""Seconds for which another program may hold the file."""


def rewrite(
    file: Path, read: Callable[[Path], str | None], change: Callable[[str], str], *, hint: str
) -> bool:
    """Whether `change` made another text of `file`. A link keeps its name and its target is
    written; a file that is not there is made with its folder, for this user alone.

    `change` hears the text as it is once nobody else is at it; what it raises leaves everything
    as it was. Raises NotWritable, with `hint`, DiskError, and what `read` and `change` raise.
    """
    target = _behind_links(file)
    if not target.parent.is_dir():
        if not change(""):
            return False
        make_dir(target.parent, private=True)
    _refuse_read_only(target, hint)
    with _held(target):
        before = read(target)
        after = change(before or "")
        if after == (before or ""):
            return False
        _write(target, after, hint)
    return True


def _behind_links(file: Path) -> Path:
    try:
        with disk_errors(file):
            return file.resolve()
    except RuntimeError as error:
        raise DiskError(
            f"{clean(file)} is a link that leads back to itself", hint="remove the link"
        ) from error


def _refuse_read_only(target: Path, hint: str) -> None:
    """A file that nobody may write to is meant to stay, though its folder would let us."""
    with disk_errors(target), suppress(FileNotFoundError):
        if not target.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
            raise NotWritable(f"{clean(target)} is read-only", hint=hint)
        with target.open("r+b"):
            pass
    if not may_write(target.parent):
        raise NotWritable(f"{clean(target.parent)} is not writable", hint=hint)


@contextmanager
def _held(target: Path) -> Iterator[None]:
    deadline = time.monotonic() + LONGEST_WAIT

    def pause(seconds: float) -> None:
        if time.monotonic() > deadline:
            raise DiskError(
                f"another program has been writing {clean(target)} for {LONGEST_WAIT:.0f} s",
                hint="end it, then run the same command again",
            )
        time.sleep(seconds)

    lock = target.with_name(f".{target.name[:200]}.lock")
    with ExitStack() as stack:
        # A file system without locks: the write is still whole or not at all.
        with suppress(LockUnsupported):
            waiting = locked(lock, pause=pause, tell=lambda _: None, remove=True)
            stack.enter_context(waiting)
        yield


def _write(target: Path, text: str, hint: str) -> None:
    mode = 0o600
    with suppress(FileNotFoundError):
        mode = stat.S_IMODE(target.stat().st_mode)
    try:
        with disk_errors(target):
            write_atomic(target, text.encode(), mode=mode)
            target.chmod(mode)
    except NotWritable as error:
        raise NotWritable(str(error), hint=hint) from error
