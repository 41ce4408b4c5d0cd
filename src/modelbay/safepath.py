"""Names that servers give, before any of them reaches a disk.

POSIX and Windows rules hold on every system, so that a tree fetched here can be copied
anywhere, and so that one rule is tested instead of two.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import NoReturn, Self

from modelbay.errors import UnsafeName
from modelbay.text import clean

_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\.|$)")
_FORBIDDEN = re.compile(r'[\\:<>"|?*]')
LONGEST_COMPONENT = 255
LONGEST_PATH = 1024
DEEPEST = 32


class SafeRelPath(str):
    """A relative path with `/`, NFC, whose every component is an ordinary name.

    Made by `parse` only. It is a `str`, so that it can be compared, sorted and joined.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """`text` as a safe path. Percent signs are left alone: decode before, once.

        Raises UnsafeName for `..`, absolute paths, drives, backslashes, controls and
        invisible characters, names Windows reserves, trailing dots or spaces, and names
        too long for a file system.
        """
        named = unicodedata.normalize("NFC", text)
        if not named or len(named) > LONGEST_PATH:
            _refuse(text, "it is empty or longer than 1024 characters")
        components = named.split("/")
        if len(components) > DEEPEST:
            _refuse(text, f"it is more than {DEEPEST} folders deep")
        for component in components:
            _check(component, text)
        return cls(named)

    @classmethod
    def component(cls, text: str) -> Self:
        """One name without a slash. Raises UnsafeName."""
        if "/" in text:
            _refuse(text, "a single file name was expected")
        return cls.parse(text)

    @property
    def name(self) -> str:
        return self.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The extension in lower case with its dot, or an empty string."""
        stem, dot, extension = self.name.rpartition(".")
        return f".{extension.lower()}" if dot and stem else ""


def _check(component: str, whole: str) -> None:
    if component in {"", ".", ".."}:
        _refuse(whole, "it has an empty, '.' or '..' part")
    if not component.isprintable() or _FORBIDDEN.search(component):
        _refuse(whole, 'it has a control or invisible character or one of \\ : < > " | ? *')
    hidden = {"Cf", "Cs", "Co", "Zl", "Zp"}
    if not component.isascii() and any(unicodedata.category(c) in hidden for c in component):
        _refuse(whole, "it has an invisible character")
    if component[-1] in ". " or component[0] == " ":
        _refuse(whole, "a part of it begins with a space or ends in a dot or a space")
    if _RESERVED.match(component):
        _refuse(whole, "Windows reserves that name for a device")
    if component.casefold() == ".modelbay":
        _refuse(whole, "modelbay keeps its own files there")
    if len(component.encode("utf-8", "surrogatepass")) > LONGEST_COMPONENT:
        _refuse(whole, f"a part of it is longer than {LONGEST_COMPONENT} bytes")


def _refuse(text: str, why: str) -> NoReturn:
    raise UnsafeName(
        f"the file name {clean(text, limit=160)!r} cannot be used: {why}",
        hint="nothing was written, and no other file of it either: tell its publisher, or ask "
        "for a revision without that name (…@REVISION)",
    )


def refuse_clashes(paths: Iterable[SafeRelPath]) -> None:
    """Raises UnsafeName when two paths would be one file on some file system.

    That is: equal after case folding, or one is the folder of another.
    """
    seen: dict[str, str] = {}
    for path in paths:
        folded = unicodedata.normalize("NFC", path.casefold())
        if folded in seen:
            _refuse(path, f"it is the same as {clean(seen[folded])!r} where case does not count")
        seen[folded] = path
    for folded, named in seen.items():
        parent = folded.rpartition("/")[0]
        while parent:
            if parent in seen:
                _refuse(named, f"{clean(seen[parent])!r} is a file, and would have to be a folder")
            parent = parent.rpartition("/")[0]
