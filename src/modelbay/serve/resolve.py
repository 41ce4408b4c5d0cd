"""`/{repo}/resolve/{revision}/{path}` and what it redirects to (protocols-hub A2)."""

from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from modelbay.serve.access import Account, Door, Refusal, commit_of
from modelbay.serve.api import Asked, moved, plain, split_repo
from modelbay.serve.cdn import disposition
from modelbay.serve.http11 import Response
from modelbay.serve.ranges import file_answer
from modelbay.serve.shelf import Shelf, ShelfFile, ShelfRepo

_CACHE: Final = ["api", "resolve-cache", "models"]
_RESOLVE: Final = frozenset({"resolve"})

Link = Callable[[ShelfRepo, str, ShelfFile, Account | None], str]


class Resolve:
    """Answers requests for a file's content. Without `link`, every byte comes from here."""

    def __init__(self, shelf: Shelf, door: Door, prefix: str, link: Link | None) -> None:
        self._shelf = shelf
        self._door = door
        self._prefix = prefix
        self._link = link

    @staticmethod
    def concerns(asked: Asked) -> bool:
        segments = asked.segments
        return segments[:3] == _CACHE or "resolve" in segments[1:3]

    def answer(self, asked: Asked) -> Response:
        """Raises Refusal."""
        cached = asked.segments[:3] == _CACHE
        name, rest = split_repo(asked.segments[3 if cached else 0 :], _RESOLVE)
        rest = rest if cached else rest[1:]
        repo = self._door.repo(asked.account, name)
        if repo.id != name and not cached:
            return moved(self._prefix, asked, name, repo, before="/")
        self._door.pass_gate(asked.account, repo)
        revision, path = _revision_and_path(rest)
        commit = commit_of(self._shelf, repo, revision)
        file = self._shelf.files(repo, commit).get(path)
        if file is None:
            headers = (("X-Repo-Commit", commit), ("Accept-Ranges", "bytes"))
            raise Refusal(404, "Entry not found", "EntryNotFound", headers)
        response = self._content(asked, repo, commit, file, cached=cached)
        return response.adding(("X-Repo-Commit", commit))

    def _content(
        self, asked: Asked, repo: ShelfRepo, commit: str, file: ShelfFile, *, cached: bool
    ) -> Response:
        if self._link is None or cached:
            return self._bytes(asked, repo, commit, file)
        if asked.request.headers.get("if-none-match") == f'"{file.etag}"':
            return Response(304, (("ETag", f'"{file.etag}"'),))
        ranges = ("Accept-Ranges", "bytes")
        if not file.lfs:
            location = self._cache_path(asked, repo, commit, file)
            text = f"Temporary Redirect. Redirecting to {location}"
            return plain(307, text, ("Location", location), ranges)
        location = self._link(repo, commit, file, asked.account)
        text = f"Found. Redirecting to {location}"
        return plain(302, text, ("Location", location), ranges, *_linked(file))

    def _bytes(self, asked: Asked, repo: ShelfRepo, commit: str, file: ShelfFile) -> Response:
        content = self._shelf.open(repo, commit, file.path)
        kind = "application/octet-stream" if file.lfs else "text/plain; charset=utf-8"
        return file_answer(asked.request, content, file.size, file.etag).adding(
            ("Content-Type", kind),
            ("Content-Disposition", disposition(file.path)),
            *(_linked(file) if file.lfs else ()),
        )

    def _cache_path(self, asked: Asked, repo: ShelfRepo, commit: str, file: ShelfFile) -> str:
        """With the query key that is the original path, as the Hub has it (SURPRISES H19)."""
        original = quote(asked.path, safe="")
        path = f"/api/resolve-cache/models/{repo.id}/{commit}/{quote(file.path)}"
        return f"{self._prefix}{path}?{original}=&etag=%22{file.etag}%22"


def _linked(file: ShelfFile) -> tuple[tuple[str, str], ...]:
    return (("X-Linked-Size", str(file.size)), ("X-Linked-ETag", f'"{file.etag}"'))


def _revision_and_path(rest: list[str]) -> tuple[str, str]:
    """`refs/pr/1` may come unescaped, in three parts."""
    parts = 3 if rest[:1] == ["refs"] and len(rest) > 3 else 1
    return "/".join(rest[:parts]), "/".join(rest[parts:])
