"""Provision and lock files, wherever they come from, and what each may be believed.

A local file is trusted. One from an address is not, until its digest is named: it was
checked whole (`provision.trust`) before anybody sees it, and works in a session that
reaches public hosts and the user's own, with standing credentials and no others.
"""

import hashlib
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from modelbay import sources
from modelbay.bay.session import Session
from modelbay.credentials import variable_for
from modelbay.digest import Digest
from modelbay.errors import (
    CredentialMissing,
    CredentialRefused,
    FormatError,
    IntegrityError,
    LoginPage,
    NetworkError,
    NotFound,
    PolicyError,
    RefError,
    ServerTrouble,
    UsageError,
)
from modelbay.files import disk_errors
from modelbay.http import Client, Reach, Reply
from modelbay.http.redact import origin_of, shown_url
from modelbay.location import Credential, Http
from modelbay.provision.reading import LARGEST, Written, decoded
from modelbay.provision.trust import Trusting, check_provision
from modelbay.provision.trust_lock import check_lock
from modelbay.sources.base import Means
from modelbay.text import clean
from modelbay.wire.gdrive_links import link_in

_LARGEST_LOCAL: Final = 256 << 20
_WHOLE_SECONDS: Final = 120.0
_READ_SECONDS: Final = 30.0
_MOST_TRIES: Final = 5
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_PAGE: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*<[!?a-zA-Z]")
_LOOPBACK: Final = re.compile(r"localhost|127\.\d+\.\d+\.\d+|::1")
_LOCK: Final = re.compile(r"""\s*["']?lock-version["']?\s*=""")
_ADDRESSES: Final = ("endpoint", "url", "tracking_uri", "registry")


@dataclass(frozen=True, slots=True)
class Document:
    """A provision or lock file, wherever it came from."""

    name: str
    """Its path or its address, as sentences call it."""
    path: Path | None
    text: str
    sha256: Digest
    trusted: bool
    kind: Literal["provision", "lock"]
    url: str | None = None
    mirrors: tuple[str, ...] = ()
    """Those of the command line."""

    @property
    def note(self) -> str:
        """What a person is told of a document that is not trusted; "" for one that is."""
        if self.trusted:
            return ""
        return f"{self.name} is not trusted; read it, and to trust it: --trust {self.sha256}"


def open_document(
    session: Session,
    where: str,
    *,
    trust: Digest | None = None,
    allow_http: bool = False,
    mirrors: Sequence[str] = (),
) -> Document:
    """The file at the path or address `where`. One that is not trusted was checked: nothing of
    what such a file may not say is in it.

    Raises UsageError for an address that cannot be asked, FormatError, PolicyError with the
    place of what is refused, IntegrityError when it is not the one that `trust` names,
    LoginPage, AccessError, NotFound, NetworkError, DiskError.
    """
    url = _address(where, allow_http=allow_http)
    path = None if url else Path(where)
    name = shown_url(url) if url else clean(path)
    raw = _fetched(session, url) if url else _read(Path(where))
    digest = Digest.sha256(hashlib.sha256(raw).hexdigest(), observed=True)
    if trust is not None and trust != digest:
        raise IntegrityError(
            f"{name} is not the file that --trust names: expected {trust}, found {digest}",
            hint=f"read what has changed; if this one is meant: --trust {digest}",
        )
    text = decoded(raw, name)
    trusted = url is None or trust is not None
    if not trusted:
        _check(session, Written.parse(text, name), url, mirrors, digest)
    return Document(name, path, text, digest, trusted, _kind(text), url, tuple(mirrors))


def session_for(session: Session, document: Document) -> Session:
    """What `document` is resolved and carried with: `session` itself when it is trusted."""
    if document.trusted:
        return session
    return session.restricted(reach_of(session, document.url, document.mirrors))


def reach_of(session: Session, url: str | None = None, mirrors: Sequence[str] = ()) -> Reach:
    """The origins that the user named himself: endpoints, mirrors and factories of his
    settings and environment, and the address `url` and the `mirrors` that he typed.
    """
    settings = session.settings
    named = [*settings.endpoints.values(), *settings.mirrors, *mirrors]
    for factory in settings.sources.values():
        named += [str(factory[key]) for key in _ADDRESSES if key in factory]
    return Reach.of([*named, *([url] if url else [])])


def _kind(text: str) -> Literal["provision", "lock"]:
    """By its `lock-version`, which stands before the first table; not parsed for that."""
    for line in text.splitlines():
        if line.lstrip().startswith("["):
            break
        if _LOCK.match(line):
            return "lock"
    return "provision"


def _check(
    session: Session, written: Written, url: str | None, mirrors: Sequence[str], digest: Digest
) -> None:
    settings = session.settings
    trusting = Trusting(
        reach_of(session, url, mirrors),
        endpoints=settings.endpoints,
        mirrors=(*settings.mirrors, *mirrors),
        categories=settings.categories,
        factories=settings.sources,
        judges_licences=settings.license_allow is not None,
    )
    check = check_lock if "lock-version" in written.document else check_provision
    try:
        check(written, trusting)
    except PolicyError as error:
        hint = f"{error.hint}; or read the whole file and trust it: --trust {digest}"
        raise PolicyError(str(error), hint=hint) from error


def _address(where: str, *, allow_http: bool) -> str | None:
    """`where` as an address, None when it is a path. Raises UsageError, RefError."""
    scheme, marked, _ = where.partition("://")
    if not marked:
        return None
    try:
        parts = urlsplit(where)
        host, _ = parts.hostname or "", origin_of(where)
    except ValueError:
        parts, host = urlsplit(""), ""
    if scheme.lower() not in {"http", "https"} or not host:
        raise UsageError(
            f"{shown_url(where) if host else clean(where, limit=200)} is no address of a "
            "provision file",
            hint="name a file, or an address: https://host/models.toml",
        )
    if "@" in parts.netloc:
        raise RefError(
            f"the address of the file on {clean(host, limit=200)} carries a user name",
            hint=f"put the token into {variable_for(where)} instead",
        )
    if parts.scheme == "http" and not (allow_http and _LOOPBACK.fullmatch(host)):
        raise UsageError(
            f"{shown_url(where)} is plain http: whoever carries it could change what is in it",
            hint="write https://, or give --allow-http for a server on this machine"
            if not allow_http
            else "write https://: --allow-http is for servers on this machine",
        )
    return parts._replace(fragment="").geturl()


def _read(path: Path) -> bytes:
    with disk_errors(path), path.open("rb") as file:
        raw = file.read(_LARGEST_LOCAL + 1)
    if len(raw) > _LARGEST_LOCAL:
        raise _too_large(clean(path), _LARGEST_LOCAL)
    return raw


def _fetched(session: Session, url: str) -> bytes:
    reach = reach_of(session, url)
    credentials = session.credentials.standing(reach.own)
    endpoint = session.settings.endpoints.get("gdrive")
    with Client(offline=session.settings.offline, reach=reach) as client:
        patience = session.client.hosts.patience
        means = Means(client, credentials, endpoint)
        for failures in range(1, _MOST_TRIES + 1):
            try:
                location = Http(url, credential=credentials.find("url", url))
                if link_in(url, endpoint) is not None:
                    location = _on_drive(means, url)
                return _asked(client, url, location)
            except NetworkError as error:
                if not error.transient or failures >= min(_MOST_TRIES, patience.tries):
                    raise
                time.sleep(min(error.retry_after or patience.pause(failures), patience.wait_cap))
    raise AssertionError("the last try raises")


def _on_drive(means: Means, url: str) -> Http:
    """Where the file is that a share link leads to. Raises as the source `gdrive`, and
    UsageError for a folder.
    """
    drive = sources.load("gdrive")(means)
    ref = drive.ref_of({"url": url})
    snapshot = drive.resolve(ref)
    if "file-id" not in snapshot.table:
        raise UsageError(
            f"{ref} is a folder, and a provision file was expected",
            hint="copy the link of the file in it",
        )
    location = drive.locate(snapshot, snapshot.files[0])
    if not isinstance(location, Http):
        raise TypeError(f"{location!r} is no address")
    return location


def _asked(client: Client, url: str, location: Http) -> bytes:
    """The whole answer, up to 1 MiB. Raises what `open_document` says."""
    with client.open(location, own={}, landed=None, cut=None) as reply:
        if reply.status != 200:
            raise _refusal(client, reply, url, location.credential)
        if reply.headers.get("content-encoding", "identity").lower() not in {"", "identity"}:
            raise ServerTrouble(
                f"{shown_url(url)} came compressed, which nobody asked for",
                hint="ask whoever runs that server for the plain file",
            )
        body = bytearray()
        for part in _parts(reply):
            body += part
            if len(body) > LARGEST:
                raise _too_large(shown_url(url), LARGEST)
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/html" or _PAGE.match(body):
        raise LoginPage(
            f"{shown_url(url)} answered with a web page where a provision file was expected",
            hint="open it in a browser: it may ask to sign in, or link to the raw file",
        )
    return bytes(body)


def _parts(reply: Reply) -> Iterator[bytes]:
    until = time.monotonic() + _WHOLE_SECONDS
    room = memoryview(bytearray(64 << 10))
    while count := reply.read_into(room, _READ_SECONDS):
        yield bytes(room[:count])
        if time.monotonic() > until:
            raise ServerTrouble(
                f"{shown_url(reply.url)} took more than {_WHOLE_SECONDS:.0f} s for a short file",
                hint="run the same command again later",
            )


def _too_large(name: str, largest: int) -> FormatError:
    return FormatError(
        f"{name}:1:1: it is larger than {largest >> 20} MiB, a list of models was expected",
        hint="name the right file",
    )


def _refusal(
    client: Client, reply: Reply, url: str, credential: Credential | None
) -> CredentialMissing | CredentialRefused | NotFound | NetworkError:
    status, shown = reply.status, shown_url(url)
    if status in _TRANSIENT:
        return client.refusal(status, reply.headers, reply.url)
    if status in {401, 403} and credential is None:
        return CredentialMissing(
            f"{shown} may not be read without a token (it answered {status})",
            hint=f"`export {variable_for(url)}=<token>` and run the same command again",
        )
    if status in {401, 403} and credential is not None:
        return CredentialRefused(
            f"{shown} refused the token from {credential.label} (it answered {status})",
            hint=f"put another token into {credential.label}",
        )
    if status in {404, 410}:
        return NotFound(
            f"{shown} is not there (it answered {status})", hint="check the address in a browser"
        )
    return ServerTrouble(
        f"{shown} answered {status} where a provision file was expected",
        hint="check the address in a browser",
    )
