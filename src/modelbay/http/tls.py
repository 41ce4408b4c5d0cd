"""Whom to trust: one context for everything, as the system and SSL_CERT_FILE say."""

import contextlib
import os
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

from modelbay.errors import UsageError
from modelbay.http.trouble import reason_of

_VARIABLES = frozenset(
    {"SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}
)


def context() -> ssl.SSLContext:
    """A context that verifies names and certificates, TLS 1.2 or newer.

    `SSL_CERT_FILE` and `SSL_CERT_DIR` win, as with the tools that users have already; else
    the system's store. Raises OSError for a file that cannot be read.
    """
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or folder:
        return ssl.create_default_context(cafile=file or None, capath=folder or None)
    if sys.platform in {"darwin", "win32"}:
        import truststore

        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found = ssl.create_default_context()
    if not found.cert_store_stats()["x509_ca"] and not _has_folder():
        import httpx2

        return httpx2.create_ssl_context()
    return found


def _has_folder() -> bool:
    """Whether OpenSSL has a folder of certificates, which it reads only when it meets one."""
    folder = ssl.get_default_verify_paths().capath
    return bool(folder) and any(Path(folder).iterdir())


@contextlib.contextmanager
def environment(*more: type[Exception]) -> Iterator[None]:
    """Turns what stands wrong in proxy and certificate variables into a UsageError; `more` are
    errors of the caller's own library that mean the same.
    """
    caught: tuple[type[Exception], ...] = (OSError, ImportError, ValueError, *more)
    try:
        yield
    except caught as error:
        names = [name for name in os.environ if name.upper() in _VARIABLES and os.environ[name]]
        raise UsageError(
            "the network settings of the environment "
            f"({', '.join(names)}) cannot be used: {_why(error)}",
            hint="correct or unset " + (", ".join(names) or "the proxy of the system"),
        ) from error


def _why(error: Exception) -> str:
    if isinstance(error, ImportError):
        return "modelbay speaks to no SOCKS proxy"
    if isinstance(error, OSError):
        return reason_of(error, [error])
    # Its own words quote the address, and a password with it.
    return "the address of a proxy is none"
