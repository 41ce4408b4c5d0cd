"""The log of what modelbay does: a line an event, with its time in UTC and its level."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modelbay.output.exits import LARGEST_LOG, scrub
from modelbay.text import clean

if TYPE_CHECKING:
    from modelbay.output.follow import Watch
    from modelbay.output.protocols import Event, Row

_KEPT: Final = 3
_LEVELS: Final = {
    "error": "ERROR",
    "failed": "ERROR",
    "blocked": "WARNING",
    "warning": "WARNING",
    "waiting": "WARNING",
    "retrying": "WARNING",
}


@dataclass(slots=True)
class Log:
    """The file `path`, of at most 1 MiB; the three before it are kept as `.1` to `.3`.

    No value of a variable whose name says that it is secret gets in. A log that cannot be
    written is no reason to stop the work: `broken` then says why.
    """

    path: Path
    environ: Mapping[str, str]
    broken: str = ""

    def write(self, event: str, *lines: str) -> None:
        """`lines` under the level that `event` has."""
        if self.broken:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        level = _LEVELS.get(event, "INFO")
        text = "".join(
            f"{now} {level:<7} {event}: {clean(scrub(line, self.environ))}\n" for line in lines
        )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._rotate()
            with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError as error:
            self.broken = f"{clean(self.path)}: {error.strerror or clean(error)}"

    def _rotate(self) -> None:
        if not self.path.exists() or self.path.stat().st_size <= LARGEST_LOG:
            return
        names = [self.path, *(Path(f"{self.path}.{number}") for number in range(1, _KEPT + 1))]
        for older, newer in reversed(list(pairwise(names))):
            if older.exists():
                older.replace(newer)


@dataclass(slots=True)
class Logged:
    """A way of showing a run whose every event also gets into `log`."""

    watch: "Watch"
    log: Log
    every: float = field(init=False)

    def __post_init__(self) -> None:
        self.every = self.watch.every

    def opened(self) -> AbstractContextManager[object]:
        return self.watch.opened()

    def happened(self, event: "Event") -> None:
        self.log.write(event.kind, f"{event.name}: {event.message}")
        self.watch.happened(event)

    def tick(self, rows: "Sequence[Row]", now: float) -> None:
        self.watch.tick(rows, now)
