"""Refs: how a model is named, and how that name is written (formats.md §1).

    scheme ":" ["//"] body ["@" revision] ["/" path] ["?" options]

A source knows its own schemes and what it recognises when pasted (`RefForm`); this
module knows only the shape. `str(parse(x))` is canonical and parses back to itself.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Protocol, Self
from urllib.parse import parse_qsl, quote, unquote

from modelbay.errors import RefError
from modelbay.text import clean

LONGEST_REF: Final = 4096
_SPECIAL = frozenset("/@?#:+%")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?(.*)", re.DOTALL)
_SECRET_KEYS = re.compile(
    r"(?i)^(token|access_token|api_?key|sig|signature|policy|key-pair-id|x-amz-.*|x-goog-.*)$"
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
"""A revision of registries, which stands as it is written everywhere else."""
HINT_CREDENTIAL: Final = (
    "take the credential out of the ref: put it in the environment (HF_TOKEN, "
    "MODELBAY_TOKEN_<HOST>) or a token file (<VAR>_FILE)"
)


@dataclass(frozen=True, slots=True)
class ModelRef:
    """One thing on one endpoint.

    `name` is in canonical, already encoded form (it may hold `/` and `:`); `revision`
    and `path` are plain text and are encoded where they are written.
    """

    source: str
    scheme: str
    name: str
    revision: str | None = None
    path: str | None = None
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        text = f"{self.scheme}://{self.name}"
        if self.revision is not None:
            text += "@" + (
                self.revision if _DIGEST.fullmatch(self.revision) else encode(self.revision)
            )
        if self.path is not None:
            text += "/" + "/".join(encode(part) for part in self.path.split("/"))
        if self.options:
            text += "?" + "&".join(
                f"{encode(key)}={quote(value, safe=':/,._-~')}" for key, value in self.options
            )
        return text

    def option(self, key: str) -> str | None:
        return next((value for name, value in self.options if name == key), None)

    @property
    def address(self) -> str | None:
        """The web address that the ref itself writes: its endpoint, or all of it but `url:`."""
        scheme = self.scheme.rpartition(":")[2]
        if scheme in {"ollama", "oci"}:
            return self.option("endpoint") or f"https://{self.name.partition('/')[0]}"
        return self.option("endpoint") or (
            f"{scheme}://{self.name}" if scheme in {"http", "https"} else None
        )

    def at(self, revision: str | None) -> Self:
        """The same thing at another revision."""
        return replace(self, revision=revision)


@dataclass(frozen=True, slots=True)
class RawRef:
    """A ref taken apart at its outer marks; nothing decoded yet but the options."""

    scheme: str
    slashes: bool
    body: str
    options: tuple[tuple[str, str], ...]
    text: str


class RefForm(Protocol):
    """What a source adds to the grammar."""

    @property
    def name(self) -> str: ...
    @property
    def schemes(self) -> tuple[str, ...]: ...

    def read_ref(self, raw: RawRef) -> ModelRef:
        """The canonical ref for one of `schemes`. Raises RefError."""
        ...

    def recognise(self, text: str) -> ModelRef | None:
        """A pasted page or short form that is this source's, else None."""
        ...


def encode(part: str) -> str:
    """`part` with `/ @ ? # : + %`, spaces and controls percent-encoded."""
    return "".join(
        quote(c, safe="") if c in _SPECIAL or c == " " or not c.isprintable() else c for c in part
    )


def decode(part: str) -> str:
    return unquote(part, errors="strict")


def split(text: str) -> RawRef | None:
    """The outer marks of a ref with a scheme, or None when there is no scheme."""
    matched = _SCHEME.fullmatch(text)
    if matched is None:
        return None
    scheme, slashes, rest = matched.groups()
    body, mark, query = rest.partition("?")
    options = tuple(parse_qsl(query, keep_blank_values=True)) if mark else ()
    return RawRef(scheme.lower(), bool(slashes), body, options, text)


def parse(text: str, forms: Iterable[RefForm]) -> ModelRef:
    """The canonical ref that `text` means to one of the sources.

    Tried in this order: `source:` in front (`url:https://…`), what a source recognises as
    its own page or short form, the schemes. Raises RefError, whose hint shows the forms.
    """
    forms = tuple(forms)
    text = text.strip()
    _refuse_unreadable(text)
    raw = split(text)
    if raw is not None:
        _refuse_secrets(raw)
        for form in forms:
            if raw.scheme == form.name and raw.scheme not in form.schemes and not raw.slashes:
                inner = split(text.partition(":")[2])
                if inner is not None and inner.scheme in form.schemes:
                    return _insisted(form, form.read_ref(inner), forms)
    for form in forms:
        found = form.recognise(text)
        if found is not None:
            return found
    if raw is not None:
        for form in forms:
            if raw.scheme in form.schemes:
                return form.read_ref(raw)
        known = sorted({scheme for form in forms for scheme in form.schemes})
        raise RefError(
            f"{clean(text, limit=200)!r} cannot be read: no source knows {clean(raw.scheme)!r}",
            hint="refs begin with one of " + ", ".join(f"{scheme}:" for scheme in known),
        )
    raise RefError(
        f"{clean(text, limit=200)!r} cannot be read as a model's name",
        hint="try hf://org/name, org/name, or an https:// address",
    )


def check_address(url: str) -> None:
    """Raises RefError unless `url` is a web address that may be written down: without a user
    name, a password or a signature.
    """
    _refuse_unreadable(url)
    raw = split(url)
    host = raw.body.partition("/")[0] if raw is not None else ""
    if raw is None or raw.scheme not in {"http", "https"} or not raw.slashes or not host:
        raise RefError(
            f"{clean(url, limit=200)!r} is no web address", hint="write it as https://host/file"
        )
    _refuse_secrets(raw)


def _insisted(form: RefForm, ref: ModelRef, forms: Iterable[RefForm]) -> ModelRef:
    """`ref`, which keeps its `source:` where it would otherwise be read as another's page."""
    if any(other.recognise(str(ref)) is not None for other in forms if other is not form):
        return replace(ref, scheme=f"{form.name}:{ref.scheme}")
    return ref


def _refuse_unreadable(text: str) -> None:
    if not text or len(text) > LONGEST_REF:
        raise RefError(
            f"a ref of {len(text)} characters was given, 1 to {LONGEST_REF} were expected",
            hint="try hf://org/name, org/name, or an https:// address",
        )
    if not text.isprintable():
        raise RefError(
            f"{clean(text, limit=200)!r} holds control or invisible characters",
            hint="type the ref instead of pasting it, or percent-encode them",
        )


def _refuse_secrets(raw: RawRef) -> None:
    authority = raw.body.partition("/")[0]
    if raw.scheme in {"http", "https"} and raw.slashes and "@" in authority:
        raise RefError(
            f"the ref for {clean(authority.rpartition('@')[2])} carries a user name or password",
            hint=HINT_CREDENTIAL,
        )
    for key, _ in raw.options:
        if _SECRET_KEYS.match(key):
            raise RefError(
                f"the ref carries {clean(key)!r}, which is a credential and would be written down",
                hint=HINT_CREDENTIAL,
            )


def checked_part(part: str, what: str, text: str) -> str:
    """`part` decoded once, refused when it is empty, `.`, `..` or holds controls."""
    try:
        plain = decode(part)
    except UnicodeDecodeError:
        plain = ""
    if plain in {"", ".", ".."} or not plain.isprintable():
        raise RefError(
            f"{clean(text, limit=200)!r} cannot be read: its {what} is {clean(plain)!r}",
            hint="show the model with `modelbay search`, and copy the ref from there",
        )
    return plain


def checked_path(parts: Iterable[str], text: str) -> str | None:
    """The decoded path inside a snapshot, or None when there is none."""
    plain = [checked_part(part, "path", text) for part in parts]
    if any("/" in part for part in plain):
        raise RefError(
            f"{clean(text, limit=200)!r} hides a slash in a part of its path",
            hint="write the slash as it is, or copy the path from `modelbay show`",
        )
    return "/".join(plain) or None
