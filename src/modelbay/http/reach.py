"""Where a client may go when somebody else chose the addresses (formats.md §2, Trust)."""

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from modelbay.errors import PolicyError
from modelbay.http.redact import origin_of, shown_url
from modelbay.http.sockets import is_private, leads_to_private
from modelbay.text import clean

_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9-]{2,63}")
_NUMBERS = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}")
_PRIVATE_ENDS = (
    ".localhost",
    ".localdomain",
    ".local",
    ".internal",
    ".intranet",
    ".lan",
    ".home.arpa",
)
"""RFC 6761, 6762, 8375, and what clouds and routers call their own (`metadata.google.internal`)."""


@dataclass(frozen=True, slots=True)
class Reach:
    """https to public hosts, and the origins that the user named himself, wherever those are."""

    own: frozenset[str] = frozenset()

    @classmethod
    def of(cls, addresses: Iterable[str]) -> Self:
        """The user's own `addresses`; what is no web address among them counts for nothing."""
        return cls(frozenset(filter(None, map(_origin, addresses))))

    def and_also(self, address: str) -> Self:
        return type(self)(self.own | {origin_of(address)})

    def is_own(self, url: str) -> bool:
        return _origin(url) in self.own

    def objection(self, url: str) -> str:
        """Why `url` may not be asked, to follow its name in a sentence; "" when it may, as far
        as its text can tell. Where the name leads is seen when it is connected to.
        """
        if self.is_own(url):
            return ""
        try:
            parts = urlsplit(url)
            scheme, host, _ = parts.scheme, parts.hostname or "", parts.port
            host = host.encode("idna").decode("ascii").lower().rstrip(".")
        except (ValueError, UnicodeError):
            return "is no address that can be asked"
        if scheme != "https":
            return "is not https"
        if "@" in parts.netloc:
            return "carries a user name"
        return _objection_to(host)

    def check(self, url: str, *, proxied: bool) -> None:
        """Raises PolicyError for an address that may not be asked. Behind a proxy, whose
        connections are not ours to check, the name is looked up here too.
        """
        objection = self.objection(url)
        host = urlsplit(url).hostname or ""
        if not objection and proxied and not self.is_own(url):
            objection = "leads to a private address" * leads_to_private(host, at_all=True)
        if objection:
            raise PolicyError(
                f"{shown_url(url)} {objection}, and the file that leads there is not trusted",
                hint="nothing was sent; if that host is meant, name it in the settings "
                "([endpoints], mirrors), or trust the file with --trust",
            )


def _objection_to(host: str) -> str:
    literal = _literal(host)
    if literal is not None:
        return "is a private address" if is_private(literal) else ""
    if host == "localhost" or host.endswith(_PRIVATE_ENDS):
        return "is a name of private networks"
    if not _NAME.fullmatch(host):
        return f"has {clean(host, limit=100)!r} for a host, which is no public name"
    return ""


def _literal(host: str) -> str | None:
    """The address that `host` writes, in whichever of the ways that resolvers accept."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    if not _NUMBERS.fullmatch(host):
        return None
    try:
        # 2130706433, 0x7f.1 and 0177.0.0.1 are all 127.0.0.1 to a resolver.
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return "0.0.0.0"  # noqa: S104 - no public name ends in a number (RFC 3696 §2)


def _origin(url: str) -> str:
    try:
        return origin_of(url)
    except ValueError:
        return ""
