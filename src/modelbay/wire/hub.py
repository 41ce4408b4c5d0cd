"""The Hub's questions and answers, as any Hub-compatible endpoint speaks them.

Sources of the facts: protocols-hub A1 to A4 and A10, corrected by recorded answers
(fixtures SURPRISES §1). No policy here: a refusal comes back as a `Refusal` with the
kind that was told, and its caller says what that means to a person.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import quote, urlencode, urljoin, urlsplit

from modelbay.errors import RedirectRefused, ServerTrouble
from modelbay.http import Answer, Client
from modelbay.http.redact import shown_url
from modelbay.location import Credential, origin_of
from modelbay.text import clean
from modelbay.wire.hub_answers import (
    Found,
    RepoFacts,
    Row,
    WhoAmI,
    items,
    read_facts,
    read_found,
    read_refs,
    read_row,
    read_whoami,
    table,
)

PUBLIC: Final = "https://huggingface.co"
RepoType = Literal["model", "dataset", "space"]
PREFIX: Final[Mapping[RepoType, str]] = {"model": "", "dataset": "datasets/", "space": "spaces/"}

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_HOPS = 5
_MOST_PAGES = 10_000
_REPO_ID = re.compile(r"(?:[A-Za-z0-9_.-]{1,96}/)?[A-Za-z0-9_.-]{1,96}")
_LINK = re.compile(r'<([^>]*)>((?:[^,<"]|"[^"]*")*)')

Kind = Literal[
    "missing", "missing-or-private", "revision", "entry", "gated", "disabled",
    "token", "forbidden", "other",
]  # fmt: skip
_BY_CODE: Final[Mapping[str, Kind]] = {
    "RevisionNotFound": "revision",
    "EntryNotFound": "entry",
    "GatedRepo": "gated",
}


class Refusal(Exception):
    """The Hub said no. `said` is its own sentence, uncleaned, or empty."""

    def __init__(self, kind: Kind, status: int, said: str) -> None:
        super().__init__(kind, status)
        self.kind = kind
        self.status = status
        self.said = said


@dataclass(frozen=True, slots=True)
class Repo:
    """One repository on one endpoint. `endpoint` may end in a path, never in a slash."""

    endpoint: str
    id: str
    type: RepoType = "model"

    @property
    def page(self) -> str:
        return f"{self.endpoint}/{PREFIX[self.type]}{quote(self.id)}"

    @property
    def api(self) -> str:
        return f"{self.endpoint}/api/{self.type}s/{quote(self.id)}"

    def file_url(self, commit: str, path: str) -> str:
        """Where the bytes of a file are asked for; answers with redirects."""
        return f"{self.page}/resolve/{quote(commit, safe='')}/{quote(path)}"


@dataclass(slots=True)
class Hub:
    """Asks one endpoint. `warnings` collects what it says in X-HF-Warning, each once."""

    client: Client
    endpoint: str
    credential: Credential | None = None
    warnings: list[str] = field(default_factory=list)

    def facts(self, repo: Repo, revision: str, *, blobs: bool = False) -> RepoFacts:
        """Raises Refusal; ServerTrouble names the key that an answer lacks."""
        url = f"{repo.api}/revision/{quote(revision, safe='')}"
        answer = self._get(url, [("blobs", "true")] if blobs else [])
        return read_facts(answer.json(), f"the {repo.type} info of {_host(url)}")

    def tree(self, repo: Repo, commit: str) -> Iterator[Row]:
        """Every file of a commit, page by page."""
        url = f"{repo.api}/tree/{quote(commit, safe='')}"
        where = f"the file list of {_host(url)}"
        for row in self._pages(url, [("recursive", "true")], where):
            if table(row, where).get("type", "file") == "file":
                yield read_row(row, where)

    def refs(self, repo: Repo) -> tuple[str, ...]:
        """Names of branches and tags, and refs of pull requests (`refs/pr/1`)."""
        answer = self._get(f"{repo.api}/refs", [("include_prs", "1")])
        return read_refs(answer.json(), f"the refs of {_host(repo.endpoint)}")

    def check_access(self, repo: Repo) -> None:
        """Asks whether the credential may download. Raises Refusal when it may not."""
        self._get(f"{repo.api}/auth-check")

    def whoami(self) -> WhoAmI:
        """Whose the credential is. Asked rarely: its rate limit is low. Raises Refusal."""
        url = f"{self.endpoint}/api/whoami-v2"
        return read_whoami(self._get(url).json(), f"the account of {_host(url)}")

    def search(self, type_: RepoType, params: Sequence[tuple[str, str]]) -> Iterator[Found]:
        """Rows as pages come; the next page is asked for when its first row is wanted."""
        url = f"{self.endpoint}/api/{type_}s"
        where = f"the search of {_host(url)}"
        for row in self._pages(url, params, where):
            yield read_found(row, where)

    def _pages(self, url: str, params: Sequence[tuple[str, str]], where: str) -> Iterator[object]:
        following: str | None = url + ("?" + urlencode(params) if params else "")
        seen: set[str] = set()
        while following is not None:
            if following in seen or len(seen) >= _MOST_PAGES:
                raise ServerTrouble(
                    f"{where} has no end: after {len(seen)} pages it repeats itself",
                    hint="tell whoever runs that server",
                )
            seen.add(following)
            answer = self._get(following)
            yield from items(answer.json(), where)
            following = next_page(answer, self.endpoint)

    def _get(self, url: str, params: Sequence[tuple[str, str]] = ()) -> Answer:
        """The answer, after renames: those are redirects on the same origin (H6)."""
        answer = self.client.ask(url, params=params, credential=self.credential, follow="none")
        for _ in range(_MOST_HOPS):
            self._heed(answer)
            target = answer.header("location")
            if answer.status not in _REDIRECTS or target is None:
                break
            target = _same_origin_target(answer.url, target)
            answer = self.client.ask(target, credential=self.credential, follow="none")
        if answer.status != 200:
            raise refusal_of(answer)
        return answer

    def _heed(self, answer: Answer) -> None:
        warning = answer.header("x-hf-warning")
        if warning is not None:
            text = warning.partition(";")[2].strip() or warning
            if text not in self.warnings:
                self.warnings.append(text)


def is_repo_id(text: str) -> bool:
    """Whether `text` is `name` or `namespace/name` by the Hub's rules (protocols-hub A)."""
    return (
        _REPO_ID.fullmatch(text) is not None
        and "--" not in text
        and ".." not in text
        and not any(part[0] in "-." or part[-1] in "-." for part in text.split("/"))
        and not text.endswith(".git")
    )


def refusal_of(answer: Answer) -> Refusal:
    """What a non-200 answer means: X-Error-Code first, then status and the known texts."""
    said = _said(answer)
    code = answer.header("x-error-code") or ""
    kind: Kind = "other"
    if code in _BY_CODE:
        kind = _BY_CODE[code]
    elif "is disabled" in said:
        kind = "disabled"
    elif answer.status == 401:
        missing = code == "RepoNotFound" or said.startswith("Invalid username or password")
        kind = "missing-or-private" if missing else "token"
    elif answer.status == 403:
        kind = "forbidden"
    elif answer.status in {404, 410}:
        kind = "revision" if said.startswith("Invalid rev id") else "missing"
    return Refusal(kind, answer.status, said)


def _said(answer: Answer) -> str:
    """The Hub's sentence. Nothing of a 429: it holds the asker's own address (H14)."""
    if answer.status == 429:
        return ""
    if told := answer.header("x-error-message"):
        return told
    content = (answer.header("content-type") or "").partition(";")[0].strip().lower()
    if content == "text/plain":
        return answer.body[:1000].decode("utf-8", "replace")
    if content == "application/json":
        try:
            body = answer.json()
        except ServerTrouble:
            return ""
        told = body.get("error") if isinstance(body, dict) else None
        return told if isinstance(told, str) else ""
    return ""


def next_page(answer: Answer, endpoint: str) -> str | None:
    """The `rel="next"` of a Link header, on `endpoint` whatever origin it names.

    A mirror passes on the public Hub's own links; following those would leave the mirror.
    """
    for target, parameters in _LINK.findall(answer.header("link") or ""):
        if re.search(r'(?i);\s*rel\s*=\s*"?next\b', parameters):
            return _on_endpoint(urljoin(answer.url, target), endpoint)
    return None


def _on_endpoint(url: str, endpoint: str) -> str:
    if url.startswith(endpoint + "/"):
        return url
    parts = urlsplit(url)
    _, found, rest = parts.path.partition("/api/")
    if not found:
        raise ServerTrouble(
            f"{_host(endpoint)} names a next page that is none of its own: {shown_url(url)}",
            hint="check the endpoint's address",
        )
    return f"{endpoint}/api/{rest}" + (f"?{parts.query}" if parts.query else "")


def _same_origin_target(url: str, location: str) -> str:
    target = urljoin(url, location)
    try:
        same = origin_of(target) == origin_of(url)
    except ValueError:
        same = False
    if not same:
        raise RedirectRefused(
            f"{shown_url(url)} redirects to {shown_url(target)}, which is another host",
            hint="if that host is meant, name it in HF_ENDPOINT; "
            "if it is a login page, that registry wants a token",
        )
    return target


def _host(url: str) -> str:
    return clean(urlsplit(url).netloc, limit=200)
