"""Removing a model from Ollama's store: its manifest first, then what no other one names.

Facts: protocols-rest A3. The store is shared with Ollama, whose own models have no record of
ours; a manifest that cannot be read may name anything, so that every blob stays then.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from modelbay.library.ollama_layout import blob_name, manifest_at
from modelbay.library.records import Record
from modelbay.library.removal import Removal, recorded
from modelbay.plan import Action
from modelbay.refs import ModelRef

_DEPTH: Final = "*/*/*/*"
_MANIFESTS: Final = "manifests"


def of_store(
    base: Path,
    record: Record,
    ref: ModelRef,
    *,
    path: str | None = None,
    needed: Callable[[Path], str] = lambda _: "",
) -> Removal:
    """As `removal.recorded`, for the store at `base`. Raises DiskError."""
    own = {base / row.file for row in record.files if row.file.startswith(f"{_MANIFESTS}/")}

    def removal(besides: set[Path]) -> Removal:
        needs = dict(_needed(base, besides))
        unreadable = needs.get(base)

        def why(file: Path) -> str:
            by_name = needs.get(file) or (unreadable or "") * (file.parent.name == "blobs")
            return needed(file) or by_name

        return recorded(base, record, ref, layout="ollama", path=path, needed=why)

    found = removal(own)
    going = {step.target for step in found.plan.of(Action.REMOVE)}
    if own - going:
        # Its manifest stays, and with it whatever that names.
        found = removal(own & going)
    first = sorted(found.moves, key=lambda move: base / "blobs" in move.paths[0].parents)
    return replace(found, moves=tuple(first))


def _needed(base: Path, besides: set[Path]) -> Iterator[tuple[Path, str]]:
    """Every blob that a manifest names, with that model; `base` itself for one that nobody can
    read.
    """
    for path in sorted((base / _MANIFESTS).glob(_DEPTH)):
        if path in besides or not path.is_file():
            continue
        host, namespace, model, tag = path.relative_to(base / _MANIFESTS).parts
        name = f"{host}/{namespace}/{model}:{tag}"
        manifest = manifest_at(path)
        if manifest is None:
            yield base, f"{name}, whose manifest cannot be read,"
            continue
        for layer in manifest.layers:
            yield base / blob_name(layer.digest), name
