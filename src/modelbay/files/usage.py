"""What names cost on a disk: blocks by inode, so that hard links are counted once."""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

BLOCK = 512
"""What `st_blocks` counts in, whatever the file system's own blocks are."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a set of names: `apparent` adds up their sizes, `real` the blocks of each inode once,
    `freed` the blocks of inodes that have no name outside the set. Bytes.
    """

    apparent: int = 0
    real: int = 0
    freed: int = 0
    names: int = 0

    @property
    def kept_elsewhere(self) -> int:
        """Bytes that stay because other names lead to them."""
        return self.real - self.freed


def usage(paths: Iterable[Path], seen: set[tuple[int, int]] | None = None) -> Usage:
    """The usage of `paths`, of which links are not followed and absent ones count nothing.

    Inodes in `seen` are not counted as real again; those counted are added to it.
    """
    counted = set() if seen is None else seen
    names: dict[tuple[int, int], int] = {}
    facts: dict[tuple[int, int], os.stat_result] = {}
    apparent = number = 0
    for path in paths:
        with suppress(OSError):
            status = path.lstat()
            inode = status.st_dev, status.st_ino
            names[inode] = names.get(inode, 0) + 1
            facts[inode] = status
            apparent += status.st_size
            number += 1
    freed = sum(
        status.st_blocks * BLOCK
        for inode, status in facts.items()
        if names[inode] >= status.st_nlink
    )
    real = sum(status.st_blocks * BLOCK for inode, status in facts.items() if inode not in counted)
    counted.update(facts)
    return Usage(apparent, real, freed, number)


def below(folder: Path) -> Iterable[Path]:
    """Every name below `folder` that is no folder, links not followed; none where it is absent."""
    for place, folders, names in os.walk(folder):
        yield from (Path(place, name) for name in names)
        # A link to a folder is listed among the folders, and is a name like others.
        yield from (path for path in (Path(place, one) for one in folders) if path.is_symlink())
