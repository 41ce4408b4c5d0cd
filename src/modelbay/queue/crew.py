"""How many carriers of small files help."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

_FEW = 2
_STUCK_SECONDS = 0.25


class Crew:
    """As many as wait while one works.

    Python runs one thread at a time. On a near server, where a file is all work and no wait,
    eight carriers only hand the interpreter's lock around: 2,000 files cost twice the CPU
    that they cost with two. On a far one each waits for its answer, and all are wanted.
    """

    def __init__(self) -> None:
        self._work = 0.0
        self._waits: deque[float] = deque(maxlen=16)
        self._began: dict[int, float] = {}

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Notes how long the block took, and how much of that was work of this thread."""
        me = threading.get_ident()
        began, worked = time.monotonic(), time.thread_time()
        self._began[me] = began
        try:
            yield
        finally:
            del self._began[me]
            work = time.thread_time() - worked
            self._work = 0.9 * self._work + 0.1 * work if self._work else work
            self._waits.append(max(0.0, time.monotonic() - began - work))

    def size(self, most: int) -> int:
        """Carriers wanted now, at most `most`. The shortest recent wait counts, since longer
        ones may be waits for each other; whoever is stuck is replaced.
        """
        if len(self._waits) < _FEW:
            return most
        late = time.monotonic() - _STUCK_SECONDS
        stuck = sum(began < late for began in list(self._began.values()))
        wanted = 1 + round(min(self._waits) / max(self._work, 1e-6))
        return min(most, max(_FEW, wanted) + stuck)
