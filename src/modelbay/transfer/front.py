"""Hashing that follows the finished front, so that it is done almost with the last byte.

Received buffers are kept, while there is room, until the front reaches them; only what ran
further ahead is read back from the part.
"""

import errno
import hashlib
import threading
from collections.abc import Callable
from typing import Any

from blake3 import blake3

from modelbay import files
from modelbay.digest import Algorithm, Digest
from modelbay.transfer.limits import BUFFER, MIB, SUM_SIZE
from modelbay.transfer.pieces import PieceMap

_QUANTUM = 8 << 20


class Buffers:
    """At most `most` buffers; a connection beyond them gets a narrow one, which is never kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._made = 0
        self._free: list[bytearray] = []
        self._lock = threading.Lock()

    def take(self) -> bytearray:
        """A buffer for a connection."""
        return self.spare() or bytearray(MIB)

    def spare(self) -> bytearray | None:
        """A free buffer, or None when all are in use."""
        with self._lock:
            if self._free:
                return self._free.pop()
            if self._made >= self._most:
                return None
            self._made += 1
        return bytearray(BUFFER)

    def give(self, buffer: bytearray) -> None:
        if len(buffer) == BUFFER:
            with self._lock:
                self._free.append(buffer)


class Hasher:
    """sha256, what else was claimed, and the sums by which a file is repaired, fed in order.

    A sum is the sha256 of the file from its beginning to the next 16 MiB, which costs a copy of
    the state and no byte read twice. Whoever reads the file again knows at each of them
    whether the last 16 MiB are right, and can go on from the state before.
    """

    def __init__(self, algorithms: set[Algorithm], size: int | None) -> None:
        self._sha256 = hashlib.sha256()
        self._hashes: dict[Algorithm, Any] = {"sha256": self._sha256}
        if "blake3" in algorithms:
            self._hashes["blake3"] = blake3()
        for name in algorithms & {"sha1", "md5", "sha512"}:
            self._hashes[name] = hashlib.new(name, usedforsecurity=False)
        if "git-sha1" in algorithms and size is not None:
            git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
            self._hashes["git-sha1"] = git
        self._sums: list[bytes] = []
        self.position = 0

    def feed(self, view: memoryview) -> None:
        while view:
            part = view[: SUM_SIZE - self.position % SUM_SIZE]
            for value in self._hashes.values():
                value.update(part)
            self.position += len(part)
            if self.position % SUM_SIZE == 0:
                self._sums.append(self._sha256.copy().digest())
            view = view[len(part) :]

    def observed(self) -> tuple[Digest, ...]:
        """The digests of everything fed so far."""
        return tuple(
            Digest(name, value.hexdigest(), observed=True) for name, value in self._hashes.items()
        )

    def sums(self) -> tuple[bytes, ...]:
        """One for every 16 MiB begun; the last is the sha256 of the whole."""
        ends_there = self._sums and self.position % SUM_SIZE == 0
        return tuple(self._sums) if ends_there else (*self._sums, self._sha256.digest())


class Front:
    """Hashes a part in order while it fills, in whichever thread has just written to it.

    No thread of its own: on two cores, handing every MiB to one cost more in wake-ups than the
    hash itself, and the bytes had left the core's cache by then.
    """

    def __init__(self, descriptor: int, pieces: PieceMap, hasher: Hasher, buffers: Buffers) -> None:
        self.hasher = hasher
        self._descriptor = descriptor
        self._pieces = pieces
        self._buffers = buffers
        self._own = bytearray(MIB)
        self._stash: dict[int, tuple[bytearray, int]] = {}
        self._lock = threading.Lock()
        self._hashing = threading.Lock()
        self._ended = threading.Event()

    @property
    def position(self) -> int:
        """The end of what is hashed."""
        return self.hasher.position

    @property
    def behind(self) -> int:
        """Bytes that are in the part without a gap and not hashed yet."""
        return self._pieces.front() - self.hasher.position

    def offer(self, offset: int, buffer: bytearray, length: int) -> bytearray:
        """Keeps a written buffer for the front, if there is room; the buffer to use next."""
        narrow = len(buffer) < BUFFER
        if narrow or self._ended.is_set() or offset < self.hasher.position:
            return buffer
        spare = self._buffers.spare()
        if spare is None:
            return buffer
        with self._lock:
            late = self._ended.is_set()
            given = (spare, 0) if late else self._stash.pop(offset, None)
            if not late:
                self._stash[offset] = (buffer, length)
        if given is not None:
            self._buffers.give(given[0])
        return buffer if late else spare

    def follow(self, most: int = _QUANTUM) -> bool:
        """Hashes what is ready, about `most` bytes of it, unless another thread is at it.
        Whether there was anything to do. Raises OSError.
        """
        until = self.hasher.position + most
        worked = False
        while self.behind > 0 and self.hasher.position < until:
            if self._ended.is_set() or not self._hashing.acquire(blocking=False):
                return worked
            try:
                self._hash(min(self._pieces.front(), until))
                worked = True
            finally:
                self._hashing.release()
        return worked

    def _hash(self, upto: int) -> None:
        while self.hasher.position < upto and not self._ended.is_set():
            self._step(upto)
        self._pieces.note_hashed(self.hasher.position)

    def _step(self, front: int) -> None:
        position = self.hasher.position
        with self._lock:
            kept = self._stash.pop(position, None)
            ahead = min((o for o in self._stash if o > position), default=front)
        if kept is None:
            self._read_back(min(front, ahead))
            return
        buffer, length = kept
        self.hasher.feed(memoryview(buffer)[:length])
        self._buffers.give(buffer)

    def _read_back(self, limit: int) -> None:
        position = self.hasher.position
        view = memoryview(self._own)[: min(len(self._own), limit - position)]
        count = files.read_at(self._descriptor, view, position)
        if not count:
            raise OSError(errno.EIO, "the part is shorter than what was written to it")
        self.hasher.feed(view[:count])
        self._drop(lambda offset: offset < self.hasher.position)

    def _drop(self, passed: Callable[[int], bool]) -> None:
        with self._lock:
            gone = [self._stash.pop(offset)[0] for offset in list(self._stash) if passed(offset)]
        for buffer in gone:
            self._buffers.give(buffer)

    def end(self) -> None:
        """Returns once nobody reads the part any more; nothing is hashed afterwards."""
        self._ended.set()
        with self._hashing:
            self._drop(lambda _: True)
