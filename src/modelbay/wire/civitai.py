"""CivitAI's questions and answers (REST v1), as any endpoint that answers like it speaks them.

Sources of the facts: protocols-hub C, corrected by recorded answers (fixtures SURPRISES §2).
No policy here: a refusal comes back as a `Refusal` with the kind that was told, and its
caller says what that means to a person.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import parse_qsl, urlsplit

from modelbay.http import Answer, Client
from modelbay.location import Credential
from modelbay.text import clean
from modelbay.wire.civitai_answers import Model, Version, read_model, read_page, read_version
from modelbay.wire.hub_answers import table

PUBLIC: Final = "https://civitai.com"
MOST_ROWS_BY_PAGE: Final = 1000
"""`page` times `limit` beyond which it answers 429, however long one waits (C1)."""
_MOST_PAGES: Final = 1000
_MOST_EMPTY_PAGES: Final = 5
_DEADLINE = re.compile(r'"deadline"\s*:\s*"([0-9T:.Z+-]{1,40})"')
_LOGIN = re.compile(r"(?:/[a-z]{2})?/login/?")
_PAGE = re.compile(r"/(?:models|model-versions)/\d+(?:/[^/.]*)?")
_B2 = re.compile(r'"code"\s*:\s*"[a-z_]+".*"status"\s*:\s*\d', re.DOTALL)
_SAID = re.compile(r'"(?:message|error)"\s*:\s*"((?:[^"\\]|\\.)*)"')

Kind = Literal[
    "missing", "login", "disabled", "early", "no-access", "archived", "region", "blocked",
    "store", "other",
]  # fmt: skip


class Refusal(Exception):
    """CivitAI said no. `said` is its own sentence, uncleaned, or empty; `deadline` when early
    access ends, ISO 8601, where that was told.
    """

    def __init__(
        self, kind: Kind, status: int, said: str = "", deadline: str | None = None
    ) -> None:
        super().__init__(kind, status)
        self.kind = kind
        self.status = status
        self.said = said
        self.deadline = deadline


@dataclass(frozen=True, slots=True)
class Civitai:
    """Asks one endpoint, an origin."""

    client: Client
    endpoint: str
    credential: Credential | None = None

    def version(self, number: int) -> Version:
        """Raises Refusal; ServerTrouble names the key that an answer lacks."""
        answer = self._get(f"model-versions/{number}")
        return read_version(answer.json(), f"version {number} of {self._host}")

    def model(self, number: int) -> Model:
        answer = self._get(f"models/{number}")
        return read_model(answer.json(), f"model {number} of {self._host}")

    def search(self, params: Sequence[tuple[str, str]]) -> Iterator[Model]:
        """Models as pages come; the next page is asked for when its first row is wanted."""
        where = f"the search of {self._host}"
        following: Sequence[tuple[str, str]] | None = params
        seen: set[tuple[tuple[str, str], ...]] = set()
        empty = 0
        while following is not None and tuple(following) not in seen and len(seen) < _MOST_PAGES:
            seen.add(tuple(following))
            answer = self._get("models", following)
            rows, metadata = read_page(answer.json(), where)
            yield from (read_model(row, where) for row in rows)
            empty = 0 if rows else empty + 1
            following = next_page(params, metadata) if empty < _MOST_EMPTY_PAGES else None

    def username(self) -> str:
        """Whose the credential is. Raises Refusal for one that is nobody's."""
        name = table(self._get("me").json(), f"the account on {self._host}").get("username")
        return name if isinstance(name, str) else ""

    def file_url(self, version: int, file: int) -> str:
        """Where a file's bytes are asked for; answers with a redirect to a signed address.

        By file id: the API's own `downloadUrl` of other than primary files may answer 404 (C2).
        """
        return f"{self.endpoint}/api/download/models/{version}?fileId={file}"

    @property
    def _host(self) -> str:
        return clean(urlsplit(self.endpoint).netloc, limit=200)

    def _get(self, path: str, params: Sequence[tuple[str, str]] = ()) -> Answer:
        url = f"{self.endpoint}/api/v1/{path}"
        answer = self.client.ask(url, params=params, credential=self.credential)
        if answer.status != 200:
            body = answer.body[:2048].decode("utf-8", "replace")
            raise refusal_of(answer.status, answer.header("content-type") or "", body)
        return answer


def next_page(
    params: Sequence[tuple[str, str]], metadata: object
) -> Sequence[tuple[str, str]] | None:
    """The query of the next page. The cursor may be a number, or stand in `nextPage` alone (C3),
    of whose address only the query counts.
    """
    told = metadata if isinstance(metadata, dict) else {}
    cursor, address = told.get("nextCursor"), told.get("nextPage")
    kept = [(key, value) for key, value in params if key not in {"cursor", "page"}]
    if isinstance(cursor, str | int) and not isinstance(cursor, bool) and cursor != "":
        return [*kept, ("cursor", str(cursor))]
    if not isinstance(address, str):
        return None
    query = dict(parse_qsl(address.partition("?")[2]))
    if query.get("cursor"):
        return [*kept, ("cursor", query["cursor"])]
    page, limit = query.get("page", ""), dict(params).get("limit", "100")
    if not re.fullmatch(r"\d{1,6}", page) or int(page) * int(limit) > MOST_ROWS_BY_PAGE:
        return None
    return [*kept, ("page", page)]


def refusal_of(status: int, content_type: str, body: str) -> Refusal:
    """What an answer other than the wanted one means, by its status and its known texts."""
    lowered = body.lower()
    found = _SAID.findall(body)
    said = max(found, key=len, default="")
    page = body.lstrip()[:1] == "<"
    kind: Kind = "other"
    if (page and "<error" in lowered[:200]) or _B2.search(body):
        kind = "store"
    elif page and status in {401, 403}:
        kind = "blocked" if "html" in content_type or "<html" in lowered else "store"
    elif "has disabled downloads" in lowered:
        kind = "disabled"
    elif '"early access"' in lowered:
        kind = "early"
    elif status == 401:
        kind = "login"
    elif status == 403:
        kind = "no-access"
    elif status in {404, 410, 451}:
        known: dict[int, Kind] = {404: "missing", 410: "archived", 451: "region"}
        kind = known[status]
    deadline = _DEADLINE.search(body)
    return Refusal(kind, status, said, deadline[1] if deadline else None)


def turned_away(target: str) -> Kind | None:
    """What a download that is sent to the address `target` was refused for; None where that is
    the store. Agents that look like browsers are sent to pages in place of an error (C2).
    """
    parts = urlsplit(target)
    if _LOGIN.fullmatch(parts.path) or "reason=download-auth" in parts.query:
        return "login"
    return "early" if _PAGE.fullmatch(parts.path) else None
