"""Ollama's store while modelbay is killed: whatever has a manifest is whole."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.ollama import OllamaDouble, sha256, weights
from tests.syncing import Machine

pytestmark = pytest.mark.real
KILLS = 12


@pytest.fixture
def double() -> Iterator[OllamaDouble]:
    with OllamaDouble() as double:
        for number in range(4):
            layers = {"model": weights("shared", 300_000), "params": b"%d" % number}
            layers |= {f"adapter#{i}": weights(f"{number}.{i}", 40_000) for i in range(20)}
            double.put(f"library/m:{number}", layers, {"model_format": "gguf"})
        yield double


def holes(store: Path) -> list[str]:
    """Blobs that a manifest names and that are not whole."""
    found = []
    for path in store.glob("manifests/*/*/*/*"):
        document = json.loads(path.read_bytes())
        for row in [*document["layers"], document["config"]]:
            blob = store / "blobs" / row["digest"].replace(":", "-")
            if not blob.exists() or f"sha256:{sha256(blob.read_bytes())}" != row["digest"]:
                found.append(f"{path}: {row['digest']}")
    return found


def kill_when(child: "subprocess.Popen[str]", store: Path, pattern: str, count: int) -> None:
    """As soon as `count` names that fit are there, or it ended by itself."""
    deadline = time.monotonic() + 60
    while child.poll() is None and len(list(store.glob(pattern))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    if child.poll() is None:
        os.kill(child.pid, signal.SIGKILL)
    child.communicate()


def test_no_kill_leaves_a_manifest_without_its_blobs(double: OllamaDouble, tmp_path: Path):
    user = Machine(None, tmp_path, {"MODELBAY_OLLAMA_ENDPOINT": double.registry})
    store = tmp_path / ".ollama/models"
    refs = [f"ollama:m:{number}" for number in range(4)]
    between = 0
    for number in range(KILLS):
        child = user.start("get", *refs)
        pattern = "manifests/*/*/*/*" if number % 2 else "blobs/*"
        kill_when(child, store, pattern, 1 if number % 2 else 1 + number * 4)
        assert holes(store) == []
        between += 0 < len(list(store.glob("manifests/*/*/*/*"))) < len(refs)
        if number % 2:
            shutil.rmtree(store)

    assert user.run("get", *refs).code == 0
    assert holes(store) == []
    assert len(list(store.glob("manifests/*/*/*/*"))) == len(refs)
    print(f"{KILLS} kills, {between} of them between two manifests")
