"""Where in a TOML text a key is set; the reader of the standard library does not tell."""

import re
from collections.abc import Iterator, Mapping


def position(text: str, keys: tuple[str, ...]) -> tuple[int, int]:
    """Line and column, from 1, where `keys` are set in the TOML `text`.

    The place of the longest part of `keys` that is found; (1, 1) when none is.
    """
    return nearest(places(text), keys)


def places(text: str) -> dict[tuple[str, ...], tuple[int, int]]:
    """Line and column, from 1, of every key and table, where it is first set."""
    found: dict[tuple[str, ...], tuple[int, int]] = {}
    for keys, line, column in _keys_in(text):
        found.setdefault(keys, (line, column))
    return found


def nearest(
    known: Mapping[tuple[str, ...], tuple[int, int]], keys: tuple[str, ...]
) -> tuple[int, int]:
    """The place of the longest part of `keys` that is known; (1, 1) when none is."""
    parts = (keys[:length] for length in range(len(keys), 0, -1))
    return next((known[part] for part in parts if part in known), (1, 1))


def tables(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line, from 1, and keys of every table header, in their order."""
    for number, line in enumerate(text.splitlines(), 1):
        if matched := _TABLE.match(line):
            yield number, parts(matched[1])


_TABLE = re.compile(r"\s*\[\[?([^\]]+)\]")
_ASSIGNED = re.compile(
    r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


def _keys_in(text: str) -> Iterator[tuple[tuple[str, ...], int, int]]:
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if matched := _TABLE.match(line):
            table = parts(matched[1])
            yield table, number, matched.start(1) + 1
        elif matched := _ASSIGNED.match(line):
            yield table + parts(matched[1]), number, matched.start(1) + 1


def parts(dotted: str) -> tuple[str, ...]:
    """`sources."a.b".bucket` as its three keys."""
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))
