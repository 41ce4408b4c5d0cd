"""Zip archives: `zipfile` reads them, after what it does not look at was looked at."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Final

from modelbay.library.unpack_items import BLOCK, Broken, Content, Item, Kind

_END: Final = struct.Struct("<4s4H2LH")
_END_64: Final = struct.Struct("<4sQ2H2L4Q")
_LONGEST_COMMENT: Final = 65_535
_LARGEST_DIRECTORY: Final = 32 << 20
"""Bytes of names: `zipfile` keeps all of them in memory."""
_LOCAL: Final = 30
_ENCRYPTED: Final = 0x1


def items(path: Path) -> Generator[Item, None, None]:
    """The entries of the zip at `path`. Raises Broken, OSError."""
    _check_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _refuse_overlaps(entries, archive.start_dir)
            for entry in entries:
                yield Item(entry.orig_filename, _kind(entry), _content(archive, entry))
    except zipfile.BadZipFile as error:
        raise Broken(f"it is damaged ({error})") from error


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Content:
    if entry.flag_bits & _ENCRYPTED:
        raise Broken("it is encrypted")
    try:
        with archive.open(entry) as opened:
            while block := opened.read(BLOCK):
                yield block
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise Broken(f"it cannot be read ({error})") from error


def _kind(entry: zipfile.ZipInfo) -> Kind:
    if entry.orig_filename.endswith("/"):
        return "folder"
    mode = entry.external_attr >> 16
    if stat.S_ISLNK(mode):
        return "symbolic link"
    if stat.S_IFMT(mode) in {0, stat.S_IFREG}:
        return "file"
    return "folder" if stat.S_ISDIR(mode) else "device"


def _check_directory(path: Path) -> None:
    """Raises Broken for a directory of names that no honest archive has, before it is read."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        start = max(0, size - _LONGEST_COMMENT - _END.size - 20 - _END_64.size)
        file.seek(start)
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + _END.size:
        raise Broken("its directory is missing: it is cut off")
    length = _END.unpack_from(tail, at)[5]
    large = tail.rfind(b"PK\x06\x06", 0, at)
    if large >= 0 and len(tail) >= large + _END_64.size:
        length = max(length if length != 0xFFFFFFFF else 0, _END_64.unpack_from(tail, large)[8])
    if length > min(size, _LARGEST_DIRECTORY):
        raise Broken(f"its directory claims {length} bytes of names")


def _refuse_overlaps(entries: Sequence[zipfile.ZipInfo], end: int) -> None:
    """Entries that share their bytes unpack to far more than they weigh (CVE-2024-0450)."""
    following = end
    for entry in sorted(entries, key=lambda one: one.header_offset, reverse=True):
        name = len(entry.orig_filename.encode("utf-8", "surrogateescape"))
        flat = min(name, len(entry.filename))
        if entry.header_offset + _LOCAL + flat + entry.compress_size > following:
            raise Broken("its entries overlap")
        following = entry.header_offset
