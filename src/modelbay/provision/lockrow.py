"""One table of a lock, read key by key, with the place of whatever cannot be read."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NoReturn

from modelbay.config.position import parts
from modelbay.errors import FormatError, ModelbayError
from modelbay.provision.reading import Written
from modelbay.text import clean

AGAIN: Final = (
    "take it from version control again, or delete it and make it again from its provision file"
)
At = tuple[str | int, ...]
"""Keys and, after the name of an array, the number in it: `("model", 3, "file", 0, "size")`."""
_HEADER = re.compile(r"[ \t]*(\[\[?)([^\[\]]+)\]")
_KEY = re.compile(r"[ \t]*([A-Za-z0-9_-]+|\"[^\"]*\")[ \t]*=")


class _Placed(FormatError):
    """One that says its line already."""


class Row:
    """What is asked for is taken out, so that the rest can be kept as it is."""

    __slots__ = ("_at", "_named", "_table", "_written")

    def __init__(self, written: Written, at: At, table: object, named: str = "") -> None:
        self._written = written
        self._at = at
        self._named = named
        if not isinstance(table, dict):
            self.refuse(None, "is no table")
        self._table: dict[str, Any] = table.copy()

    def name(self, named: str) -> None:
        """What sentences call it from now on."""
        self._named = named

    def rest(self, **inner: "Row") -> Mapping[str, object]:
        """The keys that nobody asked for, those of its tables `inner` among them."""
        inside = {key: row.rest() for key, row in inner.items()}
        return {**{key: rest for key, rest in inside.items() if rest}, **self._table}

    def text(self, key: str) -> str:
        value = self._table.pop(key, None)
        if not isinstance(value, str):
            self.refuse(key, f"is {shown(value)}, a text was expected")
        return value

    def maybe_text(self, key: str) -> str | None:
        return self.text(key) if key in self._table else None

    def whole(self, key: str) -> int:
        value = self._table.pop(key, None)
        if type(value) is not int or value < 0:
            self.refuse(key, f"is {shown(value)}, a whole number was expected")
        return value

    def flag(self, key: str) -> bool:
        value = self._table.pop(key, False)
        if not isinstance(value, bool):
            self.refuse(key, f"is {shown(value)}, true or false was expected")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._table.pop(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            self.refuse(key, f"is {shown(value)}, a list of texts was expected")
        return tuple(value)

    def table(self, key: str, *, needed: bool = True) -> "Row":
        """The table `key`, empty where it may be absent and is."""
        value = self._table.pop(key, None if needed else {})
        if not isinstance(value, dict):
            self.refuse(key, f"is {shown(value)}, a table was expected")
        return Row(self._written, (*self._at, key), value, self._named)

    def mapping(self, key: str) -> dict[str, Any]:
        """The table `key`, to be taken apart."""
        value = self._table.pop(key, None)
        if not isinstance(value, dict):
            self.refuse(key, f"is {shown(value)}, a table was expected")
        return value.copy()

    def rows(self, key: str) -> list["Row"]:
        """The tables of the array `key`."""
        value = self._table.pop(key, [])
        if not isinstance(value, list):
            self.refuse(key, f"is {shown(value)}, tables were expected")
        return [
            Row(self._written, (*self._at, key, number), one, self._named)
            for number, one in enumerate(value)
        ]

    def has(self, key: str) -> bool:
        return key in self._table

    def refuse(self, key: str | None, sentence: str, hint: str = AGAIN) -> NoReturn:
        """Raises FormatError: what it is of, `key`, `sentence`, at its line."""
        at = self._at if key is None else (*self._at, key)
        what = ".".join(clean(one, limit=80) for one in at[1:] if isinstance(one, str))
        named = f"{clean(self._named, limit=200)}: " if self._named else ""
        self.complain(at, f"{named}{what or clean(key or 'it', limit=80)} {sentence}", hint)

    @contextmanager
    def reading(self, key: str) -> Iterator[None]:
        """Every refusal inside, whoever says it, is one at the line of `key`."""
        try:
            yield
        except _Placed:
            raise
        except ModelbayError as error:
            self.fail(key, error)

    def fail(self, key: str, error: ModelbayError) -> NoReturn:
        """Raises FormatError: `error`, at the line of `key`."""
        named = f"{clean(self._named, limit=200)}: " if self._named else ""
        raise self._complaint((*self._at, key), f"{named}{error}", error.hint or AGAIN) from error

    def complain(self, at: At, sentence: str, hint: str) -> NoReturn:
        """Raises FormatError with `sentence`, at the line of `at`."""
        raise self._complaint(at, sentence, hint)

    def _complaint(self, at: At, sentence: str, hint: str) -> FormatError:
        line, column = _position(self._written.text, at)
        return _Placed(f"{clean(self._written.path)}:{line}:{column}: {sentence}", hint=hint)


def shown(value: object) -> str:
    """A value as sentences show it."""
    return "missing" if value is None else clean(repr(value), limit=80)


def _position(text: str, at: At) -> tuple[int, int]:
    """Line and column, from 1, of the longest part of `at` that stands on a line of its own."""
    best, place = 0, (1, 1)
    here: At = ()
    seen: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
            here = _numbered(parts(header[2]), seen, array=header[1] == "[[")
            now, column = here, header.start(1) + 1
        elif key := _KEY.match(line):
            now, column = (*here, key[1].strip('"')), key.start(1) + 1
        else:
            continue
        if now == at[: len(now)] and len(now) > best:
            best, place = len(now), (number, column)
    return place


def _numbered(names: tuple[str, ...], seen: dict[tuple[str, ...], int], *, array: bool) -> At:
    """The keys of a header with the number of every array on the way."""
    if array:
        seen[names] = seen.get(names, -1) + 1
        for other in [one for one in seen if len(one) > len(names) and one[: len(names)] == names]:
            del seen[other]
    at: list[str | int] = []
    for length, name in enumerate(names, 1):
        at.append(name)
        if names[:length] in seen:
            at.append(seen[names[:length]])
    return tuple(at)
