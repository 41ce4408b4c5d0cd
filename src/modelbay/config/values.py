"""What one value of a setting means. Every reader raises ValueError with what was expected."""

import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Final

from modelbay.config.keys import Key, Reserve


def _integer(key: Key, value: object) -> int:
    if type(value) is int and key.lowest <= value <= key.highest:
        return value
    raise ValueError(f"a whole number from {key.lowest} to {key.highest}")


def _flag(_key: Key, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("true or false")


def _text(_key: Key, value: object) -> str:
    if isinstance(value, str) and value.strip() and value.isprintable():
        return value.strip()
    raise ValueError("text in quotation marks")


def _choice(key: Key, value: object) -> str:
    if isinstance(value, str) and value.strip().lower() in key.choices:
        return value.strip().lower()
    raise ValueError("one of " + ", ".join(key.choices))


def _list(_key: Key, value: object) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ValueError("a list of texts")


_AMOUNT = re.compile(r"(?i)([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([kmgt]?)(i?)(bit|b|)(?:/s|ps)?")


def read_bytes(text: str) -> int:
    """`20MB/s`, `1.5 GiB`, `160Mbit/s`, `500k` as bytes. Raises ValueError."""
    matched = _AMOUNT.fullmatch(text.strip())
    if matched is None:
        raise ValueError("an amount like 20MB/s or 1.5GiB")
    number, prefix, binary, unit = matched.groups()
    step = 1024 if binary else 1000
    size = float(number) * step ** " kmgt".index(prefix.lower() or " ")
    return int(size / 8 if unit.lower() == "bit" else size)


def _bandwidth(_key: Key, value: object) -> int | None:
    if type(value) is int and value >= 0:
        return value or None
    if isinstance(value, str):
        if value.strip().lower() in {"none", "unlimited", "0"}:
            return None
        if (amount := read_bytes(value)) >= 1000:
            return amount
    raise ValueError('"20MB/s", at least 1 kB/s, or "none"')


def _reserve(_key: Key, value: object) -> Reserve:
    if type(value) is int and value >= 0:
        return Reserve(bytes=value)
    if isinstance(value, str):
        if matched := re.fullmatch(r"([0-9]{1,2}(?:\.[0-9]+)?)\s*%", value.strip()):
            return Reserve(percent=float(matched[1]))
        return Reserve(bytes=read_bytes(value))
    raise ValueError('"1%" or "20GB"')


READERS: Final[Mapping[str, Callable[[Key, object], object]]] = {
    "integer": _integer,
    "flag": _flag,
    "text": _text,
    "path": _text,
    "choice": _choice,
    "list": _list,
    "bandwidth": _bandwidth,
    "reserve": _reserve,
}

_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off", ""})


def typed(key: Key, text: str) -> object:
    """What `text`, from the environment or the command line, would be in a TOML file. What it
    cannot be stays text, for its reader to refuse.
    """
    plain = text.strip()
    if key.kind == "integer" and re.fullmatch(r"\d{1,10}", plain):
        return int(plain)
    if key.kind == "flag" and plain.lower() in _TRUE | _FALSE:
        return plain.lower() in _TRUE
    if key.kind == "list":
        array = _array(plain)
        commas = [part.strip() for part in plain.split(",") if part.strip()]
        return commas if array is None else array
    return text


def _array(text: str) -> object:
    if not text.startswith("["):
        return None
    try:
        return tomllib.loads(f"list = {text}")["list"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return None
