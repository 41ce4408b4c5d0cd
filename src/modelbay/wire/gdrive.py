"""Google Drive without an account: the download behind its warnings, and folder listings.

Nothing here has been seen against the live service: facts are protocols-rest E's and the
recorded pages'. `Content-Disposition` is the only proof of a file; pages are 200 too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode, urljoin, urlsplit

from modelbay import __version__
from modelbay.http import Answer, Client
from modelbay.http.redact import origin_of
from modelbay.location import Credential
from modelbay.wire.gdrive_links import HOSTS
from modelbay.wire.gdrive_pages import Folder, Form, Page, folder_in, page_in

FILES: Final = "https://drive.usercontent.google.com"
PAGES: Final = "https://drive.google.com"
_AGENT: Final = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    f"Chrome/126.0.0.0 Safari/537.36 modelbay/{__version__}"
)
"""Drive gives folder pages to browsers only (as gdown found)."""
_COOKIE: Final = re.compile(r"(?:^|,\s*)([!#$%&'*+.^_`|~0-9A-Za-z-]+)=([!-+\--:<-~]*)")
_REFUSED: Final = frozenset({401, 403})


class Refusal(Exception):
    """Drive gave no file and no folder: the status, and what its page says."""

    def __init__(self, status: int, page: Page) -> None:
        super().__init__(f"{status} {page.kind}")
        self.status = status
        self.page = page


@dataclass(frozen=True, slots=True)
class Download:
    """Where the bytes of a file are for now, and the answer to a request for the first one."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    answer: Answer


class Drive:
    """Google Drive, or what stands at `endpoint` in place of all of its hosts."""

    def __init__(
        self,
        client: Client,
        endpoint: str | None = None,
        credential: Credential | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._client = client
        self._endpoint = endpoint.rstrip("/") if endpoint else None
        self.credential = credential
        self._headers = {"User-Agent": _AGENT, **(headers or {})}

    def download(self, file: str, resource_key: str | None = None) -> Download:
        """Asks for one byte, past the warning that large files have. Raises Refusal."""
        query = {"id": file, "export": "download", "confirm": "t"}
        url = f"{self._endpoint or FILES}/download?{_query(query, resource_key)}"
        found = self._probed(url, self._headers)
        if isinstance(found, Download):
            return found
        answer = self._client.ask(url, headers=self._headers, credential=self.credential)
        page = _page(answer)
        target = self._target(page.form, answer.url, resource_key) if page.form else None
        if target is None:
            raise Refusal(answer.status, page)
        found = self._probed(target, self._with_cookies(answer, target))
        if isinstance(found, Download):
            return found
        answer = self._client.ask(
            target, headers=self._with_cookies(answer, target), credential=self.credential
        )
        raise Refusal(answer.status, _page(answer))

    def folder(self, folder: str, resource_key: str | None = None) -> Folder:
        """What is in it, without what its folders hold. Raises Refusal."""
        query = _query({"id": folder}, resource_key)
        url = f"{self._endpoint or PAGES}/embeddedfolderview?{query}"
        answer = self._client.ask(url, headers=self._headers, credential=self.credential)
        page = _page(answer)
        found = folder_in(answer.body.decode("utf-8", "replace"))
        if answer.status != 200 or (not found.entries and page.kind != "page"):
            raise Refusal(answer.status, page)
        return found

    def _probed(self, url: str, headers: Mapping[str, str]) -> Download | None:
        answer = self._client.probe(url, headers=headers, credential=self.credential)
        named = answer.header("content-disposition") is not None
        return Download(url, headers, answer) if named and answer.status in {200, 206} else None

    def _target(self, form: Form, base: str, resource_key: str | None) -> str | None:
        """Where the form leads; None unless that is Drive, or what stands in its place."""
        action = urljoin(base, form.action)
        parts = urlsplit(action)
        host = (parts.hostname or "").lower()
        google = parts.scheme == "https" and (
            host in HOSTS or host.endswith((".google.com", ".googleusercontent.com"))
        )
        if self._endpoint is not None:
            if not google and not _same_origin(action, self._endpoint):
                return None
            action = f"{self._endpoint}{parts.path}"
        elif not google:
            return None
        return f"{action}?{_query(dict(form.fields), resource_key)}"

    def _with_cookies(self, answer: Answer, target: str) -> Mapping[str, str]:
        """The page's cookies go back to where they came from and nowhere else."""
        told = _COOKIE.findall(answer.header("set-cookie") or "")
        if not told or not _same_origin(answer.url, target):
            return self._headers
        return {**self._headers, "Cookie": "; ".join(f"{name}={value}" for name, value in told)}


def _page(answer: Answer) -> Page:
    page = page_in(answer.body.decode("utf-8", "replace"), answer.url)
    if page.kind != "page" or answer.status == 200:
        return page
    kinds = {404: "missing", 410: "missing", **dict.fromkeys(_REFUSED, "private")}
    return Page(kinds.get(answer.status, "page"), page.title)  # type: ignore[arg-type]


def _query(fields: dict[str, str], resource_key: str | None) -> str:
    return urlencode({**fields, **({"resourcekey": resource_key} if resource_key else {})})


def _same_origin(one: str, other: str) -> bool:
    try:
        return origin_of(one) == origin_of(other)
    except ValueError:
        return False
