"""The Hub's cache: names, links, order of writing, and damage that is already there."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbay.digest import Digest
from modelbay.errors import TargetTaken, UnsafeName, UsageError
from modelbay.files import hash_file
from modelbay.library.hf_cache import HfCache, etag_of, tree_listing
from modelbay.plan import Action
from modelbay.safepath import SafeRelPath
from modelbay.snapshot import ModelFile
from tests.layouts import (
    COMMIT,
    a_snapshot,
    actions,
    bring,
    carry_out,
    carry_out_step,
    git_sha1,
    plan_of,
    sha256,
    tree,
)

FILES = {"config.json": b"{}", "sub/model.safetensors": b"weights", "sub/a/empty.txt": b""}
REPO = "models--org--model"


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("org/model", "models--org--model"),
        ("gpt2", "models--gpt2"),
        ("datasets/org/set", "datasets--org--set"),
        ("datasets/squad", "datasets--squad"),
        ("spaces/org/app", "spaces--org--app"),
    ],
)
def test_the_folder_tells_the_kind_of_repo(tmp_path: Path, name: str, folder: str):
    layout = HfCache(tmp_path)

    assert layout.root(a_snapshot(FILES, name=name)) == tmp_path / folder


def test_what_is_not_a_hub_repo_is_refused_with_the_way_out(tmp_path: Path):
    with pytest.raises(UsageError) as caught:
        HfCache(tmp_path).root(a_snapshot(FILES, commit="sha256-of-something"))

    assert "--to" in caught.value.hint


def test_a_file_is_a_relative_link_of_the_right_depth_to_its_blob(tmp_path: Path):
    bring(FILES, HfCache(tmp_path))

    snapshot = tmp_path / REPO / "snapshots" / COMMIT
    links = {path: (snapshot / path).readlink().as_posix() for path in FILES}
    assert links == {
        "config.json": f"../../blobs/{git_sha1(b'{}').hex}",
        "sub/model.safetensors": f"../../../blobs/{sha256(b'weights').hex}",
        "sub/a/empty.txt": f"../../../../blobs/{git_sha1(b'').hex}",
    }
    assert {path: (snapshot / path).read_bytes() for path in FILES} == FILES


def test_blobs_have_the_mode_that_the_umask_leaves(tmp_path: Path):
    before = os.umask(0o002)
    try:
        bring(FILES, HfCache(tmp_path))
    finally:
        os.umask(before)

    blobs = (tmp_path / REPO / "blobs").iterdir()
    assert {stat.S_IMODE(path.stat().st_mode) for path in blobs} == {0o664}


@pytest.mark.parametrize(
    ("revision", "ref"),
    [(None, "main"), ("feature/x", "feature/x"), ("refs/pr/1", "refs/pr/1"), ("v1.0", "v1.0")],
)
def test_a_ref_holds_the_commit_and_nothing_else(tmp_path: Path, revision: str | None, ref: str):
    bring(FILES, HfCache(tmp_path), revision=revision)  # type: ignore[arg-type]

    assert (tmp_path / REPO / "refs" / ref).read_bytes() == COMMIT.encode()


def test_a_commit_asked_for_by_itself_leaves_no_ref(tmp_path: Path):
    bring(FILES, HfCache(tmp_path), revision=COMMIT)

    assert not (tmp_path / REPO / "refs").exists()


def test_a_ref_that_climbs_out_is_refused(tmp_path: Path):
    with pytest.raises(UnsafeName):
        HfCache(tmp_path / "hub").prepare(a_snapshot(FILES, revision="../../../../evil"))

    assert not (tmp_path / "evil").exists()


def test_the_listing_is_as_the_client_writes_it(tmp_path: Path):
    bring({"config.json": b"{}", "m.safetensors": b"w"}, HfCache(tmp_path))

    path = tmp_path / REPO / "trees" / f"{COMMIT}.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    pointer = git_sha1(b"pointer to w").hex
    assert path.read_text() == (
        '{\n "format_version": 1,\n "files": {\n'
        '  "config.json": {\n   "size": 2,\n   "blob_id": "' + git_sha1(b"{}").hex + '"\n  },\n'
        '  "m.safetensors": {\n   "size": 1,\n   "blob_id": "' + pointer + '",\n'
        '   "lfs_sha256": "' + sha256(b"w").hex + '",\n   "lfs_size": 1\n  }\n }\n}'
    )


def test_a_replayed_lock_writes_no_listing(tmp_path: Path):
    layout = HfCache(tmp_path)
    snapshot = a_snapshot(FILES, fresh=False)

    layout.prepare(snapshot)

    assert not (tmp_path / REPO / "trees").exists()


def test_a_listing_with_a_fact_missing_is_not_written():
    whole = a_snapshot(FILES)
    no_pointer = ModelFile(SafeRelPath.parse("x.bin"), 1, (sha256(b"x"),), lfs=True)
    bad_xet = ModelFile(
        SafeRelPath.parse("x.bin"), 1, (git_sha1(b"x"),), extra={"xet": "not a hash"}
    )

    assert tree_listing(whole) is not None
    for file in (no_pointer, bad_xet):
        assert tree_listing(type(whole)(whole.ref, COMMIT, (*whole.files, file))) is None


def test_blobs_are_named_by_what_the_registry_said_first():
    path = SafeRelPath.parse("x.bin")

    assert etag_of(ModelFile(path, 1, (sha256(b"x"),), lfs=True, etag="abc-1")) == "abc-1"
    assert etag_of(ModelFile(path, 1, (git_sha1(b"x"), sha256(b"x")))) == git_sha1(b"x").hex
    assert etag_of(ModelFile(path, 1, (git_sha1(b"x"), sha256(b"x")), True)) == sha256(b"x").hex
    with pytest.raises(UnsafeName):
        etag_of(ModelFile(path, 1, etag="../../evil"))
    with pytest.raises(UsageError):
        etag_of(ModelFile(path, 1))


def test_nothing_of_ours_lies_where_the_client_looks(tmp_path: Path):
    bring(FILES, HfCache(tmp_path))

    top = {path.name for path in tmp_path.iterdir()}
    repo = {path.name for path in (tmp_path / REPO).iterdir()}
    assert top == {"CACHEDIR.TAG", ".locks", REPO}
    assert repo == {"blobs", "refs", "snapshots", "trees", ".modelbay"}
    assert {path.name for path in (tmp_path / REPO / "blobs").iterdir()} == {
        git_sha1(b"{}").hex,
        sha256(b"weights").hex,
        git_sha1(b"").hex,
    }


def test_a_blob_without_its_link_is_linked_and_not_fetched(tmp_path: Path):
    bring(FILES, HfCache(tmp_path))
    pointer = tmp_path / REPO / "snapshots" / COMMIT / "sub/model.safetensors"
    pointer.unlink()

    plan = bring(FILES, HfCache(tmp_path))

    assert actions(plan)["sub/model.safetensors"] == "link"
    assert pointer.read_bytes() == b"weights"


def test_a_second_revision_links_what_did_not_change(tmp_path: Path):
    bring(FILES, HfCache(tmp_path))

    plan = bring({**FILES, "config.json": b"{1}"}, HfCache(tmp_path), commit="d" * 40)

    assert actions(plan) == {
        "config.json": "fetch",
        "sub/a/empty.txt": "link",
        "sub/model.safetensors": "link",
    }
    assert (tmp_path / REPO / "snapshots" / ("d" * 40) / "config.json").read_bytes() == b"{1}"
    assert (tmp_path / REPO / "snapshots" / COMMIT / "config.json").read_bytes() == b"{}"


def test_a_blob_that_a_power_cut_left_empty_is_damaged_and_replaced(tmp_path: Path):
    bring(FILES, HfCache(tmp_path))
    blob = tmp_path / REPO / "blobs" / sha256(b"weights").hex
    blob.write_bytes(b"")

    plan = bring(FILES, HfCache(tmp_path))

    (step,) = plan.of(Action.REPLACE)
    assert step.reason == "damaged: 0 bytes instead of 7"
    assert blob.read_bytes() == b"weights"


def test_a_blob_of_the_right_size_with_other_bytes_is_found_by_hashing(tmp_path: Path):
    blobs = tmp_path / REPO / "blobs"
    blobs.mkdir(parents=True)
    (blobs / sha256(b"weights").hex).write_bytes(b"w3ights")

    plan = bring(FILES, HfCache(tmp_path))

    assert actions(plan)["sub/model.safetensors"] == "replace"
    assert (blobs / sha256(b"weights").hex).read_bytes() == b"weights"
    (old,) = (tmp_path / REPO / ".modelbay/trash").rglob("*" + sha256(b"weights").hex)
    assert old.read_bytes() == b"w3ights"


def test_a_broken_link_in_a_snapshot_is_mended(tmp_path: Path):
    pointer = tmp_path / REPO / "snapshots" / COMMIT / "config.json"
    pointer.parent.mkdir(parents=True)
    pointer.symlink_to("../../blobs/gone")

    bring(FILES, HfCache(tmp_path))

    assert pointer.read_bytes() == b"{}"


def test_a_link_in_a_snapshot_that_leads_outside_is_replaced_and_not_written_through(
    tmp_path: Path,
):
    (tmp_path / "canary").write_bytes(b"canary")
    pointer = tmp_path / "hub" / REPO / "snapshots" / COMMIT / "config.json"
    pointer.parent.mkdir(parents=True)
    pointer.symlink_to(tmp_path / "canary")

    bring(FILES, HfCache(tmp_path / "hub"))

    assert (tmp_path / "canary").read_bytes() == b"canary"
    assert pointer.readlink() == Path("../../blobs") / git_sha1(b"{}").hex


@pytest.mark.parametrize("planted", ["blobs", "snapshots", f"snapshots/{COMMIT}", "refs"])
def test_a_planted_folder_link_is_refused(tmp_path: Path, planted: str):
    (tmp_path / "outside").mkdir()
    link = tmp_path / "hub" / REPO / planted
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "outside")

    with pytest.raises(TargetTaken, match="is a link to"):
        HfCache(tmp_path / "hub").prepare(a_snapshot(FILES))

    assert list((tmp_path / "outside").iterdir()) == []


def test_a_planted_folder_link_inside_a_snapshot_blocks_what_is_behind_it(tmp_path: Path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/model.safetensors").symlink_to("nowhere")
    link = tmp_path / "hub" / REPO / "snapshots" / COMMIT / "sub"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "outside")

    plan = bring(FILES, HfCache(tmp_path / "hub"))

    assert actions(plan)["sub/model.safetensors"] == "blocked"
    assert (tmp_path / "outside/model.safetensors").readlink() == Path("nowhere")


def test_a_blob_in_the_shared_store_is_read_through_both_links_and_never_written(tmp_path: Path):
    store = tmp_path / "blobs" / "78"
    store.mkdir(parents=True)
    (tmp_path / "blobs/.huggingface-shared-blobs").write_bytes(b"1\n")
    payload = store / ("78" + "f" * 62)
    payload.write_bytes(b"weights")
    payload.chmod(0o444)
    blobs = tmp_path / REPO / "blobs"
    blobs.mkdir(parents=True)
    blob = blobs / sha256(b"weights").hex
    blob.symlink_to(f"../../blobs/78/{payload.name}")
    before = tree(tmp_path / "blobs")

    plan = bring(FILES, HfCache(tmp_path))
    again = bring(FILES, HfCache(tmp_path))

    assert actions(plan)["sub/model.safetensors"] == "link"
    assert actions(again)["sub/model.safetensors"] == "keep"
    assert tree(tmp_path / "blobs") == before
    pointer = tmp_path / REPO / "snapshots" / COMMIT / "sub/model.safetensors"
    assert pointer.read_bytes() == b"weights"


def test_a_damaged_payload_of_the_shared_store_is_left_and_a_plain_blob_takes_its_name(
    tmp_path: Path,
):
    payload = tmp_path / "blobs/78" / ("78" + "f" * 62)
    payload.parent.mkdir(parents=True)
    payload.write_bytes(b"w3ights")
    blob = tmp_path / REPO / "blobs" / sha256(b"weights").hex
    blob.parent.mkdir(parents=True)
    blob.symlink_to(f"../../blobs/78/{payload.name}")

    bring(FILES, HfCache(tmp_path))

    assert payload.read_bytes() == b"w3ights"
    assert not blob.is_symlink()
    assert blob.read_bytes() == b"weights"


def test_without_symlinks_the_files_lie_in_the_snapshot(tmp_path: Path):
    layout = HfCache.of({"HF_HUB_CACHE": str(tmp_path), "HF_HUB_DISABLE_SYMLINKS": "1"})

    bring(FILES, layout)
    plan = bring(FILES, HfCache(tmp_path, symlinks=False))

    snapshot = tmp_path / REPO / "snapshots" / COMMIT
    assert {path: (snapshot / path).read_bytes() for path in FILES} == FILES
    assert not any((snapshot / path).is_symlink() for path in FILES)
    assert list((tmp_path / REPO / "blobs").iterdir()) == []
    assert set(actions(plan).values()) == {"keep"}


def test_without_symlinks_a_second_revision_takes_its_bytes_from_the_first(tmp_path: Path):
    bring(FILES, HfCache(tmp_path, symlinks=False))

    plan = bring(FILES, HfCache(tmp_path, symlinks=False), commit="d" * 40)

    assert set(actions(plan).values()) == {"link"}
    snapshot = tmp_path / REPO / "snapshots" / ("d" * 40)
    assert {path: (snapshot / path).read_bytes() for path in FILES} == FILES


def test_files_that_lie_in_a_snapshot_are_kept_when_links_are_possible_again(tmp_path: Path):
    bring(FILES, HfCache(tmp_path, symlinks=False))
    before = tree(tmp_path / REPO / "snapshots")

    plan = bring(FILES, HfCache(tmp_path))

    assert set(actions(plan).values()) == {"keep"}
    assert tree(tmp_path / REPO / "snapshots") == before


def test_a_blob_that_came_meanwhile_is_no_trouble(tmp_path: Path):
    layout = HfCache(tmp_path)
    snapshot = a_snapshot(FILES)
    plan = plan_of(snapshot, layout)
    bring(FILES, HfCache(tmp_path))

    carry_out(plan, layout, FILES)

    pointer = tmp_path / REPO / "snapshots" / COMMIT / "config.json"
    assert pointer.read_bytes() == b"{}"


def test_a_file_that_stands_where_the_link_should_go_stays(tmp_path: Path):
    layout = HfCache(tmp_path)
    snapshot = a_snapshot(FILES)
    layout.prepare(snapshot)
    (step,) = (s for s in plan_of(snapshot, layout).steps if s.file.path == "config.json")
    step.target.write_bytes(b"theirs")

    with pytest.raises(TargetTaken, match=r"config\.json is a file that modelbay did not put"):
        carry_out_step(snapshot, step, layout, FILES)

    assert step.target.read_bytes() == b"theirs"


def scanner_accepts(folder: Path) -> bool:
    """What huggingface_hub 2.4 asks of a repo: no ref and no link leads nowhere."""
    refs = [p.read_text() for p in (folder / "refs").rglob("*") if p.is_file()]
    links = [p for p in (folder / "snapshots").rglob("*") if p.is_symlink()]
    return all((folder / "snapshots" / ref).is_dir() for ref in refs) and all(
        link.exists() for link in links
    )


def moments(layout: HfCache, folder: Path) -> Iterator[bool]:
    snapshot = a_snapshot(FILES)
    plan = plan_of(snapshot, layout)
    layout.prepare(snapshot)
    yield scanner_accepts(folder)
    for step in plan.steps:
        carry_out_step(snapshot, step, layout, FILES)
        yield scanner_accepts(folder)


def test_the_scanner_accepts_the_repo_between_any_two_steps(tmp_path: Path):
    assert list(moments(HfCache(tmp_path), tmp_path / REPO)) == [True] * 4


def test_the_record_names_the_blob_and_the_file(tmp_path: Path):
    bring(FILES, HfCache(tmp_path))

    document = json.loads((tmp_path / REPO / ".modelbay/meta" / f"{COMMIT}.json").read_bytes())
    rows = {row["path"]: row["file"] for row in document["files"]}
    assert rows["sub/model.safetensors"] == f"blobs/{sha256(b'weights').hex}"


def test_observed_digests_are_those_of_the_bytes(tmp_path: Path):
    bring(FILES, HfCache(tmp_path))
    blob = tmp_path / REPO / "blobs" / sha256(b"weights").hex

    observed = HfCache(tmp_path).records(a_snapshot(FILES)).observe(blob, ("sha256",))

    assert Digest.sha256(sha256(b"weights").hex) in observed
    assert observed == hash_file(blob)
