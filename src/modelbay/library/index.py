"""The index: every file of the library on this host, known by content and by volume.

A cache of what lies on disk, in one SQLite file. The records beside the models
(`library/records.py`) are the truth that travels with a disk; the index adds what only one
host knows: files of other programs, and the sums by which a file is repaired. Losing it costs
hashing, never a model. A volume that is not mounted is detached, never forgotten.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

from modelbay.db import (
    Database,
    database_errors,
    is_broken,
    memory_database,
    open_database,
    put_aside,
    transaction,
)
from modelbay.digest import Digest, find
from modelbay.library.index_rows import IndexedFile, IndexedHome, IndexedModel
from modelbay.library.index_tables import (
    A_NAME,
    FILE,
    ITS_MODELS,
    MEMBERS,
    MODEL,
    ORPHANS,
    PUT_MEMBER,
    SCHEMA,
    files_of_rows,
    models_of_rows,
    name_of,
    put_files,
    put_model,
    signed,
)
from modelbay.library.index_volumes import Volumes

__all__ = ["Index", "IndexedFile", "IndexedHome", "IndexedModel"]

_FIRST_PAGE: Final = 50
_PAGE: Final = 1000
_MOST_HOLDERS: Final = 64
_SUM: Final = 32
_REBUILT: Final = 0x6D626179
"""In the file's header once the records on disk were read to their end."""


class Index:
    """One open index. Its methods may be called from any thread, and raise DiskError."""

    def __init__(self, file: Path | None, database: Database) -> None:
        self._file = file
        self._connection = database.connection
        self._lock = threading.RLock()
        self._volumes = Volumes(database.connection)
        (mark,) = self._connection.execute("PRAGMA application_id").fetchone()
        self.fresh = mark != _REBUILT
        """Nobody has read the records on disk into it yet."""
        self.notes = database.notes
        """Sentences for the person: that a damaged one was put aside."""

    @classmethod
    def open(cls, file: Path) -> Self:
        """The index in `file`; made when absent or damaged. Raises DiskError, FormatError."""
        return cls(file, open_database(file, SCHEMA))

    @classmethod
    def in_memory(cls) -> Self:
        """An empty one that writes nothing to disk."""
        return cls(None, memory_database(SCHEMA))

    def note(self, model: IndexedModel, files: Iterable[IndexedFile]) -> None:
        """`files` are there and belong to `model`; what else is known of it stays. A digest
        that was observed is not replaced by one that somebody only claims.
        """
        self.note_all([(model, files)])

    def note_all(self, several: Iterable[tuple[IndexedModel, Iterable[IndexedFile]]]) -> None:
        """The same of many models, in one transaction."""
        rows = [(model, list(files)) for model, files in several]
        with self._writing():
            for model, files in rows:
                key = put_model(self._connection, self._volumes, model, files)
                numbers = put_files(self._connection, self._volumes, files)
                names = map(name_of, files)
                members = [(key, *member) for member in zip(names, numbers, strict=True)]
                self._connection.executemany(PUT_MEMBER, members)

    def unlike(
        self, model: IndexedModel, files: Iterable[tuple[str, Path]]
    ) -> list[tuple[str, Path]]:
        """Of `files`, each a name in `model` and its path, those that are there and not as they
        were noted, or whose bytes nobody read.
        """
        with self._reading():
            known = {name: tuple(facts) for name, *facts in self._members(model)}
            return [
                (name, path)
                for name, path in files
                if (now := self._now(path)) and now != known.get(os.fsencode(name))
            ]

    def holds(self, model: IndexedModel) -> int:
        """How many files of `model` are noted with bytes that somebody read."""
        with self._reading():
            return sum(1 for row in self._members(model) if row[-1])

    def _members(self, model: IndexedModel) -> list[Any]:
        volume, root = self._volumes.find_folder(model.root) or (-1, b"")
        at = (volume, root, model.layout, model.ref, model.revision)
        return self._rows(MEMBERS, (*at, model.model, model.named))

    def _now(self, path: Path) -> tuple[int | bytes, ...]:
        """What a row of a file that is as it was would say; empty when it is gone."""
        try:
            # A method of Path takes longer than the call, and this runs for every file.
            status = os.lstat(path)
        except OSError:
            return ()
        spot = self._volumes.find(path) or (-1, b"")
        return (*spot, status.st_size, status.st_mtime_ns, signed(status.st_ino), 1)

    def saw(self, path: Path, digests: Sequence[Digest], *, placed: bool = False) -> None:
        """The bytes at `path` were read just now, and have these digests. Raises OSError."""
        file = IndexedFile.seen(path, digests, placed=placed, verified=time.time())
        with self._writing():
            put_files(self._connection, self._volumes, [file])

    def doubt(self, path: Path) -> None:
        """Forgets the digests of `path`: its bytes turned out to be others."""
        with self._writing():
            spot = self._volumes.find(path)
            if spot is not None:
                self._connection.execute(
                    "DELETE FROM digest WHERE file ="
                    " (SELECT id FROM file WHERE volume = ? AND path = ?)",
                    spot,
                )

    def models(self, like: str | None = None) -> Iterator[IndexedModel]:
        """All of them by ref, or those whose ref or id has `like` in it, case aside. Read
        page by page, so that the first come at once.
        """
        pattern = "%" if like is None else f"%{_escaped(like)}%"
        after, size = ("", 0), _FIRST_PAGE
        while True:
            page = self._rows(
                f"{MODEL} WHERE (m.ref, m.id) > (?, ?)"
                " AND (m.ref LIKE ? ESCAPE '\\' OR m.model LIKE ? ESCAPE '\\')"
                " ORDER BY m.ref, m.id LIMIT ?",
                (*after, pattern, pattern, size),
            )
            yield from models_of_rows(self._volumes, page)
            if len(page) < size:
                return
            after, size = (page[-1][0], page[-1][-1]), _PAGE

    def files_of(self, model: IndexedModel) -> Iterator[IndexedFile]:
        """The files of `model`, by name."""
        after = b""
        while True:
            page = self._rows(
                f"{FILE}, x.name FROM member x JOIN file f ON f.id = x.file"
                " JOIN volume v ON v.id = f.volume"
                " WHERE x.model = ? AND x.name > ? ORDER BY x.name LIMIT ?",
                (model.key, after, _PAGE),
            )
            yield from files_of_rows(self._volumes, page)
            if len(page) < _PAGE:
                return
            after = page[-1][-1]

    def at(self, path: Path) -> IndexedFile | None:
        """What was noted of `path`, which may be another file by now."""
        with self._reading():
            spot = self._volumes.find(path)
            if spot is None:
                return None
            found = self._rows(
                f"{FILE}, {A_NAME} FROM file f"
                " JOIN volume v ON v.id = f.volume WHERE f.volume = ? AND f.path = ?",
                spot,
            )
        return next(iter(files_of_rows(self._volumes, found)), None)

    def models_with(self, path: Path) -> list[IndexedModel]:
        """The models that `path` is a file of."""
        with self._reading():
            spot = self._volumes.find(path)
            if spot is None:
                return []
            found = self._rows(
                f"{MODEL} WHERE m.id IN {ITS_MODELS} ORDER BY m.ref, m.id",
                spot,
            )
        return models_of_rows(self._volumes, found)

    def names_of(self, file: IndexedFile) -> list[Path]:
        """Every path in the index that is the same inode as `file`, now."""
        found = self._rows(
            f"{FILE}, NULL FROM file f JOIN volume v ON v.id = f.volume"
            " WHERE v.key = ? AND f.inode = ? ORDER BY f.path",
            (file.volume, signed(file.inode)),
        )
        names = []
        for other in files_of_rows(self._volumes, found):
            with suppress(OSError):
                if other.path.lstat().st_ino == file.inode:
                    names.append(other.path)
        return names

    def holders(self, digests: Sequence[Digest]) -> list[IndexedFile]:
        """Files that are there, unchanged, and have one of `digests`: those whose bytes were
        read first. Where only the inode is another, the digests count as claimed.
        """
        with self._reading():
            attached = self._volumes.attached()
            found = [
                row
                for digest in digests
                for row in self._rows(
                    f"{FILE}, {A_NAME}"
                    " FROM digest w JOIN file f ON f.id = w.file JOIN volume v ON v.id = f.volume"
                    " WHERE w.value = ? AND w.algorithm = ?"
                    f" AND f.volume IN ({','.join('?' * len(attached))})"
                    " ORDER BY w.observed DESC, f.id LIMIT ?",
                    (bytes.fromhex(digest.hex), digest.algorithm, *attached, _MOST_HOLDERS),
                )
            ]
        there = [
            known
            for file in dict.fromkeys(files_of_rows(self._volumes, found))
            if (known := file.as_it_is()) is not None
        ]
        return sorted(there, key=lambda file: not _observed(file, digests))

    def keep_sums(self, path: Path, sums: Sequence[bytes]) -> None:
        """Keeps what `path`, just placed, is repaired by: sha256 of it up to each 16 MiB, the
        last of the whole. Raises OSError.
        """
        whole = Digest.sha256(sums[-1].hex(), observed=True)
        file = IndexedFile.seen(path, (whole,), placed=True, verified=time.time())
        with self._writing():
            put_files(self._connection, self._volumes, [file])
            if len(sums) > 1:
                self._connection.execute(
                    "INSERT OR REPLACE INTO sums (sha256, pieces) VALUES (?, ?)",
                    (sums[-1], b"".join(sums)),
                )

    def sums(self, path: Path) -> Sequence[bytes]:
        """The sums of `path`, while its size and time are unchanged; none when not known."""
        file = self.at(path)
        if file is None or file.as_it_is() is None:
            return ()
        sha256 = find(file.digests, "sha256")
        return self.sums_of(sha256) if sha256 is not None and sha256.observed else ()

    def sums_of(self, sha256: Digest) -> Sequence[bytes]:
        """The sums of any file of that content; none when not known."""
        found = self._rows("SELECT pieces FROM sums WHERE sha256 = ?", (bytes.fromhex(sha256.hex),))
        pieces: bytes = found[0][0] if found else b""
        return tuple(pieces[start : start + _SUM] for start in range(0, len(pieces), _SUM))

    def forget(self, paths: Iterable[Path]) -> None:
        """`paths` are no longer there, and models that have no other file neither."""
        with self._writing():
            spots = [spot for path in paths if (spot := self._volumes.find(path)) is not None]
            self._connection.executemany("DELETE FROM file WHERE volume = ? AND path = ?", spots)
            if spots:
                self._connection.execute(ORPHANS)

    def drop(self, model: IndexedModel) -> None:
        """Forgets `model`, and those of its files that belong to no other."""
        with self._writing():
            numbers = self._connection.execute(
                "SELECT file FROM member WHERE model = ?", (model.key,)
            ).fetchall()
            self._connection.execute("DELETE FROM model WHERE id = ?", (model.key,))
            self._connection.executemany(
                "DELETE FROM file WHERE id = ?1 AND NOT EXISTS"
                " (SELECT 1 FROM member WHERE file = ?1)",
                numbers,
            )

    def note_home(self, base: Path, layout: str, application: str | None) -> None:
        """`base` holds a `.modelbay`, and files lie below it as `layout` has it."""
        with self._writing():
            self._connection.execute(
                "INSERT OR REPLACE INTO home (volume, path, layout, application)"
                " VALUES (?, ?, ?, ?)",
                (*self._volumes.spot_of_folder(base), layout, application),
            )

    def homes(self) -> list[IndexedHome]:
        """Every folder that was ever noted as holding a `.modelbay`, by path."""
        with self._reading():
            attached = set(self._volumes.attached())
            found = self._rows(
                "SELECT h.volume, v.point, h.path, h.layout, h.application FROM home h"
                " JOIN volume v ON v.id = h.volume ORDER BY h.volume, h.path",
                (),
            )
        return [
            IndexedHome(
                self._volumes.path(volume, point, path), layout, application, volume in attached
            )
            for volume, point, path, layout, application in found
        ]

    def rebuild(self, homes: Iterable[IndexedHome]) -> None:
        """Notes again what the records in `homes` say and the disk confirms."""
        from modelbay.library.index_homes import recorded

        for home in homes:
            self.note_home(home.base, home.layout, home.application)
            for model, files in recorded(home):
                self.note(model, files)
        with self._writing():
            self._connection.execute(f"PRAGMA application_id = {_REBUILT}")
            self.fresh = False

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One thread at a time; a file that turns out to be damaged is put aside, so that the
        next run begins a new one.
        """
        file = self._file or Path(":memory:")
        with self._lock, database_errors(file):
            try:
                yield
            except sqlite3.Error as error:
                if self._file is not None and is_broken(error):
                    self._connection.close()
                    put_aside(self._file, SCHEMA)
                raise

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._reading():
            try:
                with transaction(self._connection):
                    yield
            except BaseException:
                self._volumes.look_again()
                raise

    def _rows(self, question: str, values: Sequence[Any]) -> list[Any]:
        with self._reading():
            return self._connection.execute(question, values).fetchall()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _observed(file: IndexedFile, digests: Sequence[Digest]) -> bool:
    return any(digest.observed for digest in file.digests if digest in digests)
