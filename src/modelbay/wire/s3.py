"""S3's questions, as every store that speaks like it is asked them (protocols-rest C).

No policy here and no keys: whoever asks brings the signature, and says what a `Refusal` means.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Self
from urllib.parse import quote, urlencode, urlsplit

from modelbay.errors import ServerTrouble
from modelbay.http import Answer, Client
from modelbay.location import Credential, Sign
from modelbay.text import clean
from modelbay.wire.s3_answers import (
    Head,
    Listed,
    Page,
    read_buckets,
    read_head,
    read_page,
    refusal_of,
)

PUBLIC: Final = "https://s3.amazonaws.com"
"""AWS itself; which host that is depends on the region."""
FIRST_REGION: Final = "us-east-1"
Addressing = Literal["path", "virtual"]

_MOST_PAGES = 100_000
_HOST_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{1,61}[a-z0-9])")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_SUFFIXES: Final[Mapping[str, str]] = {"cn-": "amazonaws.com.cn", "eusc-": "amazonaws.eu"}
_REGION_IN_HOST = re.compile(r"s3\.([a-z]{2}[a-z0-9-]*-[a-z0-9-]*\d)\.[a-z0-9-]+\.[a-z]+")
"""`s3.us-west-004.backblazeb2.com` and its like, whose signatures must name that region."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket, and how it is asked for."""

    name: str
    endpoint: str = PUBLIC
    region: str | None = None
    addressing: Addressing | None = None

    @property
    def is_aws(self) -> bool:
        return self.endpoint == PUBLIC

    @property
    def signing_region(self) -> str:
        found = _REGION_IN_HOST.fullmatch(urlsplit(self.endpoint).hostname or "")
        return self.region or (found[1] if found else FIRST_REGION)

    @property
    def service(self) -> str:
        """The address of the service in that region."""
        if not self.is_aws:
            return self.endpoint
        region = self.signing_region
        suffix = next((v for k, v in _SUFFIXES.items() if region.startswith(k)), "amazonaws.com")
        return f"https://s3.{region}.{suffix}"

    @property
    def address(self) -> str:
        """The address that keys follow, without its slash. A name with dots fits no
        certificate, and stores of one's own seldom have names for their buckets.
        """
        service = self.service
        style = self.addressing or ("virtual" if self.is_aws else "path")
        if style == "path" or not _HOST_LABEL.fullmatch(self.name):
            return f"{service}/{self.name}"
        scheme, _, rest = service.partition("://")
        return f"{scheme}://{self.name}.{rest}"

    def url(self, key: str = "", query: Sequence[tuple[str, str]] = ()) -> str:
        """Everything is percent-encoded as a signature has it."""
        asked = "?" + urlencode(query, quote_via=quote, safe="-_.~") if query else ""
        return f"{self.address}/{quote(key, safe='/-_.~')}{asked}"

    def object_url(self, key: str, version: str | None) -> str:
        return self.url(key, [("versionId", version)] if version else [])

    def at(self, region: str) -> Self:
        return replace(self, region=region)


@dataclass(frozen=True, slots=True)
class S3:
    """Asks for one bucket. Every method raises `Refusal` where the server says no."""

    client: Client
    bucket: Bucket
    sign: Sign | None = field(default=None, repr=False)
    credential: Credential | None = None

    def head(self, key: str, version: str | None = None) -> Head:
        url = self.bucket.object_url(key, version)
        # A size of the bytes as they are kept, and not as some proxy would squeeze them.
        headers = {"x-amz-checksum-mode": "ENABLED", "Accept-Encoding": "identity"}
        return read_head(self._asked(url, "HEAD", headers))

    def objects(self, prefix: str) -> Iterator[Listed]:
        """Every object whose key begins with `prefix`, page by page."""
        for page in self._pages(prefix, ()):
            yield from page.objects

    def below(self, prefix: str) -> Iterator[Listed | str]:
        """Objects and prefixes one step below `prefix`; those end in a slash."""
        for page in self._pages(prefix, [("delimiter", "/")]):
            yield from page.prefixes
            yield from page.objects

    def buckets(self) -> tuple[tuple[str, str | None], ...]:
        """Names of the buckets of whoever asks, and when each was made."""
        return read_buckets(self._asked(f"{self.bucket.service}/", "GET"))

    def _pages(self, prefix: str, more: Sequence[tuple[str, str]]) -> Iterator[Page]:
        following: list[tuple[str, str]] = []
        for _ in range(_MOST_PAGES):
            query = [("list-type", "2"), ("encoding-type", "url"), ("prefix", prefix)]
            url = self.bucket.url("", sorted([*query, *more, *following]))
            page = read_page(self._asked(url, "GET"))
            yield page
            if not page.truncated:
                return
            after = _after(page)
            if not after or after == following:
                break
            following = after
        raise ServerTrouble(
            f"the listing of {clean(urlsplit(self.bucket.address).netloc, limit=200)} has no end",
            hint="tell whoever runs that server, or name a single object",
        )

    def _asked(self, url: str, method: str, headers: Mapping[str, str] | None = None) -> Answer:
        answer = self.client.ask(
            url,
            method=method,
            headers=headers,
            credential=self.credential,
            sign=None if self.credential is not None else self.sign,
            follow="none",
        )
        if answer.status != 200:
            raise refusal_of(answer)
        return answer


def is_bucket_name(text: str) -> bool:
    """Whether `text` may be a bucket: of AWS's rules the part that every store keeps."""
    return _BUCKET.fullmatch(text) is not None and ".." not in text


def _after(page: Page) -> list[tuple[str, str]]:
    """How the next page is asked for. Stores that know version 1 alone ignore `start-after`
    and take `marker`; the others have given a token, or ignore `marker`.
    """
    if page.token is not None:
        return [("continuation-token", page.token)]
    return [("marker", page.marker), ("start-after", page.marker)] if page.marker else []
