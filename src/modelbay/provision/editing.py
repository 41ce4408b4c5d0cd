"""A person's provision file edited for him: entries come, go and change, his comments stay."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from modelbay.config.editing import shown, with_table, with_value, without
from modelbay.config.position import places
from modelbay.config.rewriting import rewrite
from modelbay.errors import FormatError, UsageError
from modelbay.provision.reading import Written
from modelbay.text import clean

READ_ONLY_HINT: Final = "make it writable, or name another file"


def add_entry(path: Path, ident: str, keys: Mapping[str, object]) -> None:
    """Adds the model `ident` (`category/name`) with `keys`, below the last one of its category;
    makes the file when there is none. Raises UsageError when it has one called so, FormatError,
    NotWritable, DiskError.
    """
    at = _at(ident)

    def change(text: str) -> str:
        if at in places(text):
            raise UsageError(
                f"{clean(path)} has a model {clean(ident)} already",
                hint="take it out first, or choose another name",
            )
        return with_table(text, at, keys)

    edit(path, change)


def set_key(path: Path, ident: str, key: str, value: object) -> None:
    """Gives the model `ident` another `key`. Raises UsageError when the file has no such model,
    FormatError, NotWritable, DiskError.
    """
    at = _at(ident)

    def change(text: str) -> str:
        _refuse_missing(path, ident, text)
        return with_value(text, (*at, key), value)

    edit(path, change)


def remove_entry(path: Path, ident: str) -> None:
    """Takes the model `ident` out; comments around it stay. Raises as `set_key`."""
    at = _at(ident)

    def change(text: str) -> str:
        _refuse_missing(path, ident, text)
        return without(text, at)

    edit(path, change)


def edit(path: Path, change: Callable[[str], str]) -> bool:
    """Whether `change` made another text of the file, which it hears as it stands and which is
    written whole or not at all. Raises FormatError with line and column for a file that is no
    TOML, NotWritable, DiskError, and what `change` raises.
    """
    return rewrite(path, _text, change, hint=READ_ONLY_HINT)


def _text(path: Path) -> str | None:
    return Written.read(path).text if path.exists() else None


def _at(ident: str) -> tuple[str, str, str]:
    category, slash, name = ident.partition("/")
    if not (slash and category and name) or "/" in name:
        raise FormatError(
            f"{clean(ident, limit=160)!r} is no id of a model",
            hint="write it as category/name, like checkpoints/sdxl-base",
        )
    return "models", category, name


def _refuse_missing(path: Path, ident: str, text: str) -> None:
    if _at(ident) not in places(text):
        raise UsageError(
            f"{clean(path)} has no model {clean(ident)}",
            hint=f"write it as [{shown(_at(ident))}]",
        )
