"""One file on its server, as far as it is known: where it landed, its size, its validator.

Every answer is judged here before a byte of it is used: its status, its range, its length,
its validator. Redirect targets are remembered, so that a piece costs one request; when one
of them expires the source is asked for the file again.
"""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from modelbay.credentials import variable_for
from modelbay.errors import (
    AccessError,
    CredentialRefused,
    FileNotFound,
    ModelbayError,
    NetworkError,
    ServerTrouble,
    UpstreamChanged,
)
from modelbay.http import Client, Cut, Landing, Reply
from modelbay.http.client import TRANSIENT
from modelbay.http.redact import shown_url, without_secrets
from modelbay.location import Http
from modelbay.text import clean
from modelbay.transfer.inspection import inspect
from modelbay.transfer.limits import Limits
from modelbay.transfer.order import Order, Progress, Stop

_CONTENT_RANGE = re.compile(r"bytes\s+(\d+)-(\d+)/(\d+|\*)")
_UNSATISFIED = re.compile(r"bytes\s+\*/(\d+)")
_EXPIRED = frozenset({400, 401, 403, 404, 410})
_EXPIRED_ITSELF = frozenset({401, 403, 410})
_PLAIN_CODINGS = frozenset({"", "identity", "aws-chunked"})
"""Ceph stores and serves the last of them, though the body is not (SURPRISES S2)."""
_KEPT_ENCODED = (".gz", ".tgz", ".zst", ".br")
_REFUSAL_BODY = 2048
_PAGE_TYPES = frozenset({"text/html", "application/xhtml+xml", "application/json"})


class Changed(Exception):
    """The file on the server is not the one begun. Carries the sentence."""


class Unsatisfied(Changed):
    """The server denies that there is such a range."""


class AddressRanOut(ServerTrouble):
    """`young` when the address was good a moment ago: too many connections, perhaps."""

    code = "address-ran-out"
    young = False


class NoRanges(Exception):
    """The server sends the whole file whatever part is asked for."""


@dataclass
class Remote:
    """Shared by the connections of one transfer."""

    client: Client
    order: Order
    limits: Limits
    progress: Progress
    stop: Stop
    location: Http
    cut: Cut = field(default_factory=Cut)
    size: int | None = None
    etag: str | None = None
    """The validator as the server writes it, strong, quotes included; or a date."""
    _landed: Landing | None = None
    _located: float = field(default_factory=time.monotonic)
    _located_at_bytes: int = -1
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _locating: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def request(self, start: int, end: int | None, *, ranged: bool) -> Iterator[Reply]:
        """An answer whose body begins at `start`. Raises Changed, NoRanges, ModelbayError.

        A NetworkError that is `transient` may be tried again; the host's back-off was told.
        """
        with self._lock:
            landed, asked = self._landed, self.location
        try:
            with self._judged(start, end, ranged=ranged, asked=asked, landed=landed) as reply:
                yield reply
        except AddressRanOut:
            # Only now: locating may ask the very host whose connections are all in use.
            self._locate_again(asked)
            raise

    @contextmanager
    def _judged(
        self, start: int, end: int | None, *, ranged: bool, asked: Http, landed: Landing | None
    ) -> Iterator[Reply]:
        url = landed.url if landed else asked.url
        own = self._own(start, end) if ranged else {}
        hosts = self.client.hosts
        with hosts.visit(url, self.stop.wait, large=ranged):
            try:
                reply = self.client.open(asked, own=own, landed=landed, cut=self.cut)
            except NetworkError as error:
                self.stop.check()
                (hosts.trouble if error.transient else hosts.fine)(url)
                raise
            with reply:
                hosts.note_rate(reply.url, reply.headers)
                if reply.status in TRANSIENT:
                    trouble = self.client.refusal(reply.status, reply.headers, reply.url)
                    hosts.trouble(url, trouble.retry_after if trouble.transient else None)
                    raise trouble
                hosts.fine(url)
                self._judge(reply, start, ranged=ranged, asked=asked)
                yield reply

    def _own(self, start: int, end: int | None) -> dict[str, str]:
        own = {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        if self.etag is not None:
            own["If-Range"] = self.etag
        return own

    def _judge(self, reply: Reply, start: int, *, ranged: bool, asked: Http) -> None:
        self._refuse_encoded(reply)
        self._refuse_page(reply)
        if reply.status == 206 and ranged:
            self._judge_part(reply, start)
        elif reply.status == 200:
            self._judge_whole(reply, start, ranged=ranged)
        elif reply.status == 416:
            self._judge_unsatisfied(reply, ranged=ranged)
        elif self._may_have_expired(reply, asked):
            self._expired(reply, asked)
        else:
            raise self._refused(reply)
        with self._lock:
            if reply.url != asked.url and asked is self.location:
                self._landed = reply.landing

    def _judge_part(self, reply: Reply, start: int) -> None:
        found = _CONTENT_RANGE.fullmatch(reply.headers.get("content-range", "").strip())
        if found is None or int(found[1]) != start:
            raise ServerTrouble(
                f"{self._host(reply)} sent another part of {clean(self.order.name)} "
                f"than was asked: expected byte {start}, found "
                f"{clean(reply.headers.get('content-range', 'no Content-Range'), limit=80)!r}",
                hint="run the same command again; a proxy may stand in between",
                transient=True,
            )
        if found[3] == "*":
            raise NoRanges
        self._same_size(int(found[3]))
        self._same_validator(reply)
        if self.etag is None and not self.order.digests:
            # Nothing would tell whether two parts belong to the same file.
            raise NoRanges

    def _judge_whole(self, reply: Reply, start: int, *, ranged: bool) -> None:
        if ranged and start > 0 and self.etag is not None and not self._validates(reply):
            raise Changed("its validator changed")
        if ranged:
            raise NoRanges
        if reply.length is not None:
            self._same_size(reply.length)
        elif not self._ends_by_itself(reply) and self.size is None and not self.order.digests:
            raise ServerTrouble(
                f"{self._host(reply)} does not say how long {clean(self.order.name)} is, and "
                "nothing else tells when it is whole",
                hint="give its digest, or another address of the same file",
            )
        self._same_validator(reply)

    def _ends_by_itself(self, reply: Reply) -> bool:
        return "chunked" in reply.headers.get("transfer-encoding", "").lower()

    def _judge_unsatisfied(self, reply: Reply, *, ranged: bool) -> None:
        if not ranged:
            raise self._refused(reply)
        found = _UNSATISFIED.fullmatch(reply.headers.get("content-range", "").strip())
        if found is not None and int(found[1]) == 0:
            self._same_size(0)
            raise NoRanges
        raise Unsatisfied("the server has no such range")

    def _same_size(self, size: int) -> None:
        if self.size is None:
            self.size = size
            self.progress.size = size
        elif self.size != size:
            if self.order.size is not None:
                raise UpstreamChanged(
                    f"{clean(self.order.name)} has {size} bytes on its server, "
                    f"{self.order.size} were expected",
                    hint="nothing was published; the file was replaced, or a proxy cuts it: "
                    "look at the model's page, then ask for its newest revision",
                )
            raise Changed(f"its size went from {self.size} to {size}")

    def _same_validator(self, reply: Reply) -> None:
        found = strong_validator(reply)
        if self.etag is None:
            self.etag = found
        elif found is not None and found != self.etag:
            raise Changed("its validator changed")

    def _validates(self, reply: Reply) -> bool:
        return strong_validator(reply) == self.etag

    def _may_have_expired(self, reply: Reply, asked: Http) -> bool:
        """Whether a refusal is about the address and not about us: it came from where we were
        sent to, or from an address that gave bytes before.
        """
        if reply.url != asked.url or asked is not self.location:
            return reply.status in _EXPIRED
        return reply.status in _EXPIRED_ITSELF and self.progress.fetched > max(
            0, self._located_at_bytes
        )

    def _expired(self, reply: Reply, asked: Http) -> None:
        """The signed address ran out, or the CDN is overasked. Raises AddressRanOut, or what
        the refusal means when a fresh address was refused as well and no byte came.
        """
        with self._lock:
            recent = time.monotonic() - self._located < self.limits.relocate_seconds
            young = recent and asked is self.location
            fruitless = self.progress.fetched <= self._located_at_bytes
        if young and fruitless:
            raise self._refused(reply)
        error = AddressRanOut(
            f"the address of {clean(self.order.name)} on {self._host(reply)} ran out",
            hint="run the same command again; what arrived is kept",
            transient=True,
        )
        error.young = young
        raise error

    def _locate_again(self, asked: Http) -> None:
        """A fresh address for the file in place of `asked`, unless another connection has it."""
        with self._locating:
            if asked is not self.location:
                return
            located = self.order.locate()
            with self._lock:
                self._located_at_bytes = self.progress.fetched
                self._located = time.monotonic()
                self._landed = None
                self.location = located if isinstance(located, Http) else replace(asked)

    def _refuse_encoded(self, reply: Reply) -> None:
        encoding = reply.headers.get("content-encoding", "identity").lower()
        if encoding in _PLAIN_CODINGS or reply.status not in {200, 206}:
            return
        if urlsplit(self.location.url).path.endswith(_KEPT_ENCODED):
            return
        raise ServerTrouble(
            f"{self._host(reply)} sent {clean(self.order.name)} encoded as {clean(encoding)}, "
            "though it was asked for the bytes as they are",
            hint="a proxy may stand in between; try another network, or a mirror",
        )

    def _refuse_page(self, reply: Reply) -> None:
        """A page or a message in place of the file, before its length is compared."""
        if reply.status != 200 or None in {reply.length, self.size} or reply.length == self.size:
            return
        kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in _PAGE_TYPES:
            inspect(
                raw_start(reply),
                suffix=self.order.suffix,
                name=self.order.name,
                url=reply.url,
                content_type=kind,
            )

    def _refused(self, reply: Reply) -> ModelbayError:
        at, told = self.location, dict(reply.headers)
        body = without_secrets(start_of(reply), at.credential, at.headers)
        for name, value in told.items():
            told[name] = without_secrets(value, at.credential, at.headers)
        if at.explain is not None:
            return at.explain(reply.status, told, body)
        return refusal(reply.status, self.order.name, reply.url, body)

    def _host(self, reply: Reply) -> str:
        return clean(urlsplit(reply.url).hostname or "the host", limit=200)


def strong_validator(reply: Reply) -> str | None:
    """The strong ETag, else a Last-Modified that is older than a second, else None.

    A weak one in If-Range makes servers send the whole file (protocols-rest F1); one with
    controls or characters beyond ASCII could not be sent back.
    """
    etag = reply.headers.get("etag", "").strip()
    if etag:
        return etag if not etag.startswith("W/") and _sendable(etag) else None
    modified, date = reply.headers.get("last-modified"), reply.headers.get("date")
    if modified is None or modified == date or not _sendable(modified):
        return None
    return modified


def _sendable(value: str) -> bool:
    return value.isascii() and value.isprintable()


def raw_start(reply: Reply, limit: int = 8192) -> bytes:
    """The beginning of a body that is a message rather than a file."""
    buffer = bytearray(limit)
    view, filled = memoryview(buffer), 0
    try:
        while filled < len(view) and (count := reply.read_into(view[filled:], 5.0)):
            filled += count
    except NetworkError:
        pass
    return bytes(buffer[:filled])


def start_of(reply: Reply) -> str:
    """The beginning of a refusal's body, cleaned, for a sentence."""
    return clean(raw_start(reply, _REFUSAL_BODY).decode("utf-8", "replace"), limit=400)


def refusal(status: int, name: str, url: str, body: str) -> ModelbayError:
    """What a status means when the source has nothing better to say."""
    where = f"{clean(name)} at {shown_url(url)}"
    says = f" ({clean(body, limit=160)})" if body and "<" not in body else ""
    variable = clean(variable_for(url), limit=300)
    if status in {401, 407}:
        return CredentialRefused(
            f"{where} wants a credential, or refused the one given (401){says}",
            hint=f"set {variable} to a token that may read it",
        )
    if status in {402, 403, 451}:
        return AccessError(
            f"{where} may not be read ({status}){says}",
            hint=f"open its page in a browser, or set {variable} to a token that may read it",
        )
    if status in {404, 410}:
        return FileNotFound(
            f"{where} is not there ({status}){says}",
            hint="check the address in a browser; private files answer so without a token",
        )
    return ServerTrouble(
        f"{where} could not be read: the server answered {status}{says}",
        hint="check the address in a browser",
    )
