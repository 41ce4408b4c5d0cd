"""`modelbay prune`: what nobody needs any more."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from modelbay.commands.rm import ask
from modelbay.output.face import Face
from modelbay.output.words import Words, count
from modelbay.text import clean

if TYPE_CHECKING:
    from modelbay.bay.pruning import Pruned
    from modelbay.library.litter import Litter

_SHOWN = 10
_WORDS = {
    "partial": "partial downloads",
    "quarantine": "wrong bytes in quarantine",
    "lock": "locks that nobody holds",
    "temporary": "temporary names",
    "trash": "trash that was being emptied",
    "folder": "empty folders",
    "blob": "blobs of the Hub's cache that nothing leads to",
    "revision": "revisions of the Hub's cache without a ref",
}
_EPILOG = """\b
Nothing that a process is at, and nothing touched in the last day, is taken. Blobs and
revisions go to the trash, the rest is deleted.

\b
Examples:
  modelbay prune --dry-run
  modelbay prune --yes
  modelbay prune --revisions --all
"""


@click.command(name="prune", epilog=_EPILOG)
@click.option("--all", "everything", is_flag=True, help="Partial downloads of today too.")
@click.option("--revisions", is_flag=True, help="Revisions that no ref leads to, too.")
@click.option("--dry-run", is_flag=True, help="Show what would go and take nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
@click.pass_obj
def command(
    face: Face, /, *, everything: bool, revisions: bool, dry_run: bool, as_json: bool, yes: bool
) -> int:
    """Take away what nobody needs: partials, wrong bytes, stale locks, blobs without a use."""
    with face.bay() as bay:
        found = list(bay.library.litter(everything=everything, detached=revisions))
        lines = _lines(found, face.words)
        if dry_run or not found:
            return _show(face, found, lines, as_json=as_json)
        face.notice("plan", *lines)
        if not yes:
            ask(face, f"take {count(len(found), 'thing')} away?")
        pruned = bay.library.prune(found)
    if as_json:
        face.give_json(
            {
                **_document(found),
                "gone": pruned.gone,
                "freed": pruned.freed,
                "trashed": pruned.trashed,
            }
        )
    face.notice("done", _last_line(pruned, face.words))
    return 0


def _show(face: Face, found: "Sequence[Litter]", lines: Sequence[str], *, as_json: bool) -> int:
    if as_json:
        face.give_json(_document(found))
    elif found:
        face.give(*lines)
    if not found:
        face.say("there is nothing to prune; `modelbay trash ls` shows what the trash holds")
    return 0


def _lines(found: "Sequence[Litter]", words: Words) -> list[str]:
    """By kind: how many, what they free, why they may go, and the first of them."""
    lines: list[str] = []
    ordered = sorted(found, key=lambda one: (list(_WORDS).index(one.kind), one.base, one.paths))
    for kind, group in groupby(ordered, key=lambda one: one.kind):
        several = list(group)
        size = words.size(sum(one.frees for one in several))
        then = " when the trash is emptied" if several[0].to_trash else ""
        lines.append(f"{len(several):,} {_WORDS[kind]}: {size}{then}")
        lines.append(f"  safe because {several[0].why}")
        lines += [
            f"    {words.size(one.frees):>8}  {clean(one.paths[0])}" for one in several[:_SHOWN]
        ]
        if len(several) > _SHOWN:
            lines.append(f"    and {len(several) - _SHOWN:,} more")
    return lines


def _document(found: "Sequence[Litter]") -> dict[str, Any]:
    return {
        "litter": [
            {
                "kind": one.kind,
                "paths": [str(path) for path in one.paths],
                "frees": one.frees,
                "to_trash": one.to_trash,
                "why": one.why,
            }
            for one in found
        ],
        "frees": sum(one.frees for one in found),
    }


def _last_line(pruned: "Pruned", words: Words) -> str:
    line = f"Took {count(pruned.gone, 'thing')} away: {words.size(pruned.freed)} freed"
    if pruned.trashed:
        line += f", {words.size(pruned.trashed)} more when the trash is emptied"
    return line + (f"; {len(pruned.busy):,} in use by now" if pruned.busy else "")
