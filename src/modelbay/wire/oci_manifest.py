"""Manifests as Ollama's registry and OCI registries answer them: layers with names.

Facts: protocols-rest A2, fixtures ollama/ and SURPRISES O5 to O8. A registry gives layers no
names but digests, so the names are made here, the same wherever a manifest is read.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from modelbay.digest import Digest
from modelbay.errors import ServerTrouble, UnsafeName
from modelbay.safepath import SafeRelPath, refuse_clashes
from modelbay.text import clean

LARGEST: Final = 4 << 20
DOCKER: Final = "application/vnd.docker.distribution.manifest.v2+json"
OCI: Final = "application/vnd.oci.image.manifest.v1+json"
MANIFEST_NAME: Final = "manifest.json"
_OLLAMA: Final = "application/vnd.ollama.image."
_TITLE: Final = "org.opencontainers.image.title"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_KIND = re.compile(r"[a-z][a-z0-9-]{0,39}")
_SUFFIXES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("model", "projector", "draft"), ".gguf"),
    **dict.fromkeys(("params", "messages", "config"), ".json"),
    "tensor": ".safetensors",
}
_NAMED: Final = frozenset({"tensor", "json"})
"""Kinds of which there are many, each with a name of its own."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One blob. `kind` is `model`, `license`, `config` and so on, `layer` for what is none of
    Ollama's; `name` its name among the model's files.
    """

    name: SafeRelPath
    kind: str
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a tag stands for. `content` are its bytes as they came, which `digest` is of."""

    content: bytes
    digest: Digest
    layers: tuple[Layer, ...]
    """Each blob once, the configuration last."""

    def of(self, kind: str) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.kind == kind)


def read_manifest(content: bytes, where: str) -> Manifest:
    """Raises ServerTrouble for what is no manifest of a single model, UnsafeName for a digest or
    a name that must not reach a disk. `where` is its place, for the sentence.
    """
    document = _document(content, where)
    rows = [*_rows(document.get("layers"), where), *_configuration(document.get("config"))]
    layers = tuple(_named(_distinct(_row(row, where) for row in rows)))
    refuse_clashes([SafeRelPath(MANIFEST_NAME), *(layer.name for layer in layers)])
    observed = Digest.sha256(hashlib.sha256(content).hexdigest(), observed=True)
    return Manifest(content, observed, layers)


def checked_digest(text: object, where: str) -> Digest:
    """`sha256:` and 64 digits in lower case, and nothing else. Raises UnsafeName."""
    if not isinstance(text, str) or not _DIGEST.fullmatch(text):
        raise UnsafeName(
            f"{where} names a blob {clean(text, limit=160)!r}: sha256: and 64 hexadecimal digits "
            "were expected",
            hint="nothing was written; tell whoever runs that registry",
        )
    return Digest.sha256(text.removeprefix("sha256:"))


def _document(content: bytes, where: str) -> Mapping[str, Any]:
    try:
        document = json.loads(content) if len(content) <= LARGEST else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        _wrong(where, f"answered with something that is no manifest ({_start(content)!r})")
    if "manifests" in document:
        _wrong(where, "is a list of several images, for several platforms, and no model")
    if "layers" not in document:
        _wrong(where, f"answered with something that is no manifest ({_start(content)!r})")
    return document


def _rows(value: object, where: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        _wrong(where, "has no list of layers")
    return value


def _configuration(value: object) -> list[Mapping[str, Any]]:
    """The configuration's blob; a manifest may have none, or one without a digest."""
    if not isinstance(value, dict) or not value.get("digest"):
        return []
    return [{**value, "mediaType": f"{_OLLAMA}config"}]


@dataclass(frozen=True, slots=True)
class _Row:
    kind: str
    given: str | None
    digest: Digest
    size: int


def _row(row: Mapping[str, Any], where: str) -> _Row:
    size, media = row.get("size"), row.get("mediaType")
    if type(size) is not int or not 0 <= size < 1 << 63:
        _wrong(where, f"has a layer of {clean(size, limit=80)!r} bytes")
    digest = checked_digest(row.get("digest"), where)
    kind = media.removeprefix(_OLLAMA) if isinstance(media, str) else ""
    if kind == media or not _KIND.fullmatch(kind):
        return _Row("layer", _title(row), digest, size)
    name = row.get("name")
    given = name if kind in _NAMED and isinstance(name, str) else None
    return _Row("template" if kind == "prompt" else kind, given, digest, size)


def _title(row: Mapping[str, Any]) -> str | None:
    """The file name that other tools for such registries write down."""
    annotations = row.get("annotations")
    title = annotations.get(_TITLE) if isinstance(annotations, dict) else None
    return title if isinstance(title, str) else None


def _distinct(rows: Iterable[_Row]) -> Iterator[_Row]:
    seen: set[Digest] = set()
    for row in rows:
        if row.digest not in seen:
            seen.add(row.digest)
            yield row


def _named(rows: Iterator[_Row]) -> Iterator[Layer]:
    """Names that differ: `license`, `license-2`; a configuration beside a file of that name
    gets a number too.
    """
    taken: set[str] = {MANIFEST_NAME}
    for row in rows:
        stem, suffix = _stem(row)
        name, number = f"{stem}{suffix}", 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}{suffix}"
        taken.add(name.casefold())
        yield Layer(SafeRelPath.parse(name), row.kind, row.digest, row.size)


def _stem(row: _Row) -> tuple[str, str]:
    suffix = _SUFFIXES.get(row.kind, "")
    if row.given is None:
        return row.kind, suffix
    stem, dot, extension = row.given.rpartition(".")
    if suffix or not dot or not stem or "/" in extension:
        return row.given, suffix
    return stem, dot + extension


def _start(content: bytes) -> str:
    return clean(content[:60].decode("utf-8", "replace"))


def _wrong(where: str, what: str) -> NoReturn:
    raise ServerTrouble(f"{where} {what}", hint="check the name, and the registry's address")
