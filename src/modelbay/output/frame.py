"""One picture of a run on a terminal: lines of styled parts, made anew four times a second.

Only rows on their way are drawn, as many as fit: a model of two thousand files draws a
dozen of them and one line for all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len, set_cell_size

from modelbay.output.pace import Pace
from modelbay.output.protocols import Row
from modelbay.output.totals import total_text
from modelbay.output.words import Words, rough
from modelbay.text import clean

Part = tuple[str, str]
Line = list[Part]
_IDLE = frozenset({"waiting", "done", "failed"})
_STYLES = {"retrying": "yellow", "verifying": "cyan", "placing": "cyan"}
_NAME_MOST, _BAR_LEAST, _BAR_MOST = 40, 6, 30
_TAILS_LEAST = 32
"""Cells kept for size and rate before a bar gets any."""


@dataclass(slots=True)
class Frame:
    """Keeps the paces between two pictures; everything else is read from the rows."""

    words: Words
    total: Pace = field(default_factory=Pace)
    paces: dict[int, Pace] = field(default_factory=dict)

    def lines(self, rows: Sequence[Row], now: float, width: int, height: int) -> list[Line]:
        """At most `height` - 1 lines of at most `width` - 1 cells, the total last."""
        self.total.sample(sum(row.progress.fetched for row in rows), now)
        active = [(n, row) for n, row in enumerate(rows) if row.state not in _IDLE]
        for number, row in active:
            self.paces.setdefault(number, Pace()).sample(row.progress.fetched, now)
        room = max(0, height - 2)
        shown = [self._row(row, self.paces[n], now, width - 1) for n, row in active[:room]]
        return [*shown, [(self._fitted(total_text(rows, self.total, self.words), width - 1), "")]]

    def _row(self, row: Row, pace: Pace, now: float, width: int) -> Line:
        share = _share(row)
        percent = "    " if share is None else f"{int(share * 100):3d}%"
        name_width = max(0, min(_NAME_MOST, max(8, width // 3), width - len(percent) - 1))
        bar_width = min(_BAR_MOST, width - name_width - len(percent) - 3 - _TAILS_LEAST)
        name = self._fitted(clean(row.name), name_width, keep_end=True)
        line: Line = [(set_cell_size(name, name_width), "bold")]
        if bar_width >= _BAR_LEAST:
            line += [("  ", ""), *self._bar(share or 0.0, bar_width, row.state)]
        line.append((f" {percent}", ""))
        tails = self._tails(row, pace, now)
        room = width - sum(cell_len(part) for part, _ in line)
        while tails and sum(cell_len(tail) + 2 for tail in tails) > room:
            tails.pop(0)
        line += [(f"  {tail}", _STYLES.get(row.state, "")) for tail in tails]
        return line if room >= 0 else [(self._fitted(percent.strip(), width), "")]

    def _tails(self, row: Row, pace: Pace, now: float) -> list[str]:
        """What follows the bar, the least important first."""
        progress, words = row.progress, self.words
        if row.state == "downloading":
            size = f"{words.size(progress.received)} of {words.size(progress.size)}"
            left = pace.seconds_left((progress.size or 0) - progress.received)
            known = left is not None and progress.size is not None
            return [*([f"{rough(left)} left"] if known else []), size, words.rate(pace.rate)]
        if row.state == "retrying" and progress.retry_at is not None:
            note = [clean(progress.note, limit=60)] if progress.note else []
            return [*note, f"retrying in {rough(max(0.0, progress.retry_at - now))}"]
        return [words.size(progress.size), row.state]

    def _bar(self, share: float, width: int, state: str) -> Line:
        full, empty = ("#", "-") if self.words.ascii else ("━", "━")
        done = round(share * width)
        style = _STYLES.get(state, "green")
        return [(full * done, style), (empty * (width - done), "dim")]

    def _fitted(self, text: str, width: int, *, keep_end: bool = False) -> str:
        if cell_len(text) <= width:
            return text
        mark = "~" if self.words.ascii else "…"
        if width <= 1:
            return mark[:width]
        if not keep_end:
            return set_cell_size(text, width - 1) + mark
        tail = text
        while cell_len(tail) > width - 1:
            tail = tail[1:]
        return mark + tail


def _share(row: Row) -> float | None:
    size = row.progress.size
    if not size:
        return None
    come = row.progress.hashed if row.state == "verifying" else row.progress.received
    return min(1.0, max(0.0, come / size))
