"""A read-only Hub on this machine: for a company's own models, for the demo, for tests.

Speaks what huggingface_hub 2.4 asks (protocols-hub A12) where the recorded answers of
the real one (fixtures SURPRISES H1–H19) say how.
"""

import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

from modelbay.serve.access import Account, Door, Refusal
from modelbay.serve.api import Api, Asked, as_json, plain
from modelbay.serve.cdn import Cdn
from modelbay.serve.http11 import Listener, Request, Response
from modelbay.serve.quota import Quota
from modelbay.serve.resolve import Resolve
from modelbay.serve.shelf import Shelf, ShelfFile, ShelfRepo
from modelbay.text import Secret

PLENTY: Final = 10_000_000
_WARNING: Final = (
    "unauthenticated; You are sending unauthenticated requests. Please set a HF_TOKEN to "
    "enable higher rate limits and faster downloads."
)


class Hub:
    """Serves `shelf` from construction until `close()`, on loopback unless told otherwise.

    `endpoint` is what goes into HF_ENDPOINT. With `redirect`, files come as from the real
    Hub: small ones by way of `/api/resolve-cache`, LFS ones from the second origin `cdn`
    by links that hold for `link_seconds`. Without it, every byte comes from `endpoint`
    itself. `public` is the address that clients know it by, where that is not its own.
    `limits` are requests in five minutes for `api`, `resolvers` and `pages`. The newest
    `record` requests of each origin stay readable in `log` and `cdn_log`.
    Raises OSError when the port is taken.
    """

    def __init__(  # noqa: PLR0913 - settings, all by keyword, each with its default
        self,
        shelf: Shelf,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        prefix: str = "",
        public: str | None = None,
        redirect: bool = True,
        tokens: Mapping[Secret, Account] | None = None,
        anonymous: bool = True,
        page: int = 1000,
        link_seconds: float = 3600,
        limits: Mapping[str, int] | None = None,
        clock: Callable[[], float] = time.time,
        record: int = 10_000,
    ) -> None:
        self._prefix = prefix.rstrip("/")
        self._door = Door(shelf, tokens or {}, anonymous=anonymous)
        allowed = {"api": PLENTY, "resolvers": PLENTY, "pages": PLENTY, **(limits or {})}
        self._quota = Quota(allowed, clock)
        self._serial = itertools.count(1)
        self._cdn = Cdn(shelf, clock, link_seconds)
        self._resolve = Resolve(shelf, self._door, self._prefix, self._link if redirect else None)
        self._first = Listener(self._answer, host=host, port=port, record=record)
        self._second = Listener(self._cdn.answer, host=host, record=record) if redirect else None
        self.endpoint = (public or self._first.origin + self._prefix).rstrip("/")
        self._api = Api(shelf, self._door, self.endpoint, self._prefix, page)
        for listener in self._listeners():
            listener.start()

    @property
    def origin(self) -> str:
        return self._first.origin

    @property
    def cdn(self) -> str:
        """The second origin, or the first where nothing is redirected."""
        return self._second.origin if self._second else self._first.origin

    @property
    def log(self) -> deque[Request]:
        return self._first.log

    @property
    def cdn_log(self) -> deque[Request]:
        return self._second.log if self._second else deque()

    def close(self) -> None:
        """Cuts what is under way. Idempotent."""
        for listener in self._listeners():
            listener.close()

    def _listeners(self) -> list[Listener]:
        return [self._first, self._second] if self._second else [self._first]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _link(self, repo: ShelfRepo, commit: str, file: ShelfFile, account: Account | None) -> str:
        return self._cdn.link(self.cdn, repo, commit, file, account)

    def _answer(self, request: Request) -> Response:
        path = request.path.removeprefix(self._prefix)
        asked = Asked(request, None, path)
        about_content = Resolve.concerns(asked)
        try:
            response = self._routed(request, path, about_content=about_content)
        except Refusal as refusal:
            response = _refused(refusal, in_json=path.startswith("/api/") and not about_content)
        except OSError:
            response = plain(
                500, "Internal Error - We're working hard to fix this as soon as possible!"
            )
        return response.adding(("X-Request-Id", f"Root=1-{next(self._serial):08x}"))

    def _routed(self, request: Request, path: str, *, about_content: bool) -> Response:
        if not request.path.startswith(f"{self._prefix}/"):
            raise Refusal(404, "Not Found")
        account = self._door.account_of(request)
        asked = Asked(request, account, path)
        api = path.startswith("/api/") and not about_content
        bucket = "api" if api else "resolvers" if about_content else "pages"
        counted = self._quota.take(bucket, request, account)
        try:
            response = self._page(asked, api=api, about_content=about_content)
        except Refusal as refusal:
            refusal.headers += counted
            raise
        warned = about_content and account is None
        return response.adding(*counted, *((("X-HF-Warning", _WARNING),) if warned else ()))

    def _page(self, asked: Asked, *, api: bool, about_content: bool) -> Response:
        posts = asked.path.startswith("/api/") and "paths-info" in asked.segments
        allowed = {"POST"} if posts else {"GET", "HEAD"}
        if asked.request.method not in allowed:
            allow = (("Allow", ", ".join(sorted(allowed))),)
            raise Refusal(405, "Method not allowed", headers=allow)
        if about_content:
            return self._resolve.answer(asked)
        if api:
            return self._api.answer(asked)
        if asked.path == "/":
            return plain(200, f"A read-only model hub. Set HF_ENDPOINT={self.endpoint}\n")
        raise Refusal(404, "Not Found")


def _refused(refusal: Refusal, *, in_json: bool) -> Response:
    message = str(refusal)
    told = [("X-Error-Message", message.replace("\n", " "))]
    if refusal.code:
        told.append(("X-Error-Code", refusal.code))
    headers = (*refusal.headers, *told)
    if in_json:
        return as_json({"error": message}, *headers, status=refusal.status)
    return plain(refusal.status, message, *headers)
