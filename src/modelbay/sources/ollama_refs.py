"""How models of Ollama's registry and its like are named (protocols-rest A1, formats §1).

A name is read from the right: a tag after the last colon, if that is right of the last slash,
then model, namespace, host. What fits Ollama's grammar is `ollama://`, whatever was written;
other repositories of OCI registries are `oci://`.
"""

import re
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

from modelbay.errors import RefError
from modelbay.refs import ModelRef, RawRef, checked_path, decode
from modelbay.text import clean

PUBLIC: Final = "https://registry.ollama.ai"
PUBLIC_HOST: Final = "registry.ollama.ai"
SCHEMES: Final = ("ollama", "oci")
HUB_HOSTS: Final = ("hf.co", "huggingface.co")
_LIBRARY: Final = "library"
_LATEST: Final = "latest"
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_COMPONENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_WHOLE = re.compile(r"([^/@]+)/([^:@]+):([^/:@]+)(?:@([^/@]+))?(?:/(.+))?")
_PAGE = re.compile(r"(?i)(?:https?://)?(?:www\.)?ollama\.com/(.+)")
_HUB_NAME = re.compile(r"(?:hf\.co|huggingface\.co)/[^/:@]+/[^/:@]+:[^/:@]+")
_PAGES: Final = frozenset({"search", "models", "blog", "download", "docs", "signin", "settings"})
_HINT: Final = (
    "write it as ollama:llama3.2:3b, ollama://host/namespace/model:tag, or oci://host/repo:tag"
)


@dataclass(frozen=True, slots=True)
class Name:
    """One tag of one repository. `host` as it is written, with its port; `http` for a registry
    that the user named as one without TLS.
    """

    host: str
    repo: str
    tag: str
    http: bool = False

    @property
    def origin(self) -> str:
        return f"{'http' if self.http else 'https'}://{self.host}"

    @property
    def is_hub(self) -> bool:
        return self.host in HUB_HOSTS

    @property
    def fits_store(self) -> bool:
        """Whether Ollama itself could have a model of that name."""
        parts = self.repo.split("/")
        return (
            len(parts) == 2
            and _NAMESPACE.fullmatch(parts[0]) is not None
            and _NAME.fullmatch(parts[1]) is not None
            and _NAME.fullmatch(self.tag) is not None
        )

    @property
    def page(self) -> str | None:
        """Where a person reads about it."""
        if self.is_hub:
            return f"https://huggingface.co/{self.repo}"
        return f"https://ollama.com/{self.repo}:{self.tag}" if self.host == PUBLIC_HOST else None

    @classmethod
    def of(cls, ref: ModelRef) -> Self:
        host, _, rest = ref.name.partition("/")
        repo, _, tag = rest.rpartition(":")
        return cls(host, repo, tag, (ref.option("endpoint") or "").startswith("http:"))

    def ref(self, revision: str | None = None, path: str | None = None) -> ModelRef:
        scheme = "ollama" if self.fits_store else "oci"
        options = (("endpoint", self.origin),) if self.http else ()
        whole = f"{self.host}/{self.repo}:{self.tag}"
        return ModelRef("ollama", scheme, whole, revision, path, options)


def read_ref(raw: RawRef, configured: str | None) -> ModelRef:
    """The canonical ref of `ollama:…` or `oci:…`. Raises RefError."""
    endpoint = None
    for key, value in raw.options:
        if key != "endpoint":
            raise RefError(
                f"{clean(raw.text, limit=200)!r} has an option {clean(key)!r}",
                hint="the one option of ollama: refs is ?endpoint=http://host",
            )
        endpoint = value
    body = raw.body
    scheme, found, rest = body.partition("://")
    if found:
        if scheme not in {"http", "https"}:
            raise unreadable(raw.text)
        endpoint, body = f"{scheme}://{rest.partition('/')[0]}", rest
    return _read(body, raw.text, endpoint, configured, library=raw.scheme == "ollama")


def recognise(text: str, configured: str | None) -> ModelRef | None:
    """A page of ollama.com, or a Hub's model as Ollama names it: `hf.co/org/name:Q4_K_M`."""
    if _HUB_NAME.fullmatch(text) or text.startswith(f"{PUBLIC_HOST}/"):
        return _read(text, text, None, configured, library=True)
    page = _PAGE.fullmatch(text)
    parts = page[1].partition("?")[0].partition("#")[0].strip("/").split("/") if page else []
    if parts[2:3] in (["tags"], ["blobs"]):
        parts = parts[:2]
    if len(parts) != 2 or parts[0] in _PAGES:
        return None
    return _read("/".join(parts), text, PUBLIC, None, library=True)


def endpoint_of(text: str) -> tuple[str, bool]:
    """Host and port of an origin, and whether it is without TLS. Raises RefError."""
    try:
        parts = urlsplit(text.strip() if "://" in text else f"https://{text.strip()}")
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    odd = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme not in {"http", "https"} or odd or not _HOST.fullmatch(host):
        raise RefError(
            f"{clean(text, limit=200)!r} is no address of a registry",
            hint="write it as https://host or http://host:port, without a path",
        )
    usual = {"https": 443, "http": 80}[parts.scheme]
    return host if port in {None, usual} else f"{host}:{port}", parts.scheme == "http"


def checked_revision(text: str, whole: str) -> str:
    """Raises RefError unless it is the digest of a manifest."""
    try:
        plain = decode(text)
    except UnicodeDecodeError:
        plain = ""
    if not _DIGEST.fullmatch(plain):
        raise RefError(
            f"{clean(whole, limit=200)!r} has {clean(plain, limit=100)!r} after its @: sha256: and "
            "64 hexadecimal digits were expected",
            hint="a tag is written after a colon: ollama:llama3.2:3b",
        )
    return plain


def named(
    repo: str,
    tag: str | None,
    registry: str | None,
    configured: str | None,
    *,
    revision: str | None,
) -> ModelRef:
    """The ref that an entry's keys mean. Raises RefError."""
    if registry is None and repo.count("/") > 1:
        raise RefError(
            f"{clean(repo, limit=200)!r} names more than a namespace and a model",
            hint='write the host as registry = "…"',
        )
    text = repo if tag is None else f"{repo}:{tag}"
    endpoint = registry or configured or PUBLIC
    host, _ = endpoint_of(endpoint)
    inner = f"{_LIBRARY}/{text}" if "/" not in repo else text.removeprefix("/")
    body = f"{host}/{inner}" + (f"@{revision}" if revision else "")
    given = registry if registry is not None and "://" in registry else None
    return _read(body, text, given, configured, library=False)


def unreadable(text: str) -> RefError:
    return RefError(f"{clean(text, limit=200)!r} names no model of a registry", hint=_HINT)


def _read(
    body: str, text: str, endpoint: str | None, configured: str | None, *, library: bool
) -> ModelRef:
    """`library` fills in what Ollama leaves out: its registry, `library`, `latest`."""
    revision = path = None
    whole = _WHOLE.fullmatch(body)
    if whole is not None and _HOST.fullmatch(whole[1]) and (whole[5] or whole[4]):
        body, revision = f"{whole[1]}/{whole[2]}:{whole[3]}", whole[4]
        path = checked_path(whole[5].split("/"), text) if whole[5] else None
    else:
        body, at, digest = body.partition("@")
        revision = digest if at else None
    revision = None if revision is None else checked_revision(revision, text)
    parts, tag = _parts(body, text)
    host, http = _host(parts, endpoint, configured, text, library=library)
    repo = [_LIBRARY, *parts] if library and len(parts) == 1 else parts
    name = Name(host, "/".join(repo), tag, http)
    if not repo or not all(_COMPONENT.fullmatch(part) for part in (*repo, tag)):
        raise unreadable(text)
    if host == PUBLIC_HOST and not name.fits_store:
        raise unreadable(text)
    return name.ref(revision, path)


def _parts(body: str, text: str) -> tuple[list[str], str]:
    """What stands between the slashes, and the tag, read from the right."""
    head, _, last = body.rpartition("/")
    last, colon, tag = last.partition(":")
    if (colon and not tag) or not last or ":" in tag:
        raise unreadable(text)
    return [*(head.split("/") if head else []), last], tag or _LATEST


def _host(
    parts: list[str], endpoint: str | None, configured: str | None, text: str, *, library: bool
) -> tuple[str, bool]:
    """Takes the host out of `parts` where there is one. Raises RefError."""
    asked = None if endpoint is None else endpoint_of(endpoint)
    usual = endpoint_of(configured or PUBLIC)
    written = len(parts) > 2 or not library
    if written and (len(parts) < 2 or not _HOST.fullmatch(parts[0])):
        raise unreadable(text)
    if not written:
        return asked or usual
    host = parts.pop(0).lower()
    if asked is not None and asked[0] != host:
        raise RefError(
            f"{clean(text, limit=200)!r} names {clean(host)} and the endpoint {clean(asked[0])}",
            hint="write one of them",
        )
    return asked or (usual if usual[0] == host else (host, False))
