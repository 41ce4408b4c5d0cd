"""Questions to sources, several at a time, their answers in order."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Final, Generic, TypeVar

from modelbay.errors import ModelbayError

AT_ONCE: Final = 8
"""How many are asked at a time; the client bounds what one host gets of them."""
_TICK = 0.2
T = TypeVar("T")
R = TypeVar("R")


def each(ask: Callable[[T], R], things: Sequence[T]) -> list[R | ModelbayError]:
    """What `ask` gives or raises for each of `things`, in their order. Anything but a
    ModelbayError is raised here. A signal ends the wait, and what is under way is left alone.
    """
    asking = _Asking(ask, things)
    for number in range(len(things)):
        asking.waiting.put(number)
    # Daemons: a program that was told to stop does not wait for a server that is silent.
    threads = [
        threading.Thread(target=asking.work, name="modelbay-ask", daemon=True)
        for _ in range(min(AT_ONCE, len(things)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(_TICK)
    if asking.bugs:
        raise asking.bugs[0]
    return [asking.answers[number] for number in range(len(things))]


@dataclass(slots=True)
class _Asking(Generic[T, R]):
    """What the threads of one call share."""

    ask: Callable[[T], R]
    things: Sequence[T]
    waiting: SimpleQueue[int] = field(default_factory=SimpleQueue)
    answers: dict[int, R | ModelbayError] = field(default_factory=dict)
    bugs: list[Exception] = field(default_factory=list)

    def work(self) -> None:
        while not self.bugs:
            try:
                number = self.waiting.get_nowait()
            except Empty:
                return
            try:
                self.answers[number] = self.ask(self.things[number])
            except ModelbayError as error:
                self.answers[number] = error
            except Exception as error:  # noqa: BLE001 - raised where somebody waits for it
                self.bugs.append(error)
