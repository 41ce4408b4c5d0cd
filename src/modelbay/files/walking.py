"""Looking at folders that strangers fill: no link is followed, nothing is opened that waits."""

import os
import stat
from pathlib import Path
from typing import Literal, NamedTuple

from modelbay.errors import TargetTaken
from modelbay.files.names import folder_below

Kind = Literal["file", "folder", "link", "other"]
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A FIFO that nobody writes to would keep an opener waiting.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Entry(NamedTuple):
    """One name in a folder. `size`, `mtime_ns`, `inode` and `device` count for files only."""

    name: str
    kind: Kind
    size: int = 0
    mtime_ns: int = 0
    inode: int = 0
    device: int = 0


class Listing(NamedTuple):
    """A folder's names, sorted. `identity` is the same for the same folder on another path."""

    identity: tuple[int, int]
    entries: list[Entry]


def list_folder(path: str) -> Listing:
    """What lies in `path`, which may not be a link. Names that go meanwhile are left out.

    Raises OSError.
    """
    descriptor = os.open(path, _FOLDER)
    try:
        status = os.fstat(descriptor)
        with os.scandir(descriptor) as found:
            entries = [entry for one in found if (entry := _entry(one)) is not None]
    finally:
        os.close(descriptor)
    entries.sort()
    return Listing((status.st_dev, status.st_ino), entries)


def _entry(one: "os.DirEntry[str]") -> Entry | None:
    if one.is_symlink():
        return Entry(one.name, "link")
    if one.is_dir(follow_symlinks=False):
        return Entry(one.name, "folder")
    if not one.is_file(follow_symlinks=False):
        return Entry(one.name, "other")
    try:
        return _file(one.name, one.stat(follow_symlinks=False))
    except OSError:
        return None


def _file(name: str, status: os.stat_result) -> Entry:
    return Entry(name, "file", status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)


def file_at(path: str) -> Entry | None:
    """The regular file that `path` itself is, or None."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return _file(path.rpartition("/")[2], status) if stat.S_ISREG(status.st_mode) else None


def file_below(root: str, name: str) -> Entry | None:
    """The regular file `name` below `root`, with no link on the way, or None."""
    *folders, last = name.split("/")
    try:
        with folder_below(Path(root), folders) as folder:
            status = os.stat(last, dir_fd=folder, follow_symlinks=False)
    except (OSError, TargetTaken):
        return None
    return _file(last, status) if stat.S_ISREG(status.st_mode) else None


def link_text(path: str) -> str | None:
    """Where the link `path` says that it leads, or None for what is no link (any more)."""
    try:
        return os.readlink(path)  # noqa: PTH115 - asked for every file of a cache
    except OSError:
        return None


def read_small(path: str, most: int) -> bytes | None:
    """The bytes of a regular file of at most `most`, or None for anything else."""
    try:
        descriptor = os.open(path, _FILE)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            return None
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(most + 1)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return content if len(content) <= most else None
