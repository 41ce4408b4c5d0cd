"""rm, trash and prune from the command line: shown first, to the trash, and back."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir

from tests.keeping import WEIGHTS, Desk, desk
from tests.layouts import tree


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as found:
        yield found


def models_only(path: Path) -> bool:
    return ".modelbay" in path.parts or ".locks" in path.parts


def cache_of(here: Desk) -> dict[str, str]:
    return tree(here.repo.parent, without=models_only)


def test_rm_goes_to_the_trash_and_restore_brings_all_of_it_back(here: Desk):
    here.get("org/model")
    here.get("org/model@dev")
    before, listed = cache_of(here), here.listed()

    removed = here.run("rm", "org/model", "--yes")
    gone, left = here.listed(), scan_cache_dir(here.repo.parent)
    restored = here.run("trash", "restore", "org/model")

    assert (removed.code, restored.code) == (0, 0)
    assert "`modelbay trash restore org/model` brings it back" in removed.err
    assert gone == []
    assert left.warnings == []
    assert cache_of(here) == before
    assert here.listed() == listed
    assert here.run("get", "org/model", "--dry-run", "--json").document["bytes_to_fetch"] == 0


def test_a_dry_run_shows_what_it_frees_and_moves_nothing(here: Desk):
    here.get("org/model")
    before = tree(here.home / ".cache")

    ran = here.run("rm", "org/model", "--dry-run")
    document = here.run("rm", "org/model", "--dry-run", "--json").document

    assert ran.code == 0
    assert "2 files to the trash; emptying it frees" in ran.out
    assert document["frees"] >= len(WEIGHTS)
    assert tree(here.home / ".cache") == before


def test_without_anybody_to_ask_nothing_is_done(here: Desk):
    here.get("org/other", "--category", "lora")

    ran = here.run("rm", "org/other")

    assert ran.code == 2
    assert "add --yes" in ran.err
    assert here.listed() == ["hf://org/other"]


def test_one_revision_goes_and_the_shared_bytes_stay(here: Desk):
    here.get("org/model")
    here.get("org/model@dev")

    ran = here.run("rm", "org/model@dev", "--yes")

    assert ran.code == 0
    assert "its bytes stay" in ran.err
    assert here.listed() == ["hf://org/model"]
    assert next(here.repo.glob("snapshots/*/model.bin")).read_bytes() == WEIGHTS


def test_one_file_of_a_model_goes(here: Desk):
    file = here.get("org/model", "--to", str(here.home / "plain")) / "model.bin"

    ran = here.run("rm", "hf://org/model/model.bin", "--yes")

    assert ran.code == 0
    assert not file.exists()
    assert (file.parent / "config.json").exists()


def test_several_refs_are_one_document(here: Desk):
    here.get("org/model")
    here.get("org/other", "--category", "lora")

    document = here.run("rm", "org/model", "org/other", "--yes", "--json").document

    assert document["removed"] == 3
    assert here.listed() == []


def test_an_unknown_ref_is_not_found_and_the_near_name_is_said(here: Desk):
    here.get("org/model")

    ran = here.run("rm", "org/modle", "--yes")

    assert ran.code == 8
    assert "did you mean hf://org/model" in ran.err


def test_a_file_that_another_model_has_in_the_same_place_stays(here: Desk):
    here.shelf.add("org/copy", {"lora.bin": b"lora" * 500})
    here.get("org/other", "--to", str(here.home / "plain"))
    here.get("org/copy", "--to", str(here.home / "plain"))

    ran = here.run("rm", "org/other", "--yes")

    assert ran.code == 9
    assert "needs it too" in ran.err
    assert (here.home / "plain/lora.bin").exists()


def test_what_another_program_brought_stays_and_is_named(here: Desk):
    folder = here.home / "workspace/ComfyUI/models/loras"
    folder.mkdir(parents=True)
    (folder / "theirs.safetensors").write_bytes(b"theirs")
    here.run("adopt", str(folder.parent))

    ran = here.run("rm", str(folder / "theirs.safetensors"), "--yes")

    assert ran.code == 9
    assert "theirs.safetensors  stays: modelbay did not put it there" in ran.err
    assert ran.err.endswith("nothing was removed\n")
    assert (folder / "theirs.safetensors").read_bytes() == b"theirs"


def test_a_model_of_a_lock_goes_by_its_id(here: Desk):
    provision = here.home / "models.toml"
    provision.write_text('[models.lora.other]\nsource = "huggingface"\nrepo = "org/other"\n')
    here.run("sync", str(provision), "--yes")

    ran = here.run("rm", "lora/other", "--yes")

    assert ran.code == 0
    assert not (here.home / "workspace/sdnext/models/Lora/lora.bin").exists()


def test_a_restore_into_a_taken_name_is_refused(here: Desk):
    file = here.get("org/other", "--category", "lora")
    here.run("rm", "org/other", "--yes")
    file.write_bytes(b"mine")

    ran = here.run("trash", "restore", str(file))

    assert ran.code == 9
    assert file.read_bytes() == b"mine"


def test_trash_lists_bundles_and_empties_them_by_id_and_by_age(here: Desk):
    here.get("org/model")
    here.get("org/other", "--category", "lora")
    here.run("rm", "org/model", "--yes")
    here.run("rm", "org/other", "--yes")

    listed = here.run("trash", COLUMNS="80")
    (second, first) = here.run("trash", "ls", "--json").document["bundles"]
    young = here.run("trash", "empty", "--older", "7", "--yes")
    one = here.run("trash", "empty", first["id"], "--yes", "--json").document
    rest = here.run("trash", "empty", "--yes")

    assert "org/model" in listed.out
    assert max(map(len, listed.out.splitlines())) <= 80
    assert young.err == "there was nothing to delete\n"
    assert one["freed"] == first["frees"] >= len(WEIGHTS)
    assert rest.err.startswith("Deleted 1 bundle: ")
    assert second["refs"][0].startswith("hf://org/other")
    assert here.run("trash").err == "the trash is empty\n"
    assert not here.repo.exists()


def test_what_is_too_old_goes_with_the_next_write(here: Desk):
    here.get("org/other", "--to", str(here.home / "plain"))
    here.run("rm", "org/other", "--yes")

    here.get("org/other", "--to", str(here.home / "plain"), "--include", "*.bin")
    kept = here.run("trash", "ls", "--json").document["bundles"]
    here.run("rm", "org/other", "--yes")
    ran = here.run("get", "org/other", "--to", str(here.home / "plain"), MODELBAY_TRASH_DAYS="0")

    assert ran.code == 0, ran.err
    assert len(kept) == 1
    assert here.run("trash", "ls", "--json").document["bundles"] == []


def test_a_full_disk_says_what_the_trash_would_free(here: Desk):
    here.get("org/model")
    here.run("rm", "org/model", "--yes")

    ran = here.run("get", "org/model", MODELBAY_RESERVE="99%")

    assert ran.code == 7
    assert "`modelbay trash empty` frees 1" in ran.err


def test_prune_shows_why_and_takes_what_nobody_needs(here: Desk):
    here.get("org/other", "--to", str(here.home / "plain"))
    part = here.home / "plain/.modelbay/parts/abc.part"
    part.write_bytes(b"half")
    index_knows_the_place = here.run("prune", "--dry-run", "--all")

    today = here.run("prune", "--json", "--dry-run").document
    ran = here.run("prune", "--all", "--yes")

    assert "1 partial downloads" in index_knows_the_place.out
    assert "safe because nobody is fetching it" in index_knows_the_place.out
    assert today["litter"] == []
    assert "Took 1 thing away" in ran.err
    assert not part.exists()
    assert (here.home / "plain/lora.bin").exists()


def test_prune_takes_a_revision_without_a_ref_only_when_asked(here: Desk):
    commit = here.shelf.add("org/model", {"config.json": b"pinned"}, branch="pinned")
    here.get(f"org/model@{commit}")

    unasked = here.run("prune", "--dry-run", "--json").document["litter"]
    ran = here.run("prune", "--revisions", "--yes")

    assert unasked == []
    assert "1 revisions of the Hub's cache without a ref" in ran.err
    assert here.listed() == []
    assert scan_cache_dir(here.repo.parent).warnings == []


def test_nothing_to_prune_is_one_sentence(here: Desk):
    ran = here.run("prune")

    assert (ran.code, ran.out) == (0, "")
    assert ran.err.startswith("there is nothing to prune")


def test_what_a_reflink_or_a_hard_link_keeps_is_not_promised(here: Desk):
    file = here.get("org/other", "--to", str(here.home / "plain"))
    os.link(file, here.home / "another name")

    ran = here.run("rm", "org/other", "--dry-run")

    assert "stay under other names (hard links)" in ran.out
    assert "frees 0 B" in ran.out


def test_a_file_that_the_model_has_not_is_not_found(here: Desk):
    here.get("org/model")

    ran = here.run("rm", "hf://org/model/modle.bin", "--yes")

    assert ran.code == 8
    assert "did you mean model.bin?" in ran.err


def test_what_a_stopped_removal_took_away_leaves_the_library_with_the_next_one(here: Desk):
    folder = here.get("org/model", "--to", str(here.home / "plain"))
    for name in ("config.json", "model.bin"):
        (folder / name).unlink()

    ran = here.run("rm", "org/model", "--yes")

    assert ran.code == 0
    assert here.listed() == []
    assert list((folder / ".modelbay/meta").iterdir()) == []
