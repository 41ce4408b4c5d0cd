"""Addresses and headers as they may be shown: without what opens doors."""

import re
from urllib.parse import urlsplit

from modelbay.location import origin_of
from modelbay.text import clean

__all__ = ["origin_of", "shown_header", "shown_url"]

_QUIET_HEADERS = re.compile(
    r"(?i)auth|cookie|token|secret|key|password|signature|credential|^x-amz-security"
)

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
