"""`modelbay rm`: models go to the trash, from where they can come back."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from modelbay.commands.ls import shown
from modelbay.errors import Interrupted, UsageError
from modelbay.output.exits import DONE, TARGET_TAKEN
from modelbay.output.face import Face
from modelbay.output.plans import ROWS_IN_CONVERSATION, plan_document, short
from modelbay.output.words import Words, count
from modelbay.plan import Action, Plan, Step
from modelbay.text import clean

if TYPE_CHECKING:
    from modelbay.library.removal import Removal, Removed

_EPILOG = """\b
What goes lies in the trash until `modelbay trash empty`, or until the setting trash_days
has passed; `modelbay trash restore` brings it back. Files that modelbay did not put there,
or that changed since, stay and are named (exit 9).

\b
Examples:
  modelbay rm Qwen/Qwen3-0.6B --dry-run
  modelbay rm hf://org/name@refs%2Fpr%2F1
  modelbay rm hf://org/name/model-Q4_K_M.gguf --yes
  modelbay rm checkpoints/sdxl-base
"""


@click.command(name="rm", epilog=_EPILOG)
@click.argument("refs", metavar="REF...", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Show what would go and move nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
@click.pass_obj
def command(face: Face, /, *, refs: Sequence[str], dry_run: bool, as_json: bool, yes: bool) -> int:
    """Remove models, revisions or single files of them. Shows first what it really frees."""
    with face.bay() as bay:
        chosen = bay.library.removals(refs)
        usage = bay.library.freed_by(chosen)
        lines = [line for one in chosen for line in removal_lines(one, face.words)]
        total = _total(chosen, usage.freed, usage.kept_elsewhere, face.words)
        if dry_run:
            return _show(face, chosen, usage.freed, [*lines, total], as_json=as_json)
        face.notice("plan", *lines, total)
        if any(one.moves for one in chosen) and not yes:
            ask(face, f"move {count(_going(chosen), 'file')} to the trash?")
        done = bay.library.remove(chosen)
    return _report(face, done, usage.freed, as_json=as_json)


def ask(face: Face, question: str) -> None:
    """Raises Interrupted when a person says no, UsageError where nobody can be asked."""
    if not face.asks():
        raise UsageError(
            "nobody is here to be asked, so nothing was done", hint="add --yes, or --dry-run"
        )
    if not click.confirm(question, err=True):
        raise Interrupted("nothing was done", hint="--dry-run shows what would be")


def removal_lines(removal: "Removal", words: Words) -> list[str]:
    """What goes and what stays of one model, with the reasons."""
    plan = removal.plan
    where = f"{clean(plan.root)} ({plan.layout}, revision {short(plan.snapshot.revision)})"
    lines = [f"{clean(plan.snapshot.ref)} in {where}"]
    lines += [f"  note: {note}" for note in removal.notes]
    going, staying = plan.of(Action.REMOVE), plan.of(Action.BLOCKED)
    lines += [_row("-", step, words) for step in going[:ROWS_IN_CONVERSATION]]
    if len(going) > ROWS_IN_CONVERSATION:
        lines.append(f"  and {count(len(going) - ROWS_IN_CONVERSATION, 'more file')}")
    lines += [_row("!", step, words, "stays: ") for step in staying[:ROWS_IN_CONVERSATION]]
    if len(staying) > ROWS_IN_CONVERSATION:
        lines.append(f"  and {count(len(staying) - ROWS_IN_CONVERSATION, 'more file')} that stay")
    return lines


def _row(mark: str, step: Step, words: Words, before: str = "") -> str:
    why = f"  {before}{clean(step.reason)}" if step.reason else ""
    return f"  {mark} {words.size(step.file.size):>8}  {clean(step.file.path)}{why}"


def _going(chosen: "Sequence[Removal]") -> int:
    return sum(len(one.plan.of(Action.REMOVE)) for one in chosen)


def _total(chosen: "Sequence[Removal]", freed: int, elsewhere: int, words: Words) -> str:
    staying = sum(len(one.plan.of(Action.BLOCKED)) for one in chosen)
    line = f"{count(_going(chosen), 'file')} to the trash; emptying it frees {words.size(freed)}"
    if elsewhere:
        line += f", {words.size(elsewhere)} stay under other names (hard links)"
    return line + (f"; {count(staying, 'file')} stay" if staying else "")


def _show(
    face: Face, chosen: "Sequence[Removal]", freed: int, lines: list[str], *, as_json: bool
) -> int:
    if as_json:
        face.give_json({"models": [_document(one) for one in chosen], "frees": freed})
    else:
        face.give(*lines)
    return _code([one.plan for one in chosen])


def _document(removal: "Removal", busy: Sequence[Step] = ()) -> dict[str, Any]:
    plan = removal.plan
    return {
        **{key: value for key, value in plan_document(plan).items() if key != "bytes_to_fetch"},
        "frees": removal.usage.freed,
        "notes": list(removal.notes),
        "busy": [str(step.file.path) for step in busy],
    }


def _report(face: Face, done: "Sequence[Removed]", freed: int, *, as_json: bool) -> int:
    words = face.words
    for one in done:
        for step in one.busy:
            face.notice("busy", f"stays: {clean(step.target)}: {clean(step.reason)}")
    busy = sum(len(one.busy) for one in done)
    gone = sum(len(one.removal.plan.of(Action.REMOVE)) for one in done) - busy
    if as_json:
        documents = [_document(one.removal, one.busy) for one in done]
        face.give_json({"models": documents, "removed": gone, "frees": freed})
    if gone:
        names = {clean(shown(face, str(one.removal.plan.snapshot.ref.at(None)))) for one in done}
        undo = f"restore {names.pop()}" if len(names) == 1 else "restore REF"
        face.notice(
            "done",
            f"Moved {count(gone, 'file')} to the trash: `modelbay trash empty` frees "
            f"{words.size(freed)}, `modelbay trash {undo}` brings it back",
        )
    else:
        face.notice("done", "nothing was removed")
    return TARGET_TAKEN if busy else _code([one.removal.plan for one in done])


def _code(plans: Sequence[Plan]) -> int:
    return TARGET_TAKEN if any(plan.of(Action.BLOCKED) for plan in plans) else DONE
