"""Where the lock of a provision file lies."""

import hashlib
import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from modelbay.bay.session import Session
from modelbay.files import disk_errors, make_dir, may_write, standing, write_atomic

ENDING: Final = ".lock.toml"


def lock_place(session: Session, *, path: Path | None = None, url: str | None = None) -> Path:
    """Where the lock of the provision file at `path` or `url` is written: beside the file, or,
    where that cannot be, below the workspace.
    """
    if path is not None:
        lock = beside(path)
        if may_write(standing(lock.parent)):
            return lock
    whole = url or os.path.realpath(path or "")
    name = Path(unquote(urlsplit(whole).path) if url else whole).name or "provision"
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name.removesuffix(".toml"))[:80].strip("-.")
    mark = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return _locks(session) / f"{plain or 'provision'}-{mark}{ENDING}"


def beside(path: Path) -> Path:
    """`foo.lock.toml` for `foo.toml`."""
    return path.with_name(path.name.removesuffix(".toml") + ENDING)


def provision_beside(lock: Path) -> Path | None:
    """`foo.toml` for `foo.lock.toml`, if it is there."""
    stem = lock.name.removesuffix(ENDING)
    path = lock.with_name(f"{stem}.toml")
    return path if stem != lock.name and path.is_file() else None


def lock_of_before(session: Session, *, path: Path | None, url: str | None) -> Path | None:
    """The lock that is there already: where one is written, else beside the provision file."""
    places = [lock_place(session, path=path, url=url), *([beside(path)] if path else [])]
    return next((place for place in places if place.exists()), None)


def write_lock(session: Session, place: Path, content: bytes) -> bool:
    """`content` as the lock at `place`, whole or not at all; False where it is that already.
    Raises DiskError.
    """
    with disk_errors(place):
        if place.exists() and place.read_bytes() == content:
            return False
        if place.parent == _locks(session):
            make_dir(session.workspace)
            make_dir(place.parent.parent, private=True)
            make_dir(place.parent)
        write_atomic(place, content)
    return True


def _locks(session: Session) -> Path:
    return session.workspace / ".modelbay" / "locks"
