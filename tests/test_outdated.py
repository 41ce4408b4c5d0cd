"""Whether sources have something newer than what is here."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.keeping import FILES, WEIGHTS, Desk, desk


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as found:
        found.get("org/model")
        yield found


def test_nothing_newer_is_said_in_one_line(here: Desk):
    ran = here.run("outdated")

    assert (ran.code, ran.out) == (0, "")
    assert ran.err == "0 of 1 model have something newer\n"


def test_a_newer_commit_tells_what_would_be_fetched(here: Desk):
    commit = here.shelf.add("org/model", {**FILES, "model.bin": WEIGHTS + b"more"})

    ran = here.run("outdated", COLUMNS="80")
    (row,) = here.run("outdated", "--json").document["models"]

    assert ran.code == 0
    assert commit[:7] in ran.out
    assert "1 file  140.0 kB" in ran.out
    assert (row["newer"], row["changed"], row["size"]) == (commit, ["model.bin"], 140_004)


def test_a_commit_that_changes_nothing_held_has_nothing_to_fetch(here: Desk):
    here.shelf.add("org/model", {**FILES, "README.md": b"words"})

    (row,) = here.run("outdated", "--json").document["models"]

    assert row["newer"] is not None
    assert (row["changed"], row["size"]) == ([], 0)


def test_a_source_that_cannot_be_asked_is_a_row_and_no_failure(here: Desk):
    here.get("org/other", "--category", "lora")

    ran = here.run("outdated", "--json", HF_HUB_OFFLINE="1")

    assert ran.code == 0
    assert all(row["error"]["message"] for row in ran.document["models"])
    assert ran.err.count("not known: ") == 2


@pytest.mark.real
def test_a_source_that_is_down_is_waited_for_once(here: Desk):
    here.get("org/other", "--category", "lora")
    here.hub.close()
    began = time.monotonic()

    ran = here.run("outdated", "--json")

    assert ran.code == 0
    assert [row["error"]["code"] for row in ran.document["models"]] == ["unreachable"] * 2
    assert time.monotonic() - began < 40
    assert ran.err.count("not known: ") == 2


def test_a_model_that_is_gone_upstream_does_not_stop_the_others(here: Desk):
    here.get("org/other", "--category", "lora")
    here.shelf.rename("org/model", "org/elsewhere")
    here.shelf.add("org/other", {"lora.bin": b"newer"})

    rows = here.run("outdated", "--json").document["models"]

    assert [row["newer"] is not None for row in rows] == [False, True]


def test_a_ref_that_is_a_commit_is_left_out(here: Desk):
    commit = here.shelf.add("org/other", {"lora.bin": b"first"})
    here.get(f"org/other@{commit}", "--category", "lora")
    here.shelf.add("org/other", {"lora.bin": b"second"})

    rows = here.run("outdated", "other", "--json").document["models"]

    assert rows == []


def test_a_lock_is_asked_about_by_its_ids(here: Desk):
    provision = here.home / "models.toml"
    provision.write_text('[models.lora.other]\nsource = "huggingface"\nrepo = "org/other"\n')
    locked = here.run("sync", str(provision), "--yes")
    commit = here.shelf.add("org/other", {"lora.bin": b"newer"})

    (row,) = here.run("outdated", "--lock", str(here.home / "models.lock.toml"), "--json").document[
        "models"
    ]

    assert locked.code == 0, locked.err
    assert (row["model"], row["newer"]) == ("lora/other", commit)
