"""Addresses, headers and answers as they may be shown: without what opens doors."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from modelbay.location import Credential, origin_of
from modelbay.text import clean

__all__ = ["origin_of", "shown_header", "shown_url", "without_secrets"]

_QUIET_HEADERS = re.compile(
    r"(?i)auth|cookie|token|secret|key|password|signature|credential|^x-amz-security"
)

_SHORTEST = 6
"""Of a secret; a shorter one could be a word of any sentence."""
_UNREADABLE = "an unreadable address"


def shown_url(url: str) -> str:
    """`url` for people and logs: no user name, no query, cleaned.

    Queries are dropped whole: signed addresses use too many key names to list
    (fixtures SURPRISES H11 shows four generations of one service).
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, f":{parts.port}" if parts.port else ""
    except ValueError:
        return _UNREADABLE
    if not host:
        # Without one, a user name and its password would count as the path.
        return _UNREADABLE
    host = f"[{host}]" if ":" in host else host
    query = "?…" if parts.query else ""
    return clean(f"{parts.scheme}://{host}{port}{parts.path}{query}", limit=300)


def shown_header(name: str, value: str) -> str:
    """A header's value for people, or `***` when its name says it is a secret."""
    return "***" if _QUIET_HEADERS.search(name) else clean(value, limit=300)


def without_secrets(
    text: str, credential: Credential | None, headers: Mapping[str, str] | None = None
) -> str:
    """`text` of a server without what it was sent: some repeat a token that they refuse."""
    sent = [value for name, value in (headers or {}).items() if _QUIET_HEADERS.search(name)]
    sent += [] if credential is None else [credential.value.reveal()]
    for value in sent:
        # The scheme that stands before a token says nothing.
        for secret in (value, value.rpartition(" ")[2]):
            text = text.replace(secret, "***") if len(secret) >= _SHORTEST else text
    return text
