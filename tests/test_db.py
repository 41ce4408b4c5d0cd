"""One SQLite file: made, shared, brought up to date, refused, and put aside when damaged."""

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from modelbay.db import Schema, database_errors, memory_database, open_database, transaction
from modelbay.errors import DiskError, FormatError, NoSpace, NotWritable

FIRST: Schema = (("CREATE TABLE fruit (name TEXT PRIMARY KEY)",),)
SECOND: Schema = (*FIRST, ("ALTER TABLE fruit ADD COLUMN colour TEXT",))
BROKEN: Schema = (*FIRST, ("ALTER TABLE fruit ADD COLUMN colour TEXT", "not a statement"))
SMALL_DISK = 1 << 20


def names(file: Path, schema: Schema = FIRST) -> list[str]:
    with closing(open_database(file, schema).connection) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM fruit ORDER BY name")]


def begun(file: Path, *fruit: str) -> None:
    with closing(open_database(file, FIRST).connection) as connection:
        connection.executemany("INSERT INTO fruit VALUES (?)", [(one,) for one in fruit])


def test_a_database_is_made_with_its_folder_and_found_again(tmp_path: Path):
    file = tmp_path / "state/host/library.db"

    first = open_database(file, FIRST)
    with closing(first.connection) as connection:
        connection.execute("INSERT INTO fruit VALUES ('apple')")
    second = open_database(file, FIRST)
    second.connection.close()

    assert (first.made, second.made) == (True, False)
    assert names(file) == ["apple"]


def test_readers_do_not_wait_for_a_writer(tmp_path: Path):
    begun(tmp_path / "a.db", "apple")
    writer = open_database(tmp_path / "a.db", FIRST).connection

    with closing(writer), transaction(writer):
        writer.execute("INSERT INTO fruit VALUES ('pear')")
        read = names(tmp_path / "a.db")

    assert read == ["apple"]


def test_what_a_transaction_did_not_end_is_not_there(tmp_path: Path):
    def stop(connection: sqlite3.Connection) -> None:
        with transaction(connection):
            connection.execute("INSERT INTO fruit VALUES ('apple')")
            raise KeyError

    connection = open_database(tmp_path / "a.db", FIRST).connection
    with closing(connection), pytest.raises(KeyError):
        stop(connection)

    assert names(tmp_path / "a.db") == []


def test_an_older_database_is_brought_up_after_a_copy(tmp_path: Path):
    begun(tmp_path / "a.db", "apple")

    with closing(open_database(tmp_path / "a.db", SECOND).connection) as connection:
        rows = connection.execute("SELECT name, colour FROM fruit").fetchall()

    assert rows == [("apple", None)]
    assert names(tmp_path / "a.db.version-1") == ["apple"]


def test_a_migration_that_fails_leaves_the_older_version(tmp_path: Path):
    begun(tmp_path / "a.db", "apple")

    with pytest.raises(DiskError):
        open_database(tmp_path / "a.db", BROKEN)

    assert names(tmp_path / "a.db") == ["apple"]


def test_an_older_program_refuses_a_newer_database_with_both_numbers(tmp_path: Path):
    open_database(tmp_path / "a.db", SECOND).connection.close()
    before = (tmp_path / "a.db").read_bytes()

    with pytest.raises(FormatError, match=r"version 2.*up to 1"):
        open_database(tmp_path / "a.db", FIRST)

    assert (tmp_path / "a.db").read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"not a database, " * 999, b"SQLite format 3\0" + b"\xff" * 9999]
)
def test_a_damaged_database_is_put_aside_said_and_made_anew(tmp_path: Path, content: bytes):
    (tmp_path / "a.db").write_bytes(content)
    (tmp_path / "a.db.broken-1").write_bytes(b"an earlier one")

    found = open_database(tmp_path / "a.db", FIRST)
    found.connection.close()

    assert found.made
    assert "a.db.broken-2" in found.notes[0]
    assert (tmp_path / "a.db.broken-2").read_bytes() == content
    assert (tmp_path / "a.db.broken-1").read_bytes() == b"an earlier one"
    assert names(tmp_path / "a.db") == []


def test_eight_processes_may_make_and_fill_one_database_at_once(tmp_path: Path):
    script = (
        "import sys; from pathlib import Path; from tests.test_db import begun;"
        "[begun(Path(sys.argv[1]), f'{sys.argv[2]}-{n}') for n in range(5)]"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "a.db"), str(number)])
        for number in range(8)
    ]

    assert [child.wait(60) for child in children] == [0] * 8
    assert len(names(tmp_path / "a.db")) == 40


def test_two_processes_that_find_one_damaged_put_it_aside_once(tmp_path: Path):
    (tmp_path / "a.db").write_bytes(b"not a database, " * 999)
    script = (
        "import sys; from pathlib import Path; from tests.test_db import begun;"
        "begun(Path(sys.argv[1]), sys.argv[2])"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "a.db"), str(number)])
        for number in range(4)
    ]

    assert [child.wait(60) for child in children] == [0] * 4
    assert names(tmp_path / "a.db") == ["0", "1", "2", "3"]
    assert len(list(tmp_path.glob("*.broken-*"))) == 1


def test_threads_take_turns_with_one_connection(tmp_path: Path):
    connection = open_database(tmp_path / "a.db", FIRST).connection
    turn = threading.Lock()

    def fill(number: int) -> None:
        for n in range(50):
            with turn, transaction(connection):
                connection.execute("INSERT INTO fruit VALUES (?)", (f"{number}-{n}",))

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    connection.close()

    assert len(names(tmp_path / "a.db")) == 200


def test_a_database_in_memory_touches_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    found = memory_database(FIRST)
    found.connection.execute("INSERT INTO fruit VALUES ('apple')")
    found.connection.close()

    assert found.made
    assert list(tmp_path.iterdir()) == []


def test_a_folder_where_the_file_should_be_is_a_refusal_that_names_it(tmp_path: Path):
    (tmp_path / "a.db").mkdir()

    with pytest.raises(NotWritable, match=r"a\.db"):
        open_database(tmp_path / "a.db", FIRST)


def test_a_database_that_is_full_says_so(tmp_path: Path):
    with closing(open_database(tmp_path / "a.db", FIRST).connection) as connection:
        connection.execute("PRAGMA max_page_count = 5")
        with pytest.raises(NoSpace, match="full"), database_errors(tmp_path / "a.db"):
            connection.execute("INSERT INTO fruit VALUES (?)", ("x" * 100_000,))


@pytest.mark.real
def test_a_full_disk_and_a_read_only_one_are_told_apart(tmp_path: Path):
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(disk)]
    subprocess.run(mount, check=True)
    try:
        begun(disk / "a.db", "apple")
        fill = disk / "fill"
        subprocess.run(["dd", "if=/dev/zero", f"of={fill}", "bs=4k"], check=False, stderr=-3)
        with pytest.raises(NoSpace):
            open_database(disk / "b.db", FIRST)
        fill.unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(NotWritable):
            open_database(disk / "c.db", FIRST)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert names(disk / "a.db") == ["apple"]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_sqlite_can_do_what_the_tables_need():
    assert sqlite3.sqlite_version_info >= (3, 35)
