"""What this disk still lacks of a snapshot, as steps with reasons."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

from modelbay.snapshot import ModelFile, Snapshot


class Action(StrEnum):
    FETCH = "fetch"
    RESUME = "resume"
    LINK = "link"
    KEEP = "keep"
    REPLACE = "replace"
    REMOVE = "remove"
    BLOCKED = "blocked"


MOVES = frozenset({Action.FETCH, Action.RESUME, Action.REPLACE})
"""The actions that bring bytes over the network."""


Way = Literal["reflink", "hard link", "copy"]
LADDER: Final[tuple[Way, ...]] = ("reflink", "hard link", "copy")
"""How the same bytes get a second name, the cheapest way first."""


@dataclass(frozen=True, slots=True)
class Step:
    """One file's way to its place.

    `target` is the name readers use; `blob` is where the bytes lie when that is another
    path (the Hub's cache), else equal to `target`. `held` counts bytes already on disk.
    """

    file: ModelFile
    action: Action
    target: Path
    blob: Path
    part: Path
    held: int = 0
    reason: str = ""
    source: Path | None = None
    """What a LINK step is made from."""
    ways: Sequence[Way] = LADDER
    """How it may be made: the first of them that works."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps for one snapshot in one layout. `root` is the folder a person knows it by."""

    snapshot: Snapshot
    layout: str
    root: Path
    steps: tuple[Step, ...]
    model: str = ""
    """Its id in a lock, or its ref: what tells two plans for one folder apart."""

    def of(self, *actions: Action) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.action in actions)

    @property
    def bytes_to_fetch(self) -> int:
        """Bytes still to come, as far as sizes are known."""
        return sum((step.file.size or 0) - step.held for step in self.steps if step.action in MOVES)

    @property
    def unknown_sizes(self) -> int:
        """How many files to fetch have no known size."""
        return sum(1 for step in self.steps if step.action in MOVES and step.file.size is None)

    @property
    def size(self) -> int:
        return sum(step.file.size or 0 for step in self.steps)


def counts(plans: Sequence[Plan]) -> dict[Action, int]:
    """How many steps of each kind, in the order of `Action`; kinds without steps left out."""
    actions = [step.action for plan in plans for step in plan.steps]
    return {action: actions.count(action) for action in Action if action in actions}
