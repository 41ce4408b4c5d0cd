"""A sync of 200 files in three layouts is killed at random instants: every name holds its old
bytes or its new ones, and nothing of the user's was touched.
"""

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelbay.serve import Hub, MemoryShelf

pytestmark = pytest.mark.real

KILLS = 50
SEED = 20261121
ASKED = """
folders = "comfyui"
[models.llm.cached]
source = "huggingface"
repo = "org/cached"
revision = "{0}"
layout = "hf-cache"
[models.checkpoints.laid-out]
source = "huggingface"
repo = "org/laid-out"
revision = "{0}"
[models.tools.plain]
source = "huggingface"
repo = "org/plain"
revision = "{0}"
layout = "dir"
"""
OWN = ("ComfyUI/models/checkpoints/mine.safetensors", "tools/plain/mine.bin", "tools/mine.txt")


def noise(name: str, size: int) -> bytes:
    return random.Random(name).randbytes(size)


def contents(model: str, count: int, version: str) -> dict[str, bytes]:
    """Of three files one stays as it was, one changes, and one is new and the same everywhere."""
    files = {}
    for number in range(count):
        name, of = (
            (f"same-{number:02}.bin", f"{model} {number}"),
            (f"changed-{number:02}.bin", f"{model} {number} {version}"),
            (f"{version}-{number:02}.bin", f"shared {number} {version}"),
        )[number % 3]
        files[name] = noise(of, 20_000 + 997 * number)
    return files


@dataclass
class World:
    hub: Hub
    folder: Path

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "HF_ENDPOINT": self.hub.endpoint,
            "WORKSPACE": str(self.workspace),
            "MODELBAY_STATE_DIR": str(self.folder / "state"),
            "MODELBAY_CONFIG": str(self.folder / "config.toml"),
        }

    def started(self, *argv: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "modelbay", *argv],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ran(self, *argv: str) -> str:
        with self.started(*argv) as child:
            _, said = child.communicate(timeout=120)
        assert child.returncode == 0, said
        return said

    def names(self) -> dict[str, str]:
        """Every name that a program reads, with the sha256 of what it leads to."""
        roots = [self.workspace, self.folder / ".cache/huggingface/hub"]
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for root in roots
            for path in root.rglob("*")
            if path.is_file()
            and not {".modelbay", "blobs", ".locks", "logs"} & set(path.relative_to(root).parts)
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The old revision of everything is in place, and files of the user's stand beside it."""
    shelf = MemoryShelf()
    for version in ("old", "new"):
        for model, count in (("org/cached", 70), ("org/laid-out", 66), ("org/plain", 66)):
            commit = shelf.add(model, contents(model, count, version))
            shelf.tag(model, version, commit)
    with Hub(shelf) as hub:
        world = World(hub, tmp_path_factory.mktemp("world"))
        for version in ("old", "new"):
            (world.folder / f"{version}.toml").write_text(ASKED.format(version))
            world.ran("lock", f"{version}.toml")
        for name in OWN:
            path = world.workspace / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(noise(name, 5_000))
        world.ran("sync", "old.lock.toml", "--yes")
        yield world


def test_a_killed_sync_leaves_old_bytes_or_new_ones_under_every_name(world: World, tmp_path: Path):
    backup = tmp_path / "backup"
    shutil.copytree(world.folder, backup, symlinks=True)
    old = world.names()
    began = time.monotonic()
    said = world.ran("sync", "new.lock.toml", "--yes")
    whole, new = time.monotonic() - began, world.names()
    assert re.search(r"\b[1-9][0-9]+ linked, 44 replaced\b", said), said
    assert all(old[f"workspace/{name}"] == new[f"workspace/{name}"] for name in OWN)

    dice, killed, between = random.Random(SEED), 0, 0
    while killed < KILLS:
        shutil.rmtree(world.folder)
        shutil.copytree(backup, world.folder, symlinks=True)
        with world.started("sync", "new.lock.toml", "--yes") as child:
            try:
                child.wait(dice.uniform(0.2, 0.9) * whole)
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
                killed += 1
            _, said = child.communicate()
        found = world.names()
        for name in {*old, *found}:
            assert found.get(name) in {old.get(name), new.get(name)}, f"{killed}: {name}: {said}"
        between += found not in (old, new)
        world.ran("sync", "new.lock.toml", "--yes")
        assert world.names() == new, f"after kill {killed}"
    print(f"{between} of {killed} kills were in the middle of the changes")
    assert between >= KILLS // 5
