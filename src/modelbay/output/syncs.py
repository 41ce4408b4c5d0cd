"""A plan of many models before it runs, a block each: for people by marks, for programs whole."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from modelbay.output.plans import plan_document, short, total_line
from modelbay.output.words import Words, count
from modelbay.plan import Action, Plan, Step
from modelbay.text import clean

MARKS: Final = {
    Action.FETCH: "+",
    Action.RESUME: "+",
    Action.LINK: "+",
    Action.REPLACE: "~",
    Action.KEEP: "=",
    Action.REMOVE: "-",
    Action.BLOCKED: "!",
}
_LOUDEST: Final = "!~+-="
_NAME_WIDTH: Final = 48


def sync_lines(
    plans: Sequence[Plan], removals: Sequence[Plan], words: Words, *, most: int | None = None
) -> Iterator[str]:
    """A block for each model, at most `most` files each; then the totals."""
    for plan in plans:
        yield from model_lines(plan, words, most=most)
    for plan in removals:
        yield from _removed_lines(plan, words, most=most)
    yield sync_total(plans, removals, words)


def model_lines(plan: Plan, words: Words, *, most: int | None = None) -> Iterator[str]:
    """The model and where it goes, then every file that does not just stay as it is."""
    mark = min((MARKS[step.action] for step in plan.steps), key=_LOUDEST.index, default="=")
    snapshot = plan.snapshot
    size = f"{count(len(plan.steps), 'file')}, {words.size(_size(plan.steps))}"
    where = f"{clean(plan.root)} ({plan.layout}, revision {short(snapshot.revision)})"
    yield f"{mark} {clean(plan.model)}: {size}, in {where}"
    yield from (f"    note: {clean(note)}" for note in snapshot.notes)
    shown = [step for step in plan.steps if step.action is not Action.KEEP]
    yield from _rows(shown, words, most)
    kept = plan.of(Action.KEEP)
    if kept and shown:
        yield f"  = kept     {count(len(kept), 'file')}, {words.size(_size(kept))}"


def _removed_lines(plan: Plan, words: Words, *, most: int | None) -> Iterator[str]:
    gone = plan.of(Action.REMOVE)
    if gone:
        size = f"{count(len(gone), 'file')}, {words.size(_size(gone))}"
        yield f"- {clean(plan.model)}: {size}, in {clean(plan.root)}, not in this lock"
        yield from _rows(gone, words, most)


def _rows(steps: Sequence[Step], words: Words, most: int | None) -> Iterator[str]:
    rows = steps if most is None else steps[:most]
    sizes = [words.size(step.file.size) for step in rows]
    width = max(map(len, sizes), default=0)
    for step, size in zip(rows, sizes, strict=True):
        row = f"  {MARKS[step.action]} {step.action:<8} {size:>{width}}  {clean(step.file.path)}"
        why = _why(step, words)
        yield f"{row:<{_NAME_WIDTH}}  {why}".rstrip() if why else row
    if len(rows) < len(steps):
        yield f"    and {count(len(steps) - len(rows), 'more file')}"


def _why(step: Step, words: Words) -> str:
    """Nothing for a plain fetch and a removal: the word says it."""
    if step.held:
        return f"{words.size(step.held)} here already"
    return "" if step.action in {Action.FETCH, Action.REMOVE} else clean(step.reason)


def _size(steps: Iterable[Step]) -> int | None:
    sizes = [step.file.size for step in steps]
    return None if None in sizes else sum(size or 0 for size in sizes)


def sync_total(plans: Sequence[Plan], removals: Sequence[Plan], words: Words) -> str:
    """All models in one line."""
    line = f"{count(len(plans), 'model')}, {total_line(plans, words)}"
    gone = [step for plan in removals for step in plan.of(Action.REMOVE)]
    if gone:
        line += f"; {count(len(gone), 'file')} to remove, {words.size(_size(gone))}"
    return line


def models_document(plans: Sequence[Plan]) -> list[dict[str, Any]]:
    return [{"id": plan.model, **plan_document(plan)} for plan in plans]


def removals_document(removals: Sequence[Plan]) -> list[dict[str, Any]]:
    return [
        {"id": plan.model, "target": str(step.target), "size": step.file.size}
        for plan in removals
        for step in plan.of(Action.REMOVE)
    ]
