"""A plan before it runs: for people line by line, for programs as a document."""

from collections.abc import Sequence
from typing import Any

from modelbay.files import free_space
from modelbay.output.words import Words, count
from modelbay.plan import MOVES, Action, Plan, Step, counts
from modelbay.snapshot import ModelFile, Snapshot
from modelbay.text import clean

ROWS_IN_CONVERSATION = 30
LONGEST_NAME = 60
_DONE = {
    Action.FETCH: "to fetch",
    Action.RESUME: "to resume",
    Action.LINK: "to link",
    Action.KEEP: "kept",
    Action.REPLACE: "to replace",
    Action.REMOVE: "to remove",
    Action.BLOCKED: "blocked",
}


def plan_lines(plan: Plan, words: Words, *, most: int | None = None) -> list[str]:
    """Where it goes, then a row a file, at most `most` of them."""
    snapshot = plan.snapshot
    where = f"{plan.layout}, revision {short(snapshot.revision)}"
    lines = [f"{clean(snapshot.ref)} goes to {clean(plan.root)} ({where})"]
    lines += [f"  note: {clean(note)}" for note in snapshot.notes]
    steps = plan.steps if most is None else plan.steps[:most]
    names = [clean(step.file.path) for step in steps]
    sizes = [words.size(step.file.size) for step in steps]
    name_width = min(LONGEST_NAME, max(map(len, names), default=0))
    size_width = max(map(len, sizes), default=0)
    for step, name, size in zip(steps, names, sizes, strict=True):
        row = f"  {step.action:<7}  {size:>{size_width}}  {name:<{name_width}}"
        lines.append(f"{row}  {_reason(step, words)}".rstrip())
    if len(steps) < len(plan.steps):
        lines.append(f"  and {count(len(plan.steps) - len(steps), 'more file')}")
    return lines


def _reason(step: Step, words: Words) -> str:
    """Nothing for a plain fetch: the word says it."""
    if step.held:
        return f"{words.size(step.held)} here already"
    return "" if step.action is Action.FETCH else clean(step.reason)


def total_line(plans: Sequence[Plan], words: Words) -> str:
    """All plans in one line, against the free space where they go."""
    files = sum(len(plan.steps) for plan in plans)
    size = sum(plan.size for plan in plans)
    parts = [f"{number:,} {_DONE[action]}" for action, number in counts(plans).items()]
    line = f"{count(files, 'file')}, {words.size(size)}"
    if parts:
        line += ": " + ", ".join(parts)
    coming = sum(plan.bytes_to_fetch for plan in plans)
    unknown = sum(plan.unknown_sizes for plan in plans)
    if coming or unknown:
        line += f"; {words.size(coming)} to come"
        line += f" and {count(unknown, 'file')} of unknown size" if unknown else ""
    free = free_bytes(plans)
    return line if free is None else f"{line}, {words.size(free)} free"


def free_bytes(plans: Sequence[Plan]) -> int | None:
    """The least free space among the plans' roots, None where it cannot be told."""
    try:
        return min((free_space(plan.root) for plan in plans), default=None)
    except OSError:
        return None


def question(plans: Sequence[Plan], words: Words) -> str | None:
    """What a person should be asked before this runs; None when nothing is at stake."""
    replaced = sum(len(plan.of(Action.REPLACE)) for plan in plans)
    coming, free = sum(plan.bytes_to_fetch for plan in plans), free_bytes(plans)
    if free is not None and coming > free:
        return f"{words.size(coming)} to come and only {words.size(free)} free: go on?"
    return f"put {count(replaced, 'old file')} into the trash?" if replaced else None


def short(revision: str) -> str:
    """A commit or a sha256 by its first twelve digits; anything else as it is."""
    digits = revision.removeprefix("sha256:")
    is_digest = len(digits) >= 40 and all(c in "0123456789abcdef" for c in digits)
    return digits[:12] if is_digest else clean(revision, limit=100)


def plan_document(plan: Plan) -> dict[str, Any]:
    return {
        **snapshot_document(plan.snapshot),
        "layout": plan.layout,
        "root": str(plan.root),
        "size": plan.size,
        "bytes_to_fetch": plan.bytes_to_fetch,
        "unknown_sizes": plan.unknown_sizes,
        "files": [_step_document(step) for step in plan.steps],
    }


def plan_summary(plan: Plan) -> dict[str, Any]:
    """The facts of a plan that fit on a line."""
    return {
        "ref": str(plan.snapshot.ref),
        "revision": plan.snapshot.revision,
        "root": str(plan.root),
        "files": len(plan.steps),
        "size": plan.size,
        "bytes_to_fetch": plan.bytes_to_fetch,
    }


def snapshot_document(snapshot: Snapshot) -> dict[str, Any]:
    licence = snapshot.licence
    return {
        "ref": str(snapshot.ref),
        "source": snapshot.ref.source,
        "revision": snapshot.revision,
        "licence": {"spdx": licence.spdx, "raw": licence.raw, "link": licence.link},
        "gated": snapshot.gated,
        "page": snapshot.page,
        "notes": list(snapshot.notes),
    }


def file_document(file: ModelFile) -> dict[str, Any]:
    return {
        "path": str(file.path),
        "size": file.size,
        "digests": {digest.algorithm: digest.hex for digest in file.digests},
    }


def _step_document(step: Step) -> dict[str, Any]:
    return {
        **file_document(step.file),
        "action": step.action.value,
        "target": str(step.target),
        "held": step.held if step.action in MOVES else 0,
        "reason": step.reason,
    }
