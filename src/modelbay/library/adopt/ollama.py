"""Ollama's store: manifests that name blobs, blobs named by their sha256.

Facts: protocols-rest A1 and A3, fixtures ollama/ and SURPRISES O6 to O10.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping

from modelbay.errors import ModelbayError
from modelbay.files.walking import Entry, read_small
from modelbay.library.adopt.found import FoundFile, FoundModel, Look, found_file, left_over
from modelbay.library.ollama_layout import PARTS
from modelbay.text import clean
from modelbay.wire.oci_manifest import LARGEST, Layer, read_manifest

_BLOB = re.compile(r"sha256[-:]([0-9a-f]{64})")


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
        content = read_small(path, LARGEST)
        layers = _layers(content) if content else None
        if content is None or layers is None:
            look.note(f"{clean(path)} was skipped: it is not a manifest of Ollama")
            continue
        reached.update(layer.digest.hex for layer in layers)
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
        last = len(parts) == len(PARTS) - 1
        if entry.kind == "link":
            look.links += 1
        elif entry.kind != ("file" if last else "folder"):
            continue
        elif not PARTS[len(parts)].fullmatch(entry.name):
            look.note(f"{clean(path)} was skipped: Ollama has no such names")
        elif last:
            yield path, (*parts, entry.name)
        else:
            yield from _manifests(path, (*parts, entry.name), look)


def _model(
    root: str,
    parts: tuple[str, ...],
    content: bytes,
    layers: Iterable[Layer],
    blobs: Mapping[str, Entry],
) -> FoundModel:
    host, namespace, model, tag = parts
    ref = f"ollama://{host}/{namespace}/{model}:{tag}"
    files: list[FoundFile] = []
    troubles: list[str] = []
    for layer in layers:
        entry = blobs.get(layer.digest.hex)
        if entry is None:
            troubles.append(f"{ref} is not whole: its {layer.name} is not among the blobs")
            continue
        path = f"{root}/blobs/{entry.name}"
        files.append(found_file(path, layer.name, entry, layer.digest, layer.size))
    revision = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return FoundModel(
        ref, revision, "ollama", root, tuple(files), source="ollama", troubles=tuple(troubles)
    )


def _layers(content: bytes) -> tuple[Layer, ...] | None:
    """What a manifest names, each blob once, the configuration last; None where it is none."""
    try:
        return read_manifest(content, "a manifest").layers
    except ModelbayError:
        return None
