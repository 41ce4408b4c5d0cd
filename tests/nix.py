"""The attribute sets of model-sources.md, read as far as that page writes them.

Strings, numbers, `null`, lists, nested sets, dotted names, and a function applied to one
argument (`companyHF "org/name"`, `sources.mkS3 { … }`), which is kept as `Applied`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(r'\s+|#[^\n]*|(?P<word>"[^"]*"|[A-Za-z_][\w.-]*|\d+|[{}\[\]=;:]|\.\.\.)')


@dataclass(frozen=True)
class Applied:
    """`name` applied to `argument`."""

    name: str
    argument: Any


class Reader:
    def __init__(self, text: str) -> None:
        self._words = [matched["word"] for matched in _TOKEN.finditer(text) if matched["word"]]
        self._at = 0

    def assignments(self, end: str | None = None) -> dict[str, Any]:
        """`a.b = value;` until `end`, as nested tables."""
        table: dict[str, Any] = {}
        while self._at < len(self._words) and self._peek() != end:
            *parts, last = self._next().split(".")
            inner = table
            for part in parts:
                inner = inner.setdefault(part, {})
            assert self._next() == "="
            inner[last] = self._value()
            assert self._next() == ";"
        return table

    def assignments_of_set(self) -> dict[str, Any]:
        """`{ a.b = value; }`."""
        found = self._operand()
        assert isinstance(found, dict)
        return found

    def _value(self) -> Any:
        """A word is `null`, `true`, `false` or a function; of its arguments the last counts."""
        first = self._operand()
        if not isinstance(first, Applied):
            return first
        argument = None
        while self._peek() not in {";", None}:
            argument = self._operand()
        known = {"null": None, "true": True, "false": False}
        return known.get(first.name, Applied(first.name, argument))

    def _operand(self) -> Any:
        word = self._next()
        if word.startswith('"'):
            return word.strip('"')
        if word == "{":
            table = self.assignments("}")
            self._next()
            return table
        if word == "[":
            return list(self._items())
        return int(word) if word.isdigit() else Applied(word, None)

    def _items(self) -> Iterator[Any]:
        while self._peek() != "]":
            yield self._operand()
        self._next()

    def _peek(self) -> str | None:
        return self._words[self._at] if self._at < len(self._words) else None

    def _next(self) -> str:
        word = self._words[self._at]
        self._at += 1
        return word
