"""A large file over several connections: pieces in file order, hashed as they arrive."""

import threading
import time
from dataclasses import dataclass, field

from modelbay import files
from modelbay.errors import DiskError, NetworkError, ServerTrouble, Unreachable
from modelbay.http import Reply
from modelbay.text import clean
from modelbay.transfer import journal
from modelbay.transfer.bucket import Bucket
from modelbay.transfer.effort import Effort
from modelbay.transfer.front import Buffers, Front, Hasher
from modelbay.transfer.inspection import LOOK, inspect
from modelbay.transfer.limits import Limits
from modelbay.transfer.order import Fetched, Order, Progress, Stop
from modelbay.transfer.patience import Tries
from modelbay.transfer.pieces import Pace, Piece, PieceMap
from modelbay.transfer.remote import AddressRanOut, Remote

_FLUSH_SECONDS = 0.25
_TICK = 0.1
_TELLING = 1024
_BACKLOG = 16 << 20


@dataclass(slots=True)
class _Line:
    """One connection's buffer, which changes hands when it is full."""

    buffer: bytearray


@dataclass
class Ranged:
    """One run over one part. `fetch` gives the verified bytes' digests or raises."""

    remote: Remote
    order: Order
    progress: Progress
    stop: Stop
    limits: Limits
    bucket: Bucket
    buffers: Buffers
    tries: Tries
    effort: Effort
    descriptor: int
    pieces: PieceMap
    identity: str
    failure: BaseException | None = None
    unsynced: DiskError | None = None
    """Bytes were written that the disk refused. A second sync would succeed and prove nothing:
    Linux forgets the pages that it could not write."""
    front: Front = field(init=False)
    allowed: int = 1
    """Connections that may work; fewer after the CDN refused some."""
    useful: int = 1
    """Connections that help; fewer while this process has no time to serve more."""
    looked: threading.Event = field(default_factory=threading.Event)
    _journaled: float = field(default_factory=time.monotonic)
    _journal_lock: threading.Lock = field(default_factory=threading.Lock)
    _gate: threading.Condition = field(default_factory=threading.Condition)
    _writing: int = 0
    _sealed: bool = False

    def fetch(self) -> Fetched:
        """Blocks until the part is whole, hashed and fsynced.

        Raises Changed, NoRanges, Interrupted, ModelbayError.
        """
        algorithms = {digest.algorithm for digest in self.order.digests}
        hasher = Hasher(algorithms, self.pieces.size)
        front = self.front = Front(self.descriptor, self.pieces, hasher, self.buffers)
        if self.pieces.front() >= min(LOOK, self.pieces.size):
            self.looked.set()
        with self.effort.shared(), self.stop.calling(self.remote.cut.fall):
            try:
                self._start_connections()
                self._watch(front)
            except BaseException as error:
                self._fail(error)
                self._seal()
                self.write_journal()
                raise
            finally:
                self.remote.cut.fall()
                self._seal()
                front.end()
        return Fetched(
            self.order.part,
            self.pieces.size,
            front.hasher.observed(),
            front.hasher.sums(),
            self.remote.etag,
        )

    def _start_connections(self) -> None:
        self.allowed = max(1, self.limits.connections)
        self.useful = min(self.allowed, self.effort.connections(self.allowed))
        for number in range(self.allowed):
            threading.Thread(
                target=self._connection, args=(number,), name="modelbay-get", daemon=True
            ).start()

    def _watch(self, front: Front) -> None:
        """Follows the run to its end: the journal once a second, failures, the switch."""
        while front.position < self.pieces.size:
            self.stop.check()
            if self.failure is not None:
                raise self.failure
            self._count()
            self.useful = self.effort.connections(self.limits.connections)
            if time.monotonic() - self._journaled >= self.limits.journal_seconds:
                self.write_journal()
            if not (front.behind > _BACKLOG or self.pieces.complete()) or not self._catch_up(front):
                self.pieces.await_change(_TICK)
        self._count()
        if self.unsynced is not None:
            raise self.unsynced

    def _catch_up(self, front: Front) -> bool:
        """Hashes what an earlier run left, which nobody writes; whether there was anything."""
        with files.disk_errors(self.order.part):
            return front.follow()

    def _count(self) -> None:
        held = self.pieces.held()
        self.progress.received = held
        self.progress.hashed = self.pieces.hashed
        if held >= self.pieces.size:
            self.progress.state = "verifying"
        elif self.progress.connections:
            self.progress.state = "downloading"

    def close(self) -> None:
        """Closes the part; nobody writes or reads it any more."""
        self._seal()
        self.front.end()
        files.close(self.descriptor)

    def write_journal(self) -> None:
        """Data, then journal; what is written meanwhile counts the next time."""
        with self._journal_lock:
            self._journaled = time.monotonic()
            spans = tuple(self.pieces.written())
            if not spans or self.unsynced is not None:
                return
            try:
                self._sync_data()
                state = journal.Journal(self.pieces.size, self.identity, spans, self.remote.etag)
                journal.write(self.order.part, state)
            except OSError as error:
                self._fail(files.disk_error(error, self.order.part))

    def _sync_data(self) -> None:
        try:
            files.sync_data(self.descriptor)
        except OSError as error:
            self.unsynced = files.disk_error(error, self.order.part)
            raise

    def _fail(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = error
        self._wake()

    def _wake(self) -> None:
        self.looked.set()
        with self.pieces.changed:
            self.pieces.changed.notify_all()

    def _over(self) -> bool:
        return self.failure is not None or self.stop.is_set() or self.pieces.complete()

    def _connection(self, number: int) -> None:
        """One connection's life. Only the first works until the first bytes were looked at."""
        pace = Pace()
        try:
            while True:
                # In this order: a failure is noted first, and then ends the wait for a look.
                looked = self.looked.is_set()
                if self._over():
                    return
                wanted = min(self.allowed, self.useful)
                if number >= wanted or (number and not looked):
                    self.pieces.await_change(_TICK)
                    continue
                piece = self.pieces.take(pace.length(self.limits))
                if piece is None:
                    self.pieces.await_change(_TICK)
                    continue
                began = time.monotonic()
                try:
                    latency = self._read(piece)
                finally:
                    self.pieces.release(piece)
                pace.measure(piece.at - piece.start, time.monotonic() - began, latency)
        except OSError as error:
            self._fail(files.disk_error(error, self.order.part))
        except Exception as error:  # noqa: BLE001 - whatever ended a connection ends the run
            self._fail(error)

    def _read(self, piece: Piece) -> float:
        """Brings `piece`, or as much of it as comes; transient trouble ends in a pause. How long
        the answer took to begin, in seconds.
        """
        asked, latency = time.monotonic(), 0.0
        try:
            with self.remote.request(piece.at, piece.end, ranged=True) as reply:
                latency = time.monotonic() - asked
                line = _Line(self.buffers.take())
                self.progress.connections += 1
                try:
                    self._drain(piece, reply, line)
                finally:
                    self.progress.connections -= 1
                    self.buffers.give(line.buffer)
        except NetworkError as error:
            if self._over() or piece.at >= piece.end:
                return latency
            if isinstance(error, AddressRanOut) and error.young:
                # Some CDNs refuse many ranges at once with the same 403 (SURPRISES H12).
                self.allowed = max(1, self.allowed - 1)
            self.tries.failed(error, self.pieces.held(), self.progress, self.stop)
        return latency

    def _drain(self, piece: Piece, reply: Reply, line: _Line) -> None:
        floor, kept, filled = Floor(self.limits), time.monotonic(), 0
        while piece.at + filled < piece.end:
            count, trouble = self._receive(piece, reply, line, filled)
            filled += count
            now = time.monotonic()
            trouble = trouble or floor.judge(count, now, self.order.name)
            whole = filled == len(line.buffer) or piece.at + filled == piece.end
            looked = self.looked.is_set()
            late = now - kept >= _FLUSH_SECONDS if looked else filled >= LOOK
            # Too few of the first bytes are no verdict on the file: they are asked for again.
            trusted = looked or whole or filled >= _TELLING
            if filled and trusted and (whole or trouble or late):
                if not self._keep(piece, reply, line, filled):
                    return
                filled, kept = 0, now
            if trouble is not None:
                raise trouble
            if self._over() and not self.pieces.complete():
                return
            self.bucket.spend(count, self.stop.wait)

    def _receive(
        self, piece: Piece, reply: Reply, line: _Line, filled: int
    ) -> tuple[int, NetworkError | None]:
        """Bytes that came behind `filled`, or the trouble: what came before it is kept first."""
        room = self.bucket.bite(min(len(line.buffer) - filled, piece.end - piece.at - filled))
        try:
            view = memoryview(line.buffer)[filled : filled + room]
            count = reply.read_into(view, self.limits.stall)
        except NetworkError as error:
            return 0, error
        self.progress.fetched += count
        return count, None if count else ended_early(self.order.name)

    def _keep(self, piece: Piece, reply: Reply, line: _Line, filled: int) -> bool:
        """Writes the filled buffer and passes it to the hash. False when no more is wanted."""
        view, offset = memoryview(line.buffer)[:filled], piece.at
        self._look(piece, view, reply)
        with piece.turn:
            wanted = self.pieces.missing(piece, offset + filled)
            for start, end in wanted:
                if not self._write(view[start - offset : end - offset], start):
                    return False
            if wanted == [(offset, offset + filled)]:
                line.buffer = self.front.offer(offset, line.buffer, filled)
            more = self.pieces.advance(piece, offset + filled)
        self.front.follow()
        return more

    def _write(self, view: memoryview, offset: int) -> bool:
        """Writes unless the part is sealed: a late connection must not touch bytes that were
        hashed, nor a descriptor that was closed.
        """
        with self._gate:
            if self._sealed:
                return False
            self._writing += 1
        try:
            files.write_at(self.descriptor, view, offset)
        finally:
            with self._gate:
                self._writing -= 1
                self._gate.notify_all()
        return True

    def _seal(self) -> None:
        with self._gate:
            self._sealed = True
            self._gate.wait_for(lambda: not self._writing)

    def _look(self, piece: Piece, view: memoryview, reply: Reply) -> None:
        """Inspects the very first bytes, before they reach the disk and others are asked for."""
        if self.looked.is_set():
            return
        if piece.at == 0:
            inspect(
                bytes(view[:LOOK]),
                suffix=self.order.suffix,
                name=self.order.name,
                url=reply.url,
                content_type=reply.headers.get("content-type", ""),
            )
        self._wake()


def ended_early(name: str) -> Unreachable:
    return Unreachable(
        f"the connection ended before {clean(name)} did",
        hint="run the same command again; what arrived is kept",
        transient=True,
    )


class Floor:
    """The speed below which a connection counts as stalled."""

    def __init__(self, limits: Limits) -> None:
        self._rate, self._seconds = limits.floor_rate, limits.floor_seconds
        self._since, self._count = time.monotonic(), 0

    def judge(self, count: int, now: float, name: str) -> NetworkError | None:
        """The trouble, once a whole window brought less than the floor."""
        self._count += count
        if now - self._since < self._seconds:
            return None
        slow = self._count < self._rate * self._seconds
        self._since, self._count = now, 0
        if not slow or not self._rate:
            return None
        return ServerTrouble(
            f"{clean(name)} came at less than {self._rate:.0f} bytes a second "
            f"for {self._seconds:.0f} seconds",
            hint="run the same command again; what arrived is kept",
            transient=True,
        )
