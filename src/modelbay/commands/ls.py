"""`modelbay ls`: what the library holds."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from modelbay import paths
from modelbay.errors import UsageError
from modelbay.output.face import Face
from modelbay.output.plans import short
from modelbay.output.tables import Column, Table, age, table
from modelbay.output.words import Words, count
from modelbay.text import clean

if TYPE_CHECKING:
    from modelbay.bay import Bay
    from modelbay.bay.holdings import Holding
    from modelbay.library.index import IndexedFile

_EARLY = 20
"""Rows that are shown one by one, before the stream is left to its buffer."""
_EPILOG = """\b
Examples:
  modelbay ls
  modelbay ls qwen --files
  modelbay ls --layout hf-cache --json

VERIFIED tells how long ago every byte of a model was last read; models on disks that are
not mounted are marked (detached).
"""


@click.command(name="ls", epilog=_EPILOG)
@click.argument("text", metavar="[TEXT]", required=False)
@click.option("-l", "--files", is_flag=True, help="List the files of every model.")
@click.option("--source", metavar="S", help="Only models that came from this source.")
@click.option("--layout", metavar="L", help="Only models that are laid out this way.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def command(
    face: Face,
    /,
    *,
    text: str | None,
    files: bool,
    source: str | None,
    layout: str | None,
    as_json: bool,
) -> int:
    """List the models that are here, whoever brought them."""
    with face.bay() as bay:
        found = bay.library.models(text, source=source, layout=layout)
        number = _give_json(face, bay, found) if as_json else _give(face, bay, found, files=files)
    if not number:
        _say_nothing(face, filtered=bool(text or source or layout))
    return 0


def _say_nothing(face: Face, *, filtered: bool) -> None:
    if filtered:
        face.say("no model in the library is like that: `modelbay ls` shows all of them")
    else:
        face.say(
            "the library is empty: `modelbay get REF` fetches a model, `modelbay adopt` finds "
            "those that other programs keep"
        )


def _give(face: Face, bay: "Bay", found: "Iterator[Holding]", *, files: bool) -> int:
    rows = table(
        face,
        Column("MODEL", 27, stretches=True),
        Column("REVISION", 8),
        Column("WHERE", 18),
        Column("FILES", 5, right=True),
        Column("SIZE", 8, right=True),
        Column("VERIFIED", 8),
    )
    number = size = 0
    for holding in found:
        if not number:
            face.give(rows.heading())
        face.give(rows.line(_cells(face, holding)))
        if files:
            face.give(f"  in {clean(holding.model.root)}")
            for file in bay.library.files_of(holding.model):
                face.give(_file_line(file, face.words, rows))
        number += 1
        size += holding.model.size
        if number <= _EARLY:
            face.out.flush()
    if number:
        face.say(f"{count(number, 'model')}, {face.words.size(size)}")
    return number


def _cells(face: Face, holding: "Holding") -> tuple[str, ...]:
    model = holding.model
    name = clean(model.model if model.named else shown(face, model.ref))
    return (
        name if model.attached else f"{name} (detached)",
        short(model.revision)[:7] if len(model.revision) >= 40 else clean(model.revision)[:8],
        where(face, model.layout, model.root),
        f"{model.files:,}",
        face.words.size(model.size),
        age(holding.verified),
    )


def shown(face: Face, ref: str) -> str:
    """A ref as people write it: of the Hub without its scheme, and without the endpoint that is
    configured here anyway.
    """
    endpoint = face.settings.endpoints.get("huggingface")
    if endpoint is not None:
        ref = ref.removesuffix(f"?endpoint={endpoint}")
    return ref.removeprefix("hf://")


def where(face: Face, layout: str, root: Path) -> str:
    """A place in few words: the Hub's cache by its name, a folder by its path from home."""
    if layout == "hf-cache":
        return layout
    with suppress(UsageError):
        home = paths.home(face.environ)
        if root.is_relative_to(home):
            return clean(f"~/{root.relative_to(home)}")
    return clean(root)


def _file_line(file: "IndexedFile", words: Words, rows: Table) -> str:
    mark = "" if file.placed else "  (not modelbay's)"
    name = clean(file.name or file.path.name)
    line = f"  {words.size(file.size):>8}  {age(file.verified):>5}  {name}{mark}"
    return line if rows.width is None else line[: rows.width]


def _give_json(face: Face, bay: "Bay", found: "Iterator[Holding]") -> int:
    """One document, written as it is read, so that a hundred thousand files need no memory."""
    number = 0
    face.out.write('{"models": [')
    for holding in found:
        document = json.dumps(_document(bay, holding), indent=2)
        face.out.write(("," if number else "") + "\n" + document)
        number += 1
        if number <= _EARLY:
            face.out.flush()
    face.out.write("\n]}\n" if number else "]}\n")
    return number


def _document(bay: "Bay", holding: "Holding") -> dict[str, Any]:
    model = holding.model
    return {
        "model": model.model,
        "ref": model.ref,
        "revision": model.revision,
        "source": model.source,
        "layout": model.layout,
        "root": str(model.root),
        "licence": model.licence,
        "size": model.size,
        "attached": model.attached,
        "verified": holding.verified,
        "ours": holding.ours,
        "files": [_file_document(file) for file in bay.library.files_of(model)],
    }


def _file_document(file: "IndexedFile") -> dict[str, Any]:
    return {
        "name": file.name,
        "path": str(file.path),
        "size": file.size,
        "placed": file.placed,
        "verified": file.verified,
        "digests": {one.algorithm: one.hex for one in file.digests},
        "observed": [one.algorithm for one in file.digests if one.observed],
    }
