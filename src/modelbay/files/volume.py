"""What the file system under a folder can do, tried rather than guessed."""

import fcntl
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from modelbay.files.durable import standing
from modelbay.files.links import FICLONE
from modelbay.text import clean


@dataclass(frozen=True, slots=True)
class Volume:
    """What the file system under a folder can do, tried with files of our own."""

    folder: Path
    free: int | None = None
    total: int | None = None
    writable: bool = False
    symlink: bool = False
    hardlink: bool = False
    reflink: bool = False
    flock: bool = False
    trouble: str = ""


def probe(folder: Path) -> Volume:
    """Tries links and locks in a temporary folder at `folder` or its nearest parent.

    Makes and removes that temporary folder, nothing else; never raises OSError.
    """
    here = standing(folder)
    found = Volume(folder)
    try:
        usage = shutil.disk_usage(here)
        found = replace(found, free=usage.free, total=usage.total)
        with tempfile.TemporaryDirectory(prefix=".modelbay-probe-", dir=here) as room:
            return _tried(found, Path(room))
    except OSError as error:
        return replace(found, trouble=clean(error.strerror or error))


def _tried(volume: Volume, room: Path) -> Volume:
    here = room / "here"
    here.write_bytes(b"modelbay")
    return replace(
        volume,
        writable=True,
        symlink=_works(lambda: (room / "symlink").symlink_to(here)),
        hardlink=_works(lambda: (room / "hardlink").hardlink_to(here)),
        reflink=_works(lambda: _clone(here, room / "reflink")),
        flock=_works(lambda: _lock(here)),
    )


def _works(attempt: Callable[[], object]) -> bool:
    with suppress(OSError):
        attempt()
        return True
    return False


def _clone(source: Path, target: Path) -> None:
    if sys.platform == "darwin":
        raise OSError("clonefile(2) has no door in the standard library")
    with source.open("rb") as old, target.open("wb") as new:
        fcntl.ioctl(new.fileno(), FICLONE, old.fileno())


def _lock(path: Path) -> None:
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
