"""What is shown while sources are asked, before there is a plan to show."""

import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from modelbay.output.face import Face
from modelbay.output.follow import HEARTBEAT
from modelbay.output.words import rough
from modelbay.text import clean

if TYPE_CHECKING:
    from modelbay.bay import Bay

_QUIET_SECONDS: Final = 1.0
_TICK: Final = 0.25
_WIDTH: Final = 79


class Asking:
    """A line on the terminal that says what is waited for, from the first second on, and is
    wiped out again; in a log a line every ten seconds.

    with Asking(face, bay, "asking about 3 models"): …
    """

    def __init__(self, face: Face, bay: "Bay", what: str) -> None:
        self._face, self._bay, self._what = face, bay, what
        self._over = threading.Event()
        self._drawing = threading.Lock()
        self._thread = threading.Thread(target=self._show, name="modelbay-asking", daemon=True)
        self._drawn = face.draws() and not face.events and not face.is_on("DISABLE_PROGRESS")
        self._wipe = ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._drawing:
            self._over.set()
            self._write(self._wipe)

    def _show(self) -> None:
        began = time.monotonic()
        spoken = began + _QUIET_SECONDS - HEARTBEAT if self._drawn else began
        while not self._over.wait(_TICK):
            now = time.monotonic()
            if self._drawn and now - began >= _QUIET_SECONDS:
                with self._drawing:
                    if not self._over.is_set():
                        self._wipe = "\r\x1b[2K"
                        self._write(self._wipe + self._sentence(now - began)[:_WIDTH])
            elif not self._drawn and now - spoken >= HEARTBEAT:
                spoken = now
                self._face.notice("waiting", self._sentence(now - began))

    def _sentence(self, seconds: float) -> str:
        delays = self._bay.delays()
        if not delays:
            return f"{self._what} ({rough(seconds)})"
        worst = max(delays, key=lambda delay: delay.seconds)
        again = f"again in {worst.seconds:.0f} s" if worst.seconds >= 1 else "trying again"
        return f"{again}: {clean(worst.cause or worst.host, limit=200)}"

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._face.err.write(text)
            self._face.err.flush()
