"""What readers of archives give: entries, one after the other."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, Literal

BLOCK: Final = 1 << 20
Kind = Literal["file", "folder", "symbolic link", "hard link", "device", "pipe"]


class Broken(Exception):
    """The archive is none, damaged, or of a kind that is not read. Carries why, in words."""


Content = Generator[bytes, None, None]


@dataclass(frozen=True, slots=True)
class Item:
    """One entry: its path as written, and its content in pieces of at most 1 MiB."""

    path: str
    kind: Kind
    content: Content
