"""A reflink is no second copy: an XFS on a loop device has both."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbay.files import clone
from modelbay.files.extents import shared_block
from tests.adopting import hub_repo, ollama_model, sha256
from tests.test_adopt import COMMIT, WEIGHTS, adopted

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("mkfs.xfs") is None, reason="mkfs.xfs is not installed"),
]


def call(*command: object) -> None:
    subprocess.run(list(map(str, command)), check=True, capture_output=True, timeout=60)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    image, point = tmp_path / "image", tmp_path / "disk"
    with image.open("wb") as stream:
        stream.truncate(320 << 20)
    call("mkfs.xfs", "-q", "-m", "reflink=1", image)
    point.mkdir()
    call("mount", "-o", "loop", image, point)
    yield point
    call("umount", point)


def test_a_reflink_is_not_the_same_bytes_twice_and_a_copy_is(disk: Path):
    hub_repo(disk / "hub", COMMIT, {"a.gguf": WEIGHTS})
    ollama_model(disk / ".ollama/models", "m:latest", {"model": WEIGHTS})
    blob = disk / f"hub/models--org--m/blobs/{sha256(WEIGHTS)}"
    same = disk / f".ollama/models/blobs/sha256-{sha256(WEIGHTS)}"
    call("sync")
    copied = adopted(disk).twice
    same.unlink()
    assert clone(blob, same) == "reflink"
    call("sync")

    found = adopted(disk)

    assert copied == len(WEIGHTS)
    assert found.twice == 0
    assert shared_block(str(blob)) == shared_block(str(same)) is not None
