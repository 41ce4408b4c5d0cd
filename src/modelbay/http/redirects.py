"""Where a redirect leads, and where it may not."""

from urllib.parse import urljoin, urlsplit, urlunsplit

from modelbay.errors import RedirectRefused
from modelbay.http.kept import escaped
from modelbay.http.redact import origin_of, shown_url
from modelbay.http.sockets import leads_to_private
from modelbay.text import clean


def target_of(url: str, location: str) -> str:
    """The absolute address a redirect leads to, without user name. Raises RedirectRefused."""
    try:
        parts = urlsplit(urljoin(url, location))
        origin_of(parts.geturl())
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"}:
        raise RedirectRefused(
            f"{shown_url(url)} redirects to {clean(location, limit=100)!r}, "
            "which is no web address",
            hint="nothing was read; check the address in a browser",
        )
    if urlsplit(url).scheme == "https" and parts.scheme == "http":
        raise RedirectRefused(
            f"{shown_url(url)} redirects from https to http ({shown_url(parts.geturl())})",
            hint="nothing was sent there; ask whoever runs that server for an https address",
        )
    host, path, query = parts.netloc.rpartition("@")[2], escaped(parts.path), escaped(parts.query)
    return urlunsplit(parts._replace(netloc=host, path=path, query=query, fragment=""))


def refuse_private(target: str, origin: str) -> None:
    """Raises RedirectRefused when a public host sends us to a private address.

    The backend checks again when it connects; this covers connections kept alive.
    """
    host = urlsplit(target).hostname or ""
    if leads_to_private(host):
        raise RedirectRefused(
            f"{shown_url(origin)} redirects to {clean(host, limit=200)}, a private address",
            hint="nothing was sent there; if that machine is meant, give its own address",
        )
