"""The bytes of a file on a shelf: held, read from disk, or made from their own offset.

Made bytes need neither memory nor disk, so that a model of many gigabytes can be served,
hashed and compared by a process of a few megabytes.
"""

import functools
import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Protocol

BLOCK: Final = 1 << 20
_STRIDE: Final = 521_239
"""Odd, hence coprime to BLOCK: no two of the first 2**20 blocks (1 TiB) are equal."""


class Content(Protocol):
    """Bytes that can be read from any offset by several threads at once."""

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    @property
    def identity(self) -> str:
        """Equal for equal bytes of one kind; cheap, and not a digest."""
        ...

    def pieces(self, start: int, stop: int) -> Iterator[memoryview]:
        """The bytes of `[start, stop)` in order, in pieces of at most BLOCK bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes in memory."""

    raw: bytes = field(repr=False)

    @property
    def size(self) -> int:
        return len(self.raw)

    @property
    def identity(self) -> str:
        return "held:" + hashlib.sha256(self.raw).hexdigest()

    def pieces(self, start: int, stop: int) -> Iterator[memoryview]:
        view = memoryview(self.raw)
        for offset in range(start, stop, BLOCK):
            yield view[offset : min(offset + BLOCK, stop)]


@dataclass(frozen=True, slots=True)
class Generated:
    """`head`, then bytes that follow from `seed` and offset alone, `size` in all.

    Block n after the head is one pseudo-random block rotated by n strides, so that
    blocks differ and giving one out costs a slice.
    """

    size: int
    seed: str
    head: bytes = field(default=b"", repr=False)
    known_sha256: str | None = None
    """Where it is known beforehand, so that nobody has to hash the whole to list it."""

    def __post_init__(self) -> None:
        if len(self.head) > self.size:
            raise ValueError("the head is longer than the whole")

    @property
    def identity(self) -> str:
        return f"made:{self.seed}:{self.size}:{hashlib.sha256(self.head).hexdigest()}"

    def pieces(self, start: int, stop: int) -> Iterator[memoryview]:
        first = len(self.head)
        if start < first:
            yield from Held(self.head).pieces(start, min(stop, first))
        twice = memoryview(_twice(self.seed))
        offset = max(start, first) - first
        while offset < stop - first:
            number, within = divmod(offset, BLOCK)
            length = min(BLOCK - within, stop - first - offset)
            turn = number * _STRIDE % BLOCK + within
            yield twice[turn : turn + length]
            offset += length


@functools.lru_cache(maxsize=16)
def _twice(seed: str) -> bytes:
    return hashlib.shake_128(seed.encode()).digest(BLOCK) * 2


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A file, read where it lies. Raises OSError when it has gone or become shorter."""

    path: Path

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    @property
    def identity(self) -> str:
        facts = self.path.stat()
        return f"disk:{self.path}:{facts.st_size}:{facts.st_mtime_ns}:{facts.st_ino}"

    def opened(self) -> AbstractContextManager[BinaryIO]:
        """The open file, for a server that lets the kernel send it."""
        return self.path.open("rb", buffering=0)

    def pieces(self, start: int, stop: int) -> Iterator[memoryview]:
        with self.opened() as file:
            offset = start
            while offset < stop:
                raw = os.pread(file.fileno(), min(BLOCK, stop - offset), offset)
                if not raw:
                    raise OSError(f"{self.path} ended at {offset} of {stop} bytes")
                yield memoryview(raw)
                offset += len(raw)


def sha256_of(content: Content) -> str:
    """In hex. Reads the whole, unless the content knows it."""
    if isinstance(content, Generated) and content.known_sha256:
        return content.known_sha256
    whole = hashlib.sha256()
    for piece in content.pieces(0, content.size):
        whole.update(piece)
    return whole.hexdigest()


def git_sha1_of(content: Content) -> str:
    """The blob id that git gives it, in hex. Reads the whole."""
    whole = hashlib.sha1(b"blob %d\0" % content.size, usedforsecurity=False)
    for piece in content.pieces(0, content.size):
        whole.update(piece)
    return whole.hexdigest()
