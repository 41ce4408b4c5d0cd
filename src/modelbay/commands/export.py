"""`modelbay export`: the library, written down for another machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from modelbay.errors import ModelbayError, ModelNotFound
from modelbay.output.asking import Asking
from modelbay.output.exits import DONE, error_lines, exit_code, worst
from modelbay.output.face import Face
from modelbay.output.follow import Wanted, follow, watch_for
from modelbay.output.words import count
from modelbay.text import clean

if TYPE_CHECKING:
    from modelbay.bay.exporting import Export, Form

_EPILOG = """\b
Without REFs everything in the library is written. A provision file that is there is added
to, and its comments stay; a lock or a list of sums is only written anew with --replace.

\b
Examples:
  modelbay export mine.toml
  modelbay export mine.toml hf://Qwen/Qwen3-0.6B
  modelbay export --lock mine.lock.toml
  modelbay export --format sha256sums SHA256SUMS && sha256sum -c SHA256SUMS
"""


@click.command(name="export", epilog=_EPILOG)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.argument("refs", metavar="[REF...]", nargs=-1)
@click.option("--lock", "as_lock", is_flag=True, help="Write a lock; files are read for it.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["toml", "sha256sums"]),
    default="toml",
    show_default=True,
    help="TOML, or a list that `sha256sum -c` reads.",
)
@click.option("--replace", is_flag=True, help="Write the file anew, whatever it is now.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "json", "none"]),
    default="auto",
    show_default=True,
    help="Bars on a terminal, JSON events on stderr, or nothing.",
)
@click.pass_obj
def command(
    face: Face,
    /,
    *,
    file: Path,
    refs: Sequence[str],
    as_lock: bool,
    form: str,
    replace: bool,
    as_json: bool,
    progress: Wanted,
) -> int:
    """Write a provision file, a lock or sha256 sums of the models on this machine."""
    if as_lock and form != "toml":
        raise click.UsageError("--lock and --format sha256sums name two formats")
    chosen: Form = "lock" if as_lock else "sha256sums" if form == "sha256sums" else "toml"
    with face.bay() as bay:
        with Asking(face, bay, "asking about what is exported"):
            export = bay.prepare_export(file, refs, form=chosen, replace=replace)
        for note in export.notes:
            face.say(f"note: {note}")
        if not export.held:
            raise ModelNotFound(
                "there is no model to write in the library of this machine",
                hint="`modelbay adopt` looks for what other programs left",
            )
        said = len(export.notes)
        code = _read(face, export, progress)
        if code == DONE:
            export.write()
    for note in export.notes[said:]:
        face.say(f"note: {note}")
    _say(face, export, code, as_json=as_json)
    return code


def _read(face: Face, export: "Export", progress: Wanted) -> int:
    """Reads what nobody vouches for; the exit code of what could not be read as it should."""
    if not export.unread:
        return DONE
    total = face.words.size(sum(file.size for file in export.unread))
    face.say(f"reading {count(len(export.unread), 'file')}, {total}, to know their sha256")
    work = export.carry()
    follow(work, watch_for(face, progress))
    errors = [row.error for row in work.rows if row.error is not None]
    for error in errors:
        _say_error(face, error)
    return worst(exit_code(error) for error in errors)


def _say_error(face: Face, error: ModelbayError) -> None:
    face.notice("failed", *error_lines(error, face.words))


def _say(face: Face, export: "Export", code: int, *, as_json: bool) -> None:
    number = sum(len(one.files) for one in export.held)
    what = f"{count(len(export.held), 'model')}, {count(number, 'file')}"
    if code == DONE:
        face.say(f"Wrote {what} to {clean(export.file)}")
    else:
        face.say(f"{clean(export.file)} was not written")
    if as_json:
        models = [
            {"id": one.ident, "ref": one.model.ref, "files": len(one.files)} for one in export.held
        ]
        document = {"file": str(export.file), "models": models, "notes": export.notes}
        face.give_json({**document, "exit": code})
