"""A key of a person's TOML text set or taken out; all that he wrote elsewhere stays as it was.

A new line goes where a person would put it: below the last key of its table, before the blank
lines and the comment of the next one. tomlkit, which would put it after them, changes values in
place. Whatever was tried counts only when the text then reads as expected, so that an unusual way
of writing costs a refusal, and never a key.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any, Final

from modelbay.config.position import places, tables
from modelbay.errors import FormatError
from modelbay.text import clean

Keys = tuple[str, ...]
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST_LINE: Final = 100
_SIMPLE = re.compile(r"""([^=]*=\s*)("[^"\\]*"|'[^']*'|[\w.+-]+)(\s*(?:#.*)?)""", re.DOTALL)


def with_value(text: str, keys: Keys, value: object) -> str:
    """`text` with `value` under `keys`; its table is made when there is none. Raises FormatError
    when `text` cannot be changed so without touching something else.
    """
    before = tomllib.loads(text)
    expected = _expected(before, keys, value)
    if _found(before, keys) is not None:
        ways = [_rewritten, _replaced]
    elif len(keys) == 1 or _has_table(text, keys[:-1]):
        ways = [_inserted, _replaced]
    elif _found(before, keys[:-1]) is not None:
        ways = [_replaced]
    else:
        ways = [_with_new_table, _replaced]
    candidates = (candidate for way in ways for candidate in way(text, keys, value))
    return _first(candidates, keys, lambda found: found == expected)


def with_table(text: str, keys: Keys, table: Mapping[str, object]) -> str:
    """`text` with a new table `keys`, below the last of its kin. Raises FormatError."""
    expected = _expected(tomllib.loads(text), keys, _plain(table))
    candidate = _with_section(text, keys, table)
    return _first(iter([candidate]), keys, lambda found: found == expected)


def without(text: str, keys: Keys) -> str:
    """`text` without what stands under `keys`; comments stay. Raises FormatError."""
    expected = deepcopy(tomllib.loads(text))
    table = _found(expected, keys[:-1])
    if not isinstance(table, dict) or keys[-1] not in table:
        return text
    del table[keys[-1]]
    wanted = _without_empty(expected, keys[:-1])
    return _first(
        _shortened(text, keys), keys, lambda found: _without_empty(found, keys[:-1]) == wanted
    )


def shown(keys: Keys) -> str:
    """`keys` as TOML writes them: `sources."a.b".bucket`."""
    return ".".join(key if _BARE.fullmatch(key) else rendered(key) for key in keys)


def rendered(value: object) -> str:
    """`value` as TOML writes it; a long list takes a line for each item."""
    import tomlkit

    if isinstance(value, Mapping):
        pairs = (f"{shown((name,))} = {rendered(inner)}" for name, inner in value.items())
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        items = [rendered(item) for item in value]
        line = "[" + ", ".join(items) + "]"
        return line if len(line) <= _LONGEST_LINE else "[\n  " + ",\n  ".join(items) + ",\n]"
    return tomlkit.item(value).as_string()


def _first(
    candidates: Iterator[str], keys: Keys, is_expected: Callable[[dict[str, Any]], bool]
) -> str:
    for candidate in candidates:
        try:
            found = tomllib.loads(candidate)
        except tomllib.TOMLDecodeError:
            continue
        if is_expected(found):
            return candidate
    raise FormatError(
        f"{clean(shown(keys), limit=160)} cannot be changed without touching what stands around it",
        hint="change it by hand, in an editor",
    )


def _expected(before: Mapping[str, Any], keys: Keys, value: object) -> dict[str, Any]:
    after = deepcopy(dict(before))
    table = after
    for depth, key in enumerate(keys[:-1], 1):
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise FormatError(
                f"{clean(shown(keys[:depth]), limit=160)} is no table, so that it cannot hold "
                f"{clean(keys[depth], limit=80)!r}",
                hint="take it out first, in an editor",
            )
    table[keys[-1]] = _plain(value)
    return after


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _found(document: Mapping[str, Any], keys: Keys) -> object:
    found: object = document
    for key in keys:
        if not isinstance(found, dict) or key not in found:
            return None
        found = found[key]
    return found


def _has_table(text: str, keys: Keys) -> bool:
    return any(table == keys for _, table in tables(text))


def _rewritten(text: str, keys: Keys, value: object) -> Iterator[str]:
    """A simple value on the line where its key stands: tomlkit takes half a second for a
    thousand models.
    """
    lines, _ = _lines(text)
    number = places(text).get(keys, (0, 0))[0]
    matched = _SIMPLE.fullmatch(lines[number - 1]) if number else None
    new = rendered(value)
    if matched is not None and "\n" not in new:
        line = f"{matched[1]}{new}{matched[3]}"
        yield "".join([*lines[: number - 1], line, *lines[number:]])


def _replaced(text: str, keys: Keys, value: object) -> Iterator[str]:
    import tomlkit

    document: Any = tomlkit.parse(text)
    table = document
    for key in keys[:-1]:
        table = table.setdefault(key, tomlkit.table())
    table[keys[-1]] = tomlkit.value(rendered(value))
    yield tomlkit.dumps(document)


def _inserted(text: str, keys: Keys, value: object) -> Iterator[str]:
    """Below the last key of the table, or of the top."""
    lines, end = _lines(text)
    new = f"{shown(keys[-1:])} = {rendered(value)}".replace("\n", end)
    starts = [0, *(number for number, _ in tables(text))]
    names = [(), *(table for _, table in tables(text))]
    for place, name in enumerate(names):
        if name == keys[:-1]:
            stop = starts[place + 1] - 1 if place + 1 < len(starts) else len(lines)
            at = _content_end(lines, starts[place], stop)
            if at == 0:
                new += end if stop < len(lines) else ""
                at = _heading_end(lines, stop) if stop < len(lines) else stop
            yield _joined([*lines[:at], new + end, *lines[at:]], end)


def _with_new_table(text: str, keys: Keys, value: object) -> Iterator[str]:
    yield _with_section(text, keys[:-1], {keys[-1]: value})


def _with_section(text: str, keys: Keys, table: Mapping[str, object]) -> str:
    """A table below the last one that shares the most of its name, else at the end."""
    lines, end = _lines(text)
    headers = list(tables(text))
    kin = [_shared(name, keys) for _, name in headers]
    last = len(kin) - 1 - kin[::-1].index(max(kin)) if any(kin) else len(headers) - 1
    stop = headers[last + 1][0] - 1 if 0 <= last < len(headers) - 1 else len(lines)
    at = _content_end(lines, 0, stop) if any(kin) else len(lines)
    new = [f"[{shown(keys)}]", *(f"{shown((k,))} = {rendered(v)}" for k, v in table.items())]
    gap = [end] if at and lines[at - 1].strip() else []
    block = [line.replace("\n", end) + end for line in new]
    return _joined([*lines[:at], *gap, *block, *lines[at:]], end)


def _shared(name: Keys, keys: Keys) -> int:
    """How many keys both begin with."""
    pairs = enumerate(zip(name, keys, strict=False))
    return next((n for n, (one, other) in pairs if one != other), min(len(name), len(keys)))


def _shortened(text: str, keys: Keys) -> Iterator[str]:
    """The tables called so, or the lines of the key, gone; last what tomlkit makes of it."""
    import tomlkit

    lines, _ = _lines(text)
    headers = [*tables(text), (len(lines) + 1, ())]
    sections = [
        (number - 1, _content_end(lines, number - 1, headers[place + 1][0] - 1))
        for place, (number, name) in enumerate(headers[:-1])
        if name[: len(keys)] == keys
    ]
    if sections:
        left = list(lines)
        for start, stop in reversed(sections):
            _cut(left, start, stop)
        yield "".join(left)
    else:
        start = places(text).get(keys, (0, 0))[0] - 1
        following = next((number - 1 for number, _ in headers if number - 1 > start), len(lines))
        for stop in range(start + 1, following + 1 if start >= 0 else start):
            yield "".join([*lines[:start], *lines[stop:]])
    document: Any = tomlkit.parse(text)
    table = document
    for key in keys[:-1]:
        table = table[key]
    del table[keys[-1]]
    yield tomlkit.dumps(document)


def _cut(lines: list[str], start: int, stop: int) -> None:
    """Takes lines out, and one of the two blank ones that would then follow each other."""
    blank_before = start == 0 or not lines[start - 1].strip()
    if blank_before and stop < len(lines) and not lines[stop].strip():
        stop += 1
    del lines[start:stop]


def _without_empty(document: dict[str, Any], keys: Keys) -> dict[str, Any]:
    """A copy in which tables on the way to `keys` that hold nothing are not told."""
    found = deepcopy(document)
    for length in range(len(keys), 0, -1):
        table = _found(found, keys[: length - 1])
        if isinstance(table, dict) and table.get(keys[length - 1]) == {}:
            del table[keys[length - 1]]
    return found


def _lines(text: str) -> tuple[list[str], str]:
    """Lines with their ends, and how the text ends its lines."""
    return text.splitlines(keepends=True), "\r\n" if "\r\n" in text else "\n"


def _joined(lines: list[str], end: str) -> str:
    """The text again; a last line that had no end and is followed now gets one."""
    whole = [line if line.endswith(("\n", "\r")) else line + end for line in lines[:-1]]
    return "".join([*whole, *lines[-1:]])


def _content_end(lines: list[str], start: int, stop: int) -> int:
    """Behind the last line that is neither blank nor a comment."""
    return next((number for number in range(stop, start, -1) if _says(lines[number - 1])), start)


def _heading_end(lines: list[str], stop: int) -> int:
    """Behind the comment that a file begins with, as far as a blank line sets it off."""
    return next((n for n in range(stop, 0, -1) if not lines[n - 1].strip()), 0)


def _says(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")
