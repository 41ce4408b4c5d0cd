"""Paths as the index keeps them: a file system, and a path on it."""

import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from modelbay.files import Mount, mount_of, mounts

_LOOK_AGAIN: Final = 1.0
Spot = tuple[int, bytes]
"""A row of the table `volume`, and a path on it."""


class Volumes:
    """What is mounted where, looked at again after a second. Used under the index's lock."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._looked = float("-inf")
        self._mounts: tuple[Mount, ...] = ()
        self._folders: dict[str, tuple[Mount, bytes]] = {}
        self._points: dict[int, bytes] = {}
        self._ids: dict[str, int] = {}

    def look(self) -> None:
        """Takes notice of what was mounted or taken away since."""
        now = time.monotonic()
        if now - self._looked < _LOOK_AGAIN:
            return
        self._looked = now
        self._mounts = mounts()
        self._folders.clear()
        self._ids.clear()
        by_key: dict[str, list[bytes]] = {}
        for mount in self._mounts:
            by_key.setdefault(mount.key, []).append(os.fsencode(mount.point))
        self._points = {}
        for key, number, last in self._connection.execute("SELECT key, id, point FROM volume"):
            self._ids[key] = number
            points = by_key.get(key, [])
            if points:
                self._points[number] = last if last in points else points[-1]
            elif key == f"mount:{os.fsdecode(last)}" and os.path.ismount(last):
                self._points[number] = last

    def look_again(self) -> None:
        """Forgets what was read, some of which may not have been committed."""
        self._looked = float("-inf")

    def attached(self) -> list[int]:
        """The volumes that are mounted now."""
        self.look()
        return list(self._points)

    def find(self, path: Path) -> Spot | None:
        """Where `path` is kept, if anything was ever noted on its file system."""
        mount, below = self._located(path)
        number = self._ids.get(mount.key)
        return None if number is None else (number, below)

    def find_folder(self, folder: Path) -> Spot | None:
        """The same of a folder, which may be where a file system is mounted."""
        mount, below = self._folder(os.fspath(folder.absolute()))
        number = self._ids.get(mount.key)
        return None if number is None else (number, below)

    def spot(self, path: Path) -> Spot:
        """As `find` inside a transaction: a file system that is new gets its row."""
        return self._placed(*self._located(path))

    def spot_of_folder(self, folder: Path) -> Spot:
        """As `find_folder` inside a transaction."""
        return self._placed(*self._folder(os.fspath(folder.absolute())))

    def _placed(self, mount: Mount, below: bytes) -> Spot:
        number = self._ids.get(mount.key)
        if number is None or self._points.get(number) != os.fsencode(mount.point):
            number = self._noted(mount)
        return number, below

    def _noted(self, mount: Mount) -> int:
        point = os.fsencode(mount.point)
        (number,) = self._connection.execute(
            "INSERT INTO volume (key, point) VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET point = excluded.point RETURNING id",
            (mount.key, point),
        ).fetchone()
        self._ids[mount.key], self._points[number] = number, point
        return int(number)

    def path(self, volume: int, last: bytes, below: bytes) -> Path:
        """Where `below` is now; where it was `last` while its volume is not mounted."""
        return Path(os.fsdecode(os.path.join(self._points.get(volume, last), below)))  # noqa: PTH118 - bytes

    def _located(self, path: Path) -> tuple[Mount, bytes]:
        """Links in the folder's path are followed, one that is the file itself is not."""
        text = os.fspath(path if path.is_absolute() else path.absolute())
        folder, _, name = text.rpartition("/")
        mount, below = self._folder(folder or "/")
        return mount, below + b"/" + os.fsencode(name) if below else os.fsencode(name)

    def _folder(self, folder: str) -> tuple[Mount, bytes]:
        self.look()
        found = self._folders.get(folder)
        if found is None:
            real = Path(os.path.realpath(folder))
            mount = mount_of(real, self._mounts)
            below = os.fsencode(real.relative_to(mount.point))
            found = self._folders[folder] = mount, b"" if below == b"." else below
        return found
