"""The one HTTP client: redirects by hand, the credential decided at every hop.

`follow_redirects` of the library is never used: it strips `Authorization` across origins
but forwards custom headers, follows https to http, and asks nobody about private addresses.
"""

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self, TypeVar
from urllib.parse import urlsplit

from modelbay import __version__
from modelbay.errors import (
    ModelbayError,
    NetworkError,
    RateLimited,
    RedirectRefused,
    ServerTrouble,
    Unreachable,
    UsageError,
)
from modelbay.http.answer import Answer
from modelbay.http.hosts import Hosts, Wait, asked_wait
from modelbay.http.kept import Cut, Kept
from modelbay.http.reach import Reach
from modelbay.http.redact import origin_of, shown_url
from modelbay.http.redirects import refuse_private, target_of
from modelbay.http.reply import DirectReply, Landing, Reply
from modelbay.http.sockets import guarding, time_left, within
from modelbay.http.trouble import explained, proxy_refusal, server_trouble
from modelbay.location import Credential, Http, Sign
from modelbay.text import clean

if TYPE_CHECKING:
    import httpx2

    from modelbay.http.library import LibraryReply

MOST_HOPS = 10
LARGEST_ANSWER = 32 << 20
CONNECT_SECONDS = 10.0
FIRST_BYTE_SECONDS = 30.0
WHOLE_ANSWER_SECONDS = 120.0
USER_AGENT = f"modelbay/{__version__}"
"""Bare on purpose: CivitAI refuses agents that look like browsers (protocols-hub C2)."""

R_ = TypeVar("R_", bound=Reply)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PROXIES = frozenset({"http", "https", "all"})
_ASK_TRIES = 5


@dataclass(frozen=True, slots=True)
class Ask:
    """One logical request, before its redirects. Raises Unreachable for no web address."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent to the first origin only."""
    credential: Credential | None = None
    sign: Sign | None = None
    own: Mapping[str, str] = field(default_factory=dict)
    """Ours, and harmless at every hop: Range, If-Range, Accept-Encoding."""
    follow: Literal["all", "none"] = "all"
    turned_away: Callable[[str], ModelbayError | None] | None = None

    def __post_init__(self) -> None:
        try:
            web = origin_of(self.url).startswith(("http://", "https://"))
        except ValueError:
            web = False
        if not web:
            raise Unreachable(
                f"{shown_url(self.url)} is no web address",
                hint="write it as https://host/path",
            )


class Client:
    """One per process, shared by all threads. Close it, or use `with`."""

    def __init__(
        self,
        *,
        user_agent: str = USER_AGENT,
        offline: bool = False,
        hosts: Hosts | None = None,
        first_byte: float = FIRST_BYTE_SECONDS,
        whole_answer: float = WHOLE_ANSWER_SECONDS,
        reach: Reach | None = None,
    ) -> None:
        """With `reach` it goes nowhere else, from the first hop on."""
        self.hosts = hosts or Hosts()
        self._user_agent = user_agent
        self._offline = offline
        self._reach = reach
        self._first_byte = first_byte
        self._whole_answer = whole_answer
        self._lock = threading.Lock()
        self._made: httpx2.Client | None = None
        self._kept = Kept(connect_seconds=CONNECT_SECONDS, first_byte=first_byte)
        self._proxied = _has_proxy()

    def ask(  # noqa: PLR0913 - each is one fact of the request
        self,
        url: str,
        *,
        method: str = "GET",
        params: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        credential: Credential | None = None,
        follow: Literal["all", "none"] = "all",
        content: bytes | None = None,
        sign: Sign | None = None,
        wait: Wait = time.sleep,
    ) -> Answer:
        """The whole answer, up to 32 MiB decoded and, redirects included, within 120 s.
        Transient trouble is retried.

        Raises Unreachable, ServerTrouble, RateLimited, RedirectRefused, TlsRefused. Any
        status that is not transient trouble comes back for the caller to judge.
        """
        url_asked = _with_params(url, params)
        request = Ask(method, url_asked, headers or {}, credential, sign, follow=follow)

        def once() -> Answer:
            with (
                within(self._whole_answer),
                self._opened(request, self._by_library(request, content)) as reply,
            ):
                return Answer(reply.status, reply.url, self._whole(reply), reply.headers)

        return self._patiently(once, url, wait).unechoed(credential, headers)

    def probe(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        credential: Credential | None = None,
        wait: Wait = time.sleep,
    ) -> Answer:
        """Status and headers of a GET for the first byte; at most one byte of body is read.

        Works where HEAD is refused or lies (protocols-rest F1).
        """
        own = {"Range": "bytes=0-0", "Accept-Encoding": "identity"}
        request = Ask("GET", url, headers or {}, credential, own=own)

        def once() -> Answer:
            with self._opened(request, self._directly(request, None)) as reply:
                head = bytearray(1)
                count = reply.read_into(memoryview(head), self._first_byte)
                headers = dict(reply.headers)
                if reply.length is not None:
                    headers["content-length"] = str(reply.length)
                return Answer(reply.status, reply.url, bytes(head[:count]), headers)

        return self._patiently(once, url, wait).unechoed(credential, headers)

    def open(
        self, location: Http, *, own: Mapping[str, str], landed: Landing | None, cut: Cut | None
    ) -> Reply:
        """One GET of a file, or of the range that `own` asks for; never retried here.

        `landed` is where an earlier request for the same location ended: it is asked
        directly, without the location's headers and signature unless it is of the same origin.
        """
        url = landed.url if landed else location.url
        own_origin = _same_origin(url, location.url)
        request = Ask(
            "GET",
            url,
            location.headers if own_origin else {},
            location.credential,
            location.sign if own_origin else None,
            {**own, "Accept-Encoding": "identity"},
            turned_away=location.turned_away,
        )
        guarded = landed is not None and landed.guarded
        return self._opened(request, self._directly(request, cut), guarded=guarded)

    def _patiently(self, once: Callable[[], Answer], url: str, wait: Wait) -> Answer:
        failures, began = 0, 0.0
        while True:
            try:
                with self.hosts.visit(url, wait):
                    began = time.monotonic()
                    return self._tried(once, url)
            except NetworkError as trouble:
                failures += 1
                hopeless = time.monotonic() - began >= self._whole_answer
                enough = failures >= min(_ASK_TRIES, self.hosts.patience.tries)
                if not trouble.transient or hopeless or enough:
                    raise

    def _tried(self, once: Callable[[], Answer], url: str) -> Answer:
        """One try; its host is told what came of it. A transient status is raised."""
        try:
            answer = once()
        except NetworkError as error:
            if error.transient:
                self.hosts.trouble(url, error.retry_after, cause=str(error))
            else:
                self.hosts.fine(url)
            raise
        self.hosts.note_rate(answer.url, answer.headers)
        if answer.status in TRANSIENT:
            trouble = self.refusal(answer.status, answer.headers, answer.url)
            asked = trouble.retry_after if trouble.transient else None
            self.hosts.trouble(url, asked, cause=str(trouble))
            raise trouble
        self.hosts.fine(url)
        return answer

    def refusal(self, status: int, headers: Mapping[str, str], url: str) -> NetworkError:
        """The error for a transient status; not transient when the wait asked is too long."""
        asked = asked_wait(headers)
        cap = self.hosts.patience.wait_cap
        if asked is not None and asked > cap:
            host = clean(urlsplit(url).hostname, limit=200)
            return RateLimited(
                f"{host} asks for a wait of {asked / 60:.0f} minutes, "
                f"longer than the {cap / 60:.0f} that modelbay waits",
                hint="run the same command again then; what arrived is kept",
                retry_after=asked,
            )
        if status == 429:
            return RateLimited(
                f"{clean(urlsplit(url).hostname, limit=200)} limits how often it may be asked",
                hint="wait, or give a token: signed-in users may ask more often",
                transient=True,
                retry_after=asked,
            )
        return server_trouble(status, url, asked)

    def _whole(self, reply: "LibraryReply") -> bytes:
        from modelbay.http.library import translated

        body = bytearray()
        with translated(reply.url):
            for chunk in reply.decoded():
                time_left(None)  # behind a proxy the reads are not ours
                body += chunk
                if len(body) > LARGEST_ANSWER:
                    raise ServerTrouble(
                        f"{shown_url(reply.url)} answered more than 32 MiB where a short "
                        "answer was expected",
                        hint="check the endpoint's address",
                    )
        return bytes(body)

    def _opened(self, ask: Ask, send: Callable[[str], R_], *, guarded: bool = False) -> R_:
        """Sends `ask`, following its redirects; the answer that is no redirect."""
        if self._offline:
            raise Unreachable(
                f"{shown_url(ask.url)} was not asked: modelbay is offline",
                hint="unset HF_HUB_OFFLINE, or set offline = false in the settings",
            )
        url, hops, seen = ask.url, 0, {ask.url}
        while True:
            guarded = guarded or self._is_beyond(url)
            with guarding(on=guarded):
                reply = send(url)
            target = reply.headers.get("location")
            if reply.status not in _REDIRECTS or ask.follow == "none" or target is None:
                reply.landing = Landing(url, guarded)
                return reply
            guarded = guarded or not reply.from_private_host()
            reply.close()
            following = target_of(url, target)
            if ask.turned_away is not None and (refusal := ask.turned_away(following)):
                raise refusal
            hops += 1
            if following in seen or hops > MOST_HOPS:
                raise RedirectRefused(
                    f"{shown_url(ask.url)} redirects in a circle: its hop {hops} leads to "
                    f"{shown_url(following)}",
                    hint="check the address in a browser, or tell whoever runs that server",
                )
            if guarded and not _same_origin(url, following):
                refuse_private(following, url)
            seen.add(following)
            url = following

    def _is_beyond(self, url: str) -> bool:
        """Whether `url` may be asked at public addresses only. Raises PolicyError."""
        if self._reach is None:
            return False
        self._reach.check(url, proxied=self._proxied)
        return not self._reach.is_own(url)

    def _by_library(
        self, ask: Ask, content: bytes | None = None
    ) -> "Callable[[str], LibraryReply]":
        def send(url: str) -> "LibraryReply":
            from modelbay.http.library import LibraryReply, translated

            client, headers = self._client(), self._headers(ask, url)
            with translated(url):
                request = client.build_request(ask.method, url, headers=headers, content=content)
                reply = LibraryReply(client.send(request, stream=True), url)
            if reply.refused_by_proxy:
                reply.close()
                raise proxy_refusal(url)
            return reply

        return send

    def _directly(self, ask: Ask, cut: Cut | None) -> Callable[[str], Reply]:
        """GETs over connections of our own; through the library where a proxy is set, or a
        host's name needs encoding.
        """
        by_library = self._by_library(ask)

        def send(url: str) -> Reply:
            if self._proxied or not url.isascii():
                return by_library(url)
            try:
                exchange = self._kept.exchange(url, self._headers(ask, url), cut)
            except (OSError, ValueError) as error:
                raise explained(error, url) from error
            return DirectReply(exchange, url, self._kept, cut)

        return send

    def _headers(self, ask: Ask, url: str) -> dict[str, str]:
        headers = {"User-Agent": self._user_agent, **ask.own}
        if _same_origin(url, ask.url):
            headers.update(ask.headers)
            if ask.sign is not None:
                headers.update(ask.sign(ask.method, url, headers))
        if ask.credential is not None and origin_of(url) in ask.credential.origins:
            headers[ask.credential.header] = ask.credential.value.reveal()
        for name, value in headers.items():
            if not (value.isascii() and value.isprintable() and _NAME.fullmatch(name)):
                raise UsageError(
                    f"the header {clean(name, limit=100)} for {shown_url(url)} holds what no "
                    "header may: a line break, or a character beyond ASCII",
                    hint="give the token or the header again; a copied one may have grown "
                    "invisible characters",
                )
        return headers

    def _client(self) -> "httpx2.Client":
        with self._lock:
            if self._made is None:
                from modelbay.http.library import made

                self._made = made(self._first_byte, CONNECT_SECONDS)
            return self._made

    def close(self) -> None:
        self._kept.close()
        with self._lock:
            if self._made is not None:
                self._made.close()
                self._made = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _has_proxy() -> bool:
    """Whether a proxy is set. Asked of the environment first: the library that knows the
    system's own settings too takes a hundredth of a second to load.
    """
    asked = sys.platform in {"darwin", "win32"}
    if not asked and not any(name.lower().endswith("_proxy") for name in os.environ):
        return False
    from urllib.request import getproxies

    return not _PROXIES.isdisjoint(getproxies())


def _with_params(url: str, params: Sequence[tuple[str, str]]) -> str:
    if not params:
        return url
    from urllib.parse import urlencode

    return url + ("&" if "?" in url else "?") + urlencode(params)


def _same_origin(one: str, other: str) -> bool:
    try:
        return origin_of(one) == origin_of(other)
    except ValueError:
        return False
