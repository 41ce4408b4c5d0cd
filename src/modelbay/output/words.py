"""Sizes, rates, times and counts as people read them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """`binary`: GiB in place of GB. `ascii`: no character above 0x7E of our own."""

    binary: bool = False
    ascii: bool = False

    @property
    def arrow(self) -> str:
        return "->" if self.ascii else "→"

    def size(self, amount: float | None) -> str:
        """`58.2 GB`, or `?` where nobody knows."""
        if amount is None:
            return "?"
        import humanize

        shown = humanize.naturalsize(max(0, int(amount)), binary=self.binary)
        return shown.replace(" Bytes", " B").replace(" Byte", " B")

    def rate(self, per_second: float | None) -> str:
        return "--" if per_second is None else f"{self.size(per_second)}/s"


def duration(seconds: float | None) -> str:
    """`12.3 s`, `4 min 10 s`, `2 h 5 min`, or `--` where nobody knows."""
    if seconds is None:
        return "--"
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.1f} s"
    return rough(seconds)


def rough(seconds: float | None) -> str:
    """The same in whole seconds, for what is an estimate."""
    if seconds is None:
        return "--"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if days else f"{hours} h {minutes} min"


def count(number: int, noun: str) -> str:
    """`1 file`, `2,000 files`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
