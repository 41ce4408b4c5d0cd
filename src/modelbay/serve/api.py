"""The read-only routes below `/api` (protocols-hub A1)."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode

from modelbay.serve import rows
from modelbay.serve.access import Account, Door, Refusal, commit_of
from modelbay.serve.http11 import Request, Response
from modelbay.serve.rows import Row, Seen
from modelbay.serve.shelf import Shelf, ShelfRepo

_SUBS: Final = frozenset({"revision", "tree", "refs", "commits", "auth-check", "paths-info"})
_EXPANDED_PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class Asked:
    """A request with who sent it. `path` is without the endpoint's prefix."""

    request: Request
    account: Account | None
    path: str

    @property
    def segments(self) -> list[str]:
        """Decoded one by one, so that `refs%2Fpr%2F1` stays one."""
        return [unquote(part) for part in self.path.strip("/").split("/")]

    @property
    def query(self) -> list[tuple[str, str]]:
        return self.request.query

    def first(self, name: str, default: str = "") -> str:
        return next((value for key, value in self.query if key == name), default)

    def every(self, name: str) -> list[str]:
        """Values of `name` and `name[]`."""
        return [value for key, value in self.query if key in {name, f"{name}[]"}]


def split_repo(segments: Sequence[str], subs: frozenset[str]) -> tuple[str, list[str]]:
    """A repository's name, of one or two parts, and what follows it."""
    parts = 1 if len(segments) < 2 or segments[1] in subs else 2
    return "/".join(segments[:parts]), list(segments[parts:])


def moved(prefix: str, asked: Asked, name: str, repo: ShelfRepo, *, before: str) -> Response:
    """The Hub's answer to an earlier name or another letter case (SURPRISES H6).

    `before` is what stands in front of the name in the path.
    """
    rest = asked.path.removeprefix(before).split("/", name.count("/") + 1)[name.count("/") + 1 :]
    target = f"{prefix}{before}{'/'.join([quote(repo.id), *rest])}"
    query = asked.request.target.partition("?")[2]
    location = f"{target}?{query}" if query else target
    return plain(307, f"Temporary Redirect. Redirecting to {location}", ("Location", location))


def plain(status: int, text: str, *headers: tuple[str, str]) -> Response:
    return Response(
        status, (("Content-Type", "text/plain; charset=utf-8"), *headers), text.encode()
    )


def as_json(document: object, *headers: tuple[str, str], status: int = 200) -> Response:
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(status, (("Content-Type", "application/json; charset=utf-8"), *headers), body)


class Api:
    """Answers what begins with `/api`. `endpoint` is the address that clients use."""

    def __init__(self, shelf: Shelf, door: Door, endpoint: str, prefix: str, page: int) -> None:
        self._shelf = shelf
        self._door = door
        self._endpoint = endpoint
        self._prefix = prefix
        self._page = page

    def answer(self, asked: Asked) -> Response:
        """Raises Refusal."""
        match asked.segments:
            case ["api", "models"]:
                return self._list(asked)
            case ["api", "models", *rest]:
                return self._one(asked, rest)
            case ["api", "whoami-v2"]:
                return as_json(_whoami(asked.account))
            case ["api", "agent-harnesses"]:
                return as_json({"standardEnvVars": [], "harnesses": {}})
        raise Refusal(404, "Sorry, we can't find the page you are looking for.")

    def _list(self, asked: Asked) -> Response:
        expand = _expand(asked)
        found = [
            Seen(self._shelf, repo, repo.commit)
            for repo in self._shelf.repos()
            if self._door.sees(asked.account, repo)
        ]
        found = _sorted([seen for seen in found if _wanted(seen, asked)], asked.first("sort"))
        start, stop = self._window(asked, self._page)
        page = [
            rows.expanded(seen, expand) if expand else rows.listed(seen, asked.query)
            for seen in found[start:stop]
        ]
        return as_json(page, *self._next(asked, stop, len(found)))

    def _one(self, asked: Asked, segments: list[str]) -> Response:
        name, rest = split_repo(segments, _SUBS)
        repo = self._door.repo(asked.account, name)
        if repo.id != name:
            return moved(self._prefix, asked, name, repo, before="/api/models/")
        return self._about(asked, repo, rest)

    def _about(self, asked: Asked, repo: ShelfRepo, rest: list[str]) -> Response:
        match rest:
            case []:
                answer = self._model(asked, repo, repo.commit)
            case ["revision", *revision]:
                answer = self._model(asked, repo, self._commit(repo, "/".join(revision)))
            case ["tree", revision, *folder]:
                answer = self._tree(asked, repo, revision, "/".join(folder).strip("/"))
            case ["paths-info", revision]:
                answer = self._paths(asked, repo, revision)
            case ["commits", revision]:
                answer = self._commits(asked, repo, revision)
            case ["refs"]:
                pulls = asked.first("include_prs") in {"1", "true"}
                answer = as_json(rows.refs(self._shelf.refs(repo), pulls=pulls))
            case ["auth-check"]:
                self._door.pass_gate(asked.account, repo)
                answer = as_json({})
            case _:
                raise Refusal(404, "Sorry, we can't find the page you are looking for.")
        return answer

    def _commit(self, repo: ShelfRepo, revision: str) -> str:
        return commit_of(self._shelf, repo, revision)

    def _model(self, asked: Asked, repo: ShelfRepo, commit: str) -> Response:
        seen = Seen(self._shelf, repo, commit)
        expand = _expand(asked)
        if expand:
            return as_json(rows.expanded(seen, expand))
        return as_json(rows.told(seen, blobs=asked.first("blobs").lower() in {"true", "1"}))

    def _tree(self, asked: Asked, repo: ShelfRepo, revision: str, folder: str) -> Response:
        seen = Seen(self._shelf, repo, self._commit(repo, revision))
        expand = asked.first("expand").lower() == "true"
        recursive = asked.first("recursive").lower() == "true"
        found = rows.tree(seen, folder, recursive=recursive, expand=expand)
        if folder and not found:
            raise Refusal(404, f'{folder} does not exist on "{revision}"', "EntryNotFound")
        start, stop = self._window(asked, _EXPANDED_PAGE if expand else self._page)
        return as_json(found[start:stop], *self._next(asked, stop, len(found)))

    def _paths(self, asked: Asked, repo: ShelfRepo, revision: str) -> Response:
        seen = Seen(self._shelf, repo, self._commit(repo, revision))
        wanted, expand = _paths_asked(asked.request)
        return as_json(rows.paths(seen, wanted, expand=expand))

    def _commits(self, asked: Asked, repo: ShelfRepo, revision: str) -> Response:
        self._door.pass_gate(asked.account, repo)
        found = [
            {"id": one.id, "title": one.title, "message": "", "authors": [], "date": one.date}
            for one in self._shelf.commits(repo, self._commit(repo, revision))
        ]
        limit = min(_number(asked.first("limit", "50")), self._page)
        page = _number(asked.first("p", "0"))
        headers = [("X-Total-Count", str(len(found)))]
        if (page + 1) * limit < len(found):
            headers.append(self._link(asked, "p", str(page + 1)))
        return as_json(found[page * limit : (page + 1) * limit], *headers)

    def _window(self, asked: Asked, longest: int) -> tuple[int, int]:
        limit = min(_number(asked.first("limit", str(longest))), longest)
        start = _position(asked.first("cursor"))
        return start, start + max(limit, 1)

    def _next(self, asked: Asked, stop: int, total: int) -> tuple[tuple[str, str], ...]:
        if stop >= total:
            return ()
        cursor = base64.urlsafe_b64encode(b"at:%d" % stop).decode()
        return (self._link(asked, "cursor", cursor),)

    def _link(self, asked: Asked, name: str, value: str) -> tuple[str, str]:
        query = [*((key, old) for key, old in asked.query if key != name), (name, value)]
        return "Link", f'<{self._endpoint}{asked.path}?{urlencode(query)}>; rel="next"'


def _expand(asked: Asked) -> list[str]:
    names = asked.every("expand")
    unknown = [name for name in names if name not in rows.OPTIONS]
    if unknown:
        listed = "|".join(f'"{name}"' for name in sorted(rows.OPTIONS))
        raise Refusal(400, f"✖ Invalid option: expected one of {listed}\n  → at expand[0]")
    return names


def _wanted(seen: Seen, asked: Asked) -> bool:
    row = rows.expanded(seen, ("author", "tags", "pipeline_tag", "gated"))
    tags = row["tags"]
    filters = {tag for value in asked.every("filter") for tag in value.split(",")}
    gated = asked.first("gated")
    return (
        all(word in seen.repo.id.lower() for word in asked.first("search").lower().split())
        and asked.first("author", str(row.get("author"))) == str(row.get("author"))
        and isinstance(tags, list)
        and filters <= {*tags, row.get("pipeline_tag")}
        and asked.first("pipeline_tag") in {"", row.get("pipeline_tag")}
        and gated in {"", str(row["gated"] is not False).lower()}
    )


def _sorted(found: list[Seen], sort: str) -> list[Seen]:
    facts = {
        "downloads": lambda seen: seen.repo.facts.downloads,
        "likes": lambda seen: seen.repo.facts.likes,
        "lastModified": lambda seen: seen.repo.facts.modified,
        "createdAt": lambda seen: seen.repo.facts.created,
        "trendingScore": lambda seen: seen.repo.facts.trending,
    }
    key = facts.get(sort or "trendingScore")
    if key is None:
        raise Refusal(400, f"✖ Invalid sort: expected one of {'|'.join(facts)}")
    return sorted(found, key=key, reverse=True)


def _whoami(account: Account | None) -> Row:
    if account is None:
        raise Refusal(401, "Invalid username or password.")
    return {
        "type": "user",
        "id": "0" * 24,
        "name": account.name,
        "fullname": account.name,
        "isPro": False,
        "orgs": [],
        "auth": {"type": "access_token", "accessToken": {"displayName": "read", "role": "read"}},
    }


def _paths_asked(request: Request) -> tuple[list[str], bool]:
    if "json" in request.headers.get("content-type", ""):
        try:
            document = json.loads(request.body)
            wanted = document.get("paths", [])
            return [str(path) for path in wanted], bool(document.get("expand"))
        except (ValueError, AttributeError, TypeError):
            raise Refusal(400, "The body is not what paths-info expects") from None
    form = parse_qsl(request.body.decode("utf-8", "replace"))
    expand = any(key == "expand" and value.lower() == "true" for key, value in form)
    return [value for key, value in form if key == "paths"], expand


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Refusal(400, f"✖ Invalid number: {text}")
    return int(text)


def _position(cursor: str) -> int:
    if not cursor:
        return 0
    try:
        return _number(base64.urlsafe_b64decode(cursor).removeprefix(b"at:").decode())
    except ValueError:
        raise Refusal(400, "✖ Invalid cursor") from None
