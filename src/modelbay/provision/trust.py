"""What a provision file that is not trusted may not say (formats.md §2, Trust).

Such a file chooses models, and nothing else: no place outside the application's folders, no
credential, no address of a private network, no name in a cache that other programs believe.
Checked on what was written, before any of it is understood.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from modelbay.errors import FormatError, PolicyError
from modelbay.http import Reach
from modelbay.http.redact import shown_url
from modelbay.library import folders
from modelbay.provision.reading import Written
from modelbay.refs import split
from modelbay.text import clean

At = tuple[str, ...]

CACHES: Final = {
    "hf-cache": ("huggingface", "https://huggingface.co"),
    "ollama": ("ollama", "https://registry.ollama.ai"),
}
"""Layouts whose names other programs believe: whose they are, and that source's public address."""
_ADDRESSES: Final = ("url", "endpoint", "registry", "tracking_uri", "tracking-uri", "host", "urls")
_HARMLESS_HEADERS: Final = frozenset({"accept", "accept-language", "referer", "user-agent"})
"""Named one by one: whatever else a header may be (`Authorization`, `Host`, `Range`,
`Metadata-Flavor`), somebody's server takes it for a credential, a route or a permission."""
_WITHOUT_HOST: Final = frozenset(
    {"air", "civitai", "gdrive", "hf", "huggingface", "mock", "models", "s3", "urn"}
)
_WITH_HOST: Final = frozenset({"git+https", "xet", "mlflow", "oci", "ollama"})
TAKE_OUT: Final = "take it out"


@dataclass(frozen=True, slots=True)
class Trusting:
    """What the user's own settings and command line allow."""

    reach: Reach
    endpoints: Mapping[str, str]
    mirrors: Sequence[str]
    categories: Mapping[str, str]
    factories: Mapping[str, Mapping[str, Any]]
    judges_licences: bool = False

    def knows(self, category: str) -> bool:
        own = {folders.canonical(name) for name in self.categories}
        word = folders.canonical(category)
        return word in own or word in folders.known_categories()

    def origin(self, source: str) -> str:
        """Where `source` is asked when nothing else is said; "" for one that has no such place."""
        public = dict(CACHES.values())
        return (self.endpoints.get(source) or public.get(source, "")).rstrip("/")


@dataclass(frozen=True, slots=True)
class Checked:
    """One table of a file that is not trusted, and where it stands."""

    written: Written
    at: At
    line: int | None
    """Of the table, where its keys are not unique in the file (`[[model]]`)."""
    trusting: Trusting
    name: str

    def where(self, *keys: str) -> str:
        if self.line is not None:
            return f"{clean(self.written.path)}:{self.line}:1"
        return self.written.where(*self.at, *keys)

    def refuse(self, keys: At, sentence: str, hint: str = TAKE_OUT) -> NoReturn:
        raise PolicyError(
            f"{self.where(*keys)}: {self.name} {sentence}; the file is not trusted", hint=hint
        )

    def spoil(self, keys: At, sentence: str, hint: str) -> NoReturn:
        raise FormatError(f"{self.where(*keys)}: {self.name} {sentence}", hint=hint)

    def check_address(self, keys: At, text: str) -> None:
        address = text if "://" in text else f"https://{text}"
        objection = self.trusting.reach.objection(address)
        if objection:
            self.refuse(
                keys,
                f"asks {shown_url(address)}, which {objection}",
                "take it out; if that host is meant, name it in the settings ([endpoints], "
                "mirrors)",
            )

    def check_addresses(self, table: Mapping[str, Any]) -> None:
        for key in _ADDRESSES:
            value = table.get(key)
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    self.check_address((key,), text)

    def check_headers(self, headers: object) -> None:
        for header in headers if isinstance(headers, dict) else ():
            if header.lower() not in _HARMLESS_HEADERS:
                self.refuse(
                    ("headers",),
                    f"sends the header {clean(header, limit=80)}",
                    "take it out: only " + ", ".join(sorted(_HARMLESS_HEADERS)) + " may be sent",
                )

    def check_credentials(self, table: Mapping[str, Any]) -> None:
        for key in ("auth", "profile"):
            if key in table:
                self.refuse(
                    (key,),
                    f"names credentials of this machine ({key})",
                    "take it out: tokens go to hosts that you bound them to yourself",
                )
        self.check_headers(table.get("headers", {}))

    def check_category(self, category: str) -> None:
        if not self.trusting.knows(category):
            near = folders.near_category(category, list(self.trusting.categories))
            self.refuse(
                (),
                f"is of the category {clean(category, limit=80)!r}, which is not known",
                f"did you mean {near!r}?"
                if near
                else "write one of " + ", ".join(sorted(folders.known_categories())),
            )

    def check_cache(self, layout: object, source: str, address: str) -> None:
        """Raises PolicyError unless the names of that cache are only written by their owner."""
        if layout == "dir":
            self.refuse(("layout",), "chooses its own folder (layout = dir)")
        if layout not in CACHES:
            return
        owner, public = CACHES[str(layout)]
        allowed = {public, self.trusting.origin(owner)}
        asked = address.rstrip("/").lower()
        asked = asked if "://" in asked or not asked else f"https://{asked}"
        if source != owner or (asked and asked not in allowed):
            self.refuse(
                ("layout",),
                f"would put what another place gives into the {layout} under a name of "
                f"{shown_url(public)}",
                'take the endpoint out, or write layout = "folders"',
            )

    def check_alternates(self, urls: object, home: str) -> None:
        """Raises PolicyError for one that is neither of the source's origin nor a mirror's."""
        allowed = Reach.of([home, *self.trusting.mirrors])
        for url in urls if isinstance(urls, list | tuple) else ():
            if not allowed.is_own(str(url)):
                self.refuse(
                    ("urls",),
                    f"has the same bytes from {shown_url(str(url))}, which is neither its "
                    "source's host nor a mirror of yours",
                    "take it out, or name the mirror with --mirror or in the settings",
                )


def check_provision(written: Written, trusting: Trusting) -> None:
    """Raises PolicyError, with file, line and column, for what only a trusted provision file
    may say, and FormatError for what none may.
    """
    refuse_unprintable(written)
    for key in ("workspace", "root", "endpoints", "sources", "categories"):
        if key in written.document:
            raise PolicyError(
                f"{written.where(key)}: it has {key}, which is this machine's to say; the file "
                "is not trusted",
                hint="take it out, or put it on the command line or into the settings",
            )
    for category, several in tables_in(written.document.get("models")):
        for name, value in several.items():
            at = ("models", category, name)
            shown = clean(".".join(at), limit=160)
            one = Checked(written, at, None, trusting, shown)
            if not isinstance(value, dict) or value.get("layout") not in CACHES:
                one.check_category(category)
            if isinstance(value, str):
                _check_ref(one, value)
            elif isinstance(value, dict):
                _check_entry(one, value)


def tables_in(value: object) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, inner in value.items() if isinstance(value, dict) else ():
        if isinstance(inner, dict):
            yield name, inner


def _check_entry(one: Checked, value: dict[str, Any]) -> None:
    named = value.get("source", "url" if "url" in value else "")
    keys = {key: inner for key, inner in value.items() if key != "source"}
    if isinstance(named, dict):
        (named, inner), *_ = [*tables_in(named), ("", {})]
        keys = {**inner, **keys}
    factory = _factory(one, str(named))
    one.check_credentials(keys)
    if "dir" in keys:
        one.refuse(("dir",), "chooses its own folder (dir)")
    one.check_addresses(keys)
    source = str(factory.get("type", named))
    own = next((str(keys[key]) for key in ("endpoint", "registry", "url") if key in keys), "")
    one.check_cache(keys.get("layout"), source, own)
    urls = keys.get("urls")
    one.check_alternates(
        [urls] if isinstance(urls, str) else urls, own or one.trusting.origin(source)
    )


def _factory(one: Checked, name: str) -> Mapping[str, Any]:
    """The factory of the settings that `name` is. Raises PolicyError for one with a credential:
    the entry would choose where that is sent.
    """
    factory = one.trusting.factories.get(name, {})
    if "auth" in factory or "headers" in factory or "profile" in factory:
        one.refuse(
            ("source",),
            f"uses {clean(name, limit=80)}, to which your settings give credentials",
            "name the source itself instead",
        )
    return factory


def _check_ref(one: Checked, text: str) -> None:
    """The short form: any ref whose address may be asked."""
    raw = split(text.strip())
    if raw is None:
        return
    for key, value in raw.options:
        if key == "endpoint":
            one.check_address((), value)
        one.check_credentials({key: value})
    rest = text.strip().partition(":")[2]
    if _factory(one, raw.scheme):
        if "://" in rest:
            one.check_address((), rest)
    elif raw.scheme in {"http", "https"}:
        one.check_address((), text.strip())
    elif raw.scheme == "url":
        one.check_address((), rest)
    elif raw.scheme in _WITH_HOST and (raw.slashes or raw.body.count("/") > 1):
        one.check_address((), raw.body)
    elif raw.scheme not in _WITHOUT_HOST | _WITH_HOST:
        one.refuse(
            (), f"is {clean(text, limit=160)!r}, which may lead anywhere", "write an https address"
        )


def refuse_unprintable(written: Written) -> None:
    """Raises FormatError for a key or a text with a control or an invisible character: none is
    needed, and every one would have to be kept from every terminal.
    """
    left: list[tuple[At, object]] = [((), written.document)]
    while left:
        at, value = left.pop()
        if isinstance(value, dict):
            left += [((*at, key), inner) for key, inner in value.items()]
            left += [((*at, key), key) for key in value]
        elif isinstance(value, list):
            left += [(at, inner) for inner in value]
        elif isinstance(value, str) and not value.isprintable():
            raise FormatError(
                f"{written.where(*at)}: {clean(value, limit=100)!r} holds a control or an "
                "invisible character",
                hint=TAKE_OUT,
            )
