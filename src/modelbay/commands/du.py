"""`modelbay du`: what the library takes of every disk."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from modelbay.commands.ls import shown, where
from modelbay.output.face import Face
from modelbay.output.tables import Column, bar, table
from modelbay.output.words import count
from modelbay.text import clean

if TYPE_CHECKING:
    from modelbay.bay.holdings import DiskUse, PlaceUse, VolumeUse

_BAR = 12
_EPILOG = """\b
SIZE adds up the files' sizes; ON DISK counts the blocks of every inode once, so that hard
links and files that several models share cost nothing twice.

\b
Examples:
  modelbay du
  modelbay du --models
  modelbay du --json
"""


@click.command(name="du", epilog=_EPILOG)
@click.option("-m", "--models", is_flag=True, help="A row for every model, the largest first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def command(face: Face, /, *, models: bool, as_json: bool) -> int:
    """Show what the library takes: by place, by model, and the free space that is left."""
    with face.bay() as bay:
        if face.err.isatty():
            face.say("looking at every file of the library")
        found = bay.library.disk_use()
    if as_json:
        face.give_json(_document(found))
        return 0
    if not found.places:
        face.say(
            "the library is empty: `modelbay get REF` fetches a model, `modelbay adopt` finds "
            "those that other programs keep"
        )
        return 0
    _give(face, found, models=models)
    return 0


def _give(face: Face, found: "DiskUse", *, models: bool) -> None:
    rows = table(
        face,
        Column("PLACE", 28, stretches=True),
        Column("FILES", 7, right=True),
        Column("SIZE", 8, right=True),
        Column("ON DISK", 8, right=True),
        Column("", _BAR),
    )
    words, most = face.words, max((one.real for one in found.places), default=0) or 1
    face.give(rows.heading())
    for place in sorted(found.places, key=lambda one: -one.real):
        picture = bar(place.real / most, _BAR, ascii_only=words.ascii) if rows.width else ""
        path = where(face, "dir", place.place)
        numbers = f"{place.files:,}", words.size(place.apparent), words.size(place.real)
        face.give(rows.line((path, *numbers, picture)))
        if models:
            _give_models(face, place, rows.line)
        for name, size in _ours(place):
            face.give(rows.line((f"  .modelbay/{name}", "", "", words.size(size), "")))
    for volume in found.volumes:
        face.give(_volume_line(face, volume, picture=rows.width is not None))
    if found.detached:
        face.say(
            f"{count(len(found.detached), 'model')} on disks that are not mounted: not looked at"
        )


def _give_models(face: Face, place: "PlaceUse", line: Any) -> None:
    words = face.words
    for one in sorted(place.models, key=lambda one: -one.usage.real):
        name = one.model.model if one.model.named else shown(face, one.model.ref)
        numbers = words.size(one.usage.apparent), words.size(one.usage.real)
        face.give(line((f"  {clean(name)}", f"{one.usage.names:,}", *numbers, "")))


def _ours(place: "PlaceUse") -> Sequence[tuple[str, int]]:
    named = (("trash", place.trash), ("parts", place.parts), ("quarantine", place.quarantine))
    return [(name, size) for name, size in named if size]


def _volume_line(face: Face, volume: "VolumeUse", *, picture: bool) -> str:
    words = face.words
    used = 1 - volume.free / volume.total if volume.total else 0.0
    drawn = f"  {bar(used, _BAR, ascii_only=words.ascii)}" if picture else ""
    return (
        f"{clean(volume.point)}: {words.size(volume.free)} of {words.size(volume.total)} free, "
        f"{words.size(volume.library)} are the library's{drawn}"
    )


def _document(found: "DiskUse") -> dict[str, Any]:
    return {
        "places": [
            {
                "place": str(one.place),
                "files": one.files,
                "size": one.apparent,
                "on_disk": one.real,
                "trash": one.trash,
                "parts": one.parts,
                "quarantine": one.quarantine,
                "models": [
                    {
                        "model": use.model.model,
                        "ref": use.model.ref,
                        "revision": use.model.revision,
                        "files": use.usage.names,
                        "size": use.usage.apparent,
                        "on_disk": use.usage.real,
                    }
                    for use in one.models
                ],
            }
            for one in found.places
        ],
        "volumes": [
            {
                "point": str(one.point),
                "total": one.total,
                "free": one.free,
                "library": one.library,
            }
            for one in found.volumes
        ],
        "detached": [model.ref for model in found.detached],
    }
