"""What the HTTP library raises, as errors a person can act on."""

import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from modelbay.errors import (
    ModelbayError,
    RedirectRefused,
    ServerTrouble,
    TlsRefused,
    Unreachable,
)
from modelbay.http.redact import shown_url
from modelbay.http.sockets import PRIVATE
from modelbay.text import clean

_PROXY_REFUSED = "407"
_DNS_PASSING = {socket.EAI_AGAIN}


def explained(error: Exception, url: str, *, agreed: bool = False) -> ModelbayError:
    """The NetworkError for one failed exchange with the host of `url`.

    Once client and server `agreed` on a connection, broken TLS is damage on the way.
    """
    host = clean(urlsplit(url).hostname or "the host", limit=200)
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _certificate(cause, host)
        if isinstance(cause, socket.gaierror):
            return _no_name(cause, host, _proxy_before(url))
        if PRIVATE in str(cause):
            return RedirectRefused(
                f"{host} leads to {PRIVATE}",
                hint="nothing was sent; if that machine is meant, give its own address, or name it "
                "in the settings ([endpoints])",
            )
    if not agreed and any(
        isinstance(cause, ssl.SSLError) and "EOF" not in str(cause) for cause in causes
    ):
        reason = next(str(c) for c in causes if isinstance(c, ssl.SSLError))
        return TlsRefused(
            f"{host} and modelbay agree on no safe connection: {clean(reason, limit=200)}",
            hint="ask its operator for TLS 1.2 or newer; modelbay has no switch to turn TLS off",
        )
    if _PROXY_REFUSED in str(error) and "roxy" in f"{type(error).__name__}{error}":
        return proxy_refusal(url)
    reason = reason_of(error, causes)
    proxy = _proxy_before(url)
    return Unreachable(
        f"{host} could not be read{f' through the proxy {proxy}' if proxy else ''}: {reason}",
        hint="check the network (`modelbay doctor`), then run the same command again",
        transient=True,
    )


def proxy_refusal(url: str) -> Unreachable:
    """The error for a proxy that wants to know who asks."""
    host = clean(urlsplit(url).hostname or "the host", limit=200)
    variable = f"{urlsplit(url).scheme.upper()}_PROXY"
    return Unreachable(
        f"the proxy refused to connect to {host}: it wants a name and a password",
        hint=f"write them into {variable} as http://user:password@proxy:port",
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(8):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _certificate(error: ssl.SSLCertVerificationError, host: str) -> ModelbayError:
    return TlsRefused(
        f"{host} showed a certificate that is not trusted: {clean(error.verify_message)}",
        hint="if your company has its own authority, put its certificate into the system's "
        "store or name the file in SSL_CERT_FILE",
    )


def _proxy_before(url: str) -> str:
    """The name of the proxy that the environment puts before `url`; "" without one."""
    from urllib.request import getproxies, proxy_bypass

    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return ""
    try:
        return clean(urlsplit(proxy if "://" in proxy else f"//{proxy}").hostname or "", limit=200)
    except ValueError:
        return ""


def _no_name(error: socket.gaierror, host: str, proxy: str) -> ModelbayError:
    passing = error.errno in _DNS_PASSING
    return Unreachable(
        f"the name {f'of the proxy {proxy}' if proxy else host} "
        + ("could not be looked up just now" if passing else "is not known to the name service"),
        hint="check the spelling and the network (`modelbay doctor`)",
        transient=passing,
    )


def reason_of(error: Exception, causes: list[BaseException]) -> str:
    """What went wrong, in a few words, cleaned: the system's own where it has some."""
    kind = type(error).__name__
    if "Timeout" in kind:
        return "it did not answer in time"
    deepest = next((c for c in reversed(causes) if isinstance(c, OSError) and c.strerror), None)
    if deepest is not None:
        return clean(deepest.strerror, limit=200)
    return clean(str(error) or kind, limit=200)


def server_trouble(status: int, url: str, wait: float | None) -> ServerTrouble:
    """The error for a 408 or 5xx answer."""
    host = clean(urlsplit(url).hostname or "the host", limit=200)
    return ServerTrouble(
        f"{host} is in trouble: it answered {status} for {shown_url(url)}",
        hint="run the same command again later; what arrived is kept",
        transient=True,
        retry_after=wait,
    )
