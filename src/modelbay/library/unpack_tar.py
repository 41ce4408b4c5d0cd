"""Tar archives, read from front to end (POSIX.1-2001 ustar and pax, GNU long names, v7).

Written here because `tarfile` reads headers of any claimed size into memory, goes back in
compressed files, and decides itself what is safe.
"""

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Final, NoReturn

from modelbay.library.unpack_items import BLOCK, Broken, Content, Item, Kind

_RECORD: Final = 512
_LONGEST_HEADER: Final = 1 << 20
_FILES: Final = frozenset({b"0", b"\0", b"7"})
_KINDS: Final[dict[bytes, Kind]] = {
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "device",
    b"4": "device",
    b"5": "folder",
    b"6": "pipe",
}
_PAX = re.compile(rb"(\d{1,7}) ([^=]+)=")

Read = Callable[[int], bytes]
"""That many bytes, fewer at the end only. Raises Broken."""


@dataclass
class _Next:
    """What extended headers say of the entry after them."""

    path: str | None = None
    size: int | None = None


@dataclass
class _Tar:
    read: Read
    told: _Next = field(default_factory=_Next)

    def exactly(self, count: int) -> bytes:
        found = self.read(count)
        if len(found) < count:
            raise Broken("it ends early")
        return found

    def skip(self, count: int) -> None:
        while count > 0:
            count -= len(self.exactly(min(count, BLOCK)))

    def content(self, size: int) -> Content:
        left = size
        while left > 0:
            block = self.exactly(min(left, BLOCK))
            left -= len(block)
            yield block

    def extended(self, kind: bytes, size: int) -> None:
        """Takes what a header of the next entry says, in a pax or a GNU record."""
        if size > _LONGEST_HEADER:
            raise Broken("it has a header of more than 1 MiB")
        body = self.exactly(size)
        self.skip(-size % _RECORD)
        if kind == b"L":
            self.told.path = _text(body)
        elif kind == b"x":
            self._pax(body)

    def _pax(self, body: bytes) -> None:
        while body.strip(b"\0"):
            found = _PAX.match(body)
            if found is None or not found.end() < int(found[1]) <= len(body):
                raise Broken("it has an extended header that cannot be read")
            key, value = found[2], body[found.end() : int(found[1]) - 1]
            body = body[int(found[1]) :]
            if key.startswith(b"GNU.sparse"):
                raise Broken("it holds a sparse file")
            if key == b"path":
                self.told.path = _text(value)
            elif key == b"size":
                self.told.size = _number(value, 10)


def items(read: Read) -> Generator[Item, None, None]:
    """The entries, in order. The content of one must be read before the next is asked for.
    Raises Broken.
    """
    tar = _Tar(read)
    while True:
        header = tar.exactly(_RECORD)
        if header == bytes(_RECORD):
            return
        _check_sum(header)
        kind, size = header[156:157], _size(header)
        if kind in {b"x", b"L", b"K", b"g"}:
            tar.extended(kind, size)
            continue
        told, tar.told = tar.told, _Next()
        size = size if told.size is None else told.size
        path = told.path if told.path is not None else _path(header)
        yield from _item(tar, kind, path, size)


def _item(tar: _Tar, kind: bytes, path: str, size: int) -> Generator[Item, None, None]:
    if kind in _FILES and not path.endswith("/"):
        content = tar.content(size)
        yield Item(path, "file", content)
        for _ in content:
            pass
        tar.skip(-size % _RECORD)
        return
    if kind in _FILES:
        kind = b"5"
    if kind not in _KINDS:
        _refuse_kind(kind)
    yield Item(path, _KINDS[kind], tar.content(0))
    if kind == b"5":
        tar.skip(size + -size % _RECORD)


def _refuse_kind(kind: bytes) -> NoReturn:
    raise Broken(f"it has an entry of the type {kind!r}, which is not read here")


def _check_sum(header: bytes) -> None:
    told = _number(header[148:156], 8)
    if told != sum(header[:148]) + sum(header[156:]) + 8 * ord(" "):
        raise Broken("there is no tar in it, or a damaged one")


def _size(header: bytes) -> int:
    field_ = header[124:136]
    if field_[0] == 0x80:
        return int.from_bytes(field_[1:], "big")
    return _number(field_, 8)


def _number(text: bytes, base: int) -> int:
    digits = text.strip(b" \0") or b"0"
    try:
        if digits.isdigit():
            return int(digits, base)
    except ValueError:
        pass
    raise Broken("it has a number that cannot be read")


def _path(header: bytes) -> str:
    name, prefix = _text(header[:100]), _text(header[345:500])
    posix = header[257:263] == b"ustar\0"
    return f"{prefix}/{name}" if posix and prefix else name


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")
