"""A TOML text that a person wrote, and where in it something stands."""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NoReturn, Self

from modelbay.config.position import nearest, places
from modelbay.errors import FormatError
from modelbay.files import disk_errors
from modelbay.text import clean

LARGEST: Final = 1 << 20
_PLACED = re.compile(r"(.*) \(at line (\d+), column (\d+)\)", re.DOTALL)
_DEEPEST: Final = 32
_KEY_PART = r"""[ \t]*+(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
_DEEP_KEY = re.compile(
    rf"(?m)(?:^|[{{,])[ \t]*\[{{0,2}}({_KEY_PART}(?:\.{_KEY_PART}){{{_DEEPEST}}})"
)
_LONG_NUMBER = re.compile(r"0[xob][0-9a-fA-F_]{16}|[0-9][0-9_]{18}")
_LARGEST_NUMBER: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class Written:
    """One file as it was read."""

    path: Path | str
    """What sentences call it: a file, or the address it came from."""
    text: str
    document: dict[str, Any]
    _places: dict[tuple[str, ...], tuple[int, int]] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, path: Path, *, largest: int | None = LARGEST) -> Self:
        """Raises FormatError with file, line and column; DiskError."""
        with disk_errors(path), path.open("rb") as file:
            raw = file.read() if largest is None else file.read(largest + 1)
        if largest is not None and len(raw) > largest:
            raise FormatError(
                f"{clean(path)}:1:1: it is larger than {largest >> 20} MiB, "
                "a list of models was expected",
                hint="name the right file",
            )
        return cls.parse(decoded(raw, path), path)

    @classmethod
    def parse(cls, text: str, path: Path | str) -> Self:
        """`text`, which is called `path` in sentences. Raises FormatError."""
        return cls(path, text, _parsed(text, path))

    def where(self, *keys: str) -> str:
        """`file:line:column` of `keys`, or of the longest part of them that is there."""
        line, column = self._position(keys)
        return f"{clean(self.path)}:{line}:{column}"

    def line(self, *keys: str) -> int:
        return self._position(keys)[0]

    def _position(self, keys: tuple[str, ...]) -> tuple[int, int]:
        if not self._places:
            # Looked for once: a file may have a note for every entry.
            self._places.update(places(self.text))
        return nearest(self._places, keys)

    def refuse(self, keys: Iterable[str], sentence: str, hint: str) -> NoReturn:
        """Raises FormatError at `keys`."""
        raise FormatError(f"{self.where(*keys)}: {sentence}", hint=hint)


def decoded(raw: bytes, path: Path | str) -> str:
    """`raw` as text. Raises FormatError at the byte that is not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise FormatError(
            f"{clean(path)}:{line}:{column}: a byte that is not UTF-8 was found",
            hint="save the file as UTF-8",
        ) from error


def _parsed(text: str, path: Path | str) -> dict[str, Any]:
    # The library takes hours for a key of 100,000 parts: its time grows with their square.
    deep = _DEEP_KEY.search(text)
    if deep is not None:
        _refuse_bomb(text, path, deep.start(1), f"a key of more than {_DEEPEST} parts")
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        placed = _PLACED.fullmatch(str(error))
        last = text.count("\n") + 1
        what, line, column = placed.groups() if placed else (str(error), str(last), "1")
        raise FormatError(
            f"{clean(path)}:{line}:{column}: {clean(what, limit=300)}",
            hint='this is no TOML: write one `key = value` a line, texts in "quotation marks"',
        ) from error
    long = _LONG_NUMBER.search(text)
    if long is not None and any(abs(one) >= _LARGEST_NUMBER for one in _numbers(document)):
        _refuse_bomb(text, path, long.start(), "a number of more than 64 bits")
    return document


def _numbers(document: dict[str, Any]) -> Iterable[int]:
    left: list[object] = [document]
    while left:
        value = left.pop()
        if isinstance(value, dict | list):
            left.extend(value.values() if isinstance(value, dict) else value)
        elif isinstance(value, int):
            yield value


def _refuse_bomb(text: str, path: Path | str, at: int, what: str) -> NoReturn:
    line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
    raise FormatError(
        f"{clean(path)}:{line}:{column}: {what} was found, a list of models was expected",
        hint="name the right file",
    )


def meant(word: str, known: Iterable[str], otherwise: str) -> str:
    """A hint with the known word that is nearest to `word`, or `otherwise`."""
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word).lower()
    near = get_close_matches(snake, sorted(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else otherwise
