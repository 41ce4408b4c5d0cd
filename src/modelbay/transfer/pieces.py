"""Which bytes of a file are here, under way and wanted next. Pure; one lock of its own.

Pieces are handed out in file order, so that hashing can follow the finished front, and
never further ahead of it than the window. A piece under way counts by its contiguous prefix.
"""

import statistics
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from modelbay.transfer.limits import MIB, Limits

Span = tuple[int, int]
ASKING_SHARE = 100
_HEDGE_FACTOR = 4.0
_HEDGE_LEAST_SECONDS = 2.0


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same bytes as sorted spans that neither touch nor overlap."""
    result: list[Span] = []
    for start, end in sorted(spans):
        if start >= end:
            continue
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


@dataclass(eq=False, slots=True)
class Piece:
    """`[start, end)` asked of one connection; `[start, at)` is written."""

    start: int
    end: int
    at: int
    since: float = field(default_factory=time.monotonic)
    hedge_of: "Piece | None" = None
    hedged: bool = False
    """Another connection was sent for its tail."""
    shared: bool = False
    """Others write, or wrote, the same bytes: none may be written twice, since a hash may
    have passed over them."""
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Held while bytes are written that another piece may write as well."""


@dataclass(eq=False)
class PieceMap:
    """The state of one file of `size` bytes."""

    size: int
    window: int
    here: list[Span] = field(default_factory=list)
    hashed: int = 0
    kept: int = 0
    """Where the bytes end that an earlier run left in order. They are hashed while the rest
    comes, so the window begins there."""
    _lock: threading.RLock = field(default_factory=threading.RLock)
    changed: threading.Condition = field(init=False)
    _flying: list[Piece] = field(default_factory=list)
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=16))

    def __post_init__(self) -> None:
        self.changed = threading.Condition(self._lock)

    def take(self, length: int) -> Piece | None:
        """The next wanted piece of at most `length` bytes, or None while nothing may start."""
        with self.changed:
            start, end = self._gap()
            if start < self.size and start - max(self.hashed, self.kept) < self.window:
                piece = Piece(start, min(end, start + length), start)
                self._flying.append(piece)
                return piece
            return self._hedged()

    def _gap(self) -> Span:
        """The first span that is neither here nor under way; empty at the end of the file."""
        covered = merged([*self.here, *((p.start, p.end) for p in self._flying)])
        position = 0
        for start, end in covered:
            if start > position:
                return position, start
            position = end
        return position, self.size

    def _hedged(self) -> Piece | None:
        """A second go at the missing tail of a front piece that takes far too long."""
        front = self._front()
        slow = next((p for p in self._flying if p.start <= front < p.end), None)
        if slow is None or slow.hedged or slow.hedge_of is not None:
            return None
        usual = statistics.median(self._seconds) if self._seconds else 0.0
        if time.monotonic() - slow.since < max(_HEDGE_LEAST_SECONDS, _HEDGE_FACTOR * usual):
            return None
        slow.hedged = slow.shared = True
        piece = Piece(slow.at, slow.end, slow.at, hedge_of=slow, shared=True, turn=slow.turn)
        self._flying.append(piece)
        return piece

    def advance(self, piece: Piece, at: int) -> bool:
        """Notes that `piece` is written up to `at`. False when the rest of it came another way."""
        with self.changed:
            piece.at = at
            if not piece.shared:
                return True
            return not any(start <= at and piece.end <= end for start, end in self._written())

    def missing(self, piece: Piece, upto: int) -> list[Span]:
        """What of `[piece.at, upto)` nobody has written yet. Asked while holding its `turn`."""
        if not piece.shared:
            return [(piece.at, upto)]
        with self.changed:
            position, wanted = piece.at, []
            for start, end in (*self._written(), (upto, upto)):
                if position < min(start, upto):
                    wanted.append((position, min(start, upto)))
                position = max(position, end)
            return wanted

    def release(self, piece: Piece) -> None:
        """Ends a piece; what it did not write is wanted again."""
        with self.changed:
            self._flying.remove(piece)
            self.here = merged([*self.here, (piece.start, piece.at)])
            if piece.at >= piece.end:
                self._seconds.append(time.monotonic() - piece.since)
            if piece.hedge_of is not None:
                piece.hedge_of.hedged = False
            self.changed.notify_all()

    def forget(self) -> None:
        """Starts over: nothing is here."""
        with self.changed:
            self.here, self._flying, self.hashed, self.kept = [], [], 0, 0
            self.changed.notify_all()

    def note_hashed(self, position: int) -> None:
        """Where hashing stands; everybody is woken when it is done."""
        with self.changed:
            self.hashed = position
            if position >= self.size:
                self.changed.notify_all()

    def _written(self) -> list[Span]:
        return merged([*self.here, *((p.start, p.at) for p in self._flying)])

    def written(self) -> list[Span]:
        """Every byte that is in the part, pieces under way by their prefix."""
        with self.changed:
            return self._written()

    def _front(self) -> int:
        written = self._written()
        return written[0][1] if written and written[0][0] == 0 else 0

    def front(self) -> int:
        """The end of what is written without a gap from byte 0."""
        with self.changed:
            return self._front()

    def held(self) -> int:
        with self.changed:
            return sum(end - start for start, end in self._written())

    def complete(self) -> bool:
        with self.changed:
            return self.here == [(0, self.size)] or self.size == 0

    def await_change(self, seconds: float) -> None:
        with self.changed:
            self.changed.wait(seconds)


@dataclass(slots=True)
class Pace:
    """What one connection brings, and how long it waits for it after asking."""

    rate: float | None = None
    latency: float = 0.0

    def measure(self, count: int, seconds: float, latency: float) -> None:
        """One piece: `count` bytes within `seconds`, the first of them after `latency`."""
        if count <= 0 or seconds <= 0:
            return
        rate = count / seconds
        self.rate = rate if self.rate is None else (self.rate + rate) / 2
        self.latency = latency if not self.latency else min(self.latency, latency) * 1.1

    def length(self, limits: Limits) -> int:
        """Bytes for the next piece: what comes in `piece_seconds`, or, where answers come
        fast, in as long as keeps the asking at a hundredth. Short pieces stay close to the
        hash front, so that their bytes are hashed from memory.
        """
        if self.rate is None:
            return limits.piece_start
        seconds = min(limits.piece_seconds, self.latency * ASKING_SHARE)
        whole = int(self.rate * seconds) // MIB * MIB
        return min(max(whole, limits.piece_min), limits.piece_max)
