"""Archives, honest and hostile: what is unpacked of them, and that nothing else is."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import random
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from modelbay.errors import IntegrityError, ModelbayError, PolicyError, UnsafeName, WrongBytes
from modelbay.library.unpack import Limits, unpack

FILES = {"config.json": b"{}", "unet/model.safetensors": bytes(3 << 20), "a/b/ü.txt": b"x" * 700}


def tarred(files: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        folder = tarfile.TarInfo("./")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size, entry.mode = len(content), 0o4755
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def with_entry(change: Callable[[tarfile.TarInfo], None], name: str = "bad") -> bytes:
    """A tar with one ordinary file and one entry as `change` makes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        good = tarfile.TarInfo("good.txt")
        good.size = 4
        tar.addfile(good, io.BytesIO(b"good"))
        entry = tarfile.TarInfo(name)
        change(entry)
        tar.addfile(entry, io.BytesIO(bytes(entry.size)))
    return out.getvalue()


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.mkdir("empty") if hasattr(archive, "mkdir") else None
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def zipped_as(mode: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        entry = zipfile.ZipInfo("link")
        entry.create_system, entry.external_attr = 3, mode << 16
        archive.writestr(entry, "/etc/passwd")
    return out.getvalue()


class Yard:
    """A folder to unpack into, with nothing in it and something beside it."""

    def __init__(self, folder: Path) -> None:
        self.into = folder / "into"
        self.into.mkdir()
        self.archive = folder / "archive"
        self.beside = {self.into, self.archive}
        self.folder = folder

    def unpack(self, content: bytes, limits: Limits | None = None) -> dict[str, bytes]:
        self.archive.write_bytes(content)
        files = unpack(self.archive, "model.tar.gz", self.into, limits)
        found = {str(file.path): (self.into / file.path).read_bytes() for file in files}
        assert all(file.size == len(found[file.path]) for file in files)
        return found

    def refuses(self, content: bytes, limits: Limits | None = None) -> ModelbayError:
        with pytest.raises(ModelbayError) as raised:
            self.unpack(content, limits)
        assert set(self.folder.iterdir()) == self.beside
        assert not any(path.is_symlink() for path in self.into.rglob("*"))
        assert raised.value.hint
        return raised.value


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


LONG = "/".join(f"{'long-folder-name' * 4}{number}" for number in range(4)) + "/model.bin"


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize(
    "packed",
    [bytes, gzip.compress, bz2.compress, lzma.compress, lambda raw: gzip.compress(raw[:600]) + gzip.compress(raw[600:])],
    ids=["tar", "gz", "bz2", "xz", "gz-in-two"],
)  # fmt: skip
def test_tars_of_every_kind_are_unpacked(yard, form, packed):
    files = {**FILES, **({} if form == tarfile.USTAR_FORMAT else {LONG: b"deep"})}

    assert yard.unpack(packed(tarred(files, form))) == files


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_zips_of_every_kind_are_unpacked(yard, method):
    assert yard.unpack(zipped(FILES, method)) == FILES


def test_no_mode_of_the_archive_comes_along(yard):
    yard.unpack(tarred(FILES))

    umask = os.umask(0)
    os.umask(umask)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in yard.into.rglob("*") if path.is_file()}
    assert modes == {0o666 & ~umask}


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
)
def test_links_and_devices_in_a_tar_are_refused(yard, kind):
    def change(entry: tarfile.TarInfo) -> None:
        entry.type, entry.linkname = kind, "/etc/passwd"

    assert isinstance(yard.refuses(with_entry(change)), UnsafeName)


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_are_refused(yard, mode):
    assert isinstance(yard.refuses(zipped_as(mode | 0o644)), UnsafeName)


NAMES = [
    "../up", "/abs", "a/../../up", "a\\..\\up", "C:\\x", "con.txt", "x\u202ey", "a//b", "a/./b",
    ".modelbay/parts/x", "x.", "\x1b[31mred", "/".join("d" * 40),
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_that_may_not_reach_a_disk_are_refused_in_a_tar(yard, name):
    assert isinstance(yard.refuses(with_entry(lambda entry: None, name)), UnsafeName)


@pytest.mark.parametrize("name", [*NAMES, "x\0y"])
def test_names_that_may_not_reach_a_disk_are_refused_in_a_zip(yard, name):
    safe = "N" * len(name.encode())
    content = zipped({safe: b"x"}).replace(safe.encode(), name.encode())
    # Names beyond ASCII need their flag, in both headers.
    if not name.isascii():
        content = zipped({name: b"x"})

    assert isinstance(yard.refuses(content), IntegrityError)


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("Model", "model")])
def test_two_entries_that_would_be_one_file_are_refused(yard, names):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))

    assert isinstance(yard.refuses(out.getvalue()), UnsafeName)


@pytest.mark.parametrize("packed", [gzip.compress, bz2.compress, lzma.compress])
def test_a_bomb_is_refused_by_its_ratio(yard, packed):
    content = packed(tarred({"zeros": bytes(24 << 20)}))

    error = yard.refuses(content, Limits(free=1 << 20))

    assert isinstance(error, PolicyError)
    assert sum(path.stat().st_size for path in yard.into.rglob("*")) < 12 << 20


def test_a_bomb_in_a_zip_is_refused_by_its_ratio(yard):
    error = yard.refuses(zipped({"zeros": bytes(24 << 20)}), Limits(free=1 << 20))

    assert isinstance(error, PolicyError)


def test_more_bytes_or_entries_than_allowed_are_refused(yard):
    many = {f"f{number}": b"x" for number in range(20)}

    assert isinstance(yard.refuses(tarred(many), Limits(entries=19)), PolicyError)


def test_more_bytes_than_allowed_are_refused(yard):
    assert isinstance(yard.refuses(tarred({"f": bytes(9000)}), Limits(bytes=8000)), PolicyError)


def test_entries_that_share_their_bytes_are_refused(yard):
    plain = zipped({"a": b"x" * 999, "b": b"y" * 999}, zipfile.ZIP_STORED)
    second = plain.index(b"PK\x01\x02", plain.index(b"PK\x01\x02") + 4)
    # The second name leads to the first one's bytes.
    content = bytearray(plain)
    content[second + 42 : second + 46] = struct.pack("<I", plain.index(b"PK\x03\x04"))

    assert isinstance(yard.refuses(bytes(content)), WrongBytes)


def test_a_directory_of_claimed_gigabytes_is_not_read(yard):
    content = bytearray(zipped({"a": b"x"}))
    end = content.rindex(b"PK\x05\x06")
    content[end + 12 : end + 16] = struct.pack("<I", 0xFFFFFF00)

    assert isinstance(yard.refuses(bytes(content)), WrongBytes)


def test_a_header_of_claimed_gigabytes_is_not_read(yard):
    def change(entry: tarfile.TarInfo) -> None:
        entry.type = tarfile.GNUTYPE_LONGNAME

    content = bytearray(with_entry(change))
    content[1024 + 124 : 1024 + 136] = b"77777777777\0"
    content[1024 + 148 : 1024 + 156] = b" " * 8
    total = sum(content[1024 : 1024 + 512])
    content[1024 + 148 : 1024 + 156] = b"%06o\0 " % total

    assert "header of more than 1 MiB" in str(yard.refuses(bytes(content)))


@pytest.mark.parametrize("packed", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_an_archive_that_is_cut_off_is_damaged(yard, packed):
    content = packed(tarred({"f": random.Random(1).randbytes(90_000)}))

    assert isinstance(yard.refuses(content[: len(content) // 2]), WrongBytes)


def test_a_zip_that_is_cut_off_is_damaged(yard):
    content = zipped({"f": random.Random(1).randbytes(90_000)})

    assert isinstance(yard.refuses(content[:-40]), WrongBytes)


@pytest.mark.parametrize("packed", [gzip.compress, zipped])
def test_one_changed_byte_is_damage(yard, packed):
    body = random.Random(2).randbytes(90_000)
    content = bytearray(zipped({"f": body}) if packed is zipped else packed(tarred({"f": body})))
    content[40_000] ^= 1

    assert isinstance(yard.refuses(bytes(content)), WrongBytes)


@pytest.mark.parametrize(
    "content", [b"", b"GGUF" + bytes(900), b"7z\xbc\xaf\x27\x1c" + bytes(900), gzip.compress(b"x" * 2000, mtime=0)]
)  # fmt: skip
def test_what_is_no_archive_is_said_to_be_none(yard, content):
    assert "tar.gz" in str(yard.refuses(content))


def test_an_archive_without_files_is_refused(yard):
    assert "no file in it" in str(yard.refuses(tarred({})))


def test_an_archive_in_an_archive_stays_one(yard):
    inner = tarred(FILES)

    assert yard.unpack(tarred({"inner.tar": inner})) == {"inner.tar": inner}


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_damaged_nothing_lands_outside(yard, seed):
    chance = random.Random(seed)
    content = bytearray(zipped(FILES) if seed % 2 else tarred({"a/b": b"x" * 900, "c": b"y"}))
    for _ in range(chance.randint(1, 30)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    with contextlib.suppress(ModelbayError):
        yard.unpack(bytes(content), Limits(bytes=64 << 20, entries=100))

    assert set(yard.folder.iterdir()) == yard.beside
