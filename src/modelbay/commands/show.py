"""`modelbay show`: what a ref means now."""

from typing import TYPE_CHECKING, Any

import click

from modelbay.errors import ModelbayError
from modelbay.output.asking import Asking
from modelbay.output.face import Face
from modelbay.output.plans import file_document, plan_document, snapshot_document, total_line
from modelbay.output.words import Words, count
from modelbay.plan import Plan
from modelbay.selection import variants
from modelbay.snapshot import Licence, ModelFile, Snapshot
from modelbay.text import clean

if TYPE_CHECKING:
    from modelbay.bay import Bay

_GATES = {
    "no": "none",
    "auto": "terms to accept on the page",
    "manual": "access to ask for on the page, granted by hand",
}
_EPILOG = """\b
Examples:
  modelbay show Qwen/Qwen3-0.6B
  modelbay show hf://org/name@refs%2Fpr%2F1 --json
"""


@click.command(name="show", epilog=_EPILOG)
@click.argument("ref", metavar="REF")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def command(face: Face, *, ref: str, as_json: bool) -> int:
    """Show a model: revision, licence, gate, files with sizes and digests, and what
    would be fetched.
    """
    with face.bay() as bay:
        parsed = bay.parse(ref)
        with Asking(face, bay, f"asking about {clean(parsed)}"):
            snapshot = bay.resolve(parsed)
            plan = _default_plan(face, bay, snapshot)
    if as_json:
        face.give_json(_document(snapshot, plan))
    else:
        face.give(*_lines(snapshot, plan, face.words))
    return 0


def _default_plan(face: Face, bay: "Bay", snapshot: Snapshot) -> Plan | None:
    """What `get` would do, or None, said, where it could not."""
    ref = snapshot.ref
    try:
        return bay.plan(
            bay.select(snapshot, path=ref.path), bay.layout(None, ref, told=snapshot.category)
        )
    except ModelbayError as error:
        face.say(f"warning: `modelbay get` would fail: {clean(error)}")
        return None


def _document(snapshot: Snapshot, plan: Plan | None) -> dict[str, Any]:
    return {
        **snapshot_document(snapshot),
        "size": snapshot.size,
        "files": [file_document(file) for file in snapshot.files],
        "variants": variants(snapshot.files),
        "plan": None if plan is None else plan_document(plan),
    }


def _lines(snapshot: Snapshot, plan: Plan | None, words: Words) -> list[str]:
    facts = {
        "revision": clean(snapshot.revision),
        "licence": _licence(snapshot.licence),
        "gate": _GATES[snapshot.gated],
        "page": clean(snapshot.page or ""),
        "size": f"{words.size(snapshot.size)} in {count(len(snapshot.files), 'file')}",
        "variants": ", ".join(
            f"{clean(name)} {words.size(size)}" for name, size in variants(snapshot.files).items()
        ),
    }
    lines = [clean(snapshot.ref)]
    lines += [f"  {name:<8}  {value}" for name, value in facts.items() if value]
    lines += [f"  note      {clean(note)}" for note in snapshot.notes]
    lines += ["", *_file_lines(snapshot.files, words)]
    if plan is not None:
        lines += ["", f"get would go to {clean(plan.root)} ({plan.layout})"]
        lines.append(total_line([plan], words))
    return lines


def _licence(licence: Licence) -> str:
    said = licence.spdx or licence.raw or "not told"
    return clean(f"{said} ({licence.link})" if licence.link else said)


def _file_lines(files: tuple[ModelFile, ...], words: Words) -> list[str]:
    sizes = [words.size(file.size) for file in files]
    digests = [_digest(file) for file in files]
    size_width = max(map(len, sizes), default=0)
    digest_width = max(map(len, digests), default=0)
    return [
        f"  {size:>{size_width}}  {digest:<{digest_width}}  {clean(file.path)}"
        for file, size, digest in zip(files, sizes, digests, strict=True)
    ]


def _digest(file: ModelFile) -> str:
    digest = file.sha256 or next(iter(file.digests), None)
    return "no digest" if digest is None else f"{digest.algorithm}:{digest.hex[:12]}"
