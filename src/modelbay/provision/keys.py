"""The keys of one entry, read into values of the types that they are declared with."""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from modelbay.provision.reading import Written, meant
from modelbay.sources.base import Option
from modelbay.text import clean

LAYOUTS: Final = ("folders", "hf-cache", "ollama", "dir")
UNPACKED_IN: Final = ("folders", "dir")
"""Layouts in which the files of an archive can lie."""
COMMON: Final = (
    Option("layout", "folders, hf-cache, ollama or dir"),
    Option("dir", "the folder below the workspace, with layout = dir"),
    Option("filename", "the name the one file gets here"),
    Option("hash", "what the bytes must be: sha256:<hex> or sha256-<base64>"),
    Option(
        "auth", "where the token is: token_env, token_file, keyring or header_env", type="table"
    ),
    Option("urls", "addresses that have the same bytes", type="list"),
    Option("gated", "whether terms must be accepted; checked before anything moves", "flag"),
    Option("file", "the one file that is wanted"),
    Option("files", "the files that are wanted", type="list"),
    Option("include", "globs of wanted files", type="list"),
    Option("exclude", "globs of files to leave out", type="list"),
    Option("variant", "quantisation or precision, like Q4_K_M"),
)
_EXPECTED: Final = {
    "text": "text in quotation marks",
    "integer": "a whole number",
    "flag": "true or false",
    "list": "a list of texts",
    "table": "a table of one-line texts",
}
_AUTH: Final = ("token_env", "token_env_var", "token_file", "keyring", "header_env")
_SECRET = re.compile(r"(?i)authorization|cookie|token|key|secret")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def names_a_secret(header: str) -> bool:
    """Whether a header of that name carries a credential, which no lock may hold."""
    return _SECRET.search(header) is not None


def read_keys(
    written: Written, at: Sequence[str], found: Mapping[str, object], options: Iterable[Option]
) -> dict[str, Any]:
    """`found` as values of their declared types, lists as tuples. Raises FormatError for a
    key that nobody knows, or a value of another type.
    """
    known = {option.name: option for option in (*COMMON, *options)}
    values: dict[str, Any] = {}
    for name, value in found.items():
        option = known.get(name)
        if option is None:
            written.refuse(
                (*at, name),
                f"{_named(at)} has a key {clean(name, limit=80)!r} that nobody knows",
                meant(name, known, "its keys are " + ", ".join(known)),
            )
        read = _value(option, value)
        if read is None:
            # What stands in a table may be a credential.
            shown = "something else" if option.type == "table" else clean(repr(value), limit=80)
            written.refuse(
                (*at, name),
                f"{_named(at)}.{name} is {shown}, expected {_EXPECTED[option.type]}",
                f"write {name} as {_EXPECTED[option.type]}: {option.help}",
            )
        values[name] = read
    return values


def _value(option: Option, value: object) -> object:
    """The value, or None when it is not of the option's type."""
    number = type(value) is int
    match option.type:
        case "text":
            # An id may be written as a number.
            return _line(str(value) if number else value)
        case "integer":
            return value if number else _whole(value)
        case "flag":
            return value if isinstance(value, bool) else None
        case "list":
            return _lines([value] if isinstance(value, str) else value)
        case "table":
            return _table(value)


def _line(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() and value.isprintable() else None


def _whole(value: object) -> int | None:
    written = isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value)
    return int(str(value)) if written else None


def _lines(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list) or not all(_line(one) for one in value):
        return None
    return tuple(value)


def _table(value: object) -> Mapping[str, object] | None:
    if not isinstance(value, dict):
        return None
    texts = {
        key: _table(one) if isinstance(one, dict) else _line(one) for key, one in value.items()
    }
    return None if None in texts.values() else MappingProxyType(texts)


def check_auth(written: Written, at: Sequence[str], auth: Mapping[str, object]) -> None:
    """Raises FormatError unless `auth` names exactly one place where a token is."""
    shapes = 'write auth = { token_env = "VAR" }, { token_file = "path" }, { keyring = "name" } or '
    shapes += '{ header_env = { Authorization = "VAR" } }'
    for key in auth:
        if key not in _AUTH:
            written.refuse(
                (*at, "auth"),
                f"{_named(at)}.auth has a key {clean(key, limit=80)!r} that nobody knows",
                meant(key, _AUTH, shapes),
            )
    if len(auth) != 1:
        written.refuse(
            (*at, "auth"), f"{_named(at)}.auth holds {len(auth)} keys, one was expected", shapes
        )
    ((key, value),) = auth.items()
    if isinstance(value, Mapping) is not (key == "header_env"):
        written.refuse(
            (*at, "auth"), f"{_named(at)}.auth.{key} is not what was expected there", shapes
        )


def check_headers(written: Written, at: Sequence[str], headers: Mapping[str, object]) -> None:
    """Raises FormatError for a name or a value that is no header. No value is ever shown."""
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or not isinstance(value, str) or not value.isascii():
            written.refuse(
                (*at, "headers"),
                f"{_named(at)}.headers has {clean(name, limit=80)!r}, which is no HTTP header",
                'write headers = { Accept = "application/octet-stream" }, in ASCII',
            )


def _named(at: Sequence[str]) -> str:
    return ".".join(clean(part, limit=80) for part in at)
