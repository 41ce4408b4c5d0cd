"""One token bucket for all connections, adjustable while they run."""

import threading
import time
from collections.abc import Callable


class Bucket:
    """`rate` in bytes a second, None for no limit; a quarter of a second may be saved up."""

    def __init__(self, rate: float | None = None) -> None:
        self._lock = threading.Lock()
        self._rate = rate
        self._level = 0.0
        self._when = time.monotonic()

    @property
    def rate(self) -> float | None:
        return self._rate

    @rate.setter
    def rate(self, rate: float | None) -> None:
        with self._lock:
            self._rate = rate
            self._level = 0.0
            self._when = time.monotonic()

    def spend(self, count: int, wait: Callable[[float], None]) -> None:
        """Accounts for `count` bytes that came, and waits until they were allowed."""
        if self._rate is None:
            return
        with self._lock:
            rate = self._rate
            if rate is None:
                return
            now = time.monotonic()
            self._level = min(rate / 4, self._level + (now - self._when) * rate)
            self._when = now
            self._level -= count
            debt = -self._level / rate
        while debt > 0:
            pause = min(debt, 0.2)
            wait(pause)
            debt -= pause

    def bite(self, most: int) -> int:
        """How much to read at once, so that a low limit flows instead of jolting."""
        rate = self._rate
        return most if rate is None else min(most, max(4096, int(rate / 20)))
