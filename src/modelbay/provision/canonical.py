"""TOML values in one way of writing them, so that the same lock is always the same bytes."""

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def toml(value: object) -> str:
    """`value` on one line. Characters that cannot be seen are escaped, halves of characters
    replaced.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            return f'"{_escaped(value)}"'
        case Mapping():
            pairs = [f"{key_of(key)} = {toml(value[key])}" for key in value]
            return "{ " + ", ".join(pairs) + " }" if pairs else "{}"
        case Sequence():
            return "[" + ", ".join([toml(one) for one in value]) + "]"
        case datetime() | date() | time():
            return value.isoformat()
    raise TypeError(f"a lock holds no {type(value).__name__}")


def key_of(key: str) -> str:
    """`key` as it stands before its value."""
    return key if _BARE.fullmatch(key) else toml(key)


def plain(value: Any) -> Any:
    """`value` as the reader of a lock would give it: tables as dicts, sequences as lists."""
    match value:
        case Mapping():
            return {key: plain(one) for key, one in value.items()}
        case str():
            return value
        case Sequence():
            return [plain(one) for one in value]
    return value


def _escaped(text: str) -> str:
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join([_ESCAPES.get(c) or (c if c.isprintable() else _code(c)) for c in text])


def _code(character: str) -> str:
    point = ord(character)
    if 0xD800 <= point <= 0xDFFF:
        return "\N{REPLACEMENT CHARACTER}"
    return f"\\u{point:04X}" if point <= 0xFFFF else f"\\U{point:08X}"
