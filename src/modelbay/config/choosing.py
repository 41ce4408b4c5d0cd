"""One setting chosen or given back, in the person's own `config.toml`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from modelbay import paths
from modelbay.config.editing import shown, with_value, without
from modelbay.config.keys import ENDPOINT_VARIABLES, KEYS, Key
from modelbay.config.position import parts
from modelbay.config.reading import endpoint, file_text, nearest_choice, parsed, refuse
from modelbay.config.rewriting import rewrite
from modelbay.config.values import READERS, typed
from modelbay.errors import UnsafeName, UsageError
from modelbay.safepath import SafeRelPath
from modelbay.text import clean

CHECKED_WHERE: Final = "command line"
READ_ONLY_HINT: Final = "make it writable, or name another file with $MODELBAY_CONFIG"
CheckFactory = Callable[[str, Mapping[str, Any]], None]
"""Hears a factory of `[sources]` by name, as it would be; raises UsageError."""
_TABLES: Final = {key.name for key in KEYS if key.kind == "table"}
_BY_NAME: Final = {key.name: key for key in KEYS}


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one key. Values as TOML has them, None for none."""

    key: str
    before: object
    after: object
    file: Path


def set_setting(
    environ: Mapping[str, str], name: str, text: str, *, check_factory: CheckFactory
) -> Change:
    """Writes `text` as the value of the setting `name` (`jobs`, `endpoints.civitai`,
    `sources.company.bucket`), once it is known to be one. Comments, order and blank lines stay.

    Raises UsageError and FormatError with the nearest valid word, NotWritable, DiskError.
    """
    keys = keys_of(name)
    value = _value(keys, text, environ)
    file = paths.config_file(environ)

    def change(before: str) -> str:
        after = with_value(before, keys, value)
        if keys[0] == "sources":
            check_factory(keys[1], parsed(after, file)["sources"][keys[1]])
        return after

    return _changed(file, keys, change)


def unset_setting(environ: Mapping[str, str], name: str) -> Change:
    """Takes the setting `name` out of the file, so that its default counts again; a table with
    all its keys. Raises UsageError for a name that is neither a setting nor in the file.
    """
    file = paths.config_file(environ)
    keys = keys_of(name, within=parsed(file_text(file) or "", file))
    return _changed(file, keys, lambda text: without(text, keys))


def keys_of(name: str, *, within: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """The keys that `name` means. In a table of texts all that follows the first dot is one key.

    `within` is a document that may hold it too, known or not; there a table's own name will
    do. Raises UsageError.
    """
    first, dot, rest = name.strip().partition(".")
    split = parts(name) if first == "sources" else (first, *([_unquoted(rest)] if rest else []))
    if within is not None and first in within:
        return split
    if first not in _BY_NAME or (dot and (first not in _TABLES or not rest)):
        _refuse_name(name, first)
    if within is None and first in _TABLES and len(split) < (3 if first == "sources" else 2):
        example = "sources.company.type" if first == "sources" else f"{first}.NAME"
        raise UsageError(
            f"{clean(name, limit=80)} is a table, one key in it was expected",
            hint=f"write it as {example}",
        )
    return split


def _refuse_name(name: str, first: str) -> None:
    near = get_close_matches(first, _BY_NAME, n=1, cutoff=0.5)
    raise UsageError(
        f"there is no setting {clean(name, limit=80)!r}",
        hint=f"did you mean {near[0]!r}?" if near else "`modelbay config` shows them all",
    )


def _unquoted(rest: str) -> str:
    inner = parts(rest)
    return inner[0] if rest[:1] in {'"', "'"} and len(inner) == 1 else rest


def _value(keys: tuple[str, ...], text: str, environ: Mapping[str, str]) -> object:
    if keys[0] in _TABLES:
        return _in_table(keys, text)
    key = _BY_NAME[keys[0]]
    value = typed(key, text)
    try:
        read = READERS[key.kind](key, value)
    except ValueError as error:
        refuse(CHECKED_WHERE, key.name, value, str(error), hint=nearest_choice(key, value))
    return _as_written(key, value, read, environ)


def _as_written(key: Key, value: object, read: object, environ: Mapping[str, str]) -> object:
    """The form that a person reads again: `20MB/s`, not the bytes; a path from here."""
    if key.kind == "path":
        path = paths.expand(str(read), environ)
        return str(read) if str(read).startswith("~") else str(path.absolute())
    if key.kind in {"bandwidth", "reserve"}:
        return str(value).strip()
    return list(read) if isinstance(read, tuple) else read


def _in_table(keys: tuple[str, ...], text: str) -> object:
    table, name = keys[0], keys[1]
    if table == "sources":
        return _of_factory(text)
    if not text.strip() or not text.isprintable():
        refuse(CHECKED_WHERE, shown(keys), text, "text")
    if table == "endpoints":
        if name not in ENDPOINT_VARIABLES:
            near = get_close_matches(name, ENDPOINT_VARIABLES, n=1, cutoff=0.5)
            raise UsageError(
                f"no source {clean(name, limit=80)!r} has an endpoint to set",
                hint=f"did you mean {near[0]!r}?"
                if near
                else "they are " + ", ".join(ENDPOINT_VARIABLES),
            )
        return endpoint(name, text, CHECKED_WHERE)
    if table == "categories":
        try:
            return str(SafeRelPath.parse(text.strip()))
        except UnsafeName:
            refuse(CHECKED_WHERE, shown(keys), text, "a folder below the models")
    return text.strip()


def _of_factory(text: str) -> object:
    """`true` and `false` as such, lists and tables as TOML writes them, anything else as text."""
    plain = text.strip()
    if plain in {"true", "false"}:
        return plain == "true"
    if plain.startswith(("[", "{")):
        return parsed(f"value = {plain}", Path(CHECKED_WHERE))["value"]
    return plain


def _changed(file: Path, keys: tuple[str, ...], change: Callable[[str], str]) -> Change:
    seen: list[object] = [None, None]

    def recorded(before: str) -> str:
        seen[0] = _at(parsed(before, file), keys)
        after = change(before)
        seen[1] = _at(parsed(after, file), keys)
        return after

    rewrite(file, file_text, recorded, hint=READ_ONLY_HINT)
    return Change(shown(keys), seen[0], seen[1], file)


def _at(document: Mapping[str, Any], keys: tuple[str, ...]) -> object:
    found: object = document
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found
