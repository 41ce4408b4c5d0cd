"""What can go: partials, wrong bytes, locks, temporary names, blobs that nothing leads to."""

import os
import time
from pathlib import Path

import pytest

from modelbay.files import locked
from modelbay.library.dir import Dir
from modelbay.library.hf_cache import HfCache
from modelbay.library.litter import Litter, clear, litter_in, litter_in_repo
from modelbay.library.trash import Trash
from modelbay.refs import ModelRef
from tests.layouts import bring, never, tree

REF = ModelRef("huggingface", "hf", "org/model")
REPO = "models--org--model"
LONG_AGO = time.time() - 3 * 86_400


def left(path: Path, content: bytes = b"left") -> Path:
    """A file that nobody touched for three days, as far as its times of writing tell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def later(base: Path, *, everything: bool = False) -> list[Litter]:
    """What lies about in `base` as it will be seen in two days, when nobody was at it."""
    return list(litter_in(base, everything=everything, now=time.time() + 2 * 86_400))


def kinds(found: list[Litter]) -> list[str]:
    return sorted(one.kind for one in found)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    bring({"m.bin": b"weights"}, Dir(tmp_path))
    left(tmp_path / ".modelbay/parts/aa.part", b"half")
    left(tmp_path / ".modelbay/parts/aa.journal")
    left(tmp_path / ".modelbay/parts/bb.lock", b"")
    left(tmp_path / ".modelbay/quarantine/cc.part", b"wrong")
    left(tmp_path / ".modelbay/meta/.x.json.0badcafe.tmp")
    left(tmp_path / ".modelbay/trash/.going-2026-01-01-1/m.bin")
    return tmp_path


def test_each_kind_is_found_and_says_why_it_may_go(base: Path):
    found = later(base)

    assert kinds(found) == ["lock", "partial", "quarantine", "temporary", "trash"]
    assert all(one.why and one.frees >= 0 for one in found)


def test_what_is_cleared_is_gone_and_the_model_stays(base: Path):
    for one in later(base):
        assert clear(one, Trash(base))

    assert later(base) == []
    assert (base / "m.bin").read_bytes() == b"weights"
    assert not (base / ".modelbay/parts/aa.journal").exists()


def test_a_partial_of_today_stays_unless_everything_is_to_go(base: Path):
    today = kinds(list(litter_in(base)))
    everything = kinds(list(litter_in(base, everything=True)))

    assert "partial" not in today
    assert "partial" in everything


def test_a_partial_whose_lock_is_held_stays(base: Path):
    lock = base / ".modelbay/parts/aa.lock"
    (partial,) = (one for one in later(base) if one.kind == "partial")

    with locked(lock, pause=never, tell=never):
        seen, cleared = kinds(later(base)), clear(partial, Trash(base))

    assert "partial" not in seen
    assert not cleared
    assert (base / ".modelbay/parts/aa.part").exists()


def test_an_empty_folder_goes_only_where_a_model_of_ours_was(tmp_path: Path):
    bring({"sub/m.bin": b"weights"}, Dir(tmp_path))
    (tmp_path / "sub/m.bin").unlink()
    (tmp_path / "somebody's").mkdir()

    (found,) = later(tmp_path)
    clear(found, Trash(tmp_path))

    assert found.paths == (tmp_path / "sub",)
    assert (tmp_path / "somebody's").is_dir()


def later_in_repo(repo: Path) -> list[Litter]:
    return list(litter_in_repo(repo, REF, detached=False, now=time.time() + 2 * 86_400))


def test_a_blob_that_nothing_leads_to_goes_to_the_trash_and_no_other(tmp_path: Path):
    bring({"m.safetensors": b"weights"}, HfCache(tmp_path))
    repo = tmp_path / REPO
    before = tree(repo, without=lambda path: ".modelbay" in path.parts)
    orphan = left(repo / "blobs" / ("e" * 64), b"orphan")
    fresh = list(litter_in_repo(repo, REF, detached=False))

    (found,) = later_in_repo(repo)
    clear(found, Trash(repo))

    assert fresh == []
    assert found.paths == (orphan,)
    assert tree(repo, without=lambda path: ".modelbay" in path.parts) == before
    assert [file.path for one in Trash(repo).bundles() for file in one.files] == [
        f"blobs/{orphan.name}"
    ]


def test_a_revision_without_a_ref_goes_only_when_asked(tmp_path: Path):
    bring({"m.safetensors": b"weights"}, HfCache(tmp_path), revision="c" * 40)
    repo = tmp_path / REPO

    unasked = list(litter_in_repo(repo, REF, detached=False))
    (found,) = litter_in_repo(repo, REF, detached=True)
    clear(found, Trash(repo))

    assert unasked == []
    assert found.kind == "revision"
    assert not (repo / "snapshots" / ("c" * 40)).exists()
    assert (repo / "snapshots").is_dir()


def test_a_blob_that_is_linked_meanwhile_stays(tmp_path: Path):
    bring({"m.safetensors": b"weights"}, HfCache(tmp_path))
    repo = tmp_path / REPO
    orphan = left(repo / "blobs" / ("e" * 64), b"orphan")
    (found,) = later_in_repo(repo)
    link = next((repo / "snapshots").iterdir()) / "again.bin"
    link.symlink_to(f"../../blobs/{orphan.name}")

    cleared = clear(found, Trash(repo))

    assert not cleared
    assert link.read_bytes() == b"orphan"
