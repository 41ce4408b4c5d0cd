"""Google Drive: files and folders that are shared with everybody who has the link."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn

from modelbay.errors import (
    FormatError,
    ModelbayError,
    ModelNotFound,
    NoSearch,
    RefError,
    ServerTrouble,
    UsageError,
)
from modelbay.http import Answer
from modelbay.http.redact import shown_url
from modelbay.location import Http
from modelbay.refs import ModelRef, RawRef, checked_part
from modelbay.safepath import SafeRelPath, refuse_clashes
from modelbay.snapshot import Hit, ModelFile, Query, Snapshot
from modelbay.sources.base import Means, Option
from modelbay.sources.disposition import NAMELESS, name_in, safe_name
from modelbay.sources.gdrive_errors import explained, page_in_place, refused_file
from modelbay.text import clean
from modelbay.wire.gdrive import FILES, Download, Drive, Refusal
from modelbay.wire.gdrive_links import Link, link_in
from modelbay.wire.gdrive_pages import Entry, page_in

_HOST: Final = "drive.google.com"
_DEEPEST: Final = 16
_MOST_FILES: Final = 10_000
_ID = re.compile(r"[-\w]{1,200}", re.ASCII)


class GDrive:
    """Implements `Source`. An id says all: `endpoint` stands in place of Drive's hosts."""

    name = "gdrive"
    schemes = ("gdrive",)
    options: tuple[Option, ...] = (
        Option("url", "a share link of a file or a folder", required=True),
        Option("filename", "the name it gets here"),
        Option("headers", "headers to send to Drive", type="table"),
        Option("extract", "unpack the archive", type="flag"),
    )

    def __init__(self, means: Means) -> None:
        self._means = means

    def read_ref(self, raw: RawRef) -> ModelRef:
        """`gdrive:<file id>` or `gdrive:folders/<folder id>`."""
        place = raw.body if raw.body.startswith("folders/") else f"file/d/{raw.body}"
        key = dict(raw.options).get("resourcekey")
        query = f"?resourcekey={key}" if key else ""
        shown = f"drive/{place}" if place.startswith("folders/") else place
        found = self.recognise(f"https://{_HOST}/{shown}{query}")
        if found is None:
            raise RefError(
                f"{clean(raw.text, limit=200)!r} names nothing on Google Drive",
                hint=f"copy its share link: https://{_HOST}/file/d/<id>/view",
            )
        return found

    def recognise(self, text: str) -> ModelRef | None:
        """Every form of a link to a file or a folder, as the one that browsers show."""
        link = link_in(text, self._means.endpoint)
        if link is None:
            return None
        if link.kind == "document":
            raise RefError(
                f"{shown_url(text)} is a Google document and no file of a model",
                hint="share the file itself, and copy its link from Drive",
            )
        path = [checked_part(part, "path", text) for part in link.path.split("/") if part]
        return _ref_to(link, "/".join(path) or None)

    def ref_of(self, keys: dict[str, object]) -> ModelRef:
        url = keys.get("url")
        found = self.recognise(url.strip()) if isinstance(url, str) else None
        if found is None and isinstance(url, str) and _ID.fullmatch(url):
            found = _ref_to(Link("file", url), None)
        if found is None:
            raise UsageError(
                f"an entry's url is {clean(url, limit=200)!r}, which is no link of Google Drive",
                hint=f'write url = "https://{_HOST}/file/d/<id>/view"',
            )
        return found

    def keys_of(self, ref: ModelRef) -> dict[str, object]:
        return {"url": str(_ref_to(_link_of(ref), None))}

    def ref_in(self, table: Mapping[str, str], asked: ModelRef) -> ModelRef:
        link = _link_of(asked)
        if _locked_id(table, link.kind) != link.id:
            raise FormatError(
                f"{asked} is locked to another {link.kind} than it asks for",
                hint="make the lock again from its provision file",
            )
        return asked

    def search(self, query: Query) -> Iterator[Hit]:
        raise NoSearch(
            f"Google Drive cannot be searched for {clean(query.text, limit=100)!r}",
            hint="search another source: `modelbay search --source huggingface …`",
        )

    def resolve(self, ref: ModelRef) -> Snapshot:
        """A file by its first byte, a folder by its listing. Raises UnsafeName as well."""
        link = _link_of(ref)
        if link.kind == "file":
            return self._file(ref, link)
        walk = _Walk(self, ref)
        walk.into(link, ())
        if not walk.files:
            raise ModelNotFound(
                f"the folder {ref} has no file in it", hint="open the folder in a browser"
            )
        refuse_clashes(file.path for file in walk.files)
        files = tuple(sorted(walk.files, key=lambda file: file.path))
        return Snapshot(
            ref,
            "listed",
            files,
            table=_table("folder-id", link),
            page=str(ref),
            notes=tuple(walk.notes),
        )

    def _file(self, ref: ModelRef, link: Link) -> Snapshot:
        found = self._download(ref, link)
        answer = found.answer
        told = name_in(answer.header("content-disposition") or "")
        file = ModelFile(safe_name(told or NAMELESS), _size(answer), etag=_strong(answer))
        return Snapshot(
            ref, _revision(answer), (file,), table=_table("file-id", link), page=str(ref)
        )

    def locate(self, snapshot: Snapshot, file: ModelFile) -> Http:
        """The address behind the warning, good for some minutes."""
        link = _link_to(snapshot, file)
        ref = _ref_to(link, None)
        found = self._download(ref, link)
        drive = self._drive()

        def explain(status: int, _headers: Mapping[str, str], start: str) -> ModelbayError:
            return refused_file(ref, status, page_in(start, found.url), drive.credential)

        return Http(
            found.url,
            found.headers,
            credential=drive.credential,
            explain=explain,
            page=lambda page: page_in_place(ref, page),
            etag=_strong(found.answer),
        )

    def _download(self, ref: ModelRef, link: Link) -> Download:
        drive = self._drive()
        try:
            return drive.download(link.id, link.resource_key)
        except Refusal as refusal:
            raise explained(refusal, ref, drive.credential) from refusal

    def listing(self, ref: ModelRef, link: Link) -> tuple[Entry, ...]:
        """What is in a folder, as its page says. Raises AccessError, NotFound, NetworkError."""
        drive = self._drive()
        try:
            return drive.folder(link.id, link.resource_key).entries
        except Refusal as refusal:
            raise explained(refusal, ref, drive.credential) from refusal

    def _drive(self) -> Drive:
        address = self._means.endpoint or FILES
        credential = self._means.credentials.find(self.name, address)
        return Drive(self._means.client, self._means.endpoint, credential, self._means.headers)


@dataclass
class _Walk:
    """A folder and the folders in it."""

    source: GDrive
    ref: ModelRef
    files: list[ModelFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def into(self, link: Link, above: tuple[str, ...]) -> None:
        if link.id in self._seen:
            return
        self._seen.add(link.id)
        if len(above) > _DEEPEST or len(self._seen) + len(self.files) > _MOST_FILES:
            self._refuse_large()
        for entry in self.source.listing(self.ref, link):
            self._take(entry, above)

    def _take(self, entry: Entry, above: tuple[str, ...]) -> None:
        below = Link("folder", entry.id, entry.resource_key)
        if entry.kind in {"document", "unknown"}:
            why = "a Google document" if entry.kind == "document" else "nothing that can be fetched"
            self.notes.append(f"{clean(entry.name, limit=160)} is {why}, and left out")
        elif entry.kind == "folder":
            self.into(below, (*above, SafeRelPath.component(entry.name)))
        else:
            path = SafeRelPath.parse("/".join((*above, SafeRelPath.component(entry.name))))
            extra = {"file-id": entry.id}
            if entry.resource_key:
                extra["resource-key"] = entry.resource_key
            self.files.append(ModelFile(path, extra=extra))

    def _refuse_large(self) -> NoReturn:
        raise ServerTrouble(
            f"{self.ref} holds more than {_MOST_FILES} files, or folders deeper than {_DEEPEST}",
            hint="name one of the folders in it",
        )


def _ref_to(link: Link, path: str | None) -> ModelRef:
    place = f"file/d/{link.id}/view" if link.kind == "file" else f"drive/folders/{link.id}"
    options = (("resourcekey", link.resource_key),) if link.resource_key else ()
    return ModelRef("gdrive", "https", f"{_HOST}/{place}", path=path, options=options)


def _link_of(ref: ModelRef) -> Link:
    found = link_in(f"https://{ref.name}")
    if found is None:
        raise UsageError(f"{ref} names nothing on Google Drive", hint="copy its share link")
    return Link(found.kind, found.id, ref.option("resourcekey"))


def _link_to(snapshot: Snapshot, file: ModelFile) -> Link:
    """The one file of a table, or what a folder's row says. Raises FormatError."""
    table = snapshot.table
    if "file-id" in table:
        link = Link("file", table["file-id"], table.get("resource-key"))
    else:
        link = Link("file", file.extra.get("file-id", ""), file.extra.get("resource-key"))
    if not _ID.fullmatch(link.id):
        raise FormatError(
            f"{snapshot.ref} is locked without the file id of {clean(file.path)}",
            hint="make the lock again from its provision file",
        )
    return link


def _locked_id(table: Mapping[str, str], kind: str) -> str | None:
    return table.get("folder-id" if kind == "folder" else "file-id")


def _table(key: str, link: Link) -> dict[str, str]:
    told = {key: link.id, "resource-key": link.resource_key}
    return {name: value for name, value in told.items() if value is not None}


def _size(answer: Answer) -> int | None:
    """Bytes of the whole file, or None when Drive does not tell."""
    total = (answer.header("content-range") or "").rpartition("/")[2]
    if answer.status != 206:
        total = answer.header("content-length") or ""
    return int(total) if total.isascii() and total.isdigit() else None


def _strong(answer: Answer) -> str | None:
    etag = answer.header("etag") or ""
    return etag[1:-1] if len(etag) > 2 and etag[0] == etag[-1] == '"' else None


def _revision(answer: Answer) -> str:
    """Stable text for the state of the file; Drive tells no version to those without account."""
    for header in ("x-goog-hash", "etag", "last-modified"):
        if told := answer.header(header):
            return f"{header} {clean(told, limit=200)}"
    return f"size {_size(answer)}"
