"""Digests of a file at rest, read once and in order."""

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
    """Observed digests of `path`, all from one pass, in the order asked for.

    `tick` hears the bytes of every read (at most 1 MiB) and stops the pass by raising.
    With `follow`, `path` may be a link. Raises DiskError, also when the file changed
    under the reading.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    with disk_errors(path):
        descriptor = os.open(path, flags)
        try:
            before = os.fstat(descriptor)
            hashes = {name: _start(name, before.st_size) for name in algorithms}
            size = _feed(descriptor, list(hashes.values()), tick)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    if (before.st_size, before.st_mtime_ns) != (size, after.st_mtime_ns):
        raise DiskError(
            f"{clean(path)} changed while it was read: {before.st_size} bytes at first, "
            f"{size} at the end",
            hint="let the program that writes it finish, then run the same command again",
        )
    return tuple(Digest(name, made.hexdigest(), observed=True) for name, made in hashes.items())


def _feed(descriptor: int, hashes: list[_Hash], tick: Callable[[int], None] | None) -> int:
    buffer = memoryview(bytearray(READ_SIZE))
    size = 0
    while count := os.readv(descriptor, [buffer]):
        for one in hashes:
            one.update(buffer[:count])
        size += count
        if tick is not None:
            tick(count)
    return size


def _start(algorithm: Algorithm, size: int) -> _Hash:
    if algorithm == "git-sha1":
        return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    if algorithm == "blake3":
        from blake3 import blake3

        return blake3()
    return hashlib.new(algorithm, usedforsecurity=False)
