"""What became of a run, in numbers and in the rows that failed."""

from collections.abc import Sequence
from dataclasses import dataclass

from modelbay.plan import Action, Plan
from modelbay.queue.rows import Row


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one plan: files by the way they went, and the rows that failed."""

    plan: Plan
    fetched: int = 0
    linked: int = 0
    kept: int = 0
    replaced: int = 0
    blocked: int = 0
    failed: Sequence[Row] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a run. `bytes` came over the network, in `seconds`."""

    outcomes: Sequence[Outcome]
    bytes: int
    seconds: float


def outcome_of(plan: Plan, mine: Sequence[Row]) -> Outcome:
    """What became of `plan`, whose rows are `mine`."""
    done = [row for row in mine if row.ending == "done"]
    actions = [row.step.action for row in done]
    return Outcome(
        plan,
        fetched=sum(action in {Action.FETCH, Action.RESUME} for action in actions),
        linked=actions.count(Action.LINK),
        kept=len(plan.of(Action.KEEP)) + sum(row.ending == "kept" for row in mine),
        replaced=actions.count(Action.REPLACE),
        blocked=len(plan.of(Action.BLOCKED)),
        failed=[row for row in mine if row.ending in {"failed", "stopped"}],
    )
