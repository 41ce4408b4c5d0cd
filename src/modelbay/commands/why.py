"""`modelbay why`: who needs a file, and where it came from."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from modelbay.output.face import Face
from modelbay.output.plans import short
from modelbay.output.tables import age
from modelbay.output.words import Words, count
from modelbay.text import clean

if TYPE_CHECKING:
    from modelbay.bay.reasons import Reason

_NAMED = 20
_EPILOG = """\b
Locks are looked for in the current folder (*.lock.toml) and where `modelbay sync` keeps
them; --lock names others.

\b
Examples:
  modelbay why ComfyUI/models/loras/detail.safetensors
  modelbay why model.safetensors --lock fleet.lock.toml --json
"""


@click.command(name="why", epilog=_EPILOG)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--lock",
    "locks",
    metavar="LOCK",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A lock file to look into; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def command(face: Face, /, *, file: Path, locks: Sequence[Path], as_json: bool) -> int:
    """Tell which models and locks need a file, where it came from, and where its bytes are."""
    with face.bay() as bay:
        found = bay.library.why(file, locks)
    if as_json:
        face.give_json(_document(found))
    else:
        face.give(*_lines(found, face.words))
    return 0


def _lines(found: "Reason", words: Words) -> Iterator[str]:
    yield f"{clean(found.asked)}: {words.size(found.size)}"
    if found.path != found.asked.absolute():
        yield f"  bytes     {clean(found.path)}"
    yield f"  owner     {_owner(found)}"
    for digest in found.digests:
        said = "" if digest.observed else " (claimed, not read yet)"
        yield f"  digest    {digest}{said}"
    if found.verified is not None:
        yield (
            f"  verified  {age(found.verified)} ago"
            if age(found.verified) != "now"
            else ("  verified  just now")
        )
    for model in found.models[:_NAMED]:
        named = f"{clean(model.model)}, " if model.named else ""
        yield f"  needed by {named}{clean(model.ref)} (revision {short(model.revision)})"
    for need in found.locks[:_NAMED]:
        yield f"  locked in {clean(need.lock)} as {clean(need.id)}: {clean(need.path)}"
    if not found.models and not found.locks:
        yield "  needed by nothing that modelbay knows of"
    yield from _names("same file", found.names)
    yield from _names("same bytes", found.copies)


def _owner(found: "Reason") -> str:
    record = found.record
    if record is None or not (found.ours or found.changed):
        return "not modelbay's: it never touches this file"
    came = f"{clean(record.ref)}, {_day(record.when)}"
    if found.changed:
        return f"changed since modelbay put it there from {came}: now it is yours"
    return f"modelbay put it there from {came}"


def _day(when: str) -> str:
    try:
        return datetime.fromisoformat(when).astimezone(UTC).date().isoformat()
    except ValueError:
        return "some day"


def _names(title: str, paths: Sequence[Path]) -> Iterator[str]:
    for path in paths[:_NAMED]:
        yield f"  {title:<9} {clean(path)}"
    if len(paths) > _NAMED:
        yield f"  and {count(len(paths) - _NAMED, 'more name')}"


def _document(found: "Reason") -> dict[str, Any]:
    record = found.record
    return {
        "file": str(found.asked),
        "path": str(found.path),
        "size": found.size,
        "ours": found.ours,
        "changed": found.changed,
        "digests": {one.algorithm: one.hex for one in found.digests},
        "observed": [one.algorithm for one in found.digests if one.observed],
        "verified": found.verified,
        "from": {"ref": record.ref, "revision": record.revision, "when": record.when}
        if record is not None
        else None,
        "models": [
            {"model": one.model, "ref": one.ref, "revision": one.revision, "layout": one.layout}
            for one in found.models
        ],
        "locks": [{"lock": str(one.lock), "id": one.id, "path": one.path} for one in found.locks],
        "same_file": [str(path) for path in found.names],
        "same_bytes": [str(path) for path in found.copies],
    }
