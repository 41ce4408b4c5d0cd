"""A damaged file mended: only the pieces that differ from their sums are fetched again.

One pass over the file in place. A sum is the sha256 of everything up to there, so that the
piece where the digest first differs is the bad one; once its right bytes are hashed from the
state before it, the next pieces are judged as well. What is right so far stands in the part
and in its journal: a kill costs no piece, and the ordinary fetch can go on from there too.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelbay import files
from modelbay.digest import Digest, find
from modelbay.errors import NetworkError, WrongBytes
from modelbay.text import clean
from modelbay.transfer import journal
from modelbay.transfer.bucket import Bucket
from modelbay.transfer.limits import SUM_SIZE, Limits
from modelbay.transfer.order import Damaged, Fetched, Order, Progress, Stop
from modelbay.transfer.patience import Tries
from modelbay.transfer.pieces import Span, merged
from modelbay.transfer.ranged import Floor, ended_early
from modelbay.transfer.remote import Changed, Remote

if TYPE_CHECKING:
    from hashlib import _Hash

_GOES = 2
"""How often a piece is asked for before its server is said to have other bytes."""


class CutShort(Exception):
    """Nothing is left in place to be judged: the rest comes faster over several connections."""


def pieces_told(order: Order) -> tuple[bytes, ...]:
    """The sums by which pieces of `order` can be judged; none unless they are of its bytes."""
    sha256, size = find(order.digests, "sha256"), order.size
    if order.damaged is None or sha256 is None or size is None or size <= SUM_SIZE:
        return ()
    sums = order.damaged.sums
    whole = len(sums) == -(-size // SUM_SIZE) and sums[-1].hex() == sha256.hex
    return sums if whole else ()


def first_wrong(sums: tuple[bytes, ...], found: tuple[bytes, ...]) -> int | None:
    """The number of the first piece whose sum differs, None when none does."""
    longest = max(len(sums), len(found))
    return next((n for n in range(longest) if sums[n : n + 1] != found[n : n + 1]), None)


@dataclass
class Repair:
    """One pass. `mend` gives the verified part or raises."""

    order: Order
    damaged: Damaged
    sums: tuple[bytes, ...]
    size: int
    remote: Remote
    tries: Tries
    bucket: Bucket
    identity: str
    position: int = 0
    """Everything before it is in the part, and right."""
    kept: list[Span] = field(default_factory=list)
    """What an earlier run left in the part, right or not."""
    whole: bool = False
    """The part began as a clone: what is right need not be written."""
    progress: Progress = field(init=False)
    stop: Stop = field(init=False)
    limits: Limits = field(init=False)
    _journaled: float = field(default_factory=time.monotonic)
    _hash: "_Hash" = field(default_factory=hashlib.sha256)
    _part: int = -1
    _old: int = -1
    _end: int = 0
    """Where the file in place ends."""
    _filled: int = 0
    """Bytes that came of the piece that is being fetched."""

    def __post_init__(self) -> None:
        self.progress, self.stop, self.limits = (
            self.remote.progress,
            self.remote.stop,
            self.remote.limits,
        )

    def mend(self) -> Fetched:
        """Blocks until the part is whole, hashed and fsynced.

        Raises Changed and NoRanges where the server gives no such parts, CutShort,
        WrongBytes, Interrupted, ModelbayError; the journal tells what is right by then.
        """
        with files.disk_errors(self.order.part), self._opened():
            try:
                with self.stop.calling(self.remote.cut.fall):
                    self._pass()
                files.truncate(self._part, self.size)
                files.sync_file(self._part)
            except OSError:
                # A second sync would succeed and prove nothing.
                raise
            except BaseException as error:
                if isinstance(error, Changed):
                    # What is in the part is right whatever the server calls it.
                    self.remote.etag = None
                self._write_journal()
                raise
            self._write_journal()
        sha256 = Digest("sha256", self._hash.hexdigest(), observed=True)
        return Fetched(self.order.part, self.size, (sha256,), self.sums, self.remote.etag)

    @contextmanager
    def _opened(self) -> Iterator[None]:
        part = self.order.part
        found = journal.read(part)
        if found is not None and (found.size, found.identity) == (self.size, self.identity):
            self.kept, self.remote.etag = list(found.spans), found.validator
        else:
            journal.remove(part)
            self.whole = files.reflink(self.damaged.path, part)
        self._old = files.open_read(self.damaged.path)
        self._end = self.damaged.path.stat().st_size
        try:
            self._part = files.open_part(part)
            try:
                yield
            finally:
                files.close(self._part)
        finally:
            files.close(self._old)

    def _pass(self) -> None:
        buffer = memoryview(bytearray(min(SUM_SIZE, self.size)))
        for wanted in self.sums:
            self.stop.check()
            view = buffer[: min(SUM_SIZE, self.size - self.position)]
            self.progress.state = "verifying"
            there = self._read(view)
            after = self._hash.copy()
            after.update(view)
            right = there == len(view) and after.digest() == wanted
            if not right:
                if self.position >= self._end and not self._was_kept(len(view)):
                    raise CutShort
                after = self._fetched(view, wanted)
            if not (right and (self.whole or self._was_kept(len(view)))):
                files.write_at(self._part, view, self.position)
            self._hash = after
            self.position += len(view)
            self.progress.received = self.progress.hashed = self.position
            if not right or time.monotonic() - self._journaled >= self.limits.journal_seconds:
                self._write_journal()

    def _was_kept(self, length: int) -> bool:
        at = self.position
        return any(start <= at and at + length <= end for start, end in self.kept)

    def _read(self, view: memoryview) -> int:
        """Bytes of the next piece, of the part if it has them; a sector that cannot be read
        is damage like any other.
        """
        descriptor = self._part if self.whole or self._was_kept(len(view)) else self._old
        with suppress(OSError):
            return files.read_at(descriptor, view, self.position)
        return 0

    def _fetched(self, view: memoryview, wanted: bytes) -> "_Hash":
        """The state of the hash after the right bytes for the next piece, now in `view`."""
        found = wanted
        for _ in range(_GOES):
            self._receive(view)
            after = self._hash.copy()
            after.update(view)
            found = after.digest()
            if found == wanted:
                return after
        raise WrongBytes(
            f"{clean(self.order.name)} has other bytes on its server than it had: expected "
            f"{wanted.hex()} as the sha256 up to byte {self.position + len(view)}, found "
            f"{found.hex()}",
            hint="nothing was replaced; look at the model's page, or try another mirror",
        )

    def _receive(self, view: memoryview) -> None:
        self._filled = 0
        while self._filled < len(view):
            try:
                self._ask(view)
            except NetworkError as error:
                self.tries.failed(error, self.progress.fetched, self.progress, self.stop)
            finally:
                self.progress.connections = 0

    def _ask(self, view: memoryview) -> None:
        """One request for what is still missing of a piece."""
        floor = Floor(self.limits)
        start, end = self.position + self._filled, self.position + len(view)
        with self.remote.request(start, end, ranged=True) as reply:
            self.progress.state, self.progress.connections = "downloading", 1
            while self._filled < len(view):
                room = self.bucket.bite(len(view) - self._filled)
                gap = view[self._filled : self._filled + room]
                count = reply.read_into(gap, self.limits.stall)
                if not count:
                    raise ended_early(self.order.name)
                self._filled += count
                self.progress.fetched += count
                trouble = floor.judge(count, time.monotonic(), self.order.name)
                if trouble is not None:
                    raise trouble
                self.bucket.spend(count, self.stop.wait)
                self.stop.check()

    def _write_journal(self) -> None:
        """Data, then journal."""
        self._journaled = time.monotonic()
        spans = tuple(merged([*self.kept, (0, self.position)]))
        if spans:
            files.sync_data(self._part)
            state = journal.Journal(self.size, self.identity, spans, self.remote.etag)
            journal.write(self.order.part, state)
