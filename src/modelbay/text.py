"""Text that came from elsewhere, made safe to show; and values that are never shown.

`clean` stands between everything remote and a terminal, a log or an error
sentence. `Secret` is the only form in which a credential travels through modelbay.
"""

import unicodedata
from typing import Any, NoReturn

LONGEST_SHOWN = 4096
_PICTURES = {0x1B: "␛", 0x07: "␇", 0x08: "␈", 0x7F: "␡", 0x00: "␀"}


def clean(text: object, *, lines: bool = False, limit: int = LONGEST_SHOWN) -> str:
    """`text` without anything that could steer a terminal or hide what it says.

    Controls become pictures (`␛`), invisible and direction-changing characters become
    `‹U+202E›`, lone surrogates `‹U+D800›`. With `lines=True` newlines and tabs stay;
    otherwise every run of them becomes one space. Longer than `limit` characters ends in `…`.
    """
    whole = str(text)
    shown = whole[:limit]
    if not lines:
        shown = " ".join(shown.split("\n")).replace("\r", "").replace("\t", " ")
    else:
        shown = shown.replace("\r\n", "\n")
    if not (shown.isascii() and shown.replace("\n", "").replace("\t", "").isprintable()):
        shown = "".join(_safe(character) for character in shown)
    return shown + "…" if len(whole) > limit else shown


def _safe(character: str) -> str:
    if character in "\n\t" or character.isprintable():
        return character
    category = unicodedata.category(character)
    if category == "Zs":
        return " "
    point = ord(character)
    return _PICTURES.get(point) or f"‹U+{point:04X}›"


class Secret:
    """A credential. Prints as `***` everywhere; `reveal()` is called where it is sent.

    Surrounding whitespace is dropped (a token pasted with its newline is the most
    common broken token); a value with control characters inside is refused, since it
    would end up in the text of a header error.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        value = value.strip()
        if not value or not value.isprintable():
            raise ValueError("a secret must be one line of printable characters")
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written down")

    def __getstate__(self) -> Any:
        raise TypeError("a secret is not written down")
