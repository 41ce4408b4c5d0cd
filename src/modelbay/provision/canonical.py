"""TOML values in one way of writing them, so that the same lock is always the same bytes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            return '"' + "".join(_escaped(c) for c in value) + '"'
        case Mapping():
            pairs = [f"{_key(key)} = {toml(value[key])}" for key in value]
            return "{ " + ", ".join(pairs) + " }" if pairs else "{}"
        case Sequence():
            return "[" + ", ".join(toml(one) for one in value) + "]"
    raise TypeError(f"a lock holds no {type(value).__name__}")


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


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return f"\\u{ord(character):04X}" if ord(character) < 32 or character == "\x7f" else character


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else toml(key)
