"""What a new lock changes, for people line by line, for programs as a document."""

from collections.abc import Iterator, Sequence
from typing import Any

from modelbay.output.plans import short
from modelbay.output.words import Words, count
from modelbay.provision.lockdiff import Change
from modelbay.provision.lockfile import Lock, LockedModel
from modelbay.text import clean


def change_line(change: Change, words: Words) -> str:
    """`+ id: 2 files, 1.2 GB`, `~ id: commit a → b, size`, `- id`."""
    ident, before, after = clean(change.id), change.before, change.after
    if after is None:
        return f"- {ident}"
    size = f"{count(len(after.files), 'file')}, {words.size(after.size)}"
    if before is None:
        return f"+ {ident}: {size}"
    became = ", ".join(_differences(before, after, words)) or "as it is asked for"
    was = "" if before.size == after.size else f", {words.size(before.size)} {words.arrow}"
    return f"~ {ident}: {became}{was or ','} {words.size(after.size)}"


def _differences(before: LockedModel, after: LockedModel, words: Words) -> Iterator[str]:
    if before.source != after.source:
        yield f"source {clean(before.source)} {words.arrow} {clean(after.source)}"
        return
    for key in sorted({*before.table, *after.table}):
        old, new = before.table.get(key, "none"), after.table.get(key, "none")
        if old != new:
            yield f"{clean(key, limit=80)} {short(old)} {words.arrow} {short(new)}"
    if before.tree_hash != after.tree_hash and before.table == after.table:
        yield f"bytes {before.tree_hash[7:19]} {words.arrow} {after.tree_hash[7:19]}"
    if before.licence != after.licence:
        old, new = _licence(before), _licence(after)
        yield f"licence {old} {words.arrow} {new}"
    if (before.place, before.names) != (after.place, after.names):
        yield "place"


def _licence(model: LockedModel) -> str:
    return clean(model.licence.spdx or model.licence.raw or "none", limit=80)


def change_document(change: Change) -> dict[str, Any]:
    kind = "added" if change.before is None else "removed" if change.after is None else "changed"
    return {
        "id": change.id,
        "change": kind,
        "before": _model(change.before),
        "after": _model(change.after),
    }


def _model(model: LockedModel | None) -> dict[str, Any] | None:
    if model is None:
        return None
    return {
        "source": model.source,
        "locked": dict(model.table),
        "files": len(model.files),
        "size": model.size,
        "tree_hash": model.tree_hash,
        "licence": {"spdx": model.licence.spdx, "raw": model.licence.raw},
    }


def lock_document(lock: Lock) -> list[dict[str, Any]]:
    """Its models, without their files."""
    return [{"id": model.id, **(_model(model) or {})} for model in lock.models]


def lock_line(lock: Lock, changed: Sequence[Change], words: Words) -> str:
    """`Locked 6 models, 31 files, 58.2 GB: 2 added, 1 changed, 3 kept`."""
    files = sum(len(model.files) for model in lock.models)
    size = words.size(sum(model.size for model in lock.models))
    added = sum(1 for change in changed if change.before is None)
    removed = sum(1 for change in changed if change.after is None)
    other = len(changed) - added - removed
    numbers = {
        "added": added,
        "changed": other,
        "removed": removed,
        "kept": len(lock.models) - added - other,
    }
    parts = ", ".join(f"{number:,} {word}" for word, number in numbers.items() if number)
    line = f"Locked {count(len(lock.models), 'model')}, {count(files, 'file')}, {size}"
    return f"{line}: {parts}" if parts else line
