"""One model as a person asked for it, as a frozen value."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelbay.library import folders
from modelbay.provision.keys import names_a_secret
from modelbay.provision.pins import Pin

At = tuple[str, str, str]
"""`models`, category, name: where an entry stands."""
_PLACE: Final = frozenset({"layout", "dir", "auth", "headers"})
"""Keys that a lock writes elsewhere than in `original`, or not at all."""


def twin_key(ident: str) -> str:
    """The same for two ids that are one after aliases and case folding."""
    category, _, name = ident.partition("/")
    return unicodedata.normalize("NFC", f"{folders.canonical(category)}/{name}").casefold()


@dataclass(frozen=True, slots=True)
class Entry:
    """One model as asked for."""

    id: str
    """Category as written, `/`, name."""
    source: str
    keys: Mapping[str, Any]
    """Every key that was written, lists as tuples; those of a factory included."""
    layout: str = "folders"
    ref: str | None = None
    """What the short form named, canonical."""
    pin: Pin | None = None
    notes: tuple[str, ...] = ()
    """What a lock cannot carry, and what is not used yet."""

    @property
    def category(self) -> str:
        return self.id.partition("/")[0]

    @property
    def name(self) -> str:
        return self.id.partition("/")[2]

    @property
    def dir(self) -> str | None:
        return str(self.keys.get("dir", self.id)) if self.layout == "dir" else None

    @property
    def filename(self) -> str | None:
        return self.keys.get("filename")

    @property
    def extracts(self) -> bool:
        """The one file is an archive, and its members are the model."""
        return bool(self.keys.get("extract"))

    @property
    def auth(self) -> Mapping[str, object]:
        auth: Mapping[str, object] = self.keys.get("auth", {})
        return auth

    @property
    def headers(self) -> Mapping[str, str]:
        headers: Mapping[str, str] = self.keys.get("headers", {})
        return headers

    @property
    def original(self) -> dict[str, object]:
        """What a lock says was asked for: no place, no path, no secret."""
        kept = {key: self.keys[key] for key in sorted(self.keys) if key not in _PLACE}
        plain = {name: self.headers[name] for name in self.headers if not names_a_secret(name)}
        return (
            kept | ({"ref": self.ref} if self.ref else {}) | ({"headers": plain} if plain else {})
        )

    @property
    def lockable_auth(self) -> dict[str, object]:
        """The names of variables in `auth`; the path of a file is no other machine's."""
        renamed = {"token_env_var": "token_env"}
        return {renamed.get(k, k): v for k, v in self.auth.items() if k != "token_file"}


@dataclass(frozen=True, slots=True)
class Later:
    """An entry whose source is not in this version."""

    id: str
    source: str
