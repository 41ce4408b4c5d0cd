"""Ctrl-C, SIGTERM and SIGHUP: stop, keep what arrived, be gone within two seconds."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from modelbay.errors import Interrupted

STOPS_WITHIN: Final = 1.9
"""Seconds that stopping may take before the process ends without it."""
_NAMES: Final = {
    signal.SIGINT: "Ctrl-C",
    signal.SIGTERM: "SIGTERM",
    signal.SIGHUP: "SIGHUP",
}


class Stopped(BaseException):
    """A signal came. Not an Exception: nothing but the face may take it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def code(self) -> int:
        return 128 + self.number

    def as_error(self) -> Interrupted:
        return Interrupted(
            f"stopped by {_NAMES[signal.Signals(self.number)]}",
            hint="run the same command again: what arrived is kept",
        )


@contextmanager
def stopping() -> Iterator[None]:
    """Raises Stopped in the main thread at the first signal; a second one ends at once.

    A signal that was ignored when we started (nohup, a job in the background) stays so.
    Outside the main thread nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    once = _Once()
    before = {number: signal.getsignal(number) for number in _NAMES}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, once)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Once:
    """One object for all three signals: a second one of any kind ends the process."""

    def __init__(self) -> None:
        self.came = False

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        code = 128 + number
        if self.came:
            os._exit(code)
        self.came = True
        last_resort = threading.Timer(STOPS_WITHIN, os._exit, (code,))
        last_resort.daemon = True
        last_resort.start()
        raise Stopped(number)
