"""`modelbay adopt`: what other programs downloaded, found and indexed where it lies."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import click

from modelbay.output.face import Face
from modelbay.output.follow import (
    HEARTBEAT,
    JsonWatch,
    LiveWatch,
    PlainWatch,
    Wanted,
    Watch,
    watch_for,
)
from modelbay.output.words import Words, count
from modelbay.text import clean

if TYPE_CHECKING:
    from rich.status import Status

    from modelbay.bay.adopting import Adopted, PlaceFound, Twin
    from modelbay.library.adopt import Place

MOST_TWINS: Final = 10
MOST_DAMAGED: Final = 20
_QUIET_SECONDS: Final = 1.0
_KINDS: Final = {"hf-cache": "Hub cache", "ollama": "Ollama", "dir": "folder"}
_EPILOG = """\b
Without DIR the usual places are looked through: the Hub's cache, Ollama's store, and the
models' folders of known applications below the workspace and in your home. Nothing is
moved, changed or hashed. Names that begin with a dot are left out, and links that lead out
of a place are not followed.

\b
Examples:
  modelbay adopt
  modelbay adopt /mnt/models ~/old/ComfyUI/models
  modelbay adopt --json
"""


@click.command(name="adopt", epilog=_EPILOG)
@click.argument("folders", metavar="[DIR]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "json", "none"]),
    default="auto",
    show_default=True,
    help="A line on a terminal, JSON events on stderr, or nothing.",
)
@click.pass_obj
def command(face: Face, /, *, folders: Sequence[Path], as_json: bool, progress: Wanted) -> None:
    """Find the models that this machine already holds, and index them where they lie.

    What is indexed is linked in place of being fetched again, once its bytes were hashed.
    """
    with face.bay() as bay, _Teller(face, watch_for(face, progress)) as teller:
        adopted = bay.adopt(folders, tell=teller.tell)
    if as_json:
        face.give_json(_document(adopted))
    else:
        face.give(*_lines(adopted, face.words))
    _say_notes(face, adopted)
    if not any(found.files for found in adopted.places):
        face.say(
            f"no models were found in {count(len(adopted.places), 'place')}",
            f"  {face.words.arrow} name a folder: `modelbay adopt DIR`",
        )


@dataclass(slots=True)
class _Teller:
    """Says where the look is, once it has taken longer than a person waits silently."""

    face: Face
    watch: Watch
    _began: float = field(default_factory=time.monotonic)
    _spoken: float | None = None
    _status: "Status | None" = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def tell(self, place: "Place", names: int) -> None:
        now = time.monotonic()
        if now - self._began < _QUIET_SECONDS or now - (self._spoken or 0) < self._pause():
            return
        self._spoken = now
        shown = f"looking through {clean(place.root)}: {count(names, 'name')} so far"
        if isinstance(self.watch, JsonWatch):
            self.face.say_event("looking", shown, path=str(place.root), names=names)
        elif isinstance(self.watch, LiveWatch):
            self._live().update(shown)
        elif isinstance(self.watch, PlainWatch):
            self.face.say(shown)

    def _pause(self) -> float:
        return HEARTBEAT if isinstance(self.watch, PlainWatch) else self.watch.every

    def _live(self) -> "Status":
        from rich.console import Console

        if self._status is None:
            plain = bool(self.face.environ.get("NO_COLOR"))
            console = Console(file=self.face.err, no_color=plain, markup=False, highlight=False)
            spinner = "line" if self.face.words.ascii else "dots"
            self._status = self._stack.enter_context(console.status("", spinner=spinner))
        return self._status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _lines(adopted: "Adopted", words: Words) -> Iterator[str]:
    holding = [found for found in adopted.places if found.files]
    for found in holding:
        yield _place_line(found, words)
    if holding:
        yield f"{words.size(adopted.size)} in {count(len(holding), 'place')}; " + _twice(
            adopted, words
        )
    for twin in adopted.twins[:MOST_TWINS]:
        yield from _twin_lines(twin, words)
    if len(adopted.twins) > MOST_TWINS:
        yield f"  and {len(adopted.twins) - MOST_TWINS:,} more; --json lists them"
    damaged = [one for found in holding for one in found.damaged]
    for one in damaged[:MOST_DAMAGED]:
        yield f"damaged: {clean(one.path)}: {one.why}"
    if len(damaged) > MOST_DAMAGED:
        yield f"damaged: {len(damaged) - MOST_DAMAGED:,} more; --json lists them"


def _place_line(found: "PlaceFound", words: Words) -> str:
    kind = found.place.application or _KINDS[found.place.kind]
    models, files = count(found.models, "model"), count(found.files, "file")
    size = words.size(found.size)
    return f"{size:>9}  {models:>14}  {files:>14}  {kind:<9}  {clean(found.place.root)}"


def _twice(adopted: "Adopted", words: Words) -> str:
    if not adopted.twins:
        return "none of it is known to be there twice"
    return f"{words.size(adopted.twice)} are the same bytes twice"


def _twin_lines(twin: "Twin", words: Words) -> Iterator[str]:
    digest = f"{twin.digest.algorithm}:{twin.digest.hex[:12]}"
    said = "read" if twin.digest.observed else "claimed by name"
    yield f"  {words.size(twin.size)}, {len(twin.paths)} times, {digest} {said}:"
    for path in twin.paths:
        yield f"    {clean(path)}"


def _say_notes(face: Face, adopted: "Adopted") -> None:
    for found in adopted.places:
        for note in found.notes:
            face.notice("note", f"note: {clean(note)}")
        if found.unsaid:
            face.notice("note", f"note: {found.unsaid:,} more like these")
        for said in _facts(found):
            face.notice("note", f"note: {clean(found.place.root)}: {said}")


def _facts(found: "PlaceFound") -> Iterator[str]:
    if found.detached:
        yield (
            f"{count(found.detached, 'revision')} that no ref leads to "
            "(`hf cache prune` would remove them)"
        )
    if found.links:
        yield f"{count(found.links, 'link')} not followed"
    if found.forgotten:
        yield f"{count(found.forgotten, 'file')} of the last time no longer there"


def _document(adopted: "Adopted") -> dict[str, Any]:
    return {
        "places": [_place_document(found) for found in adopted.places],
        "bytes": adopted.size,
        "bytes_twice": adopted.twice,
        "twins": [
            {
                "digest": str(twin.digest),
                "observed": twin.digest.observed,
                "size": twin.size,
                "paths": list(twin.paths),
            }
            for twin in adopted.twins
        ],
    }


def _place_document(found: "PlaceFound") -> dict[str, Any]:
    return {
        "kind": found.place.kind,
        "application": found.place.application,
        "path": str(found.place.root),
        "models": found.models,
        "files": found.files,
        "bytes": found.size,
        "damaged": [{"path": one.path, "why": one.why} for one in found.damaged],
        "detached": found.detached,
        "links": found.links,
        "notes": list(found.notes),
        "more_notes": found.unsaid,
        "whole": found.whole,
        "forgotten": found.forgotten,
    }
