"""What the file-system floor promises: whole names, links not followed, locks, hashes."""

import contextlib
import errno
import fcntl
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbay.digest import Digest
from modelbay.errors import DiskError, Interrupted, TargetTaken
from modelbay.files import (
    LockUnsupported,
    clone,
    folder_below,
    hash_file,
    locked,
    point,
    probe,
    publish_new,
    write_atomic,
)

CONTENT = bytes(range(256)) * 12_289
MEMORY = Path("/dev/shm")


def quiet(_: object) -> None:
    return


@contextlib.contextmanager
def locked_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the flock on `path` until its input ends."""
    script = (
        "import fcntl, os, sys; d = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT);"
        "fcntl.flock(d, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "held\n"
        yield child
    finally:
        child.stdin.close()
        child.stdout.close()
        child.wait(10)


def test_a_file_is_hashed_in_all_asked_ways_by_one_reading(tmp_path: Path):
    path = tmp_path / "weights"
    path.write_bytes(CONTENT)
    read: list[int] = []

    found = hash_file(path, ("sha256", "git-sha1", "md5", "blake3"), tick=read.append)

    assert found[:3] == (
        Digest("sha256", hashlib.sha256(CONTENT).hexdigest()),
        Digest("git-sha1", hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()),
        Digest("md5", hashlib.md5(CONTENT).hexdigest()),
    )
    assert found[3].algorithm == "blake3"
    assert all(digest.observed for digest in found)
    assert sum(read) == len(CONTENT)
    assert max(read) <= 1 << 20


def test_an_empty_file_has_the_digests_of_nothing(tmp_path: Path):
    (tmp_path / "empty").touch()

    found = hash_file(tmp_path / "empty")

    assert [digest.hex for digest in found] == [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
    ]


def test_hashing_stops_when_its_tick_raises(tmp_path: Path):
    (tmp_path / "weights").write_bytes(CONTENT)
    heard: list[int] = []

    def tick(count: int) -> None:
        heard.append(count)
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        hash_file(tmp_path / "weights", tick=tick)

    assert len(heard) == 1


def test_a_file_that_grows_while_it_is_hashed_gives_no_digest(tmp_path: Path):
    path = tmp_path / "weights"
    path.write_bytes(CONTENT)

    def grow(_: int) -> None:
        if path.stat().st_size == len(CONTENT):
            with path.open("ab") as stream:
                stream.write(b"more")

    with pytest.raises(DiskError, match="changed while it was read"):
        hash_file(path, tick=grow)


def test_hashing_follows_no_link_unless_asked(tmp_path: Path):
    (tmp_path / "weights").write_bytes(CONTENT)
    (tmp_path / "link").symlink_to("weights")

    with pytest.raises(DiskError):
        hash_file(tmp_path / "link")
    assert hash_file(tmp_path / "link", follow=True) == hash_file(tmp_path / "weights")


def test_a_link_on_the_way_is_refused_by_name(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "sub").symlink_to(tmp_path / "elsewhere")

    with (
        pytest.raises(TargetTaken, match=r"root/sub is a link to .*elsewhere that modelbay"),
        folder_below(tmp_path / "root", ("sub", "deeper"), make=True),
    ):
        pass

    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_root_itself_may_be_a_link(tmp_path: Path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "models").symlink_to("disk")

    with folder_below(tmp_path / "models", ("a", "b"), make=True):
        pass

    assert (tmp_path / "disk/a/b").is_dir()


def test_a_new_name_never_replaces_one_that_came_meanwhile(tmp_path: Path):
    (tmp_path / "part").write_bytes(b"ours")
    (tmp_path / "final").write_bytes(b"theirs")

    with folder_below(tmp_path, ()) as folder, pytest.raises(FileExistsError):
        publish_new(tmp_path / "part", folder, "final")

    assert (tmp_path / "final").read_bytes() == b"theirs"
    assert (tmp_path / "part").read_bytes() == b"ours"


def test_a_new_name_does_not_go_through_a_link_that_has_it(tmp_path: Path):
    (tmp_path / "part").write_bytes(b"ours")
    (tmp_path / "final").symlink_to("nowhere")

    with folder_below(tmp_path, ()) as folder, pytest.raises(FileExistsError):
        publish_new(tmp_path / "part", folder, "final")

    assert not (tmp_path / "nowhere").exists()


def test_publishing_across_file_systems_says_so(tmp_path: Path):
    if not MEMORY.is_dir() or MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    (tmp_path / "part").write_bytes(b"ours")

    with folder_below(MEMORY, ()) as folder, pytest.raises(OSError, match="cross-device") as caught:
        publish_new(tmp_path / "part", folder, f"modelbay-test-{os.getpid()}")

    assert caught.value.errno == errno.EXDEV


def test_a_link_is_pointed_elsewhere_in_one_step(tmp_path: Path):
    (tmp_path / "link").symlink_to("old")

    with folder_below(tmp_path, ()) as folder:
        point(folder, "link", "new", via=tmp_path)

    assert (tmp_path / "link").readlink() == Path("new")
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_a_link_takes_no_name_of_a_file(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"theirs")

    with folder_below(tmp_path, ()) as folder, pytest.raises(FileExistsError):
        point(folder, "file", "new", via=tmp_path)

    assert (tmp_path / "file").read_bytes() == b"theirs"


def test_a_temporary_name_lies_in_the_folder_that_was_named_for_it(tmp_path: Path):
    (tmp_path / "refs").mkdir()

    write_atomic(tmp_path / "refs/main", b"commit", via=tmp_path)

    assert (tmp_path / "refs/main").read_bytes() == b"commit"
    assert [path.name for path in tmp_path.iterdir()] == ["refs"]
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "refs/main", b"other", via=tmp_path / "absent")


def test_a_clone_has_the_bytes_in_the_cheapest_way_there_is(tmp_path: Path):
    (tmp_path / "source").write_bytes(CONTENT)

    way = clone(tmp_path / "source", tmp_path / "new")

    assert (tmp_path / "new").read_bytes() == CONTENT
    assert way in {"reflink", "hard link"}
    assert (tmp_path / "new").samefile(tmp_path / "source") == (way == "hard link")


def test_a_clone_without_hard_links_is_a_file_of_its_own(tmp_path: Path):
    (tmp_path / "source").write_bytes(CONTENT)

    way = clone(tmp_path / "source", tmp_path / "new", ways=("reflink", "copy"))

    assert (tmp_path / "new").read_bytes() == CONTENT
    assert way in {"reflink", "copy"}
    assert not (tmp_path / "new").samefile(tmp_path / "source")


def test_a_stopped_copy_leaves_nothing(tmp_path: Path):
    if not MEMORY.is_dir() or MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    source = MEMORY / f"modelbay-test-{os.getpid()}"
    source.write_bytes(CONTENT)

    def stop(_: int) -> None:
        raise Interrupted("stopped")

    try:
        with pytest.raises(Interrupted):
            clone(source, tmp_path / "new", tick=stop)
    finally:
        source.unlink()

    assert list(tmp_path.iterdir()) == []


def test_a_clone_replaces_nothing(tmp_path: Path):
    (tmp_path / "source").write_bytes(CONTENT)
    (tmp_path / "new").write_bytes(b"theirs")

    with pytest.raises(FileExistsError):
        clone(tmp_path / "source", tmp_path / "new")

    assert (tmp_path / "new").read_bytes() == b"theirs"


def test_a_free_lock_is_had_without_waiting(tmp_path: Path):
    with locked(tmp_path / "lock", pause=quiet, tell=quiet) as waited:
        assert not waited
        assert (tmp_path / "lock").exists()

    assert (tmp_path / "lock").exists()


def test_a_lock_keeps_another_program_out_and_lets_it_in_again(tmp_path: Path):
    def free() -> bool:
        with (tmp_path / "lock").open("r+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    with locked(tmp_path / "lock", pause=quiet, tell=quiet):
        inside = free()

    assert (inside, free()) == (False, True)


def test_a_waiter_says_for_whom_and_gets_the_lock_afterwards(tmp_path: Path):
    words: list[str] = []
    with contextlib.ExitStack() as other, contextlib.ExitStack() as ours:
        child = other.enter_context(locked_elsewhere(tmp_path / "lock"))

        def pause(_: float) -> None:
            other.close()

        waited = ours.enter_context(locked(tmp_path / "lock", pause=pause, tell=words.append))

    assert waited
    assert len(words) == 1
    assert f"(process {child.pid})" in words[0]


def test_waiting_for_a_lock_can_be_stopped(tmp_path: Path):
    def stop(_: float) -> None:
        raise Interrupted("stopped")

    with (
        locked_elsewhere(tmp_path / "lock"),
        pytest.raises(Interrupted),
        locked(tmp_path / "lock", pause=stop, tell=quiet),
    ):
        pass


def test_a_lock_file_that_is_taken_away_at_the_end_admits_one_at_a_time(tmp_path: Path):
    inside, most = 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with locked(tmp_path / "lock", pause=time.sleep, tell=quiet, remove=True):
                with guard:
                    inside += 1
                    most = max(most, inside)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert most == 1
    assert list(tmp_path.iterdir()) == []


def test_a_lock_through_a_link_is_not_taken(tmp_path: Path):
    (tmp_path / "canary").write_bytes(b"canary")
    (tmp_path / "lock").symlink_to("canary")

    with (
        pytest.raises((DiskError, LockUnsupported)),
        locked(tmp_path / "lock", pause=quiet, tell=quiet),
    ):
        pass

    assert (tmp_path / "canary").read_bytes() == b"canary"


def test_a_probe_says_what_a_volume_can_do_and_leaves_nothing(tmp_path: Path) -> None:
    found = probe(tmp_path / "not" / "there")

    assert found.writable
    assert found.symlink
    assert found.flock
    assert found.free is not None
    assert found.trouble == ""
    assert list(tmp_path.iterdir()) == []
