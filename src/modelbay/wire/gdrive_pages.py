"""Google Drive's pages, read whole: warnings, refusals, folders (protocols-rest E).

Drive answers 200 for all of them, and breaks their lines where it likes: only an HTML
parser over the whole text finds the form that leads to the file.
"""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final, Literal
from urllib.parse import parse_qsl, urlsplit

from modelbay.wire.gdrive_links import Link, link_in

Kind = Literal["warning", "quota", "private", "missing", "busy", "infected", "page"]
_FOLDER_TYPE: Final = "application/vnd.google-apps.folder"
_SAID: Final[tuple[tuple[Kind, tuple[str, ...]], ...]] = (
    ("quota", ("quota exceeded", "too many users have viewed or downloaded")),
    ("infected", ("infected with a virus", "infected file")),
    ("busy", ("automated queries", "unusual traffic")),
    ("missing", ("file not found", "does not exist", "error 404", "page not found")),
)
_TITLES: Final = ("sign in", "sign-in", "meet google drive", "you need access", "access denied")
"""What a page says; the quota page links to the login as well, so it is looked for first."""


@dataclass(frozen=True, slots=True)
class Form:
    """Where "Download anyway" leads: the action as written, and every field of it."""

    action: str
    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A page in place of a file."""

    kind: Kind
    title: str
    form: Form | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a folder. `kind` is `unknown` where nothing leads to it."""

    id: str
    name: str
    kind: Literal["file", "folder", "document", "unknown"]
    resource_key: str | None = None


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder's own name, and what is in it, in the page's order."""

    name: str
    entries: tuple[Entry, ...]


def page_in(text: str, url: str) -> Page:
    """What the page `text`, which came from `url`, says."""
    reader = _PageReader()
    reader.feed(text)
    reader.close()
    title = " ".join(reader.title.split())
    if reader.form is not None:
        return Page("warning", title, reader.whole_form())
    return Page(_kind(title, " ".join(reader.words).lower(), reader.actions, url), title)


def _kind(title: str, words: str, actions: list[str], url: str) -> Kind:
    said = f"{title.lower()} {words}"
    parts = urlsplit(url)
    if "/sorry/" in parts.path:
        return "busy"
    for kind, sentences in _SAID:
        if any(" ".join(sentence.split()) in said for sentence in sentences):
            return kind
    login = any("servicelogin" in action.lower() for action in (*actions, parts.path))
    if login or parts.hostname == "accounts.google.com":
        return "private"
    return "private" if any(known in title.lower() for known in _TITLES) else "page"


class _PageReader(HTMLParser):
    """The title, the words, and the one form with the id `download-form`."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self.words: list[str] = []
        self.form: str | None = None
        self.actions: list[str] = []
        self._fields: list[tuple[str, str]] = []
        self._inside: list[str] = []
        self._in_form = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        if tag in {"title", "style", "script"}:
            self._inside.append(tag)
        elif tag == "form":
            self.actions.append(told.get("action", ""))
            self._in_form = told.get("id") == "download-form" and self.form is None
            if self._in_form:
                self.form = told.get("action", "")
        elif tag == "input" and self._in_form and told.get("type", "").lower() == "hidden":
            self._fields.append((told.get("name", ""), told.get("value", "")))

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()
        if tag == "form":
            self._in_form = False

    def handle_data(self, data: str) -> None:
        inside = self._inside[-1] if self._inside else ""
        if inside == "title":
            self.title += data
        elif not inside:
            self.words += data.split()

    def whole_form(self) -> Form:
        """The fields of the action's own query (2023) and of the inputs (since), these last."""
        action, _, query = (self.form or "").partition("?")
        fields = dict(parse_qsl(query, keep_blank_values=True))
        fields |= {name: value for name, value in self._fields if name}
        return Form(action, tuple(fields.items()))


def folder_in(text: str) -> Folder:
    """The listing that `embeddedfolderview` gave as `text`."""
    reader = _FolderReader()
    reader.feed(text)
    reader.close()
    found = [one.entry() for one in reader.found]
    entries = tuple(entry for entry in found if entry is not None)
    return Folder(" ".join(reader.title.split()), entries)


@dataclass
class _Found:
    """What is known of one line so far."""

    id: str = ""
    link: Link | None = None
    title: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    folder: bool = False

    def entry(self) -> Entry | None:
        name = "".join(self.title) or "".join(self.text).strip()
        if self.link is None:
            return Entry(self.id, name, "folder" if self.folder else "unknown") if name else None
        return Entry(self.link.id, name, self.link.kind, self.link.resource_key)


class _FolderReader(HTMLParser):
    """Lines are `div.flip-entry`, in reduced pages bare anchors."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self.found: list[_Found] = []
        self._in_title = False
        self._anchor: _Found | None = None
        self._in_name = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        classes = told.get("class", "").split()
        if tag == "title":
            self._in_title = True
        elif "flip-entry" in classes:
            self.found.append(_Found(told.get("id", "").removeprefix("entry-")))
        elif tag == "a":
            self._open_anchor(told.get("href", ""))
        elif tag == "img" and self.found and _FOLDER_TYPE in told.get("src", ""):
            self.found[-1].folder = True
        elif "flip-entry-title" in classes:
            self._in_name = True

    def _open_anchor(self, href: str) -> None:
        link = link_in(href)
        if link is None:
            return
        fresh = not self.found or self.found[-1].link is not None
        if fresh:
            self.found.append(_Found(link.id))
        self._anchor = self.found[-1]
        self._anchor.link = link

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        elif tag == "a":
            self._anchor = None
        elif tag == "div":
            self._in_name = False

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        elif self._in_name and self.found:
            self.found[-1].title.append(data)
        elif self._anchor is not None:
            self._anchor.text.append(data)
