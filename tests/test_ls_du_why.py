"""What is here, what it takes, and who needs it."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbay.output.tables import age, bar, cells_of, middle
from tests.keeping import WEIGHTS, Desk, desk


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as found:
        yield found


def test_an_empty_library_says_what_to_do(here: Desk):
    for command in ("ls", "du"):
        ran = here.run(command)

        assert (ran.code, ran.out) == (0, "")
        assert "modelbay get" in ran.err
        assert "modelbay adopt" in ran.err


def test_ls_shows_every_model_whole_to_a_pipe(here: Desk):
    here.get("org/model")
    here.get("org/other", "--category", "lora")

    ran = here.run("ls")

    heading, model, other = ran.out.splitlines()
    assert heading.split() == ["MODEL", "REVISION", "WHERE", "FILES", "SIZE", "VERIFIED"]
    assert model.split()[0::2] == ["org/model", "hf-cache", "140.0", "now"]
    assert "~/workspace/sdnext/models/Lora" in other
    assert ran.err == "2 models, 142.0 kB\n"


def test_ls_and_du_fit_eighty_columns(here: Desk):
    here.shelf.add("org/a-name-that-is-so-long-that-no-terminal-has-room-for-it", {"a.bin": b"a"})
    here.get("org/a-name-that-is-so-long-that-no-terminal-has-room-for-it", "--category", "lora")

    lines = [
        line
        for command in (["ls"], ["ls", "-l"], ["du", "-m"])
        for line in here.run(*command, COLUMNS="80").out.splitlines()
        if not line.startswith("  in ")
    ]

    assert len(lines) > 8
    assert max(map(len, lines)) <= 80


def test_ls_filters_by_text_layout_and_source(here: Desk):
    here.get("org/model")
    here.get("org/other", "--category", "lora")

    def models(*options: str) -> int:
        return len(here.run("ls", "--json", *options).document["models"])

    assert (models("OTHER"), models("--layout", "hf-cache"), models("--source", "url")) == (1, 1, 0)
    assert "no model in the library is like that" in here.run("ls", "nothing").err


def test_ls_names_files_and_tells_ours_from_others(here: Desk):
    here.get("org/model")

    ran = here.run("ls", "--files")
    (document,) = here.run("ls", "--json").document["models"]

    assert "config.json" in ran.out
    assert [file["name"] for file in document["files"]] == ["config.json", "model.bin"]
    assert all(file["placed"] and "sha256" in file["observed"] for file in document["files"])
    assert document["ours"] == 2


def test_a_model_on_a_disk_that_is_not_mounted_is_marked(here: Desk):
    here.get("org/other", "--category", "lora")
    (file,) = here.home.rglob("library.db")
    with sqlite3.connect(file) as database:
        database.execute(
            "UPDATE volume SET key = 'uuid:not-here/', point = CAST('/not/here' AS BLOB)"
        )
    database.close()

    ran = here.run("ls")
    used = here.run("du", "--json").document

    assert "org/other (detached)" in ran.out
    assert [ref.partition("?")[0] for ref in used["detached"]] == ["hf://org/other"]


def test_du_counts_bytes_that_revisions_share_once(here: Desk):
    here.get("org/model")
    here.get("org/model@dev")

    document = here.run("du", "--json").document

    (place,) = document["places"]
    assert place["size"] > 2 * len(WEIGHTS)
    assert len(WEIGHTS) <= place["on_disk"] < 2 * len(WEIGHTS)
    assert document["volumes"][0]["library"] >= place["on_disk"]


def test_du_shows_what_the_trash_takes(here: Desk):
    here.get("org/other", "--category", "lora")
    here.run("rm", "org/other", "--yes")

    ran = here.run("du")

    assert ".modelbay/trash" in ran.out


def test_why_tells_who_brought_a_file_and_who_needs_it(here: Desk):
    folder = here.get("org/model")
    here.get("org/model@dev")
    name = next(folder.glob("snapshots/*/model.bin"))

    ran = here.run("why", str(name))
    document = here.run("why", str(name), "--json").document

    assert ran.code == 0
    assert "modelbay put it there from hf://org/model" in ran.out
    assert ran.out.count("needed by hf://org/model") == 2
    assert document["ours"]
    assert document["path"] == str(name.resolve())
    assert len(document["models"]) == 2


def test_why_names_other_files_with_the_same_bytes(here: Desk):
    first = here.get("org/other", "--category", "lora")
    second = here.get("org/other", "--to", str(here.home / "again"))

    document = here.run("why", str(first), "--json").document

    assert str(second) in document["same_file"] + document["same_bytes"]


def test_why_of_a_file_that_is_not_ours_says_so(here: Desk):
    mine = here.home / "mine.bin"
    mine.write_bytes(b"mine")

    ran = here.run("why", str(mine))

    assert ran.code == 0
    assert "not modelbay's: it never touches this file" in ran.out
    assert "needed by nothing that modelbay knows of" in ran.out


def test_why_of_a_file_that_changed_says_whose_it_is_now(here: Desk):
    file = here.get("org/other", "--category", "lora")
    file.write_bytes(b"edited")

    ran = here.run("why", str(file))

    assert "changed since modelbay put it there" in ran.out


def test_why_names_the_lock_that_has_the_bytes(here: Desk):
    provision = here.home / "models.toml"
    provision.write_text('[models.lora.other]\nsource = "huggingface"\nrepo = "org/other"\n')
    synced = here.run("sync", str(provision), "--yes")
    lock = here.home / "models.lock.toml"
    file = here.home / "workspace/sdnext/models/Lora/lora.bin"

    ran = here.run("why", str(file), "--lock", str(lock))

    assert synced.code == 0, synced.err
    assert f"locked in {lock} as lora/other: lora.bin" in ran.out


def test_why_of_what_is_not_there_is_not_found(here: Desk):
    ran = here.run("why", str(here.home / "nothing.bin"))

    assert ran.code == 8
    assert "there is no file" in ran.err


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("short", 10, "short"),
        ("0123456789", 7, "012…789"),
        ("模型模型模型", 7, "模…型"),
        ("ab", 1, "a…"),
    ],
)
def test_a_name_is_cut_in_its_middle(text: str, width: int, expected: str):
    cut = middle(text, width)

    assert cut == expected
    assert cells_of(cut) <= max(2, width)


def test_ages_and_bars_have_few_characters():
    ages = [age(0, now) for now in (0, 61, 90_000, 10_000_000, 10**9)]

    assert [*ages, age(None)] == ["now", "1m", "1d", "115d", "31y", "never"]
    assert bar(0.5, 4, ascii_only=True) == "##.."


def test_a_library_that_lost_its_index_lists_the_same(here: Desk):
    here.get("org/model")
    here.get("org/other", "--category", "lora")
    before = here.listed()
    (file,) = here.home.rglob("library.db")
    for path in file.parent.glob("library.db*"):
        path.unlink()

    assert here.listed() == before
