"""The tables of the index, and how values get into them and out again.

Everything here runs under the lock of `Index`, what writes inside a transaction of it.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from modelbay.digest import Digest
from modelbay.library.index_rows import IndexedFile, IndexedModel
from modelbay.library.index_volumes import Volumes

_VOLUME: Final = """CREATE TABLE volume (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, point BLOB NOT NULL
)"""
_FILE: Final = """CREATE TABLE file (
    id INTEGER PRIMARY KEY, volume INTEGER NOT NULL REFERENCES volume, path BLOB NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL,
    placed INTEGER NOT NULL, verified REAL,
    UNIQUE (volume, path)
)"""
_DIGEST: Final = """CREATE TABLE digest (
    file INTEGER NOT NULL REFERENCES file ON DELETE CASCADE,
    algorithm TEXT NOT NULL, value BLOB NOT NULL, observed INTEGER NOT NULL,
    PRIMARY KEY (file, algorithm)
) WITHOUT ROWID"""
# Other bytes have other digests, whoever changed them.
_CHANGED: Final = """CREATE TRIGGER file_changed AFTER UPDATE ON file
WHEN old.size <> new.size OR old.mtime_ns <> new.mtime_ns
BEGIN DELETE FROM digest WHERE file = new.id; END"""
# Another inode of the same size and time is most often the same file on another mount: worth
# reading again before anything relies on it.
_MOVED: Final = """CREATE TRIGGER file_moved AFTER UPDATE ON file
WHEN old.inode <> new.inode
BEGIN UPDATE digest SET observed = 0 WHERE file = new.id; END"""
_MODEL: Final = """CREATE TABLE model (
    id INTEGER PRIMARY KEY, ref TEXT NOT NULL, revision TEXT NOT NULL, layout TEXT NOT NULL,
    model TEXT NOT NULL, licence TEXT, source TEXT NOT NULL,
    volume INTEGER NOT NULL REFERENCES volume, root BLOB NOT NULL, slot TEXT NOT NULL,
    UNIQUE (volume, root, layout, slot, model)
)"""
_MEMBER: Final = """CREATE TABLE member (
    model INTEGER NOT NULL REFERENCES model ON DELETE CASCADE, name BLOB NOT NULL,
    file INTEGER NOT NULL REFERENCES file ON DELETE CASCADE,
    PRIMARY KEY (model, name)
) WITHOUT ROWID"""
_SUMS: Final = """CREATE TABLE sums (
    sha256 BLOB PRIMARY KEY, pieces BLOB NOT NULL
) WITHOUT ROWID"""
_HOME: Final = """CREATE TABLE home (
    volume INTEGER NOT NULL REFERENCES volume, path BLOB NOT NULL, layout TEXT NOT NULL,
    application TEXT,
    PRIMARY KEY (volume, path)
) WITHOUT ROWID"""
SCHEMA: Final = (
    (
        _VOLUME,
        _FILE,
        "CREATE INDEX file_inode ON file (volume, inode)",
        _DIGEST,
        "CREATE INDEX digest_value ON digest (value, algorithm)",
        _CHANGED,
        _MOVED,
        _MODEL,
        "CREATE INDEX model_ref ON model (ref, id)",
        _MEMBER,
        "CREATE INDEX member_file ON member (file)",
        _SUMS,
        _HOME,
    ),
)
_SIDE_BY_SIDE: Final = frozenset({"hf-cache"})
"""Layouts that keep several revisions of a model in one folder."""
_INODES: Final = 1 << 64
FILE: Final = (
    "SELECT f.volume, v.point, f.path, f.size, f.mtime_ns, f.inode, f.placed, f.verified, v.key,"
    " (SELECT group_concat(d.algorithm || ' ' || lower(hex(d.value)) || ' ' || d.observed)"
    " FROM digest d WHERE d.file = f.id)"
)
MODEL: Final = (
    "SELECT m.ref, m.revision, m.layout, m.volume, v.point, m.root, m.model, m.licence, m.source,"
    " (SELECT count(*) FROM member x WHERE x.model = m.id),"
    " (SELECT sum(size) FROM file WHERE id IN (SELECT file FROM member x WHERE x.model = m.id)),"
    " m.id FROM model m JOIN volume v ON v.id = m.volume"
)
A_NAME: Final = "(SELECT name FROM member WHERE file = f.id LIMIT 1)"
"""What a file is called in one of the models that it belongs to."""
ITS_MODELS: Final = (
    "(SELECT x.model FROM member x JOIN file f ON f.id = x.file WHERE f.volume = ? AND f.path = ?)"
)
MEMBERS: Final = (
    "SELECT x.name, f.volume, f.path, f.size, f.mtime_ns, f.inode,"
    " EXISTS (SELECT 1 FROM digest WHERE file = f.id AND observed = 1)"
    " FROM model m JOIN member x ON x.model = m.id JOIN file f ON f.id = x.file"
    " WHERE m.volume = ? AND m.root = ? AND m.layout = ? AND m.ref = ? AND m.revision = ?"
    " AND (m.model = ? OR NOT ?)"
)
_PUT_FILE: Final = (
    "INSERT INTO file AS old (volume, path, size, mtime_ns, inode, placed, verified)"
    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (volume, path) DO UPDATE SET"
    " placed = CASE WHEN old.size = excluded.size AND old.mtime_ns = excluded.mtime_ns"
    " THEN max(old.placed, excluded.placed) ELSE excluded.placed END,"
    " verified = CASE WHEN old.size = excluded.size AND old.mtime_ns = excluded.mtime_ns"
    " AND old.inode = excluded.inode"
    " THEN coalesce(max(old.verified, excluded.verified), old.verified, excluded.verified)"
    " ELSE excluded.verified END,"
    " size = excluded.size, mtime_ns = excluded.mtime_ns, inode = excluded.inode RETURNING id"
)
_PUT_DIGEST: Final = (
    "INSERT INTO digest AS old (file, algorithm, value, observed) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (file, algorithm) DO UPDATE SET value = excluded.value,"
    " observed = excluded.observed WHERE excluded.observed >= old.observed"
)
PUT_MEMBER: Final = (
    "INSERT INTO member (model, name, file) VALUES (?, ?, ?)"
    " ON CONFLICT (model, name) DO UPDATE SET file = excluded.file"
)
ORPHANS: Final = "DELETE FROM model WHERE id NOT IN (SELECT model FROM member)"


def put_files(
    connection: sqlite3.Connection, volumes: Volumes, files: Sequence[IndexedFile]
) -> list[int]:
    """The rows of `files`, with what they add to what was known; their numbers."""
    numbers: list[int] = []
    digests: list[tuple[int, str, bytes, bool]] = []
    for file in files:
        volume, path = volumes.spot(file.path)
        (number,) = connection.execute(
            _PUT_FILE,
            (
                *(volume, path, file.size, file.mtime_ns),
                *(signed(file.inode), file.placed, file.verified),
            ),
        ).fetchone()
        numbers.append(number)
        for digest in file.digests:
            value = bytes.fromhex(digest.hex)
            digests.append((number, digest.algorithm, value, digest.observed))
    connection.executemany(_PUT_DIGEST, digests)
    return numbers


def put_model(
    connection: sqlite3.Connection,
    volumes: Volumes,
    model: IndexedModel,
    files: Sequence[IndexedFile],
) -> int:
    """The row of `model`, to which `files` belong; its number."""
    volume, root = volumes.spot_of_folder(model.root)
    slot = model.revision if model.layout in _SIDE_BY_SIDE else ""
    known = _same_model(connection, (volume, root, model.layout, slot), model, files)
    if known is None:
        (number,) = connection.execute(
            "INSERT INTO model (ref, revision, layout, model, licence, source, volume, root, slot)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (
                *(model.ref, model.revision, model.layout, model.model, model.licence),
                *(model.source, volume, root, slot),
            ),
        ).fetchone()
        return int(number)
    number, name = known
    connection.execute(
        "UPDATE model SET ref = ?, revision = ?, model = ?, licence = coalesce(?, licence),"
        " source = ? WHERE id = ?",
        (model.ref, model.revision, name, model.licence, model.source, number),
    )
    return int(number)


def _same_model(
    connection: sqlite3.Connection,
    place: tuple[int, bytes, str, str],
    model: IndexedModel,
    files: Sequence[IndexedFile],
) -> tuple[int, str] | None:
    """The row that `model` is, with the name it keeps. A lock's name takes the place of a
    bare ref; a ref whose files all belong to a model of a lock is that one.
    """
    rows = connection.execute(
        "SELECT id, model FROM model WHERE volume = ? AND root = ? AND layout = ?"
        " AND slot = ? AND (model = ? OR ref = ?) ORDER BY model <> ?",
        (*place, model.model, model.ref, model.model),
    ).fetchall()
    names = {name_of(file) for file in files}
    for number, name in rows:
        if name == model.model or (model.named and "://" in name):
            return number, model.model
        if not model.named and "://" not in name and names <= _names(connection, number):
            return number, name
    return None


def _names(connection: sqlite3.Connection, model: int) -> set[bytes]:
    found = connection.execute("SELECT name FROM member WHERE model = ?", (model,))
    return {name for (name,) in found}


def name_of(file: IndexedFile) -> bytes:
    """What a file is called in its model."""
    return os.fsencode(file.name or file.path.name)


def models_of_rows(volumes: Volumes, rows: Iterable[Any]) -> list[IndexedModel]:
    """What the question `MODEL` was answered with."""
    attached = set(volumes.attached())
    models = []
    for row in rows:
        ref, revision, layout, volume, point, root, model, licence, source, files, size, key = row
        where = volumes.path(volume, point, root)
        models.append(
            IndexedModel(
                ref=ref,
                revision=revision,
                layout=layout,
                root=where,
                model=model,
                licence=licence,
                source=source,
                files=files,
                size=size or 0,
                attached=volume in attached,
                key=key,
            )
        )
    return models


def files_of_rows(volumes: Volumes, rows: Iterable[Any]) -> Iterator[IndexedFile]:
    """What the question `FILE`, and the name after it, was answered with."""
    for row in rows:
        volume, point, path, size, mtime_ns, inode, placed, verified, key, digests, name = row
        yield IndexedFile(
            volumes.path(volume, point, path),
            size,
            mtime_ns,
            inode % _INODES,
            _digests(digests),
            bool(placed),
            verified,
            os.fsdecode(name or b""),
            key,
        )


def _digests(text: str | None) -> tuple[Digest, ...]:
    several = [one.split(" ") for one in text.split(",")] if text else []
    return tuple(
        Digest(name, value, observed == "1")  # type: ignore[arg-type]
        for name, value, observed in several
    )


def signed(inode: int) -> int:
    """SQLite's integers have a sign, those of some file systems use all 64 bits."""
    return inode - _INODES if inode >= _INODES // 2 else inode
