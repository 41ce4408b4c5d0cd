"""The Hub's answers as types: small readers that name the key an answer lacks.

Field names and shapes: protocols-hub A1 and the recorded answers of fixtures/hf.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelbay.errors import ServerTrouble
from modelbay.snapshot import GateState
from modelbay.text import clean

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Row:
    """One file of a listing. `oid` is git's blob id: of the pointer for an LFS file."""

    path: str
    size: int | None = None
    oid: str | None = None
    sha256: str | None = None
    pointer_size: int | None = None
    xet: str | None = None


@dataclass(frozen=True, slots=True)
class RepoFacts:
    """What the Hub tells of a repository at one revision."""

    id: str
    sha: str
    gated: GateState
    private: bool
    disabled: bool
    tags: tuple[str, ...]
    card: Mapping[str, Any]
    files: tuple[Row, ...]
    """Names only, unless `blobs` was asked for."""


@dataclass(frozen=True, slots=True)
class Found:
    """One row of a search; None where the Hub left the key out."""

    id: str
    likes: int | None
    downloads: int | None
    updated: str | None
    task: str | None
    gated: GateState | None
    private: bool
    tags: tuple[str, ...]


def is_commit(text: str) -> bool:
    return _COMMIT.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """Whose a token is; what the Hub left out is empty."""

    name: str
    token: str
    role: str
    organisations: tuple[str, ...]


def read_whoami(body: object, where: str) -> WhoAmI:
    row = table(body, where)
    auth = row.get("auth")
    token = auth.get("accessToken") if isinstance(auth, dict) else None
    token = token if isinstance(token, dict) else {}
    orgs = row.get("orgs")
    rows = orgs if isinstance(orgs, list) else []
    named = [org.get("name") for org in rows if isinstance(org, dict)]
    return WhoAmI(
        name=_text(row, "name", where),
        token=_told(token.get("displayName")),
        role=_told(token.get("role")),
        organisations=tuple(name for name in named if isinstance(name, str)),
    )


def _told(value: object) -> str:
    return value if isinstance(value, str) else ""


def read_facts(body: object, where: str) -> RepoFacts:
    row = table(body, where)
    sha = _text(row, "sha", where)
    if not is_commit(sha):
        raise ServerTrouble(
            f"{where} names the commit {clean(sha, limit=100)!r}: 40 hexadecimal digits expected",
            hint="check the endpoint's address",
        )
    card = row.get("cardData")
    siblings = row.get("siblings")
    return RepoFacts(
        id=_text(row, "id" if "id" in row else "modelId", where),
        sha=sha,
        gated=_gate(row.get("gated")),
        private=row.get("private") is True,
        disabled=row.get("disabled") is True,
        tags=_texts(row.get("tags")),
        card=card if isinstance(card, dict) else {},
        files=tuple(read_row(one, where) for one in items(siblings or [], where)),
    )


def read_row(value: object, where: str) -> Row:
    """A row of a tree, or of `siblings`, which name the same facts differently."""
    row = table(value, where)
    lfs = row.get("lfs")
    lfs = lfs if isinstance(lfs, dict) else {}
    return Row(
        path=_text(row, "path" if "path" in row else "rfilename", where),
        size=_size(lfs if "size" in lfs else row, "size", where),
        oid=_hex(row.get("oid") or row.get("blobId"), 40),
        sha256=_lfs_oid(lfs, where) if lfs else None,
        pointer_size=_size(lfs, "pointerSize", where),
        xet=_hex(row.get("xetHash"), 64),
    )


def read_refs(body: object, where: str) -> tuple[str, ...]:
    whole = table(body, where)
    names = [
        _text(table(row, where), "name", where)
        for key in ("branches", "tags")
        for row in items(whole.get(key) or [], where)
    ]
    requests = items(whole.get("pullRequests") or [], where)
    return (*names, *(_text(table(row, where), "ref", where) for row in requests))


def read_found(value: object, where: str) -> Found:
    row = table(value, where)
    return Found(
        id=_text(row, "id" if "id" in row else "modelId", where),
        likes=_count(row.get("likes")),
        downloads=_count(row.get("downloads")),
        updated=_optional(row.get("lastModified")),
        task=_optional(row.get("pipeline_tag")),
        gated=_gate(row["gated"]) if "gated" in row else None,
        private=row.get("private") is True,
        tags=_texts(row.get("tags")),
    )


def _lfs_oid(lfs: Mapping[str, Any], where: str) -> str:
    key = "oid" if "oid" in lfs else "sha256"
    oid = _hex(_text(lfs, key, where).removeprefix("sha256:"), 64)
    if oid is None:
        raise ServerTrouble(
            f"{where} has a row whose 'lfs.{key}' is no sha256",
            hint="tell whoever runs that server: the file could not be verified",
        )
    return oid


def _gate(value: object) -> GateState:
    if value in (None, False):
        return "no"
    return "auto" if value == "auto" else "manual"


def table(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, "holds no table where one was expected")
    return value


def items(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise _wrong(where, "holds no list where one was expected")
    return value


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise _wrong(where, f"has no text under {key!r}")
    return value


def _size(row: Mapping[str, Any], key: str, where: str) -> int | None:
    value = row.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise _wrong(where, f"has no size under {key!r}")
    return value


def _wrong(where: str, what: str) -> ServerTrouble:
    return ServerTrouble(f"{where} {what}", hint="check the endpoint's address")


def _hex(value: object, length: int) -> str | None:
    if isinstance(value, str) and re.fullmatch(rf"[0-9a-f]{{{length}}}", value.lower()):
        return value.lower()
    return None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()


def _optional(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
