"""A small file system that somebody else fills: row 37 and 38. Root mounts a tmpfs for it."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbay.serve import Hub, demo_shelf
from tests.faults.server import MIB, Content, Exchange, FaultServer, noise
from tests.syncing import Machine

pytestmark = pytest.mark.real

TINY = '[models.llm.tiny]\nsource = "huggingface"\nrepo = "demo/tiny-llm"\n'
BOTH = TINY + '[models.llm.quants]\nsource = "huggingface"\nrepo = "demo/gguf-quants"\n'


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root mounts")
    point = tmp_path / "disk"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", point], check=True)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub(demo_shelf()) as hub:
        yield hub


def fill(disk: Path, *, leaving: int = 0) -> Path:
    """A file of somebody else's, which takes all room but `leaving` bytes."""
    filler = disk / "filler"
    room = os.statvfs(disk)
    with filler.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, room.f_bavail * room.f_frsize - leaving)
    return filler


def test_a_disk_that_fills_up_under_a_fetch_is_told_and_the_next_run_ends(
    disk: Path, tmp_path: Path
):
    content = Content(noise(16 * MIB))
    user = Machine(None, tmp_path / "home")

    def filling(exchange: Exchange) -> None:
        probe = ("range", "bytes=0-0") in exchange.request.headers
        if not probe and not (disk / "filler").exists():
            fill(disk, leaving=8 * MIB)
        exchange.deliver(exchange.reply(content))

    with FaultServer(content, filling) as server:
        full = user.run("get", server.url(), "--to", disk / "models", "--yes")
        assert full.code == 7, full.err
        names = [path.name for path in (disk / "models").iterdir()]
        (disk / "filler").unlink()
        (disk / "filler").mkdir()
        again = user.run("get", server.url(), "--to", disk / "models", "--yes")

    assert (full.code, names) == (7, [".modelbay"]), full.err
    assert "full" in full.err
    assert again.code == 0, again.err
    assert (disk / "models/model.bin").read_bytes() == content.body


def test_a_lock_that_cannot_be_written_leaves_the_old_one(disk: Path, hub: Hub, tmp_path: Path):
    user = Machine(hub, tmp_path / "home")
    asked, lock = user.write("a.toml", TINY), disk / "a.lock.toml"
    assert user.run("lock", asked, "-o", lock).code == 0
    before = lock.read_bytes()
    user.write("a.toml", BOTH)
    fill(disk)

    said = user.run("lock", asked, "-o", lock)

    assert said.code == 7
    assert "full" in said.err
    assert lock.read_bytes() == before
    assert sorted(path.name for path in disk.iterdir()) == ["a.lock.toml", "filler"]


def test_without_room_for_the_index_a_sync_goes_on_and_says_so(
    disk: Path, hub: Hub, tmp_path: Path
):
    user = Machine(hub, tmp_path / "home", {"MODELBAY_STATE_DIR": str(disk / "state")})
    asked = user.write("a.toml", TINY)
    fill(disk)

    said = user.run("sync", asked, "--yes")

    assert said.code == 0
    assert "6 fetched" in said.last
    assert "index" in said.err
