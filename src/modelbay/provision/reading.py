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


@dataclass(frozen=True, slots=True)
class Written:
    """One file as it was read."""

    path: Path
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
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            column = error.start - raw.rfind(b"\n", 0, error.start)
            raise FormatError(
                f"{clean(path)}:{line}:{column}: a byte that is not UTF-8 was found",
                hint="save the file as UTF-8",
            ) from error
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


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        placed = _PLACED.fullmatch(str(error))
        last = text.count("\n") + 1
        what, line, column = placed.groups() if placed else (str(error), str(last), "1")
        raise FormatError(
            f"{clean(path)}:{line}:{column}: {clean(what, limit=300)}",
            hint='this is no TOML: write one `key = value` a line, texts in "quotation marks"',
        ) from error


def meant(word: str, known: Iterable[str], otherwise: str) -> str:
    """A hint with the known word that is nearest to `word`, or `otherwise`."""
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word).lower()
    near = get_close_matches(snake, sorted(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else otherwise
