"""What the index says of a file, a model and a folder of ours: values."""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from modelbay.digest import Digest


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """One file as it was seen last. `size` in bytes, `verified` in seconds since 1970: when
    its bytes were read last, None for never.
    """

    path: Path
    size: int
    mtime_ns: int
    inode: int
    digests: tuple[Digest, ...] = ()
    """`observed` tells what was computed from the bytes from what somebody said."""
    placed: bool = False
    """modelbay put it there."""
    verified: float | None = None
    name: str = ""
    """Its path in the snapshot of the model that it was asked for with."""
    volume: str = ""
    """The key of its file system, wherever that is mounted; filled in by the index."""

    @classmethod
    def seen(
        cls,
        path: Path,
        digests: Iterable[Digest] = (),
        *,
        name: str = "",
        placed: bool = False,
        verified: float | None = None,
    ) -> Self:
        """The file at `path` as it is now, no link followed. Raises OSError."""
        status = path.lstat()
        return cls(
            path,
            status.st_size,
            status.st_mtime_ns,
            status.st_ino,
            tuple(digests),
            placed,
            verified,
            name,
        )

    def matches(self, status: os.stat_result) -> bool:
        """Whether a file of that status still has the size and time that are noted here."""
        return (self.size, self.mtime_ns) == (status.st_size, status.st_mtime_ns)

    def as_it_is(self) -> Self | None:
        """The same, if it is there and unchanged; where only the inode is another, its digests
        count as claimed.
        """
        try:
            status = self.path.lstat()
        except OSError:
            return None
        if not stat.S_ISREG(status.st_mode) or not self.matches(status):
            return None
        if status.st_ino == self.inode:
            return self
        claimed = tuple(replace(digest, observed=False) for digest in self.digests)
        return replace(self, digests=claimed)


@dataclass(frozen=True, slots=True)
class IndexedModel:
    """One model in one place. What the index answers is complete; `files`, `size` (bytes),
    `attached` and `key` are of no account in what it is told.
    """

    ref: str
    revision: str
    layout: str
    root: Path
    model: str
    """Its id in a lock, else its ref without the revision."""
    licence: str | None = None
    source: str = ""
    files: int = 0
    size: int = 0
    attached: bool = True
    """Whether its file system is mounted now."""
    key: int = 0

    @property
    def named(self) -> bool:
        """Whether a lock names it: ids are `category/name`, refs have a scheme and `://`."""
        return "://" not in self.model


@dataclass(frozen=True, slots=True)
class IndexedHome:
    """A folder that holds a `.modelbay`, with whose way files lie in it."""

    base: Path
    layout: str
    application: str | None = None
    attached: bool = True
