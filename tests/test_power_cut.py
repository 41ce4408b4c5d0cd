"""The power goes: row 57. An ext4 on a loop device is shut down under a running fetch, what was
not synced is gone, and the file system is mounted again as after a reboot.
"""

import fcntl
import json
import os
import random
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelbay.transfer.journal import path_of
from tests.getting import MIB, Getting, getting

pytestmark = pytest.mark.real

SIZE = 24 * MIB
SHUTDOWN = 0x8004587D
"""FS_IOC_SHUTDOWN, _IOR('X', 125, __u32)."""
LOG_FLUSHED, LOG_LOST = 1, 2
"""What becomes of the metadata that the file system had gathered; data that was not synced is
lost either way."""
CUTS = 12


def _call(*command: object) -> None:
    subprocess.run(list(map(str, command)), check=True, capture_output=True, timeout=60)


@dataclass
class Disk:
    """An ext4 in the file `image`, mounted at `point`."""

    image: Path
    point: Path

    def make(self) -> None:
        self.point.mkdir(exist_ok=True)
        with self.image.open("wb") as stream:
            stream.truncate(160 * MIB)
        _call("mkfs.ext4", "-q", "-F", self.image)

    def mount(self) -> None:
        _call("mount", "-o", "loop", self.image, self.point)

    def unmount(self) -> None:
        _call("umount", self.point)

    def cut(self, flag: int) -> None:
        """From here on nothing reaches the disk."""
        descriptor = os.open(self.point, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", flag))
        finally:
            os.close(descriptor)

    def reboot(self) -> None:
        self.unmount()
        self.mount()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0:
        pytest.skip("only root mounts")
    disk = Disk(tmp_path / "image", tmp_path / "disk")
    try:
        disk.make()
        disk.mount()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no ext4 on a loop device here: {error} {getattr(error, 'stderr', '')!r}")
    try:
        yield disk
    finally:
        disk.unmount()


def claims_no_more_than_there_is(get: Getting) -> bool:
    """Whether the journal as it lies on the disk ends where the part does, or before."""
    try:
        body = json.loads(json.loads(path_of(get.part).read_bytes())["body"])
    except FileNotFoundError:
        return True
    claimed: int = max(end for _, end in body["spans"])
    return claimed <= get.part.stat().st_size


def cut_at(get: Getting, disk: Disk, seconds: float, flag: int) -> int | None:
    """Cuts that long after the first byte was asked for; the exit code if it ended before."""
    before = len(get.hub.cdn_log)
    with get.start(bandwidth="12MB/s") as process:
        while len(get.hub.cdn_log) == before and process.poll() is None:
            time.sleep(0.005)
        time.sleep(seconds)
        code = process.poll()
        disk.cut(flag)
        process.kill()
        process.communicate()
    disk.reboot()
    return code


def test_a_power_cut_at_any_instant_leaves_whole_files_and_journals_that_are_true(
    tmp_path: Path, disk: Disk
):
    rng, ended, resumed = random.Random(57), 0, 0
    with getting(disk.point / "models", tmp_path / "state", size=SIZE) as get:
        for number in range(CUTS):
            flag = LOG_LOST if number % 2 else LOG_FLUSHED
            code = cut_at(get, disk, rng.uniform(0.4, 2.4), flag)
            ended += code == 0

            assert get.finals_are_absent_or_whole()
            assert claims_no_more_than_there_is(get)
            resumed += bool(get.held())
            get.resumes()
            shutil.rmtree(get.folder)
    print(f"{CUTS} cuts, {ended} after the end, {resumed} resumed")
    assert resumed


@pytest.mark.parametrize("flag", [LOG_FLUSHED, LOG_LOST])
def test_what_was_reported_as_done_survives_a_power_cut_right_after(
    tmp_path: Path, disk: Disk, flag: int
):
    with getting(disk.point / "models", tmp_path / "state", size=SIZE) as get:
        code, said = get.run()
        assert code == 0, said
        disk.cut(flag)
        disk.reboot()

        assert get.final.read_bytes() == get.body
        assert (get.folder / "config.json").read_bytes() == b"{}"
