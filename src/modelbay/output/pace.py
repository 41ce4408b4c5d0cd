"""How fast it goes and how long it will take, without nerves."""

import math
from dataclasses import dataclass, field

SMOOTHED_OVER = 4.0
"""Seconds: the time constant of the average."""
FIRST_WORD_AFTER = 3.0


@dataclass(slots=True)
class Pace:
    """A rate in bytes a second from samples of a counter.

    Knows nothing until three seconds of samples; a step back in the counter (a piece
    that was wrong and starts again) counts as no progress.
    """

    rate: float | None = None
    _since: float | None = field(default=None, repr=False)
    _at: float = field(default=0.0, repr=False)
    _bytes: int = field(default=0, repr=False)
    _mean: float = field(default=0.0, repr=False)
    _weight: float = field(default=0.0, repr=False)
    _left: float | None = field(default=None, repr=False)

    def sample(self, total: int, now: float) -> None:
        """`total` bytes had come at `now`, in seconds of a monotonic clock."""
        if self._since is None:
            self._since, self._at, self._bytes = now, now, total
            return
        passed = now - self._at
        if passed <= 0:
            return
        kept = math.exp(-passed / SMOOTHED_OVER)
        come = max(0, total - self._bytes) / passed
        self._mean = kept * self._mean + (1 - kept) * come
        self._weight = kept * self._weight + (1 - kept)
        self._at, self._bytes = now, total
        if now - self._since >= FIRST_WORD_AFTER:
            self.rate = self._mean / self._weight

    def seconds_left(self, remaining: int) -> float | None:
        """None while nobody can know; never negative, never more than twice or less than
        half of what was said before.
        """
        if self.rate is None or self.rate < 1:
            return None
        left = max(0, remaining) / self.rate
        if self._left is not None and self._left > 1 and remaining > 0:
            left = min(max(left, self._left / 2), self._left * 2)
        self._left = left
        return left
