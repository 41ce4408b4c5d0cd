"""Following a run to its end: bars, plain lines, JSON events, or silence."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from modelbay.output.face import Face
from modelbay.output.pace import Pace
from modelbay.output.protocols import Event, Report, Row, Run
from modelbay.output.signals import Stopped
from modelbay.output.totals import total_text
from modelbay.output.words import Words, count
from modelbay.text import clean

if TYPE_CHECKING:
    from rich.live import Live

    from modelbay.output.frame import Frame

Wanted = Literal["auto", "json", "none"]
HEARTBEAT = 10.0
_LOUD = frozenset({"failed", "waiting", "warning", "retrying"})


class Watch(Protocol):
    """One way of showing a run; `every` is the seconds between two ticks."""

    every: float

    def opened(self) -> AbstractContextManager[object]: ...
    def happened(self, event: Event) -> None: ...
    def tick(self, rows: Sequence[Row], now: float) -> None: ...


def follow(run: Run, watch: Watch, clock: Callable[[], float] = time.monotonic) -> Report:
    """Shows `run` until everything ended. A signal stops the run and goes on upwards."""
    try:
        with watch.opened():
            if run.rows:
                watch.tick(run.rows, clock())
            while not run.wait(watch.every):
                for event in run.events():
                    watch.happened(event)
                watch.tick(run.rows, clock())
            for event in run.events():
                watch.happened(event)
    except Stopped:
        run.stop()
        raise
    return run.report()


def watch_for(face: Face, wanted: Wanted, *, doing: str = "fetching") -> Watch:
    """The way that fits: `wanted`, then the environment, then what stderr is."""
    if wanted == "json":
        return JsonWatch(face)
    if wanted == "none" or face.is_on("DISABLE_PROGRESS"):
        return Silent(face)
    if not face.draws():
        return PlainWatch(face, doing=doing)
    return LiveWatch(face)


def _sentence(event: Event) -> str:
    return f"{event.kind}: {clean(event.name)}: {clean(event.message)}"


@dataclass(slots=True)
class Silent:
    face: Face
    every: float = 1.0

    def opened(self) -> AbstractContextManager[object]:
        return nullcontext()

    def happened(self, event: Event) -> None:
        if event.kind in _LOUD:
            self.face.say(_sentence(event))

    def tick(self, rows: Sequence[Row], now: float) -> None:
        """Nothing to see."""


@dataclass(slots=True)
class PlainWatch(Silent):
    """For logs: a line at the start, and one every ten seconds that says it is alive."""

    pace: Pace = field(default_factory=Pace)
    spoken: float | None = None
    doing: str = "fetching"

    def tick(self, rows: Sequence[Row], now: float) -> None:
        self.pace.sample(sum(row.progress.fetched for row in rows), now)
        if self.spoken is None:
            self.spoken = now
            self.face.say(f"{self.doing} {count(len(rows), 'file')}")
        elif now - self.spoken >= HEARTBEAT:
            self.spoken = now
            self.face.say(total_text(rows, self.pace, self.face.words))


@dataclass(slots=True)
class JsonWatch(Silent):
    """One event a line: every fact, and the progress once a second."""

    pace: Pace = field(default_factory=Pace)

    def happened(self, event: Event) -> None:
        self.face.say_event(event.kind, event.message, name=event.name)

    def tick(self, rows: Sequence[Row], now: float) -> None:
        self.pace.sample(sum(row.progress.fetched for row in rows), now)
        sizes = [row.progress.size for row in rows]
        self.face.say_event(
            "progress",
            total_text(rows, self.pace, Words(ascii=True)),
            received=sum(row.progress.received for row in rows),
            size=None if None in sizes else sum(size or 0 for size in sizes),
            rate=None if self.pace.rate is None else round(self.pace.rate),
            files=len(rows),
            done=sum(1 for row in rows if row.state == "done"),
            failed=sum(1 for row in rows if row.state == "failed"),
        )


@dataclass(slots=True)
class LiveWatch(Silent):
    """Bars, for a terminal."""

    every: float = 0.25
    frame: "Frame | None" = None
    live: "Live | None" = None

    def opened(self) -> AbstractContextManager[object]:
        from rich.console import Console
        from rich.live import Live

        from modelbay.output.frame import Frame

        console = Console(
            file=self.face.err,
            no_color=bool(self.face.environ.get("NO_COLOR")),
            highlight=False,
            markup=False,
            emoji=False,
        )
        self.frame = Frame(self.face.words)
        self.live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        return self.live

    def happened(self, event: Event) -> None:
        if self.live is not None and event.kind in _LOUD:
            self.live.console.print(_sentence(event), soft_wrap=True)

    def tick(self, rows: Sequence[Row], now: float) -> None:
        from rich.text import Text

        if self.live is None or self.frame is None:
            return
        width, height = self.live.console.size
        text = Text(no_wrap=True, overflow="crop", end="")
        for number, line in enumerate(self.frame.lines(rows, now, width, height)):
            text.append("\n" if number else "")
            for part, style in line:
                text.append(part, style)
        self.live.update(text, refresh=True)
