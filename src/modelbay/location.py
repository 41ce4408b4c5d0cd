"""Where a file's bytes can be had: the four answers a source may give.

The engine knows these and no source; a source makes these and moves no byte.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from modelbay.errors import LoginPage, ModelbayError
from modelbay.refs import ModelRef
from modelbay.text import Secret


@dataclass(frozen=True, slots=True)
class Credential:
    """A header with a secret, and the origins it may be sent to.

    An origin is `scheme://host:port` in lower case with the port always written.
    The HTTP floor decides again at every hop; everything not listed gets nothing.
    """

    header: str
    value: Secret
    origins: frozenset[str]
    label: str = ""
    """Where it came from, for people: `HF_TOKEN`, `token file`."""


Sign = Callable[[str, str, Mapping[str, str]], Mapping[str, str]]
"""Method, URL and headers of a request; what it answers is sent with it."""


@dataclass(frozen=True, slots=True)
class Http:
    """A URL read by ranges. `headers` go to the URL's own origin only.

    `sign` is called before each request with method, URL and headers, and gives the
    headers to send in their place (S3). `expires` is a monotonic time, in seconds.
    """

    url: str = field(repr=False)
    """Not shown: a signed address opens doors."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    credential: Credential | None = None
    sign: Sign | None = None
    expires: float | None = None
    explain: Callable[[int, Mapping[str, str], str], ModelbayError] | None = None
    """What a refusal (status, headers in lower case, start of the body) means to the source."""
    page: Callable[[LoginPage], ModelbayError] | None = None
    """What a page in place of the file means to the source, its title in the sentence."""
    etag: str | None = None
    """The strong validator known beforehand, unquoted."""
    turned_away: Callable[[str], ModelbayError | None] | None = None
    """What being redirected to an address means, where it is a refusal: a page to sign in at."""


@dataclass(frozen=True, slots=True)
class Local:
    """A file on this machine, read and never moved."""

    path: Path


class OpenAt(Protocol):
    def __call__(self, offset: int, /) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class Stream:
    """Bytes from a generator, resumable from an offset and no other way."""

    open: OpenAt


@dataclass(frozen=True, slots=True)
class Other:
    """Ask the source of that ref instead; followed at most three deep."""

    ref: ModelRef


Location = Http | Local | Stream | Other


def origin_of(url: str) -> str:
    """`scheme://host:port` in lower case, the port always written. Raises ValueError."""
    return _origin(*urlsplit(url)[:2])


@lru_cache(maxsize=1024)
def _origin(scheme: str, netloc: str) -> str:
    parts = SplitResult(scheme.lower(), netloc, "", "", "")
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    if not parts.hostname or port is None:
        raise ValueError("an address needs a scheme and a host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}"
