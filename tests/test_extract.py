"""`extract = true`: an archive is fetched, locked, and what is in it is the model."""

import gzip
import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.gdrive import DriveDouble, Shared
from tests.syncing import Machine
from tests.test_unpack import tarred, with_entry, zipped

MEMBERS = {
    "config.json": b"{}",
    "unet/model.safetensors": (16).to_bytes(8, "little") + b'{"w":{}}        ' + bytes(200_000),
    "readme.txt": b"hello\n",
}
ARCHIVE = gzip.compress(tarred(MEMBERS), mtime=0)
HERE = "sdnext/models/Stable-diffusion/release"


@pytest.fixture
def server() -> Iterator[DriveDouble]:
    with DriveDouble({"arc": Shared("release.tar.gz", ARCHIVE)}) as double:
        yield double


def entry(server: DriveDouble, more: str = "") -> str:
    return (
        f'[models.checkpoints.release]\nurl = "{server.url}/download?id=arc"\n'
        f"extract = true\n{more}\n"
    )


@pytest.fixture
def own(tmp_path: Path) -> Machine:
    return Machine(None, tmp_path / "own")


def placed(machine: Machine, folder: str = HERE) -> dict[str, bytes]:
    return {
        name.removeprefix(f"{folder}/"): content
        for name, content in machine.files().items()
        if name.startswith(folder)
    }


def test_what_is_in_it_is_placed_in_a_folder_of_its_own(server, own):
    said = own.run("sync", own.write("m.toml", entry(server)))

    assert said.code == 0, said.err
    assert placed(own) == MEMBERS
    assert own.files().keys() == {f"{HERE}/{name}" for name in MEMBERS}
    assert not list(own.workspace.glob("**/.modelbay/unpacked/*"))
    assert not list(own.workspace.glob("**/.modelbay/parts/*.part"))


def test_the_lock_names_the_archive_and_what_is_from_it(server, own):
    own.run("lock", own.write("m.toml", entry(server)))

    lock = (own.home / "m.lock.toml").read_text()
    assert lock.count('from   = "release.tar.gz"') + lock.count('from = "release.tar.gz"') == 3
    assert lock.count("[[model.archive]]") == 1
    assert hashlib.sha256(ARCHIVE).hexdigest() in lock
    assert hashlib.sha256(MEMBERS["readme.txt"]).hexdigest() in lock


def test_a_sync_after_the_lock_fetches_nothing_again(server, own):
    file = own.write("m.toml", entry(server))
    own.run("lock", file)
    before = len(server.asked)

    said = own.run("sync", file)

    assert (said.code, len(server.asked)) == (0, before), said.err
    assert "3 kept" in said.last
    assert own.run("lock", file, "--check").code == 0


def test_a_lock_gives_the_same_files_on_an_empty_machine(server, own, tmp_path):
    own.run("lock", own.write("m.toml", entry(server)))
    other = Machine(None, tmp_path / "other")

    said = other.run("sync", own.home / "m.lock.toml")

    assert said.code == 0, said.err
    assert other.files() == own.files()
    assert other.run("verify").code == 0
    assert other.run("sync", own.home / "m.lock.toml", "--check", "--deep").code == 0


def test_a_member_that_is_missing_or_damaged_comes_back_and_the_others_stay(server, own):
    file = own.write("m.toml", entry(server))
    own.run("sync", file)
    root = own.workspace / HERE
    (root / "config.json").unlink()
    (root / "readme.txt").write_bytes(b"HELLO\n")
    kept = (root / "unet/model.safetensors").stat().st_ino

    said = own.run("sync", file, "--replace")

    assert said.code == 0, said.err
    assert placed(own) == MEMBERS
    assert (root / "unet/model.safetensors").stat().st_ino == kept


def test_a_file_that_is_not_ours_is_not_touched(server, own):
    root = own.workspace / HERE
    root.mkdir(parents=True)
    (root / "config.json").write_bytes(b"mine")

    said = own.run("sync", own.write("m.toml", entry(server)))

    assert said.code == 9, said.err
    assert placed(own) == {"config.json": b"mine"}


def test_a_link_in_its_place_is_not_followed(server, own, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (own.workspace / HERE).parent.mkdir(parents=True)
    (own.workspace / HERE).symlink_to(outside)

    assert own.run("sync", own.write("m.toml", entry(server))).code == 9
    assert list(outside.iterdir()) == []


def test_other_bytes_than_the_locked_ones_are_refused_before_anything_is_placed(
    server, own, tmp_path
):
    own.run("lock", own.write("m.toml", entry(server)))
    server.things["arc"] = Shared("release.tar.gz", gzip.compress(tarred({"x": b"y"}), mtime=0))
    other = Machine(None, tmp_path / "other")

    assert other.run("sync", own.home / "m.lock.toml").code == 5
    assert other.files() == {}


def test_a_lock_that_promises_other_members_is_refused(server, own, tmp_path):
    own.run("lock", own.write("m.toml", entry(server)))
    lock = own.home / "m.lock.toml"
    right = hashlib.sha256(MEMBERS["readme.txt"]).hexdigest()
    text = lock.read_text().replace(right, "0" * 64)
    said = own.run("sync", own.write("bad.lock.toml", text))
    tree = said.err.partition("that of its files is ")[2].split()[0].rstrip(";,.")
    old = text.partition('tree-hash = "')[2].partition('"')[0]
    other = Machine(None, tmp_path / "other")

    said = other.run("sync", other.write("bad.lock.toml", text.replace(old, tree)))

    assert said.code == 5, said.err
    assert "readme.txt" in said.err
    assert other.files() == {}


@pytest.mark.parametrize("name", ["../up", "/etc/x"])
def test_a_hostile_archive_leaves_nothing(server, own, name):
    server.things["arc"] = Shared("release.tar", with_entry(lambda one: None, name))

    said = own.run("sync", own.write("m.toml", entry(server)))

    assert said.code == 5, said.err
    assert own.files() == {}
    assert not list(own.workspace.glob("**/.modelbay/unpacked/*"))


def test_pickles_in_an_archive_are_refused_where_none_may_be(server, own):
    server.things["arc"] = Shared("release.zip", zipped({"a.pt": b"x", "b.json": b"{}"}))
    own.more["MODELBAY_FORMATS"] = "no-pickle"

    said = own.run("sync", own.write("m.toml", entry(server)))

    assert said.code == 4, said.err
    assert own.files() == {}


@pytest.mark.parametrize("more", ['filename = "x.bin"', 'layout = "hf-cache"'])
def test_what_cannot_be_with_extract_is_said_at_its_line(server, own, more):
    said = own.run("sync", own.write("m.toml", entry(server, more)))

    assert said.code == 2
    assert "m.toml:3" in said.err


def test_a_hash_is_the_archives(server, own):
    digest = hashlib.sha256(ARCHIVE).hexdigest()
    file = own.write("m.toml", entry(server, f'hash = "sha256:{digest}"'))

    assert own.run("sync", file).code == 0
    assert own.run("lock", file, "--print-hash", "checkpoints/release").out.strip().endswith(digest)
    wrong = own.write("n.toml", entry(server, f'hash = "sha256:{"1" * 64}"'))
    assert own.run("lock", wrong).code == 5


def test_a_plain_folder_takes_the_members_too(server, own):
    more = 'layout = "dir"\ndir = "mine/release"'

    said = own.run("sync", own.write("m.toml", entry(server, more)))

    assert said.code == 0, said.err
    assert placed(own, "mine/release") == MEMBERS


def test_exact_takes_away_what_an_archive_no_longer_has(server, own):
    file = own.write("m.toml", entry(server))
    own.run("sync", file)
    server.things["arc"] = Shared(
        "release.tar.gz", gzip.compress(tarred({"new.txt": b"n"}), mtime=0)
    )
    own.run("lock", file, "--upgrade")

    said = own.run("sync", file, "--exact", "--yes")

    assert said.code == 0, said.err
    assert placed(own) == {"new.txt": b"n"}


def test_exact_without_a_lock_keeps_what_it_has_just_unpacked(server, own):
    file = own.write("m.toml", entry(server))
    own.run("sync", file)
    (own.home / "m.lock.toml").unlink()

    said = own.run("sync", file, "--exact", "--yes")

    assert said.code == 0, said.err
    assert placed(own) == MEMBERS


def test_an_archive_on_drive_is_unpacked(server, own):
    own.more["MODELBAY_GDRIVE_ENDPOINT"] = server.url
    link = "https://drive.google.com/file/d/arc/view"
    text = f'[models.checkpoints.release]\nurl = "{link}"\nextract = true\n'

    said = own.run("sync", own.write("m.toml", text))

    assert said.code == 0, said.err
    assert placed(own) == MEMBERS
    assert 'gdrive = { file-id = "arc" }' in (own.home / "m.lock.toml").read_text()


def test_its_folder_appears_only_when_it_is_whole(server, own):
    many = {f"part-{number:04}.bin": os.urandom(2000) for number in range(400)}
    server.things["arc"] = Shared("release.tar.gz", gzip.compress(tarred(many), 1, mtime=0))
    file = own.write("m.toml", entry(server))
    process = own.start("sync", file)
    seen = set()
    while process.poll() is None:
        folder = own.workspace / HERE
        if folder.is_dir():
            seen.add(len(list(folder.iterdir())))
    process.communicate()

    assert process.returncode == 0
    assert seen <= {len(many)}
    assert placed(own) == many


def test_wherever_it_is_killed_the_next_run_goes_on(server, own):
    many = {f"part-{number:04}.bin": os.urandom(5000) for number in range(300)}
    server.things["arc"] = Shared("release.tar.gz", gzip.compress(tarred(many), 1, mtime=0))
    file = own.write("m.toml", entry(server))
    for delay in (0.35, 0.45, 0.55, 0.7, 0.9):
        process = own.start("sync", file)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert placed(own) in ({}, many)

    said = own.run("sync", file)

    assert said.code == 0, said.err
    assert placed(own) == many
    assert not list(own.workspace.glob("**/.modelbay/unpacked/*"))


def test_a_fetch_that_was_killed_goes_on_where_it_stopped(own):
    body = gzip.compress(tarred({"model.bin": os.urandom(24 << 20)}), 0, mtime=0)
    with DriveDouble({"arc": Shared("release.tar.gz", body)}) as server:
        server.slow = threading.Event()
        file = own.write("m.toml", entry(server))
        process = own.start("sync", file)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            if list(own.workspace.glob("**/.modelbay/parts/*.journal")):
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        server.slow.set()
        before = len(server.starts())

        said = own.run("sync", file)

        assert said.code == 0, said.err
        assert min(start for start in server.starts()[before:]) > 0
        assert placed(own).keys() == {"model.bin"}


def test_what_was_unpacked_is_exported_as_its_archive(server, own):
    own.run("sync", own.write("m.toml", entry(server)))

    said = own.run("export", own.home / "e.toml")
    locked = own.run("export", "--lock", own.home / "e.lock.toml")

    assert said.code == 0, said.err
    assert "extract = true" in (own.home / "e.toml").read_text()
    assert own.run("sync", own.home / "e.toml").code == 0
    assert placed(own) == MEMBERS
    assert "unpacked from an archive" in locked.err


def test_a_damaged_member_is_not_fetched_by_itself(server, own):
    own.run("sync", own.write("m.toml", entry(server)))
    (own.workspace / HERE / "readme.txt").write_bytes(b"HELLO\n")
    before = len(server.asked)

    said = own.run("verify", "--repair")
    by_lock = own.run("verify", own.home / "m.lock.toml", "--repair")

    assert "is a member of release.tar.gz" in said.err
    assert "is a member of release.tar.gz" in by_lock.err
    assert len(server.asked) == before
