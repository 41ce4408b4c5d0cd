"""How models of the Hub are named: `hf://`, short names, and the Hub's own pages."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from modelbay.errors import RefError
from modelbay.location import origin_of
from modelbay.refs import ModelRef, RawRef, checked_part, checked_path
from modelbay.text import clean
from modelbay.wire.hub import PREFIX, PUBLIC, Repo, RepoType, is_repo_id

SCHEME: Final = "hf"
_PUBLIC_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_WITH_PATH = frozenset({"tree", "blob", "resolve", "raw", "blame", "edit"})
_PAGES = _WITH_PATH | {"commit", "commits", "discussions", "settings", "viewer"}
_NO_REPO = frozenset(
    {"api", "blog", "chat", "collections", "docs", "enterprise", "join", "kernels", "learn"}
    | {"login", "models", "new", "notifications", "organizations", "papers", "posts", "pricing"}
    | {"privacy", "search", "settings", "support", "tasks", "terms-of-service", "datasets"}
    | {"spaces", "changelog", "inference", "logout", "welcome"}
)


def normal_endpoint(text: str) -> str:
    """An endpoint without trailing slash, host in lower case; it may end in a path.

    Raises RefError.
    """
    try:
        parts = urlsplit(text.strip())
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    odd = parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme not in {"http", "https"} or not host or odd:
        raise RefError(
            f"the endpoint {clean(text, limit=200)!r} is no address of a Hub",
            hint="write it as https://host or https://host/path (HF_ENDPOINT, ?endpoint=)",
        )
    if host in _PUBLIC_HOSTS and port in {None, 443, 80}:
        return PUBLIC
    name = f"[{host}]" if ":" in host else host
    default = {"https": 443, "http": 80}[parts.scheme]
    shown = "" if port in {None, default} else f":{port}"
    return f"{parts.scheme}://{name}{shown}{parts.path.rstrip('/')}"


def read_ref(raw: RawRef, configured: str) -> ModelRef:
    """The canonical ref of `hf:…`. Raises RefError."""
    endpoint = configured
    for key, value in raw.options:
        if key != "endpoint":
            raise RefError(
                f"{clean(raw.text, limit=200)!r} has an option {clean(key)!r}",
                hint="the one option of hf: refs is ?endpoint=https://host",
            )
        endpoint = normal_endpoint(value)
    found = _from_body(raw.body, raw.text, endpoint, configured)
    if found is None:
        raise RefError(
            f"{clean(raw.text, limit=200)!r} names no repository of the Hub",
            hint="write it as hf://org/name, hf://org/name@revision or "
            "hf://datasets/org/name@revision/path",
        )
    return found


def recognise(text: str, configured: str) -> ModelRef | None:
    """A page of the Hub or of the configured endpoint, `org/name`, or `name` alone."""
    page = _page_path(text, configured)
    if page is not None:
        path, endpoint = page
        return _from_page(path.strip("/").split("/"), text, endpoint, configured)
    if ":" in text or "?" in text or "#" in text or "\\" in text:
        return None
    return _from_body(text, text, configured, configured)


def ref_to(
    repo: Repo, revision: str | None, path: str | None, configured: str = PUBLIC
) -> ModelRef:
    """The canonical ref. The endpoint is left out only where reading it back adds it again."""
    if path is not None and revision is None and "/" not in repo.id:
        # `hf://gpt2/config.json` would be read as the repository config.json of gpt2.
        revision = "main"
    written = repo.endpoint != PUBLIC or configured != PUBLIC
    options = (("endpoint", repo.endpoint),) if written else ()
    return ModelRef("huggingface", SCHEME, PREFIX[repo.type] + repo.id, revision, path, options)


def repo_of(ref: ModelRef, configured: str) -> Repo:
    """The repository a ref names."""
    endpoint = ref.option("endpoint")
    type_, id_ = _typed(ref.name)
    return Repo(normal_endpoint(endpoint) if endpoint else configured, id_, type_)


def repo_type(text: str) -> RepoType:
    """Raises RefError."""
    for type_ in PREFIX:
        if text == type_:
            return type_
    raise RefError(f"{clean(text)!r} is no kind of repository", hint="use model, dataset or space")


def _typed(body: str) -> tuple[RepoType, str]:
    for type_, prefix in PREFIX.items():
        if prefix and body.startswith(prefix):
            return type_, body.removeprefix(prefix)
    return "model", body


def _from_body(body: str, text: str, endpoint: str, configured: str) -> ModelRef | None:
    type_, rest = _typed(body.rstrip("/"))
    head, at, tail = rest.partition("@")
    revision = None
    if at and head.count("/") <= 1:
        id_ = head
        first, _, path = tail.partition("/")
        revision = checked_part(first, "revision", text)
        parts: Sequence[str] = path.split("/") if path else ()
    else:
        whole = rest.split("/")
        id_, parts = "/".join(whole[:2]), whole[2:]
    if not is_repo_id(id_):
        return None
    return ref_to(Repo(endpoint, id_, type_), revision, checked_path(parts, text), configured)


def _page_path(text: str, configured: str) -> tuple[str, str] | None:
    """The path of a page, and the endpoint it is of; None for a page of anywhere else."""
    if text.startswith(tuple(f"{host}/" for host in _PUBLIC_HOSTS)):
        text = f"https://{text}"
    try:
        parts = urlsplit(text)
        origin = origin_of(text) if parts.scheme in {"http", "https"} else None
    except ValueError:
        return None
    if origin is None:
        return None
    if parts.hostname in _PUBLIC_HOSTS and parts.port in {None, 443, 80}:
        return parts.path, PUBLIC
    prefix = urlsplit(configured).path
    if origin == origin_of(configured) and parts.path.startswith(prefix + "/"):
        return parts.path.removeprefix(prefix), configured
    return None


def _from_page(segments: list[str], text: str, endpoint: str, configured: str) -> ModelRef | None:
    type_, rest = _typed("/".join(segments))
    parts = rest.split("/")
    size = 1 if len(parts) == 1 or parts[1] in _PAGES else 2
    id_, view = "/".join(parts[:size]), parts[size:]
    if parts[0] in _NO_REPO or not is_repo_id(id_):
        return None
    revision = path = None
    if len(view) > 1 and view[0] in _WITH_PATH:
        revision = checked_part(view[1], "revision", text)
        path = checked_path(view[2:], text)
    elif len(view) > 1 and view[0] == "commit":
        revision = checked_part(view[1], "revision", text)
    return ref_to(Repo(endpoint, id_, type_), revision, path, configured)
