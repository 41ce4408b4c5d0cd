"""CivitAI's answers as types: small readers that name the key an answer lacks.

Field names and shapes: protocols-hub C1, corrected by recorded answers (SURPRISES §2).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from modelbay.digest import Digest
from modelbay.errors import FormatError, ServerTrouble
from modelbay.wire.hub_answers import items, table

_LARGEST_ID: Final = 10**15
_HASHES: Final = (("SHA256", "sha256"), ("BLAKE3", "blake3"), ("AutoV2", "autov2"))
_FACTS: Final = ("format", "size", "fp", "quantType")


@dataclass(frozen=True, slots=True)
class File:
    """One file of a version. `size` in bytes, None where it is only told roughly."""

    id: int
    name: str
    type: str
    size: int | None
    digest: Digest | None
    """The strongest that is told: SHA256, else BLAKE3, else AutoV2."""
    primary: bool
    facts: Mapping[str, str] = field(default_factory=dict)
    """`format`, `size`, `fp` and `quantType`, as a download's query chooses by them."""
    virus_scan: str | None = None
    pickle_scan: str | None = None
    scan_says: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model, whose `type` and `model_name` are the model's."""

    id: int
    model_id: int
    name: str
    model_name: str
    type: str
    base_model: str
    published: str | None
    early_access: bool
    early_access_ends: str | None
    usage: str
    """`Download`, or what else its creator allows."""
    files: tuple[File, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """What the creator allows; None where it is not told."""

    commercial: tuple[str, ...] | None
    without_credit: bool | None
    derivatives: bool | None
    other_licence: bool | None


@dataclass(frozen=True, slots=True)
class Model:
    id: int
    name: str
    type: str
    mode: str | None
    """`Archived` and `TakenDown` models give no files."""
    author: str | None
    tags: tuple[str, ...]
    downloads: int | None
    likes: int | None
    terms: Terms
    versions: tuple[Version, ...]
    """Newest first."""


def read_version(body: object, where: str) -> Version:
    row = table(body, where)
    model = row.get("model")
    return _version(
        row, where, model if isinstance(model, dict) else {}, _id(row, "modelId", where)
    )


def read_model(body: object, where: str) -> Model:
    row = table(body, where)
    number, stats = _id(row, "id", where), row.get("stats")
    stats = stats if isinstance(stats, dict) else {}
    creator = row.get("creator")
    versions = items(row.get("modelVersions") or [], where)
    return Model(
        id=number,
        name=_told(row, "name"),
        type=_told(row, "type"),
        mode=_optional(row.get("mode")),
        author=_optional(creator.get("username")) if isinstance(creator, dict) else None,
        tags=_texts(row.get("tags")),
        downloads=_count(stats.get("downloadCount")),
        likes=_count(stats.get("thumbsUpCount")),
        terms=_terms(row),
        versions=tuple(_version(table(one, where), where, row, number) for one in versions),
    )


def read_page(body: object, where: str) -> tuple[list[object], Mapping[str, Any]]:
    """The rows of a page, which may be null, and what it says of the next one."""
    whole = table(body, where)
    metadata = whole.get("metadata")
    return items(whole.get("items") or [], where), metadata if isinstance(metadata, dict) else {}


def _version(
    row: Mapping[str, Any], where: str, model: Mapping[str, Any], model_id: int
) -> Version:
    ends = _optional(row.get("earlyAccessEndsAt"))
    return Version(
        id=_id(row, "id", where),
        model_id=model_id,
        name=_told(row, "name"),
        model_name=_told(model, "name"),
        type=_told(model, "type"),
        base_model=_told(row, "baseModel"),
        published=_optional(row.get("publishedAt")),
        early_access=row.get("availability") == "EarlyAccess",
        early_access_ends=ends,
        usage=_told(row, "usageControl") or "Download",
        files=tuple(
            _file(table(one, where), where) for one in items(row.get("files") or [], where)
        ),
    )


def _file(row: Mapping[str, Any], where: str) -> File:
    metadata = row.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    says = [row.get("virusScanMessage"), row.get("pickleScanMessage")]
    name = row.get("name")
    if not isinstance(name, str) or not name:
        raise _wrong(where, "has no text under 'name'")
    return File(
        id=_id(row, "id", where),
        name=name,
        type=_told(row, "type"),
        size=_size(row.get("sizeKB")),
        digest=_digest(row.get("hashes")),
        primary=row.get("primary") is True,
        facts={key: str(metadata[key]) for key in _FACTS if isinstance(metadata.get(key), str)},
        virus_scan=_optional(row.get("virusScanResult")),
        pickle_scan=_optional(row.get("pickleScanResult")),
        scan_says="; ".join(one for one in says if isinstance(one, str)),
    )


def _size(kib: object) -> int | None:
    """`sizeKB` is the exact binary fraction (C1); a rounded one is no size to compare with."""
    if isinstance(kib, bool) or not isinstance(kib, int | float) or not math.isfinite(kib):
        return None
    exact = kib * 1024
    return int(exact) if 0 <= exact < 1 << 63 and exact == int(exact) else None


def _digest(hashes: object) -> Digest | None:
    for theirs, ours in _HASHES if isinstance(hashes, dict) else ():
        told = hashes.get(theirs) if isinstance(hashes, dict) else None
        if not isinstance(told, str):
            continue
        try:
            return Digest.parse(f"{ours}:{told}")
        except FormatError:
            continue
    return None


def _terms(row: Mapping[str, Any]) -> Terms:
    return Terms(
        _commercial(row.get("allowCommercialUse")),
        _flag(row.get("allowNoCredit")),
        _flag(row.get("allowDerivatives")),
        _flag(row.get("allowDifferentLicense")),
    )


def _commercial(value: object) -> tuple[str, ...] | None:
    """A list, a literal of Postgres (`{Image,Sell}`), one word, or null (C2)."""
    if isinstance(value, str):
        return tuple(re.findall(r"[A-Za-z]+", value))
    return _texts(value) if isinstance(value, list) else None


def _id(row: Mapping[str, Any], key: str, where: str) -> int:
    value = row.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < _LARGEST_ID:
        raise _wrong(where, f"has no number under {key!r}")
    return value


def _told(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return value if isinstance(value, str) else ""


def _optional(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()


def _wrong(where: str, what: str) -> ServerTrouble:
    return ServerTrouble(f"{where} {what}", hint="check the endpoint's address")
