"""Archives unpacked: regular files and folders only, within limits, into a fresh folder.

What an archive says of itself is believed nowhere: bytes are counted as they come.
"""

import hashlib
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Protocol

from modelbay.digest import Digest
from modelbay.errors import NoSpace, PolicyError, TargetTaken, UnsafeName, WrongBytes
from modelbay.files import close as close_file
from modelbay.files import (
    create,
    disk_errors,
    folder_below,
    free_space,
    sync_dir,
    sync_file,
    write_at,
)
from modelbay.library import unpack_tar, unpack_zip
from modelbay.library.unpack_items import BLOCK, Broken, Content, Item
from modelbay.safepath import SafeRelPath, refuse_clashes
from modelbay.snapshot import ModelFile
from modelbay.text import clean

_XZ_MEMORY: Final = 1 << 30
_TAR_AT: Final = 257
_READ: Final = "zip, tar, tar.gz, tar.bz2 and tar.xz are unpacked"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes and numbers that no honest model's archive has more of."""

    bytes: int = 500 << 30
    entries: int = 100_000
    ratio: int = 200
    """Unpacked bytes for each byte of the archive, once there are more than `free`."""
    free: int = 100 << 20


@dataclass
class _Counted:
    """What has come out of one archive so far."""

    name: str
    weight: int
    limits: Limits
    room: int
    bytes: int = 0
    entries: int = 0
    files: list[ModelFile] = field(default_factory=list)

    def more(self, count: int) -> None:
        """Raises PolicyError for a bomb, NoSpace when the disk's reserve is reached."""
        self.bytes += count
        bomb = self.bytes > self.limits.free and self.bytes > self.weight * self.limits.ratio
        if bomb or self.bytes > self.limits.bytes:
            raise PolicyError(
                f"{clean(self.name)} unpacks to more than {self.bytes} bytes from {self.weight}, "
                "which no model does",
                hint="nothing was kept; look at what it is, and unpack it by hand if it is meant",
            )
        if self.bytes > self.room:
            raise NoSpace(
                f"{clean(self.name)} unpacks to more than the {self.room} bytes that are free",
                hint="free some space, then run the same command again",
            )

    def another(self) -> None:
        self.entries += 1
        if self.entries > self.limits.entries:
            raise PolicyError(
                f"{clean(self.name)} has more than {self.limits.entries} entries, which no model "
                "has",
                hint="nothing was kept; unpack it by hand if it is meant",
            )


def unpack(
    archive: Path, name: str, into: Path, limits: Limits | None = None
) -> tuple[ModelFile, ...]:
    """The files of `archive`, which is called `name`, below the empty folder `into`, fsynced,
    with their sizes and digests, sorted.

    Raises UnsafeName for links, devices and paths that may not reach a disk, PolicyError for
    what goes beyond `limits`, WrongBytes for what is damaged or no archive, DiskError.
    """
    with disk_errors(into):
        counted = _Counted(
            name, archive.stat().st_size, limits or Limits(), free_space(into) * 95 // 100
        )
        try:
            with closing(_items(archive, counted)) as items:
                for item in items:
                    counted.another()
                    _take(item, into, counted)
        except Broken as why:
            raise WrongBytes(
                f"{clean(name)} cannot be unpacked: {clean(why, limit=200)}; {_READ}",
                hint="look at its page; without extract it is kept as it is",
            ) from why
    refuse_clashes(file.path for file in counted.files)
    if not counted.files:
        raise WrongBytes(f"{clean(name)} has no file in it", hint="look at its page")
    with disk_errors(into):
        for folder in {(into / file.path).parent for file in counted.files}:
            sync_dir(folder)
    return tuple(sorted(counted.files, key=lambda file: file.path))


def _take(item: Item, into: Path, counted: _Counted) -> None:
    path = _path(item, counted)
    if path is None:
        return
    parts = path.split("/")
    try:
        if item.kind == "folder":
            with folder_below(into, parts, make=True):
                return
        with folder_below(into, parts[:-1], make=True) as folder:
            descriptor = create(folder, parts[-1])
    except (FileExistsError, TargetTaken) as error:
        raise UnsafeName(
            f"{clean(counted.name)} holds {clean(path)} twice", hint="tell its publisher"
        ) from error
    try:
        counted.files.append(_written(path, item.content, descriptor))
    finally:
        close_file(descriptor)


def _path(item: Item, counted: _Counted) -> SafeRelPath | None:
    """None for the archive's own root."""
    if item.kind not in {"file", "folder"}:
        raise UnsafeName(
            f"{clean(counted.name)} holds a {item.kind}, {clean(item.path, limit=160)}; only "
            "files and folders are unpacked",
            hint="nothing was kept; unpack it by hand if you trust its publisher",
        )
    text = item.path.rstrip("/") if item.kind == "folder" else item.path
    while text.startswith("./"):
        text = text[2:]
    return None if text in {"", "."} and item.kind == "folder" else SafeRelPath.parse(text)


def _written(path: SafeRelPath, content: Content, descriptor: int) -> ModelFile:
    whole, size = hashlib.sha256(), 0
    with closing(content):
        for block in content:
            write_at(descriptor, memoryview(block), size)
            whole.update(block)
            size += len(block)
    sync_file(descriptor)
    return ModelFile(path, size, (Digest.sha256(whole.hexdigest(), observed=True),))


def _items(archive: Path, counted: _Counted) -> Generator[Item, None, None]:
    with archive.open("rb") as file:
        head = file.read(_TAR_AT + 8)
        file.seek(0)
        if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            with closing(unpack_zip.items(archive)) as items:
                for item in items:
                    yield Item(item.path, item.kind, _counting(item.content, counted))
            return
        stream = _decompressed(file, head)
        yield from unpack_tar.items(_reader(stream, counted))
        _refuse_more(stream)


def _counting(content: Content, counted: _Counted) -> Content:
    with closing(content):
        for block in content:
            counted.more(len(block))
            yield block


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _decompressed(file: IO[bytes], head: bytes) -> _Stream:
    """By what it begins with: names lie."""
    if head.startswith(b"\x1f\x8b"):
        import gzip

        return gzip.GzipFile(fileobj=file)
    if head.startswith(b"BZh"):
        import bz2

        return bz2.BZ2File(file)
    if head.startswith(b"\xfd7zXZ\0"):
        return _Xz(file)
    if len(head) < _TAR_AT:
        raise Broken("it is too short")
    return file


class _Xz:
    """`lzma`'s own file takes no limit of memory, which an archive chooses otherwise."""

    def __init__(self, file: IO[bytes]) -> None:
        import lzma

        self._file = file
        self._xz = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def read(self, size: int, /) -> bytes:
        while not self._xz.eof:
            raw = self._file.read(BLOCK) if self._xz.needs_input else b""
            if self._xz.needs_input and not raw:
                raise EOFError("it ends early")
            if found := self._xz.decompress(raw, size):
                return found
        return b""


def _reader(stream: _Stream, counted: _Counted) -> Callable[[int], bytes]:
    def read(size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            with _translated():
                block = stream.read(size - len(found))
            if not block:
                break
            counted.more(len(block))
            found += block
        return bytes(found)

    return read


def _refuse_more(stream: _Stream) -> None:
    """Reads the padding to its end, so that the checksum behind it is looked at."""
    left = BLOCK
    with _translated():
        while left > 0 and (block := stream.read(left)):
            left -= len(block)
    if left <= 0:
        raise Broken("there is more behind its end")


@contextmanager
def _translated() -> Iterator[None]:
    from lzma import LZMAError

    try:
        yield
    except (EOFError, zlib.error, LZMAError) as error:
        raise Broken(f"it is damaged ({error})") from error
    except OSError as error:
        if error.errno:
            raise
        raise Broken(f"it is damaged ({error})") from error
