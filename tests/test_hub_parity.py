"""Our cache and the real client's are the same cache, byte for byte and lock for lock."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelbay.digest import Digest
from modelbay.library.hf_cache import HfCache
from modelbay.plan import Action
from modelbay.refs import ModelRef
from modelbay.safepath import SafeRelPath
from modelbay.serve import Hub, MemoryShelf
from modelbay.snapshot import ModelFile, Snapshot
from tests.layouts import actions, carry_out, never, plan_of, tree

FILES = {
    "config.json": b'{"model_type": "llama"}',
    "empty.txt": b"",
    "same/empty.txt": b"",
    "sub/deeper/tokenizer.json": b"tokens",
    "sub/model.safetensors": b"weights" * 1000,
    "größe.txt": "grün".encode(),
}
NEWER = {**FILES, "config.json": b"{}"}
REPO = "models--org--model"


@dataclass
class Stand:
    hub: Hub
    shelf: MemoryShelf

    def snapshot(self, revision: str | None) -> Snapshot:
        """What our source makes of the listing."""
        repo = self.shelf.repo("org/model")
        assert repo is not None
        commit = self.shelf.commit_of(repo, revision or "main")
        assert commit is not None
        listed = self.shelf.files(repo, commit).values()
        files = tuple(
            ModelFile(
                SafeRelPath.parse(file.path),
                file.size,
                (Digest("sha256", file.sha256),)
                if file.sha256
                else (Digest("git-sha1", file.git_sha1),),
                file.lfs,
                file.etag,
                {"blob_id": file.git_sha1} if file.lfs else {},
            )
            for file in listed
        )
        return Snapshot(ModelRef("huggingface", "hf", "org/model", revision), commit, files)


@pytest.fixture
def stand() -> Iterator[Stand]:
    shelf = MemoryShelf()
    commit = shelf.add("org/model", FILES)
    shelf.pull("org/model", 1, commit)
    shelf.add("org/model", NEWER, branch="feature/x")
    with Hub(shelf) as hub:
        yield Stand(hub, shelf)


def environment(hub: Hub | None, cache: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(cache.parent),
        "HF_HOME": str(cache.parent / "hf-home"),
        "HF_HUB_CACHE": str(cache),
        "HF_ENDPOINT": hub.endpoint if hub else "http://127.0.0.1:9",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_COLOR": "1",
        **more,
    }


def client(script: str, *arguments: str, env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", f"from huggingface_hub import *\n{script}", *arguments],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(child: subprocess.Popen[str]) -> str:
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    return out.strip()


def hf(*words: str, env: dict[str, str]) -> str:
    command = [sys.executable, "-P", "-m", "huggingface_hub.cli.hf", *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def ours_only(path: Path) -> bool:
    return ".modelbay" in path.parts


def bring_all(stand: Stand, cache: Path, *, symlinks: bool = True) -> None:
    layout = HfCache(cache, symlinks=symlinks)
    for revision, contents in [(None, FILES), ("feature/x", NEWER), ("refs/pr/1", FILES)]:
        carry_out(plan_of(stand.snapshot(revision), layout), layout, contents)


DOWNLOAD_ALL = (
    "for revision in ('main', 'feature/x', 'refs/pr/1'):"
    " snapshot_download('org/model', revision=revision, max_workers=1)"
)
"""One worker: without links the client's own threads move equal files from under each other."""


@pytest.mark.parametrize("symlinks", [True, False], ids=["links", "no links"])
def test_our_cache_is_the_one_that_the_real_client_writes(
    stand: Stand, tmp_path: Path, *, symlinks: bool
):
    ours, theirs = tmp_path / "ours/hub", tmp_path / "theirs/hub"
    more = {} if symlinks else {"HF_HUB_DISABLE_SYMLINKS": "1"}

    said(client(DOWNLOAD_ALL, env=environment(stand.hub, theirs, **more)))
    bring_all(stand, ours, symlinks=symlinks)

    assert tree(ours, without=ours_only) == tree(theirs)
    assert len(list(theirs.rglob("*"))) > 30


def test_the_real_client_reads_our_cache_without_a_server_and_without_a_warning(
    stand: Stand, tmp_path: Path
):
    cache = tmp_path / "hub"
    bring_all(stand, cache)
    script = """
found = scan_cache_dir()
(repo,) = found.repos
print(len(found.warnings), len(found.incomplete_files), repo.repo_id, sorted(repo.refs))
print(snapshot_download('org/model', local_files_only=True))
print(snapshot_download('org/model', revision='feature/x', local_files_only=True))
"""

    lines = said(client(script, env=environment(None, cache))).splitlines()

    snapshots = cache / REPO / "snapshots"
    assert lines == [
        "0 0 org/model ['feature/x', 'main', 'refs/pr/1']",
        str(snapshots / stand.snapshot(None).revision),
        str(snapshots / stand.snapshot("feature/x").revision),
    ]


def test_the_real_client_lists_and_verifies_our_cache(stand: Stand, tmp_path: Path):
    cache = tmp_path / "hub"
    bring_all(stand, cache)
    env = environment(stand.hub, cache)

    listed = hf("cache", "ls", env=env)
    verified = hf("cache", "verify", "org/model", env=env)

    assert "org/model" in listed
    assert "warning" not in listed.lower()
    assert f"{len(FILES)} file" in verified


def test_what_the_real_client_brought_is_kept(stand: Stand, tmp_path: Path):
    cache = tmp_path / "hub"
    said(client(DOWNLOAD_ALL, env=environment(stand.hub, cache)))
    before = tree(cache)
    layout = HfCache(cache)

    plan = plan_of(stand.snapshot(None), layout)
    carry_out(plan, layout, {})

    assert set(actions(plan).values()) == {"keep"}
    assert tree(cache, without=ours_only) == before


def test_the_real_client_asks_for_no_content_that_we_brought(stand: Stand, tmp_path: Path):
    cache = tmp_path / "hub"
    bring_all(stand, cache)

    said(client(DOWNLOAD_ALL, env=environment(stand.hub, cache)))

    assert not [r for r in (*stand.hub.log, *stand.hub.cdn_log) if is_content(r.method, r.path)]


def test_a_part_of_ours_is_no_partial_of_the_real_client(stand: Stand, tmp_path: Path):
    cache = tmp_path / "hub"
    layout = HfCache(cache)
    snapshot = stand.snapshot(None)
    layout.prepare(snapshot)
    for step in plan_of(snapshot, layout).of(Action.FETCH):
        step.part.write_bytes(b"half")

    counted = said(
        client(
            "found = scan_cache_dir(); print(len(found.warnings), len(found.incomplete_files))",
            env=environment(None, cache),
        )
    )

    assert counted == "0 0"
    assert list((cache / REPO / "blobs").iterdir()) == []


def is_content(method: str, path: str) -> bool:
    return method == "GET" and ("resolve" in path or "xet-bridge" in path)


def test_the_real_client_waits_while_we_move_a_file_and_then_uses_ours(
    stand: Stand, tmp_path: Path
):
    cache = tmp_path / "hub"
    layout = HfCache(cache)
    snapshot = stand.snapshot(None)
    layout.prepare(snapshot)
    (step,) = (s for s in plan_of(snapshot, layout).steps if s.file.lfs)
    script = "print(hf_hub_download('org/model', 'sub/model.safetensors'))"

    def contents_asked() -> int:
        asked = (*stand.hub.log, *stand.hub.cdn_log)
        return sum(is_content(request.method, request.path) for request in asked)

    with layout.moving(snapshot, step.file, pause=never, tell=never):
        child = client(script, env=environment(stand.hub, cache))
        deadline = time.monotonic() + 30
        while not any(r.method == "HEAD" for r in stand.hub.log) and child.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.7)
        asked_meanwhile = contents_asked()
        step.part.write_bytes(FILES["sub/model.safetensors"])
        layout.place(snapshot, step, step.file.digests)
    path = said(child)

    assert asked_meanwhile == 0
    assert contents_asked() == 0
    assert Path(path).read_bytes() == FILES["sub/model.safetensors"]


def test_we_wait_while_the_real_client_moves_a_file_and_say_for_whom(stand: Stand, tmp_path: Path):
    cache = tmp_path / "hub"
    layout = HfCache(cache)
    snapshot = stand.snapshot(None)
    layout.prepare(snapshot)
    (file,) = (file for file in snapshot.files if file.lfs)
    assert file.etag is not None
    lock = cache / ".locks" / REPO / f"{file.etag}.lock"
    lock.parent.mkdir(parents=True)
    script = """
import sys
from huggingface_hub.utils import WeakFileLock
with WeakFileLock(sys.argv[1]):
    print('held', flush=True)
    sys.stdin.read()
"""
    child = client(script, str(lock), env=environment(None, cache))
    assert child.stdout is not None
    assert child.stdin is not None
    held = child.stdout.readline()
    words: list[str] = []

    def let_go(_: float) -> None:
        child.communicate(timeout=30)

    with layout.moving(snapshot, file, pause=let_go, tell=words.append) as waited:
        pass

    assert held == "held\n"
    assert waited
    assert f"(process {child.pid})" in words[0]
