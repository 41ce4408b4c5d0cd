"""`modelbay trash`: what was removed or replaced, bringing it back, deleting it for good."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from modelbay.commands.ls import shown
from modelbay.commands.rm import ask
from modelbay.errors import UsageError
from modelbay.output.face import Face
from modelbay.output.tables import Column, age, table
from modelbay.output.words import count
from modelbay.text import clean

if TYPE_CHECKING:
    from modelbay.library.trash import Bundle

_FILES_SHOWN = 10
_EPILOG = """\b
A bundle is what one command took away below one folder. NAME is a bundle's id as `trash
ls` shows it, a model's ref, or the path that a file had.

\b
Examples:
  modelbay trash
  modelbay trash restore hf://org/name
  modelbay trash restore 2026-11-21-1.7f3a
  modelbay trash empty --older 7 --yes
"""


@click.group(name="trash", epilog=_EPILOG, invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> int:
    """Show what was removed or replaced, bring it back, or delete it for good."""
    if context.invoked_subcommand is None:
        return int(context.invoke(ls) or 0)
    return 0


@command.command(name="ls")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def ls(face: Face, *, as_json: bool = False) -> int:
    """List what is in the trash, the newest first."""
    with face.bay() as bay:
        found = bay.library.trash()
        days = bay.settings.trash_days
    if as_json:
        face.give_json({"bundles": [_document(one) for one in found], "trash_days": days})
    elif found:
        _give(face, found)
        frees = sum(one.usage().freed for one in found)
        face.say(
            f"emptying all of it frees {face.words.size(frees)}; what is older than {days} days "
            "goes by itself"
        )
    else:
        face.say("the trash is empty")
    return 0


def _give(face: Face, found: "Sequence[Bundle]") -> None:
    rows = table(
        face,
        Column("ID", 17),
        Column("AGE", 4),
        Column("FILES", 5, right=True),
        Column("SIZE", 8, right=True),
        Column("WHAT", 30, stretches=True),
    )
    face.give(rows.heading())
    for one in found:
        face.give(
            rows.line(
                (
                    one.id,
                    age(one.when),
                    f"{len(one.files):,}",
                    face.words.size(one.size),
                    what(face, one),
                )
            )
        )


def what(face: Face, bundle: "Bundle") -> str:
    """The models of a bundle, or its first file where nothing says whose they were."""
    names = [clean(shown(face, ref)) for ref in bundle.refs] or [
        clean(bundle.base / bundle.files[0].path)
    ]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return names[0] + more


@command.command(name="restore")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def restore(face: Face, *, names: Sequence[str], as_json: bool) -> int:
    """Bring bundles, models or files back under their old names."""
    with face.bay() as bay:
        back = bay.library.restore(bay.library.in_trash(names))
    if as_json:
        face.give_json({"restored": [str(path) for path in back]})
    else:
        face.give(*(clean(path) for path in back))
    face.notice("done", f"{count(len(back), 'name')} came back")
    return 0


@command.command(name="empty")
@click.argument("names", metavar="[ID]...", nargs=-1)
@click.option(
    "--older", "days", type=click.IntRange(0), metavar="DAYS", help="Only what is that old."
)
@click.option("--dry-run", is_flag=True, help="Show what would be deleted and delete nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
@click.pass_obj
def empty(
    face: Face,
    *,
    names: Sequence[str],
    days: int | None,
    dry_run: bool,
    as_json: bool,
    yes: bool,
) -> int:
    """Delete bundles for good: those named, those older than --older, or all of them."""
    from modelbay.bay.trashing import older  # brings the HTTP library, which --help must not

    with face.bay() as bay:
        found = _bundles(bay.library.in_trash(names)) if names else bay.library.trash()
        found = older(found, days) if days is not None else found
        frees = sum(one.usage().freed for one in found)
        if dry_run:
            return _show(face, found, frees, as_json=as_json)
        if found and not yes:
            _give_said(face, found)
            size = face.words.size(frees)
            ask(face, f"delete {count(len(found), 'bundle')} for good, which frees {size}?")
        freed = bay.library.empty_trash(found)
    if as_json:
        face.give_json({"emptied": [_document(one) for one in found], "freed": freed})
    face.notice(
        "done",
        f"Deleted {count(len(found), 'bundle')}: {face.words.size(freed)} freed"
        if found
        else "there was nothing to delete",
    )
    return 0


def _bundles(chosen: Sequence[Any]) -> "list[Bundle]":
    """Raises UsageError for a name that means a part of a bundle: it goes as a whole."""
    for one in chosen:
        if one.files is not None and len(one.files) < len(one.bundle.files):
            raise UsageError(
                f"{one.bundle.id} holds other models too, and is emptied as a whole",
                hint=f"name it: `modelbay trash empty {one.bundle.id}`",
            )
    return [one.bundle for one in chosen]


def _give_said(face: Face, found: "Sequence[Bundle]") -> None:
    for one in found[:_FILES_SHOWN]:
        face.say(f"  {one.id}  {face.words.size(one.size):>8}  {what(face, one)}")
    if len(found) > _FILES_SHOWN:
        face.say(f"  and {count(len(found) - _FILES_SHOWN, 'more bundle')}")


def _show(face: Face, found: "Sequence[Bundle]", frees: int, *, as_json: bool) -> int:
    if as_json:
        face.give_json({"bundles": [_document(one) for one in found], "frees": frees})
    elif found:
        _give(face, found)
        face.say(f"deleting them would free {face.words.size(frees)}")
    else:
        face.say("there is nothing to delete")
    return 0


def _document(bundle: "Bundle") -> dict[str, Any]:
    return {
        "id": bundle.id,
        "base": str(bundle.base),
        "when": datetime.fromtimestamp(bundle.when, UTC).isoformat(timespec="seconds"),
        "size": bundle.size,
        "frees": bundle.usage().freed,
        "refs": list(bundle.refs),
        "files": [
            {"path": one.path, "size": one.size, "ref": one.ref, "why": one.why}
            for one in bundle.files
        ],
    }
