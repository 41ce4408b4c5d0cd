"""Any http(s) address of one file (protocols-rest F)."""

from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from modelbay.errors import (
    CredentialMissing,
    CredentialRefused,
    FormatError,
    LoginPage,
    ModelbayError,
    ModelNotFound,
    NoSearch,
    RefError,
    ServerTrouble,
    UsageError,
)
from modelbay.http import Answer
from modelbay.http.redact import shown_url
from modelbay.location import Credential, Http
from modelbay.refs import HINT_CREDENTIAL, ModelRef, RawRef, parse
from modelbay.safepath import SafeRelPath
from modelbay.snapshot import Hit, ModelFile, Query, Snapshot
from modelbay.sources.base import Means, Option
from modelbay.sources.disposition import NAMELESS, name_in, safe_name
from modelbay.text import clean

_KEPT = "/%:@!$&'()*+,;=~-._?"
_PORTS: Final = {"http": 80, "https": 443}
_NAMING_KEYS = ("filename", "response-content-disposition")
_PLAIN_CODINGS = frozenset({"", "identity", "aws-chunked"})
"""Ceph stores and serves `aws-chunked` though the body is not (SURPRISES S2)."""


class Url:
    """Implements `Source` for plain addresses: one file, named by its server."""

    name = "url"
    schemes = ("https", "http")
    options: tuple[Option, ...] = (
        Option("url", "address of the file", required=True),
        Option("filename", "the name it gets here"),
        Option("headers", "headers to send to that host", type="table"),
        Option("extract", "unpack the archive", type="flag"),
    )

    def __init__(self, means: Means) -> None:
        self._means = means

    def read_ref(self, raw: RawRef) -> ModelRef:
        """The address, its host in lower case and everything unusual percent-encoded."""
        address, _, fragment = raw.text.partition("#")
        if "=" in fragment:
            raise RefError(
                f"{shown_url(address)} ends in #{clean(fragment, limit=100)}, "
                "which would be lost: a fragment is never sent",
                hint='pin the bytes in a provision file: hash = "sha256:<hex>"',
            )
        return ModelRef(self.name, raw.scheme, _canonical(raw.scheme, address))

    def recognise(self, text: str) -> ModelRef | None:  # noqa: ARG002
        """Nothing: every address may be another source's page, so the scheme decides, last."""
        return None

    def ref_of(self, keys: dict[str, object]) -> ModelRef:
        url = keys.get("url")
        scheme, found, _ = str(url).partition("://")
        if not isinstance(url, str) or not found or scheme.lower() not in self.schemes:
            raise UsageError(
                f"an entry's url is {clean(url, limit=200)!r}",
                hint='write url = "https://host/file"',
            )
        return parse(url, (self,))

    def keys_of(self, ref: ModelRef) -> dict[str, object]:
        return {"url": ref.address or str(ref.at(None))}

    def ref_in(self, table: Mapping[str, str], asked: ModelRef) -> ModelRef:
        url = table.get("url")
        try:
            found = asked if url is None else self.ref_of({"url": url})
        except UsageError as error:
            raise FormatError(f"a lock's table for {asked}: {error}", hint=error.hint) from error
        return asked if found.address == asked.address else found

    def search(self, query: Query) -> Iterator[Hit]:
        raise NoSearch(
            f"plain addresses cannot be searched for {clean(query.text, limit=100)!r}",
            hint="search another source: `modelbay search --source huggingface …`",
        )

    def resolve(self, ref: ModelRef) -> Snapshot:
        """Asks for one byte. Raises NotFound, AccessError, LoginPage, NetworkError."""
        url = ref.address or str(ref)
        credential = self._means.credentials.find(self.name, url)
        answer = self._means.client.probe(url, headers=self._means.headers, credential=credential)
        if answer.status not in {200, 206} and _size(answer) != 0:
            raise self._refusal(answer, url, credential)
        _refuse_page(answer, url)
        etag, modified = _validators(answer)
        file = ModelFile(_name(answer, url), _size(answer), etag=_strong(etag))
        return Snapshot(
            ref=ref,
            revision=_revision(etag, modified),
            files=(file,),
            table={"url": url},
            page=None,
            notes=_notes(answer, url),
        )

    def locate(self, snapshot: Snapshot, file: ModelFile) -> Http:
        url = snapshot.table.get("url") or snapshot.ref.address or str(snapshot.ref)
        credential = self._means.credentials.find(self.name, url)

        def explain(status: int, headers: Mapping[str, str], start: str) -> ModelbayError:
            return self._refusal(Answer(status, url, start.encode(), headers), url, credential)

        return Http(
            url, self._means.headers, credential=credential, explain=explain, etag=file.etag
        )

    def _refusal(self, answer: Answer, url: str, credential: Credential | None) -> ModelbayError:
        variable = self._means.credentials.variable(self.name, url)
        return _refusal(answer.status, shown_url(url), credential, variable)


def _canonical(scheme: str, address: str) -> str:
    try:
        parts = urlsplit(address)
        host = (parts.hostname or "").encode("idna").decode("ascii")
        port = parts.port
    except (ValueError, UnicodeError):
        parts, host, port = urlsplit(""), "", None
    if not host:
        raise RefError(
            f"{clean(address, limit=200)!r} is no web address",
            hint="write it as https://host/file",
        )
    if "@" in parts.netloc:
        raise RefError(f"the ref for {host} carries a user name", hint=HINT_CREDENTIAL)
    name = f"[{host}]" if ":" in host else host
    shown = "" if port in {None, _PORTS[scheme]} else f":{port}"
    query = f"?{_encoded(parts.query)}" if parts.query else ""
    return f"{name}{shown}{_encoded(parts.path) or '/'}{query}"


def _encoded(text: str) -> str:
    """Percent-encodes what may not stand in an address; what is encoded stays as it is."""
    return quote(text, safe=_KEPT)


def _size(answer: Answer) -> int | None:
    """Bytes of the whole file, or None when the server does not tell."""
    _, found, total = (answer.header("content-range") or "").rpartition("/")
    if answer.status in {206, 416} and found:
        return int(total) if total.isascii() and total.isdigit() else None
    coding = (answer.header("content-encoding") or "").strip().lower()
    length = answer.header("content-length") or ""
    if answer.status == 200 and coding in _PLAIN_CODINGS and length.isascii() and length.isdigit():
        return int(length)
    return None


def _validators(answer: Answer) -> tuple[str | None, str | None]:
    """ETag and Last-Modified; a date within a second of now may stand for two contents."""
    modified = answer.header("last-modified")
    try:
        written = parsedate_to_datetime(modified or "")
        asked = parsedate_to_datetime(answer.header("date") or "")
        settled = (asked - written).total_seconds() >= 1
    except (ValueError, TypeError):
        settled = False
    return answer.header("etag"), modified if settled else None


def _strong(etag: str | None) -> str | None:
    if etag is None or etag.startswith("W/") or len(etag) < 3:
        return None
    return etag.strip('"') if etag[0] == etag[-1] == '"' else None


def _revision(etag: str | None, modified: str | None) -> str:
    """Stable text for the state of the file: two equal ones are most likely equal bytes."""
    if etag:
        return f"etag {clean(etag, limit=200)}"
    if modified:
        return parsedate_to_datetime(modified).strftime("modified %Y-%m-%d %H:%M:%S UTC")
    return "unversioned"


def _name(answer: Answer, url: str) -> SafeRelPath:
    """By the header, the address that was given, the one it led to, or their queries."""
    disposition = answer.header("content-disposition")
    told = name_in(disposition) if disposition else None
    if told:
        return safe_name(told)
    for address in (url, answer.url):
        last = _decoded(urlsplit(address).path.rpartition("/")[2])
        if last and "." in last:
            return safe_name(last)
    for address in (url, answer.url):
        for key, value in parse_qsl(urlsplit(address).query):
            if key.lower() in _NAMING_KEYS:
                return safe_name(name_in(value) or value)
    last = _decoded(urlsplit(url).path.rstrip("/").rpartition("/")[2])
    return safe_name(last or NAMELESS)


def _decoded(part: str) -> str:
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        return unquote(part, encoding="latin-1")


def _notes(answer: Answer, url: str) -> tuple[str, ...]:
    notes = []
    if answer.status == 200:
        notes.append(
            f"{clean(urlsplit(answer.url).hostname, limit=200)} gives no ranges: "
            "an interrupted fetch starts again"
        )
    if urlsplit(url).scheme == "http":
        notes.append("plain http: whoever carries the bytes could change them")
    return tuple(notes)


def _refuse_page(answer: Answer, url: str) -> None:
    """Raises LoginPage for HTML that nobody asked for."""
    kind = (answer.header("content-type") or "").partition(";")[0].strip().lower()
    wanted = urlsplit(url).path.lower().endswith((".html", ".htm", ".xhtml"))
    if kind != "text/html" or wanted or answer.header("content-disposition"):
        return
    if answer.body and answer.body not in b"<\r\n\t \xef":
        return
    raise LoginPage(
        f"{shown_url(url)} answered with a web page where a file was expected",
        hint="open it in a browser: it may ask to sign in, or link to the file itself",
    )


def _refusal(
    status: int, shown: str, credential: Credential | None, variable: str
) -> ModelbayError:
    if status in {401, 403} and credential is None:
        return CredentialMissing(
            f"{shown} may not be read without a token (it answered {status})",
            hint=f"`export {variable}=<token>` and run the same command again; "
            "a signed address may have expired",
        )
    if status in {401, 403} and credential is not None:
        return CredentialRefused(
            f"{shown} refused the token from {credential.label} (it answered {status})",
            hint=f"put another token into {variable}",
        )
    if status in {404, 410}:
        gone = "is gone for good" if status == 410 else "is not there"
        return ModelNotFound(
            f"{shown} {gone} (it answered {status})", hint="check the address in a browser"
        )
    return ServerTrouble(
        f"{shown} answered {status} where a file was expected",
        hint="check the address in a browser",
    )
