"""Retries by progress: new durable bytes make earlier failures forgotten."""

import threading
import time
from dataclasses import dataclass, field

from modelbay.errors import NetworkError
from modelbay.http.hosts import Patience
from modelbay.transfer.order import Progress, Stop


@dataclass
class Tries:
    """The failures of one transfer, shared by its connections.

    A failure while others pause for an earlier one is the same trouble, and counts once.
    """

    patience: Patience
    progress_bytes: int
    most: int | None = None
    """Tries without progress, where that is fewer than patience has."""
    failures: int = 0
    _best: int = -1
    _until: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def failed(self, error: NetworkError, held: int, progress: Progress, stop: Stop) -> None:
        """Waits before the next try, or raises `error` when it is not worth one.

        `held` is how many durable bytes there are now.
        """
        stop.check()
        if not error.transient:
            raise error
        with self._lock:
            now = time.monotonic()
            if held >= self._best + self.progress_bytes:
                self._best = held
                self.failures = 0
            if now >= self._until:
                self.failures += 1
                if self.failures >= min(self.patience.tries, self.most or self.patience.tries):
                    raise error
                pause = max(self.patience.pause(self.failures), error.retry_after or 0.0)
                self._until = now + pause
            until = self._until
        progress.state, progress.note, progress.retry_at = "retrying", str(error), until
        while (left := until - time.monotonic()) > 0:
            stop.wait(min(left, 0.2))
        progress.retry_at = None
