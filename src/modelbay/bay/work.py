"""Several files worked on side by side, in the shape that faces follow."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from modelbay.errors import Interrupted, ModelbayError
from modelbay.queue import Event, Report
from modelbay.text import clean
from modelbay.transfer import Progress, Stop

T = TypeVar("T")
_STOP_SECONDS = 1.6
"""How long a stop waits for threads; with the signal's own way it stays under 2 s."""


@dataclass(eq=False, slots=True)
class Task(Generic[T]):
    """One file of the work, sampled by faces. `size` in bytes is what there is to do."""

    item: T
    name: str
    size: int
    progress: Progress = field(init=False)
    error: ModelbayError | None = None

    def __post_init__(self) -> None:
        self.progress = Progress(size=self.size)

    @property
    def state(self) -> str:
        return self.progress.state


class Work(Generic[T]):
    """`do` for every task, in `threads` threads, the largest first: so that the end is not one
    thread's. A task whose `do` raises ModelbayError has failed, and the others go on.
    """

    def __init__(
        self, tasks: Iterable[Task[T]], do: Callable[[Task[T], Stop], None], *, threads: int
    ) -> None:
        self.rows = sorted(tasks, key=lambda task: -task.size)
        self._do = do
        self._count = max(1, min(threads, len(self.rows)))
        self._next = iter(self.rows)
        self._switch = Stop()
        self._lock = threading.Lock()
        self._finished = threading.Event()
        self._events: list[Event] = []
        self._running = self._count
        self._bug: BaseException | None = None
        self._began = self._ended = 0.0

    def start(self) -> "Work[T]":
        """Returns at once."""
        self._began = time.monotonic()
        for number in range(self._count):
            threading.Thread(target=self._carry, name=f"modelbay-{number}", daemon=True).start()
        return self

    def wait(self, seconds: float) -> bool:
        """Whether everything ended within `seconds`. Raises what no task may raise: a bug."""
        ended = self._finished.wait(seconds)
        if ended and self._bug is not None:
            raise self._bug
        return ended

    def stop(self) -> None:
        """Stops; blocks for at most about 1.6 s."""
        self._switch.set()
        self._finished.wait(_STOP_SECONDS)

    def tell(self, kind: str, name: str, sentence: str) -> None:
        with self._lock:
            self._events.append(Event(kind, name, sentence))

    def events(self) -> Sequence[Event]:
        """The facts since the last call."""
        with self._lock:
            told, self._events = self._events, []
        return told

    @property
    def seconds(self) -> float:
        return (self._ended or time.monotonic()) - self._began

    def report(self) -> Report:
        return Report((), sum(task.progress.fetched for task in self.rows), self.seconds)

    def _carry(self) -> None:
        try:
            while (task := self._claimed()) is not None and not self._switch.is_set():
                self._carry_one(task)
        except BaseException as bug:  # noqa: BLE001 - raised again where somebody waits
            self._bug = bug
        finally:
            self._leave()

    def _claimed(self) -> Task[T] | None:
        with self._lock:
            return next(self._next, None)

    def _carry_one(self, task: Task[T]) -> None:
        try:
            self._do(task, self._switch)
        except Interrupted as error:
            task.error, task.progress.state = error, "failed"
        except ModelbayError as error:
            task.error, task.progress.state = error, "failed"
            self.tell("failed", task.name, str(clean(error)))
        else:
            task.progress.state = "done"

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1
            if not self._running:
                self._ended = time.monotonic()
                self._finished.set()
