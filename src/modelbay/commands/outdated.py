"""`modelbay outdated`: whether something newer is there."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from modelbay.commands.ls import shown
from modelbay.output.exits import error_document, hint_lines
from modelbay.output.face import Face
from modelbay.output.plans import short
from modelbay.output.tables import Column, table
from modelbay.output.words import count
from modelbay.text import clean

if TYPE_CHECKING:
    from modelbay.bay.outdated import Newer

_EPILOG = """\b
Asks the sources, several at once; one that is down is a row and no failure. Models whose
ref is a commit cannot be outdated and are left out. The exit code is 0 either way.

\b
Examples:
  modelbay outdated
  modelbay outdated qwen
  modelbay outdated --lock models.lock.toml --json
"""


@click.command(name="outdated", epilog=_EPILOG)
@click.argument("text", metavar="[TEXT]", required=False)
@click.option(
    "--lock", metavar="LOCK", type=click.Path(path_type=Path), help="Ask about a lock's models."
)
@click.option("-a", "--all", "everything", is_flag=True, help="Show what is up to date too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def command(
    face: Face, /, *, text: str | None, lock: Path | None, everything: bool, as_json: bool
) -> int:
    """Ask the sources whether they have a newer revision of what is here, or in a lock."""
    rows = table(
        face,
        Column("MODEL", 24, stretches=True),
        Column("HERE", 8),
        Column("NEWER", 8),
        Column("CHANGED", 9, right=True),
        Column("TO FETCH", 8, right=True),
    )
    found: list[Newer] = []
    with face.bay() as bay:
        for one in bay.library.outdated(text, lock):
            found.append(one)
            if as_json or one.error is not None or (one.newer is None and not everything):
                continue
            if not any(_is_shown(before, everything=everything) for before in found[:-1]):
                face.give(rows.heading())
            face.give(rows.line(_cells(face, one)))
            face.out.flush()
    if as_json:
        face.give_json({"models": [_document(one) for one in found]})
    _say(face, found)
    return 0


def _is_shown(one: "Newer", *, everything: bool) -> bool:
    return one.error is None and (one.newer is not None or everything)


def _cells(face: Face, one: "Newer") -> tuple[str, ...]:
    newer = short(one.newer)[:7] if one.newer is not None else "="
    return (
        clean(shown(face, one.held.name)),
        short(one.held.revision)[:7],
        newer,
        count(len(one.changed), "file") if one.newer is not None else "",
        face.words.size(one.size) if one.newer is not None else "",
    )


def _say(face: Face, found: "list[Newer]") -> None:
    for one in found:
        if one.error is not None:
            line = f"not known: {clean(one.held.name)}: {clean(one.error)}"
            face.notice("unknown", line, *hint_lines(one.error, face.words))
    newer = sum(one.newer is not None for one in found)
    if not found:
        face.say("there is nothing to ask about: the library has no model of a source")
        return
    line = f"{newer:,} of {count(len(found), 'model')} have something newer"
    face.notice("done", line + (": `modelbay get REF` fetches it" if newer else ""))


def _document(one: "Newer") -> dict[str, Any]:
    return {
        "model": one.held.name,
        "ref": str(one.held.ref),
        "revision": one.held.revision,
        "newer": one.newer,
        "changed": list(one.changed),
        "size": one.size,
        "error": error_document(one.error) if one.error is not None else None,
    }
