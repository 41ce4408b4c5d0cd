"""Settings as they are shown: value, default and where the value comes from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelbay.config import KEYS, Key, Reserve, Settings
from modelbay.config.editing import rendered, shown
from modelbay.text import clean

_HIDDEN = "***"
_NOT_SET = "(not set)"


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting, or one key in a table of them. Values are what JSON can say."""

    key: str
    value: Any
    default: Any
    origin: str
    help: str
    choices: tuple[str, ...] = ()
    later: str = ""
    """Why nothing comes of it in this version."""

    @property
    def text(self) -> str:
        return text_of(self.value)


def shown_settings(settings: Settings) -> list[Shown]:
    """Every setting in the order in which they are declared."""
    return [row for key in KEYS for row in _rows(settings, key)]


def text_of(value: object) -> str:
    """A value as `config set` takes it; nothing where there is none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return clean(",".join(map(str, value)))
    return clean(rendered(value) if isinstance(value, Mapping) else value)


def setting_lines(rows: Sequence[Shown]) -> list[str]:
    """A line for each: key, value, origin, and the default where it is another."""
    keys = [clean(row.key) for row in rows]
    texts = [row.text or _NOT_SET for row in rows]
    width, value_width = (max(map(len, column), default=0) for column in (keys, texts))
    return [
        f"{key:<{width}}  {text:<{min(value_width, 40)}}  {_origin(row)}"
        for key, text, row in zip(keys, texts, rows, strict=True)
    ]


def _origin(row: Shown) -> str:
    if row.origin == "default" or row.value == row.default or row.default is None:
        return clean(row.origin)
    return clean(f"{row.origin} (default {text_of(row.default)})")


def _rows(settings: Settings, key: Key) -> Iterator[Shown]:
    value = getattr(settings, key.name)
    if key.kind != "table":
        default = _plain(getattr(Settings(), key.name))
        origin = settings.origin(key.name)
        yield Shown(key.name, _plain(value), default, origin, key.help, key.choices, key.later)
        return
    for names, inner in _leaves(value, ()):
        # What is known of a table's key is where its own name stands.
        origin = settings.origin(f"{key.name}.{names[0]}")
        name = shown((key.name, *names))
        yield Shown(name, inner, None, origin, key.help, later=key.later)


def _leaves(
    table: Mapping[str, Any], above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), _HIDDEN if "headers" in above else _plain(value)


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Reserve):
        return f"{value.percent:g}%" if value.percent else f"{value.bytes}"
    return list(value) if isinstance(value, tuple) else value
