"""One SQLite file: opened for several threads and processes, brought up to date, or put aside.

What lies in such a file can be made again, so a damaged one never stops anybody for long:
it is renamed to `<name>.broken-<n>`, said, and a new one is begun.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelbay.errors import DiskError, FormatError, NoSpace, NotWritable
from modelbay.files import LockUnsupported, disk_errors, locked, make_dir, mount_of, mounts
from modelbay.text import clean

BUSY_SECONDS: Final = 15.0
_BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_CLOSED: Final = frozenset(
    {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
)
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_COMPANIONS: Final = ("", "-wal", "-shm", "-journal")
Schema = Sequence[Sequence[str]]
"""The statements of each version in turn: the first makes the tables, every other one
changes what the one before it left. How many there are is the version's number.
"""


@dataclass(frozen=True, slots=True)
class Database:
    """An open one. `made` says that it was begun just now, and holds nothing yet; `notes` are
    sentences for the person.
    """

    connection: sqlite3.Connection
    made: bool
    notes: tuple[str, ...] = ()


def open_database(file: Path, schema: Schema) -> Database:
    """The database at `file`, at the version of `schema`; made when absent or damaged.

    Its connection commits each statement by itself, and may be used by one thread after
    another. Raises FormatError where a newer program wrote it, NoSpace, NotWritable, DiskError.
    """
    make_dir(file.parent)
    notes: tuple[str, ...] = ()
    with database_errors(file):
        try:
            connection, made = _opened(file, schema)
        except sqlite3.DatabaseError as error:
            if not is_broken(error):
                raise
            aside = put_aside(file, schema)
            if aside is not None:
                notes = (f"{clean(file)} was damaged; it lies in {clean(aside.name)} now",)
            connection, made = _opened(file, schema)
    return Database(connection, made, notes)


def memory_database(schema: Schema) -> Database:
    """One that lives and dies with this process, and touches no disk."""
    connection = _connected(":memory:")
    return Database(connection, _bring_up(connection, None, schema))


@contextlib.contextmanager
def database_errors(file: Path) -> Iterator[None]:
    """Turns SQLite's errors into those of ours, which name `file` and the next step."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translated(error, file) from error


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Everything in the block or nothing of it; other processes wait. Raises sqlite3.Error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def is_broken(error: BaseException) -> bool:
    """Whether `error` says that a file is no database, or a damaged one."""
    return isinstance(error, sqlite3.Error) and _code(error) in _BROKEN


def put_aside(file: Path, schema: Schema) -> Path | None:
    """Renames the damaged `file`, and gives its new name; None where another process did it
    meanwhile. Raises DiskError.
    """
    with contextlib.ExitStack() as stack:
        lock = file.with_name(f"{file.name}.lock")
        with contextlib.suppress(LockUnsupported):
            stack.enter_context(locked(lock, pause=time.sleep, tell=_nobody, remove=True))
        if _is_sound(file, schema):
            return None
        number = 1
        while (aside := file.with_name(f"{file.name}.broken-{number}")).exists():
            number += 1
        with disk_errors(file):
            for companion in reversed(_COMPANIONS):
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{file}{companion}").rename(f"{aside}{companion}")
        return aside


def _nobody(_: str) -> None:
    """Whoever puts the same file aside takes no time worth a word."""


def _is_sound(file: Path, schema: Schema) -> bool:
    try:
        connection, _ = _opened(file, schema)
        with contextlib.closing(connection):
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            return bool(said == "ok")
    except sqlite3.DatabaseError as error:
        if not is_broken(error):
            raise
        return False


def _opened(file: Path, schema: Schema) -> tuple[sqlite3.Connection, bool]:
    connection = _connected(file)
    try:
        _choose_journal(connection, file)
        return connection, _bring_up(connection, file, schema)
    except BaseException:
        connection.close()
        raise


def _connected(file: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _choose_journal(connection: sqlite3.Connection, file: Path) -> None:
    """WAL, in which readers and a writer do not wait for each other, where its shared memory
    is shared; else the journal that every file system can do.
    """
    remote = mount_of(file.parent.resolve(), mounts()).is_remote
    wanted = "delete" if remote else "wal"
    (now,) = connection.execute("PRAGMA journal_mode").fetchone()
    if now != wanted:
        # Somebody else is at it: the mode that there is serves as well, only slower.
        with contextlib.suppress(sqlite3.OperationalError):
            connection.execute(f"PRAGMA journal_mode = {wanted}")
    connection.execute("PRAGMA synchronous = NORMAL")


def _bring_up(connection: sqlite3.Connection, file: Path | None, schema: Schema) -> bool:
    """Brings the tables to the version of `schema`. Gives whether there were none before."""
    if _version(connection, file, schema) == len(schema):
        return False
    copied = _copied(connection, file) if file is not None else None
    with transaction(connection):
        before = _version(connection, file, schema)
        for statements in schema[before:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(schema)}")
    if copied is not None and before == len(schema):
        copied.unlink(missing_ok=True)
    return before == 0


def _version(connection: sqlite3.Connection, file: Path | None, schema: Schema) -> int:
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found > len(schema):
        raise FormatError(
            f"{clean(file)} is of version {found}, written by a newer modelbay; this one reads "
            f"versions up to {len(schema)}",
            hint="update modelbay, or name another folder with MODELBAY_STATE_DIR",
        )
    return found


def _copied(connection: sqlite3.Connection, file: Path) -> Path | None:
    """A copy of an older version, to go back to; None where there is nothing to copy."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if not version:
        return None
    copy = file.with_name(f"{file.name}.version-{version}")
    copy.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(copy)) as target:
        connection.backup(target)
    return copy


def _code(error: sqlite3.Error) -> int:
    """The primary result code (sqlite.org/rescode.html); 0 where SQLite gave none."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _translated(error: sqlite3.Error, file: Path) -> DiskError:
    shown, code = clean(file), _code(error)
    if code == sqlite3.SQLITE_FULL:
        return NoSpace(
            f"{shown} could not be written: the file system is full",
            hint="free some room (`df -h`, `df -i`) and run the same command again",
        )
    if code in _CLOSED:
        return NotWritable(
            f"{shown} could not be opened for writing: {clean(error)}",
            hint="make its folder writable, or name another with MODELBAY_STATE_DIR",
        )
    if code in _BUSY:
        return DiskError(
            f"{shown} has been held by another process for {BUSY_SECONDS:.0f} s",
            hint="let that modelbay finish (`ps`), then run the same command again",
        )
    if code in _BROKEN:
        return DiskError(
            f"{shown} is damaged: {clean(error)}",
            hint="run the same command again: it is put aside and made anew",
        )
    return DiskError(
        f"{shown}: {clean(error)}",
        hint="check the disk (`dmesg`), then run the same command again",
    )
