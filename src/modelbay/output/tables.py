"""Rows under headings, cut to a terminal's width and whole for a pipe."""

import shutil
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from modelbay.output.face import Face

NARROWEST = 40
_GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """One column of at least `width` cells. The one that stretches takes what is left of a
    terminal, and is cut in the middle where that is too little.
    """

    title: str
    width: int
    right: bool = False
    stretches: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Lines one by one, so that the first are there before the last are known."""

    columns: tuple[Column, ...]
    width: int | None
    """The terminal's, or None where nothing is cut."""
    ascii: bool = False

    def heading(self) -> str:
        return self.line(tuple(column.title for column in self.columns))

    def line(self, cells: Sequence[str]) -> str:
        stretch = self._stretch()
        shown = []
        for column, cell in zip(self.columns, cells, strict=True):
            room = max(column.width, stretch) if column.stretches else column.width
            if self.width is not None:
                room = stretch if column.stretches else room
                cell = middle(cell, room, ascii_only=self.ascii)  # noqa: PLW2901 - the same cell
            pad = " " * max(0, room - cells_of(cell))
            shown.append(pad + cell if column.right else cell + pad)
        return _GAP.join(shown).rstrip()

    def _stretch(self) -> int:
        if self.width is None:
            return 0
        stretching = [column for column in self.columns if column.stretches]
        fixed = sum(column.width for column in self.columns if not column.stretches)
        left = self.width - fixed - len(_GAP) * (len(self.columns) - 1)
        return max(8, left // max(1, len(stretching)))


def table(face: Face, *columns: Column) -> Table:
    """For where stdout of `face` goes."""
    return Table(columns, width_of(face), face.words.ascii)


def width_of(face: Face) -> int | None:
    """`$COLUMNS`, else the terminal's; None for what is no terminal."""
    named = face.environ.get("COLUMNS", "")
    if named.isdecimal() and int(named):
        return max(NARROWEST, int(named))
    if not face.out.isatty():
        return None
    return max(NARROWEST, shutil.get_terminal_size().columns)


def middle(text: str, width: int, *, ascii_only: bool = False) -> str:
    """`text` in at most `width` cells, what is too much taken out of its middle."""
    if cells_of(text) <= width:
        return text
    mark = "~" if ascii_only else "…"
    keep = max(1, width - 1)
    tail = keep // 2
    head = keep - tail
    start, end = "", ""
    for character in text:
        if cells_of(start + character) > head:
            break
        start += character
    for character in reversed(text):
        if cells_of(character + end) > tail:
            break
        end = character + end
    return start + mark + end


def cells_of(text: str) -> int:
    """How many cells of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def age(when: float | None, now: float | None = None) -> str:
    """How long ago, in at most four characters; `never` where it never was."""
    if when is None:
        return "never"
    seconds = max(0.0, (time.time() if now is None else now) - when)
    for unit, length in (("y", 31_557_600), ("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return "now"


def bar(share: float, width: int, *, ascii_only: bool = False) -> str:
    """A picture of a share from 0 to 1."""
    full = round(min(1.0, max(0.0, share)) * width)
    on, off = ("#", ".") if ascii_only else ("█", "░")
    return on * full + off * (width - full)
