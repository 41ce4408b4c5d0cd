"""Ollama's store: manifests that name blobs, blobs named by their sha256.

Facts: protocols-rest A1 and A3, fixtures ollama/ and SURPRISES O6 to O10.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from modelbay.digest import Digest
from modelbay.files.walking import Entry, read_small
from modelbay.library.adopt.found import FoundFile, FoundModel, Look, found_file, left_over
from modelbay.text import clean

LARGEST_MANIFEST: Final = 4 << 20
_MEDIA = "application/vnd.ollama.image."
_BLOB = re.compile(r"sha256[-:]([0-9a-f]{64})")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PARTS: Final = (
    re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}"),
    re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}"),
    re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
    re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
)
"""Host, namespace, model, tag."""


@dataclass(frozen=True, slots=True)
class _Layer:
    name: str
    digest: str
    size: int


def is_store(entries: list[Entry]) -> bool:
    folders = {entry.name for entry in entries if entry.kind == "folder"}
    return {"manifests", "blobs"} <= folders


def read_store(root: str, look: Look, entries: list[Entry] | None = None) -> Iterator[FoundModel]:
    """Every model of the store at `root` that has a manifest, in order of names."""
    if not is_store(look.folder(root) if entries is None else entries):
        return
    blobs = {
        matched[1]: entry
        for entry in look.folder(f"{root}/blobs")
        if entry.kind == "file" and (matched := _BLOB.fullmatch(entry.name))
    }
    reached: set[str] = set()
    for path, parts in _manifests(f"{root}/manifests", (), look):
        content = read_small(path, LARGEST_MANIFEST)
        layers = _layers(content) if content else None
        if content is None or layers is None:
            look.note(f"{clean(path)} was skipped: it is not a manifest of Ollama")
            continue
        reached.update(layer.digest for layer in layers)
        yield _model(root, parts, content, layers, blobs)
    left = [entry.size for name, entry in blobs.items() if name not in reached]
    if left:
        look.note(f"{clean(root)} has {left_over(left)} that no manifest names")


def _manifests(
    folder: str, parts: tuple[str, ...], look: Look
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Files exactly four levels down, and the four words that lead to them."""
    for entry in look.folder(folder):
        path = f"{folder}/{entry.name}"
        last = len(parts) == len(_PARTS) - 1
        if entry.kind == "link":
            look.links += 1
        elif entry.kind != ("file" if last else "folder"):
            continue
        elif not _PARTS[len(parts)].fullmatch(entry.name):
            look.note(f"{clean(path)} was skipped: Ollama has no such names")
        elif last:
            yield path, (*parts, entry.name)
        else:
            yield from _manifests(path, (*parts, entry.name), look)


def _model(
    root: str,
    parts: tuple[str, ...],
    content: bytes,
    layers: list[_Layer],
    blobs: Mapping[str, Entry],
) -> FoundModel:
    host, namespace, model, tag = parts
    ref = f"ollama://{host}/{namespace}/{model}:{tag}"
    files: list[FoundFile] = []
    troubles: list[str] = []
    for layer in layers:
        entry = blobs.get(layer.digest)
        if entry is None:
            troubles.append(f"{ref} is not whole: its {layer.name} is not among the blobs")
            continue
        claim = Digest.sha256(layer.digest)
        path = f"{root}/blobs/{entry.name}"
        files.append(found_file(path, layer.name, entry, claim, layer.size))
    revision = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return FoundModel(
        ref, revision, "ollama", root, tuple(files), source="ollama", troubles=tuple(troubles)
    )


def _layers(content: bytes) -> list[_Layer] | None:
    """What a manifest names, each blob once, the configuration last; None where it is none."""
    try:
        document = json.loads(content)
        named = [*document["layers"], *_configuration(document)]
        layers = [_layer(row) for row in named]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    once = {layer.digest: layer for layer in reversed(layers)}
    return _distinct([layer for layer in layers if once.pop(layer.digest, None)])


def _configuration(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The configuration's blob; a manifest may have none, or one without a digest."""
    config = document.get("config") or {}
    return [{**config, "mediaType": f"{_MEDIA}config"}] if config.get("digest") else []


def _layer(row: dict[str, Any]) -> _Layer:
    digest, size = row["digest"], row["size"]
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest) or type(size) is not int:
        raise ValueError(digest)
    kind = str(row["mediaType"]).removeprefix(_MEDIA)
    name = kind if re.fullmatch(r"[a-z][a-z0-9-]{0,39}", kind) else "layer"
    return _Layer(name, digest.removeprefix("sha256:"), size)


def _distinct(layers: list[_Layer]) -> list[_Layer]:
    """The same with names that differ: `license`, `license-2`."""
    named: dict[str, _Layer] = {}
    for layer in layers:
        name, number = layer.name, 1
        while name in named:
            number += 1
            name = f"{layer.name}-{number}"
        named[name] = replace(layer, name=name)
    return list(named.values())
