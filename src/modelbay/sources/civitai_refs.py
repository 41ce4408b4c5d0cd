"""How models of CivitAI are named: versions, models, its pages, downloads and AIR URNs.

A download's address takes the number of a *version*, a page's path that of a *model*.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from modelbay.errors import RefError
from modelbay.location import origin_of
from modelbay.refs import ModelRef, RawRef, checked_path
from modelbay.text import clean
from modelbay.wire.civitai import PUBLIC

SCHEME: Final = "civitai"
FORMS: Final = (
    "write civitai://<version>, civitai://<version>+<file> or civitai://model/<model>; the page "
    "of a version has its number after modelVersionId="
)
SELECTORS: Final = ("type", "format", "size", "fp", "quantType")
"""What a download's query chooses a file by, where it has no `fileId`."""
_HOSTS: Final = frozenset({"civitai.com", "www.civitai.com", "civitai.green", "civitai.red"})
_N = r"[1-9][0-9]{0,14}"
_VERSION = re.compile(rf"({_N})(?:\+({_N}))?(?:/(.+))?")
_MODEL = re.compile(rf"model/({_N})(?:/(.+))?")
_AIR = re.compile(rf"(?:({_N})@)?({_N})(?:\+({_N}))?(?:\.[A-Za-z0-9]+)?")
_URN = re.compile(
    r"(?i)(?:(?P<urn>urn:air:|air:)(?:(?P<eco>[^:]*):)?(?:(?P<type>[^:]*):)?"
    r"|[a-z0-9_-]+:[a-z0-9_-]+:(?=civitai:))(?P<source>[a-z0-9_-]+):(?P<id>[^:]+)"
)
_PAGES: Final = (
    re.compile(rf"/models/(?P<model>{_N})(?:/[^/]*)?/?"),
    re.compile(rf"/(?:api/v1/)?model-versions/(?P<version>{_N})/?"),
    re.compile(rf"/api/v1/models/(?P<model>{_N})/?"),
    re.compile(rf"/api/download/models/(?P<version>{_N})/?"),
)


@dataclass(frozen=True, slots=True)
class Named:
    """What a ref names: a version, or a model for its newest one."""

    endpoint: str
    version: int | None = None
    model: int | None = None
    file: int | None = None
    chosen: Mapping[str, str] = field(default_factory=dict)


def normal_endpoint(text: str) -> str:
    """An endpoint as an origin in lower case. Raises RefError."""
    try:
        parts = urlsplit(text.strip())
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    odd = parts.query or parts.fragment or "@" in parts.netloc or parts.path.strip("/")
    if parts.scheme not in {"http", "https"} or not host or odd:
        raise RefError(
            f"the endpoint {clean(text, limit=200)!r} is no address of a CivitAI",
            hint="write it as https://host, without a path",
        )
    if host in {"civitai.com", "www.civitai.com"} and port in {None, 443, 80}:
        return PUBLIC
    name = f"[{host}]" if ":" in host else host
    shown = "" if port in {None, {"https": 443, "http": 80}[parts.scheme]} else f":{port}"
    return f"{parts.scheme}://{name}{shown}"


def read_ref(raw: RawRef, configured: str) -> ModelRef:
    """The canonical ref of `civitai:…`. Raises RefError."""
    endpoint, chosen = configured, {}
    for key, value in raw.options:
        if key == "endpoint":
            endpoint = normal_endpoint(value)
        elif key in SELECTORS and value:
            chosen[key] = value
        else:
            raise RefError(
                f"{clean(raw.text, limit=200)!r} has an option {clean(key, limit=80)!r}",
                hint="civitai: refs have the options endpoint, " + ", ".join(SELECTORS),
            )
    body = raw.body.rstrip("/")
    if found := _MODEL.fullmatch(body):
        name, path = f"model/{int(found[1])}", found[2]
    elif found := _VERSION.fullmatch(body):
        name, path = _version(int(found[1]), found[2]), found[3]
    elif found := _AIR.fullmatch(body):
        name, path = _version(int(found[2]), found[3]), None
    else:
        raise RefError(
            f"{clean(raw.text, limit=200)!r} names no version or model of CivitAI", hint=FORMS
        )
    parts = path.split("/") if path else ()
    return _made(name, checked_path(parts, raw.text), endpoint, configured, chosen)


def recognise(text: str, configured: str) -> ModelRef | None:
    """A page, a download's address or an AIR URN, else None. Raises RefError for a URN of
    another service.
    """
    urn = _URN.fullmatch(text)
    if urn is not None:
        return _from_air(urn, text, configured)
    if text.startswith(tuple(f"{host}/" for host in _HOSTS)):
        text = f"https://{text}"
    try:
        parts = urlsplit(text)
        origin = origin_of(text) if parts.scheme in {"http", "https"} else None
    except ValueError:
        return None
    if origin is None:
        return None
    if parts.hostname in _HOSTS and parts.port in {None, 443, 80}:
        return _from_page(parts, text, PUBLIC, configured)
    if origin == origin_of(configured):
        return _from_page(parts, text, configured, configured)
    return None


def ref_to(
    endpoint: str,
    configured: str,
    *,
    version: int | None = None,
    model: int | None = None,
    file: int | None = None,
    path: str | None = None,
) -> ModelRef:
    """The canonical ref of a version, or of a model where there is none."""
    name = f"model/{model}" if version is None else _version(version, file)
    return _made(name, path, endpoint, configured, {})


def named(ref: ModelRef, configured: str) -> Named:
    """What `ref`, which this module made, names."""
    endpoint = ref.option("endpoint")
    home = normal_endpoint(endpoint) if endpoint else configured
    if ref.name.startswith("model/"):
        return Named(home, model=int(ref.name.removeprefix("model/")))
    version, _, file = ref.name.partition("+")
    chosen = {key: value for key, value in ref.options if key in SELECTORS}
    return Named(home, int(version), None, int(file) if file else None, chosen)


def _version(version: int, file: object) -> str:
    return f"{version}+{int(str(file))}" if file else str(version)


def _made(
    name: str, path: str | None, endpoint: str, configured: str, chosen: Mapping[str, str]
) -> ModelRef:
    """The endpoint is left out only where reading it back adds it again. A file that is named
    by its number or its path is not chosen by anything else.
    """
    if chosen and name.startswith("model/"):
        raise RefError("a file of a model's newest version is chosen by a query", hint=FORMS)
    options = [] if "+" in name or path else sorted(chosen.items())
    if endpoint != PUBLIC or configured != PUBLIC:
        options = [("endpoint", endpoint), *options]
    return ModelRef("civitai", SCHEME, name, None, path, tuple(options))


def _from_air(urn: re.Match[str], text: str, configured: str) -> ModelRef:
    """`urn:air:{ecosystem}:{type}:{source}:{id}[@{version}][+{file}][.{format}]` (C4)."""
    if urn["source"].lower() != "civitai":
        raise RefError(
            f"{clean(text, limit=200)!r} names a model of {clean(urn['source'], limit=80)}",
            hint="write it as that source's own ref, like hf://org/name",
        )
    found = re.fullmatch(
        rf"({_N})(?:@({_N}))?(?:\+({_N}))?(?:\.[A-Za-z0-9]+)?", urn["id"].rstrip("/")
    )
    if found is None or (found[3] and not found[2]):
        raise RefError(f"{clean(text, limit=200)!r} names no version of CivitAI", hint=FORMS)
    if found[2] is None:
        return ref_to(PUBLIC, configured, model=int(found[1]))
    file = int(found[3]) if found[3] else None
    return ref_to(PUBLIC, configured, version=int(found[2]), file=file)


def _from_page(parts: SplitResult, text: str, endpoint: str, configured: str) -> ModelRef | None:
    found = next((m for page in _PAGES if (m := page.fullmatch(parts.path))), None)
    if found is None:
        return None
    query = dict(parse_qsl(parts.query))
    numbers = {**found.groupdict(), "file": query.get("fileId")}
    if "model" in found.groupdict():
        numbers["version"] = query.get("modelVersionId")
    for key, value in numbers.items():
        if value is not None and not re.fullmatch(_N, value):
            raise RefError(
                f"{clean(text, limit=200)!r} has no number for its {key}, but "
                f"{clean(value, limit=80)!r}",
                hint=FORMS,
            )
    version, file = numbers.get("version"), numbers["file"]
    if version is None:
        return ref_to(endpoint, configured, model=int(found["model"]))
    asks = parts.path.startswith("/api/download/")
    chosen = {key: query[key] for key in SELECTORS if asks and query.get(key)}
    return _made(_version(int(version), file), None, endpoint, configured, chosen)
