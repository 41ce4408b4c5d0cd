"""Names below a root that strangers may write to: no link on the way is followed."""

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from modelbay.errors import TargetTaken
from modelbay.files.durable import random_mark, sync_folder, sync_names
from modelbay.text import clean

_NO_REPLACE = 1
_AT_CWD = -100
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def folder_below(root: Path, parts: Sequence[str], *, make: bool = False) -> Iterator[int]:
    """A descriptor of the folder `parts` below `root`, which itself may be a link.

    With `make`, missing folders are made, durably. Raises TargetTaken naming the link or
    file that stands in the way, and OSError.
    """
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for depth, part in enumerate(parts, 1):
            try:
                child = _child(descriptor, part, make=make)
            except OSError as error:
                if error.errno in {errno.ELOOP, errno.ENOTDIR}:
                    in_the_way = root.joinpath(*parts[:depth])
                    raise taken_by(in_the_way, "a folder was expected there") from error
                raise
            os.close(descriptor)
            descriptor = child
        yield descriptor
    finally:
        os.close(descriptor)


def _child(parent: int, name: str, *, make: bool) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except FileNotFoundError:
        if not make:
            raise
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)
        sync_names(parent)
    return os.open(name, _FOLDER, dir_fd=parent)


def taken_by(path: Path, expected: str) -> TargetTaken:
    """The refusal to touch what stands at `path`."""
    if path.is_symlink():
        found = f"is a link to {clean(path.readlink())} that modelbay did not make"
    elif path.is_dir():
        found = "is a folder"
    else:
        found = "is a file that modelbay did not put there"
    return TargetTaken(
        f"{clean(path)} {found}; {expected}",
        hint="move it away, or choose another folder with --to, and run the same command again",
    )


def create(folder: int, name: str) -> int:
    """A descriptor for writing the new file `name` in `folder`. Raises FileExistsError, OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o666, dir_fd=folder)


def publish_new(part: Path, folder: int, name: str) -> None:
    """`part` as `name` in `folder`, durably, never over anything. Same file system.

    Raises FileExistsError when the name is taken, even at the last moment, and OSError.
    """
    if not _rename_no_replace(part, folder, name):
        with contextlib.suppress(FileNotFoundError):
            os.stat(name, dir_fd=folder, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        os.rename(part, name, dst_dir_fd=folder)
    sync_folder(folder)


def publish_over(part: Path, folder: int, name: str) -> None:
    """`part` as `name` in `folder`, durably, in place of what has that name. Raises OSError."""
    os.rename(part, name, dst_dir_fd=folder)
    sync_folder(folder)


def _rename_no_replace(part: Path, folder: int, name: str) -> bool:
    """False where the system or the file system has no such call."""
    rename: Any = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_CWD, os.fsencode(part), folder, os.fsencode(name), _NO_REPLACE) == 0:
        return True
    failure = ctypes.get_errno()
    if failure in {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
        return False
    raise OSError(failure, os.strerror(failure), name)


def point(folder: int, name: str, text: str, *, via: Path) -> None:
    """The symbolic link `name` in `folder` with `text` in it, never absent in between.

    A link of that name is replaced; `via` is a folder on the same file system, for the new
    one's temporary name. Durable once `folder` is synced. Raises FileExistsError where
    something else has the name, OSError.
    """
    try:
        os.symlink(text, name, dir_fd=folder)
    except FileExistsError:
        if not stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise
        if os.readlink(name, dir_fd=folder) != text:
            _exchange_link(folder, name, text, via / f"link.{random_mark()}.tmp")


def _exchange_link(folder: int, name: str, text: str, temporary: Path) -> None:
    temporary.symlink_to(text)
    try:
        os.rename(temporary, name, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
