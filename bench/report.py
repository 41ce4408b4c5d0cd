"""The figures beside what was promised of them, for people and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from measure import Cost, middle


@dataclass(frozen=True, slots=True)
class Figure:
    what: str
    value: float
    unit: str
    floor: float | None = None
    """The most it may be; None for a figure that is only shown."""
    ambition: float | None = None

    @property
    def verdict(self) -> str:
        if self.floor is None:
            return ""
        if self.value > self.floor:
            over = f" by {100 * (self.value / self.floor - 1):.0f} %" if self.floor else ""
            return "MISSED" + over
        if self.ambition is not None and self.value <= self.ambition:
            return "met, and the ambition"
        return "met"

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"verdict": self.verdict}


def costs_as_json(costs: dict[str, list[Cost]]) -> dict[str, Any]:
    return {name: [asdict(cost) for cost in runs] for name, runs in costs.items()}


def print_costs(title: str, costs: dict[str, list[Cost]]) -> None:
    print(f"\n{title}: medians of {len(next(iter(costs.values())))}")
    print(f"  {'':<28} {'wall s':>8} {'min–max':>13} {'CPU s':>7} {'peak MB':>8}")
    for name, runs in costs.items():
        cost = middle(runs)
        walls = [run.wall for run in runs]
        spread = f"{min(walls):.2f}–{max(walls):.2f}"
        print(f"  {name:<28} {cost.wall:8.2f} {spread:>13} {cost.cpu:7.2f} {cost.peak / 1e6:8.0f}")


def print_figures(figures: Sequence[Figure]) -> None:
    if not figures:
        return
    width = max(len(figure.what) for figure in figures)
    print(f"\n{'figure':<{width}} {'value':>9}      {'floor':>6} {'ambition':>8}  verdict")
    for each in figures:
        row = f"{each.what:<{width}} {each.value:9.3f} {each.unit:<4} {_bound(each.floor):>6}"
        print(f"{row} {_bound(each.ambition):>8}  {each.verdict}".rstrip())


def _bound(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
