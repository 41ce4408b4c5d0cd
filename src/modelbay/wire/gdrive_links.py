"""The many ways in which Google Drive writes the address of one thing (protocols-rest E)."""

import re
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import parse_qsl, urlsplit

HOSTS: Final = ("drive.google.com", "docs.google.com", "drive.usercontent.google.com")
_ID = re.compile(r"[-\w]{1,200}", re.ASCII)
_KEY = re.compile(r"[-\w]{1,100}", re.ASCII)
_AROUND = r"(?:/a/[^/]+)?(?:/u/\d+)?"
_FILE = re.compile(rf"{_AROUND}/file(?:/u/\d+)?/d/(?P<id>[^/]+)(?:/(?:view|edit|preview))?/?")
_FOLDER = re.compile(rf"{_AROUND}/drive(?:/u/\d+)?(?:/mobile)?/folders/(?P<id>[^/]+)(?P<path>/.+)?")
_DOCUMENT = re.compile(
    rf"{_AROUND}/(?:document|spreadsheets|presentation|forms|drawings)(?:/u/\d+)?/d/(?P<id>[^/]+).*"
)
_ASKED = re.compile(rf"{_AROUND}/(?P<verb>open|uc|download|embeddedfolderview|folderview)/?")


@dataclass(frozen=True, slots=True)
class Link:
    """One file, folder or document. `path` is what is written behind a folder's id."""

    kind: Literal["file", "folder", "document"]
    id: str
    resource_key: str | None = None
    path: str = ""


def link_in(url: str, endpoint: str | None = None) -> Link | None:
    """What the address `url` on Drive, or at the `endpoint` in its place, names; None for any
    other address.
    """
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower().rstrip(".")
    except ValueError:
        return None
    if parts.scheme.lower() not in {"http", "https"}:
        return None
    if host not in HOSTS and not _is_at(url, endpoint):
        return None
    query = dict(parse_qsl(parts.query))
    found = _in_path(parts.path, query)
    if found is None or not _ID.fullmatch(found.id):
        return None
    key = query.get("resourcekey", "")
    return Link(found.kind, found.id, key if _KEY.fullmatch(key) else None, found.path)


def _is_at(url: str, endpoint: str | None) -> bool:
    return endpoint is not None and f"{url}/".startswith(f"{endpoint.rstrip('/')}/")


def _in_path(path: str, query: dict[str, str]) -> Link | None:
    if matched := _FILE.fullmatch(path):
        return Link("file", matched["id"])
    if matched := _FOLDER.fullmatch(path):
        return Link("folder", matched["id"], path=(matched["path"] or "").strip("/"))
    if matched := _DOCUMENT.fullmatch(path):
        return Link("document", matched["id"])
    matched = _ASKED.fullmatch(path)
    if matched is None or "id" not in query:
        return None
    return Link("folder" if "folder" in matched["verb"] else "file", query["id"])
