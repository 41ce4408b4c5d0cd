"""`modelbay doctor`: what this machine gives us to work with, tried rather than guessed."""

import platform
import shutil
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import click

from modelbay import __version__, files, paths
from modelbay.config import Settings
from modelbay.credentials import Credentials
from modelbay.errors import KeyringTrouble, ModelbayError
from modelbay.output.exits import exit_code, worst
from modelbay.output.face import Face
from modelbay.output.words import Words
from modelbay.text import clean
from modelbay.tokens import Tokens

State = Literal["ok", "note", "fail"]
CONNECT_SECONDS = 5.0
PUBLIC_HUB = "https://huggingface.co"
_SET_HINT = "set HF_TOKEN, or `modelbay token set huggingface`"
_PACKAGES = ("httpx2", "huggingface_hub", "hf-xet", "textual", "click", "rich", "keyring", "blake3")
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
_BUNDLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
_EPILOG = """\b
Examples:
  modelbay doctor
  modelbay doctor --json

A token is never shown, only where it comes from and which host it is sent to.
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `code` is the exit code that a failed one gives."""

    subject: str
    state: State
    said: str
    hint: str = ""
    code: int = 0


@click.command(name="doctor", epilog=_EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def command(face: Face, *, as_json: bool) -> int:
    """Check this machine: versions, folders, links, endpoints, tokens, proxies, terminal."""
    words = face.words
    checks = list(_checks(face, words))
    code = worst(check.code for check in checks)
    if as_json:
        face.give_json({"checks": [asdict(check) for check in checks], "exit": code})
        return code
    width = max(len(check.subject) for check in checks)
    for check in checks:
        face.give(f"{check.state:<4}  {check.subject:<{width}}  {check.said}")
        if check.hint:
            face.give(f"{'':<4}  {'':<{width}}  {words.arrow} {check.hint}")
    return code


def _checks(face: Face, words: Words) -> Iterator[Check]:
    settings, environ = face.settings, face.environ
    yield Check("modelbay", "ok", f"{__version__} on Python {platform.python_version()}")
    yield Check("system", "ok", f"{platform.system()} {platform.release()} {platform.machine()}")
    yield Check("packages", "ok", ", ".join(f"{name} {_version(name)}" for name in _PACKAGES))
    yield _settings(settings)
    workspace = paths.workspace(environ, setting=settings.workspace)
    yield _folder("state", paths.state_dir(environ), words)
    yield _folder("workspace", workspace, words)
    yield _folder("hub cache", paths.hub_cache(environ), words)
    yield from _endpoints(settings, proxied=any(map(environ.get, _proxy_names())))
    tokens = Tokens(environ, offline=settings.offline)
    yield _keyring(tokens)
    yield _token(environ, settings, tokens)
    yield _variables("proxies", _PROXIES, environ)
    yield _variables("CA bundle", _BUNDLES, environ, otherwise="the system's own")
    yield _terminal(face)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _settings(settings: Settings) -> Check:
    file = settings.file
    if settings.warnings:
        return Check("settings", "note", clean("; ".join(settings.warnings)))
    stands = file is not None and file.exists()
    return Check("settings", "ok", clean(file) if stands else f"defaults, no {clean(file)}")


def _folder(subject: str, folder: Path, words: Words) -> Check:
    found = files.probe(folder)
    free = f"{words.size(found.free)} of {words.size(found.total)} free"
    if not found.writable:
        return Check(
            subject,
            "fail",
            f"{clean(folder)} cannot be written: {found.trouble}",
            hint="make it writable, or name another in the settings or the environment",
            code=7,
        )
    abilities = [
        name for name in ("reflink", "hardlink", "symlink", "flock") if getattr(found, name)
    ]
    missing = [name for name in ("hardlink", "flock") if not getattr(found, name)]
    said = f"{clean(folder)}: {free}; can {', '.join(abilities) or 'neither link nor lock'}"
    return Check(subject, "note" if missing else "ok", said)


def _proxy_names() -> Iterator[str]:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        yield name
        yield name.lower()


def _endpoints(settings: Settings, *, proxied: bool) -> Iterator[Check]:
    asked = {"huggingface": PUBLIC_HUB, **settings.endpoints}
    if settings.offline:
        yield Check("endpoints", "note", f"not asked: offline ({settings.origin('offline')})")
        return
    with ThreadPoolExecutor(max_workers=8) as pool:
        for check in pool.map(_reach, asked.items()):
            # Only a direct try is made: behind a proxy its failure says nothing.
            yield replace(check, state="note", code=0) if proxied and check.code else check


def _reach(endpoint: tuple[str, str]) -> Check:
    source, url = endpoint
    parts = urlsplit(url)
    host, subject = parts.hostname, f"endpoint {clean(source, limit=40)}"
    if parts.scheme not in {"http", "https"} or host is None:
        return Check(subject, "note", f"{clean(url, limit=200)}: not an address that can be tried")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    named = clean(f"{host}:{port}", limit=200)
    begun = time.monotonic()
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as plain:
            if parts.scheme == "https":
                ssl.create_default_context().wrap_socket(plain, server_hostname=host).close()
    except OSError as error:
        return Check(
            subject,
            "fail",
            f"{named} cannot be reached: {clean(error.strerror or error, limit=200)}",
            hint="check the network, HTTPS_PROXY and the address",
            code=6,
        )
    return Check(subject, "ok", f"{named} answers in {(time.monotonic() - begun) * 1000:.0f} ms")


def _keyring(tokens: Tokens) -> Check:
    """Asked for its state only: nothing is unlocked."""
    if tokens.offline:
        return Check("keyring", "note", "not asked: offline")
    try:
        keyring = tokens.keyring()
        state = keyring.state()
    except KeyringTrouble as error:
        return Check("keyring", "note", clean(error), hint=clean(error.hint))
    stored = f"{len(tokens.known())} stored by modelbay"
    said = ", ".join(part for part in (keyring.name, state, stored) if part)
    return Check("keyring", "note" if state == "locked" else "ok", said)


def _token(environ: Mapping[str, str], settings: Settings, tokens: Tokens) -> Check:
    endpoint = settings.endpoints.get("huggingface", PUBLIC_HUB)
    try:
        credentials = Credentials(environ, named=[endpoint], tokens=tokens)
        found = credentials.find("huggingface", endpoint)
    except ModelbayError as error:
        return Check(
            "Hub token", "fail", clean(error), hint=clean(error.hint), code=exit_code(error)
        )
    if found is None:
        return Check("Hub token", "note", "none: public models only", hint=_SET_HINT)
    bound = ", ".join(sorted(clean(origin) for origin in found.origins))
    return Check("Hub token", "ok", f"from {clean(found.label)}, sent to {bound} only")


def _variables(
    subject: str, names: tuple[str, ...], environ: Mapping[str, str], *, otherwise: str = "none"
) -> Check:
    said = [
        f"{name}={_shown(value)}"
        for name in names
        if (value := environ.get(name) or environ.get(name.lower()))
    ]
    missing = [
        name
        for name in names
        if name.startswith(("SSL_", "REQUESTS_"))
        and (value := environ.get(name))
        and not Path(value).exists()
    ]
    if missing:
        hint = f"{missing[0]} names what is not there: correct it or unset it"
        return Check(subject, "fail", ", ".join(said), hint=hint, code=6)
    return Check(subject, "ok", ", ".join(said) or otherwise)


def _shown(value: str) -> str:
    """An address without its user and password, with or without a scheme."""
    head, at, tail = value.rpartition("@")
    scheme, slashes, _ = head.partition("//")
    return clean(f"{scheme if slashes else ''}{slashes}***@{tail}" if at else value, limit=200)


def _terminal(face: Face) -> Check:
    environ = face.environ
    size = shutil.get_terminal_size()
    kind = "a terminal" if face.err.isatty() else "not a terminal"
    said = [
        f"stderr is {kind}, {size.columns}x{size.lines}",
        f"TERM={clean(environ.get('TERM', 'unset'), limit=60)}",
        f"encoding {getattr(face.err, 'encoding', None) or 'unknown'}",
    ]
    said += [name for name in ("NO_COLOR", "CI", "DISABLE_PROGRESS") if environ.get(name)]
    return Check("terminal", "ok", ", ".join(said))
