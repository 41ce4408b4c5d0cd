"""Digests of a file at rest, read once and in order."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from modelbay.digest import Algorithm, Digest
from modelbay.errors import DiskError
from modelbay.files.durable import disk_errors
from modelbay.text import clean

READ_SIZE = 1 << 20


class _Hash(Protocol):
    def update(self, content: memoryview, /) -> object: ...
    def hexdigest(self) -> str: ...


def hash_file(
    path: Path,
    algorithms: Iterable[Algorithm] = ("sha256", "git-sha1"),
    *,
    tick: Callable[[int], None] | None = None,
    follow: bool = False,
) -> tuple[Digest, ...]:
    """Observed digests of `path`, all from one pass, in the order asked for; a sha256 where
    `autov2` is.

    `tick` hears the bytes of every read (at most 1 MiB) and stops the pass by raising.
    With `follow`, `path` may be a link. Raises DiskError, also when the file changed
    under the reading.
    """
    hashes: dict[Algorithm, _Hash] = {}

    def begin(status: os.stat_result) -> None:
        names: dict[Algorithm, None] = dict.fromkeys(
            "sha256" if name == "autov2" else name for name in algorithms
        )
        hashes.update((name, _start(name, status.st_size)) for name in names)

    def feed(view: memoryview) -> None:
        for one in hashes.values():
            one.update(view)
        if tick is not None:
            tick(len(view))

    read_through(path, feed, begin=begin, follow=follow)
    return tuple(Digest(name, made.hexdigest(), observed=True) for name, made in hashes.items())


def read_through(
    path: Path,
    feed: Callable[[memoryview], None],
    *,
    begin: Callable[[os.stat_result], None] | None = None,
    follow: bool = False,
) -> os.stat_result:
    """Reads `path` from its beginning to its end: `begin` hears its status, `feed` every read
    (at most 1 MiB), and stops by raising. With `follow`, `path` may be a link.

    Gives the status of what was read. Raises DiskError, also when the file changed under the
    reading.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    with disk_errors(path):
        descriptor = os.open(path, flags)
        try:
            before = os.fstat(descriptor)
            _read_ahead(descriptor)
            if begin is not None:
                begin(before)
            size = _fed(descriptor, before.st_size, feed)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    if (before.st_size, before.st_mtime_ns) != (size, after.st_mtime_ns):
        raise DiskError(
            f"{clean(path)} changed while it was read: {before.st_size} bytes at first, "
            f"{size} at the end",
            hint="let the program that writes it finish, then run the same command again",
        )
    return after


def _fed(descriptor: int, size: int, feed: Callable[[memoryview], None]) -> int:
    # One byte more than a small file has: the read that finds its end reads it whole.
    buffer = memoryview(bytearray(min(READ_SIZE, size + 1)))
    done = 0
    while count := os.readv(descriptor, [buffer]):
        feed(buffer[:count])
        done += count
    return done


def _read_ahead(descriptor: int) -> None:
    """Tells the system that all of it will be read in order, where it can be told."""
    advise = getattr(os, "posix_fadvise", None)
    if advise is not None:
        with contextlib.suppress(OSError):
            advise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _start(algorithm: Algorithm, size: int) -> _Hash:
    if algorithm == "git-sha1":
        return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    if algorithm == "blake3":
        from blake3 import blake3

        return blake3()
    return hashlib.new(algorithm, usedforsecurity=False)
