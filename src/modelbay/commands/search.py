"""`modelbay search`: hits as they come, from every source that can."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from modelbay.errors import ModelbayError
from modelbay.output.asking import Asking
from modelbay.output.exits import error_document, exit_code, hint_lines, worst
from modelbay.output.face import Face
from modelbay.output.words import Words
from modelbay.snapshot import Hit, Query
from modelbay.text import clean

if TYPE_CHECKING:
    from modelbay.bay import Bay

BLOCK = 50
"""Hits that are lined up with each other; more than a page of any source."""
_EPILOG = """\b
Examples:
  modelbay search qwen3
  modelbay search llama --author bartowski --filter gguf --sort downloads --limit 50
  modelbay search flux --source huggingface --no-gated --json
  modelbay search detail --source civitai --filter type:lora --filter 'base:SDXL 1.0'

\b
CivitAI: --filter takes a tag, type:LORA, base:'SDXL 1.0', period:week, checkpoint:merge or
nsfw; --sort downloads, likes, rating, newest, …; --author a creator.
"""


@click.command(name="search", epilog=_EPILOG)
@click.argument("text", metavar="QUERY")
@click.option(
    "--source", "sources", metavar="S", multiple=True, help="Only this source; repeatable."
)
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Hits per source."
)
@click.option("--author", metavar="NAME", help="Only models of this author or organisation.")
@click.option(
    "--filter", "filters", metavar="TAG", multiple=True, help="Only with this tag; repeatable."
)
@click.option("--task", metavar="TASK", help="Only for this task, as text-generation.")
@click.option("--gated/--no-gated", default=None, help="Only gated models, or none of them.")
@click.option("--sort", metavar="KEY", help="downloads, likes, updated, or what the source knows.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def command(face: Face, /, *, sources: Sequence[str], as_json: bool, **asked: Any) -> int:
    """Find models. A source that is down is said, and the others answer."""
    query = Query(**asked)
    hits: list[Hit] = []
    errors: list[ModelbayError] = []
    with face.bay() as bay:
        for found in _asked(face, bay, query, sources):
            if isinstance(found, Hit):
                hits.append(found)
                if not as_json and len(hits) % BLOCK == 0:
                    _give(face, hits[-BLOCK:])
            else:
                errors.append(found)
    if not as_json:
        _give(face, hits[len(hits) - len(hits) % BLOCK :])
    if as_json:
        face.give_json(_document(hits, errors))
    for error in errors:
        face.say(f"warning: {clean(error)}", *hint_lines(error, face.words))
    if not hits and not errors:
        face.say(f"nothing was found for {clean(query.text)!r}")
    return worst(map(exit_code, errors)) if not hits else 0


def _asked(
    face: Face, bay: "Bay", query: Query, sources: Sequence[str]
) -> Iterator[Hit | ModelbayError]:
    found = bay.search(query, sources)
    while True:
        with Asking(face, bay, "searching"):
            block = list(islice(found, BLOCK))
        yield from block
        if not block:
            return


def _document(hits: Sequence[Hit], errors: Sequence[ModelbayError]) -> dict[str, Any]:
    document: dict[str, Any] = {
        "hits": [{**asdict(hit), "ref": str(hit.ref), "source": hit.ref.source} for hit in hits],
        "errors": [error_document(error) for error in errors],
    }
    if errors and not hits:
        document["error"] = error_document(errors[0])
    return document


def _give(face: Face, hits: Sequence[Hit]) -> None:
    rows = [_cells(hit, face.words) for hit in hits]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True) if width]
        face.give("  ".join(cells).rstrip())
    face.out.flush()


def _cells(hit: Hit, words: Words) -> tuple[str, ...]:
    ref = clean(hit.ref)
    down, like = ("v", "*") if words.ascii else ("↓", "♥")
    return (
        ref,
        f"{down}{_short(hit.downloads):>6}",
        f"{like}{_short(hit.likes):>6}",
        clean((hit.updated or "")[:10]),
        clean(hit.task or "", limit=40),
        clean(hit.licence or "", limit=40),
        "" if hit.gated in {None, "no"} else "gated",
        "private" if hit.private else "",
        "" if hit.title in ref else clean(hit.title, limit=60),
    )


def _short(number: int | None) -> str:
    """`1.2M`, so that columns stay narrow."""
    if number is None:
        return "-"
    for step, mark in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= step:
            return f"{number / step:.1f}{mark}"
    return str(number)
