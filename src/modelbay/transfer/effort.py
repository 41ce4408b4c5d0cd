"""How many connections help, by the time that this process spends on serving them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_LOOK_AGAIN = 0.2
_BUSY, _NOT_BUSY = 1.0, 0.6
"""Cores' worth of this process's time."""
_ENOUGH_WHEN_BUSY = 2


class Effort:
    """Shared by the large files of an engine.

    Where a line is slow every connection adds to it. Where this process is busy all the time,
    more of them only get in each other's way: eight files with two connections each took twice
    the CPU of one after the other. Which it is shows within a fifth of a second.
    """

    def __init__(self) -> None:
        self._when, self._spent = time.monotonic(), time.process_time()
        self._busy = True
        self._files = 0
        self._lock = threading.Lock()

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Counts one more file that is being fetched."""
        with self._lock:
            self._files += 1
        try:
            yield
        finally:
            with self._lock:
                self._files -= 1

    def connections(self, most: int) -> int:
        """For one file, of `most`; looked at again every fifth of a second."""
        with self._lock:
            now, spent = time.monotonic(), time.process_time()
            if now - self._when >= _LOOK_AGAIN:
                share = (spent - self._spent) / (now - self._when)
                self._busy = share > (_NOT_BUSY if self._busy else _BUSY)
                self._when, self._spent = now, spent
            enough = max(1, _ENOUGH_WHEN_BUSY // max(1, self._files))
        return min(most, enough) if self._busy else most
