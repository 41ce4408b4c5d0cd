"""The second origin: signed links that expire, and the bytes behind them.

Shaped as the Hub's CDN was in 2026 (fixtures cdn-url-shapes.txt): the last part of the
path is not the sha256 (SURPRISES H10), `Policy` carries what the link opens.
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from urllib.parse import quote, urlencode

from modelbay.serve.access import Account
from modelbay.serve.http11 import Request, Response
from modelbay.serve.ranges import file_answer
from modelbay.serve.shelf import Shelf, ShelfFile, ShelfRepo


class Cdn:
    """Gives out links that hold for `seconds`, and answers them. Knows no tokens."""

    def __init__(self, shelf: Shelf, clock: Callable[[], float], seconds: float) -> None:
        self._shelf = shelf
        self._clock = clock
        self._seconds = seconds
        self._key = secrets.token_bytes(32)

    def link(
        self, origin: str, repo: ShelfRepo, commit: str, file: ShelfFile, account: Account | None
    ) -> str:
        """The signed address of one file."""
        path = f"/xet-bridge-us/{repo.key}/{_opaque(file)}"
        opens = json.dumps([repo.id, commit, file.path]).encode()
        policy = base64.urlsafe_b64encode(opens).decode().rstrip("=")
        expires = str(int(self._clock() + self._seconds))
        query = {
            "X-Xet-Cas-Uid": account.name if account else "public",
            "response-content-disposition": disposition(file.path),
            "Expires": expires,
            "Policy": policy,
            "Signature": self._sign(path, expires, policy),
            "Key-Pair-Id": "MODELBAY",
        }
        return f"{origin}{path}?{urlencode(query)}"

    def answer(self, request: Request) -> Response:
        if "authorization" in request.headers:
            return _error(400, "InvalidArgument", "Only one auth mechanism allowed")
        if request.method not in {"GET", "HEAD"}:
            return _error(405, "MethodNotAllowed", "The method is not allowed")
        query = dict(request.query)
        expires, policy = query.get("Expires", ""), query.get("Policy", "")
        signed = self._sign(request.path, expires, policy)
        if not hmac.compare_digest(signed.encode(), query.get("Signature", "").encode()):
            return _error(403, "AccessDenied", "Access denied")
        if int(expires) < self._clock():
            return _error(403, "AccessDenied", "Access denied: the link has expired")
        return self._file(request, policy, query.get("response-content-disposition", "inline"))

    def _file(self, request: Request, policy: str, shown_as: str) -> Response:
        repo_id, commit, path = json.loads(base64.urlsafe_b64decode(policy + "=" * 3))
        repo = self._shelf.repo(repo_id)
        if repo is None or repo.id != repo_id:
            return _error(404, "NoSuchKey", "The specified key does not exist.")
        content = self._shelf.open(repo, commit, path)
        size = self._shelf.files(repo, commit)[path].size
        return file_answer(request, content, size, request.path.rpartition("/")[2]).adding(
            ("Content-Type", "application/octet-stream"),
            ("Content-Disposition", shown_as),
            ("Cache-Control", "public, max-age=31536000"),
            ("X-Cache", "Miss from cloudfront"),
        )

    def _sign(self, path: str, expires: str, policy: str) -> str:
        told = f"{path}\n{expires}\n{policy}".encode()
        return hmac.new(self._key, told, hashlib.sha256).hexdigest()


def disposition(path: str) -> str:
    """`Content-Disposition` for a file of that path."""
    name = path.rpartition("/")[2]
    return f"inline; filename*=UTF-8''{quote(name)}; filename=\"{quote(name, safe=' ()+,')}\";"


def _opaque(file: ShelfFile) -> str:
    return hashlib.sha256(f"bridge:{file.sha256}".encode()).hexdigest()


def _error(status: int, code: str, message: str) -> Response:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    )
    return Response(status, (("Content-Type", "text/xml"),), body.encode())
