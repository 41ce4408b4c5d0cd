"""`sync --check`, which only looks, and `sync --exact`, which takes away what is ours."""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbay.serve import Hub, MemoryShelf
from tests.layouts import tree
from tests.syncing import Machine, Said

BODY = random.Random(1).randbytes(200_000)
OTHER = random.Random(2).randbytes(1000)
ONE = '[models.llm.one]\nsource = "huggingface"\nrepo = "org/one"\n'
TWO = '[models.llm.two]\nsource = "huggingface"\nrepo = "org/two"\n'
CACHED = ONE + 'layout = "hf-cache"\n'
AT = "sdnext/models/llm"


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    shelf = MemoryShelf()
    old = shelf.add("org/one", {"config.json": b"{}", "old.bin": OTHER}, branch="old")
    shelf.tag("org/one", "v1", old)
    shelf.add("org/one", {"config.json": b"{}", "model.bin": BODY})
    shelf.add("org/two", {"two.bin": OTHER, "sub/three.json": b"[]"})
    with Hub(shelf) as hub:
        yield hub


@pytest.fixture
def machine(hub: Hub, tmp_path: Path) -> Machine:
    return Machine(hub, tmp_path)


def synced(machine: Machine, text: str) -> Path:
    """`text` locked and synced; its lock."""
    said = machine.run("sync", machine.write("a.toml", text))
    assert said.code == 0, said.err
    return machine.home / "a.lock.toml"


def flipped(path: Path, *, quietly: bool = False) -> None:
    """One byte of `path` is another; `quietly`, it has the same time as before."""
    status, raw = path.stat(), bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    if quietly:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def exact(machine: Machine, text: str, *flags: str) -> Said:
    (machine.home / "a.lock.toml").unlink(missing_ok=True)
    return machine.run("sync", machine.write("a.toml", text), "--exact", *flags)


def test_a_synced_lock_is_checked_with_exit_0_and_nothing_on_stdout(machine: Machine):
    lock = synced(machine, ONE + TWO + CACHED.replace(".one", ".cached"))

    plain, deep = (
        machine.run("sync", lock, "--check"),
        machine.run("sync", lock, "--check", "--deep"),
    )

    assert [(said.code, said.out) for said in (plain, deep)] == [(0, ""), (0, "")]
    assert plain.last.startswith("Checked 3 models, 6 files, ")
    assert deep.last.endswith("(every byte read): all as locked")


@pytest.mark.parametrize("quietly", [True, False])
def test_a_flipped_byte_is_found_by_deep_alone(machine: Machine, *, quietly: bool):
    lock = synced(machine, ONE)
    flipped(machine.workspace / AT / "one/model.bin", quietly=quietly)

    plain, deep = (
        machine.run("sync", lock, "--check"),
        machine.run("sync", lock, "--check", "--deep"),
    )

    assert (plain.code, deep.code) == (0, 1)
    assert "llm/one: model.bin: " in deep.out
    assert " instead of sha256:" in deep.out


def test_a_flipped_byte_in_the_hubs_cache_is_found(machine: Machine):
    lock = synced(machine, CACHED)
    (name,) = machine.cache.glob("models--org--one/snapshots/*/model.bin")
    flipped(name.resolve(), quietly=True)

    said = machine.run("sync", lock, "--check", "--deep")

    assert said.code == 1
    assert "llm/one: model.bin: " in said.out


def test_names_and_sizes_that_differ_are_told_and_nothing_is_written(machine: Machine):
    lock = synced(machine, ONE + TWO)
    (machine.workspace / AT / "one/model.bin").unlink()
    (machine.workspace / AT / "two/two.bin").write_bytes(b"short")
    before = tree(machine.home)

    said = machine.run("sync", lock, "--check")

    assert said.code == 1
    missing, short = said.out.splitlines()
    assert missing == f"llm/one: model.bin: {machine.workspace / AT}/one/model.bin is missing"
    assert short.endswith("two/two.bin has 5 bytes instead of 1000")
    assert tree(machine.home) == before


def test_a_link_in_the_hubs_cache_that_leads_elsewhere_is_told(machine: Machine):
    lock = synced(machine, CACHED)
    (name,) = machine.cache.glob("models--org--one/snapshots/*/model.bin")
    name.unlink()
    name.symlink_to("/etc/passwd")

    said = machine.run("sync", lock, "--check")

    assert said.code == 1
    assert "llm/one: model.bin: " in said.out


def test_a_provision_file_that_has_no_lock_or_another_differs(machine: Machine):
    asked = machine.write("a.toml", ONE)

    unlocked = machine.run("sync", asked, "--check")
    machine.run("sync", asked)
    asked.write_text(ONE + TWO)
    stale = machine.run("sync", asked, "--check")

    assert (unlocked.code, stale.code) == (1, 1)
    assert "has no lock yet" in unlocked.out
    assert stale.out == "llm/two is not in the lock\n"


def test_check_as_json_names_every_difference(machine: Machine):
    lock = synced(machine, TWO)
    (machine.workspace / AT / "two/two.bin").unlink()

    said = machine.run("sync", lock, "--check", "--json")
    document = json.loads(said.out)

    assert (said.code, document["exit"]) == (1, 1)
    assert [(one["model"], one["path"]) for one in document["differences"]] == [
        ("llm/two", "two.bin")
    ]


def test_exact_takes_away_what_is_ours_and_not_in_the_lock(machine: Machine):
    synced(machine, ONE + TWO)

    said = exact(machine, ONE)

    assert said.code == 0, said.err
    assert "- hf://org/two" in said.err
    assert said.last.partition(" in ")[0].endswith(": 2 kept, 2 removed")
    assert sorted(machine.files()) == [f"{AT}/one/config.json", f"{AT}/one/model.bin"]
    assert machine.trash() == {"llm/two/two.bin": OTHER, "llm/two/sub/three.json": b"[]"}


def test_without_exact_nothing_is_taken_away(machine: Machine):
    synced(machine, ONE + TWO)
    before = machine.files()
    (machine.home / "a.lock.toml").unlink()

    said = machine.run("sync", machine.write("a.toml", ONE))

    assert said.code == 0, said.err
    assert machine.files() == before


def test_exact_touches_no_file_that_is_not_ours_or_was_changed_since(machine: Machine):
    synced(machine, ONE + TWO)
    root = machine.workspace / "sdnext/models"
    mine, changed = root / "Lora/mine.safetensors", root / "llm/two/two.bin"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    changed.write_bytes(b"edited by the user")

    said = exact(machine, ONE)

    assert said.code == 0, said.err
    assert (mine.read_bytes(), changed.read_bytes()) == (b"mine", b"edited by the user")
    assert machine.trash() == {"llm/two/sub/three.json": b"[]"}


def test_what_exact_would_take_away_is_shown_by_a_dry_run_that_writes_nothing(machine: Machine):
    synced(machine, ONE + TWO)
    lock = synced(machine, ONE)
    before = tree(machine.home)

    said = machine.run("sync", lock, "--exact", "--dry-run")

    assert said.code == 0, said.err
    assert "  - remove   1.0 kB  two.bin" in said.out
    assert "; 2 files to remove, 1.0 kB" in said.out
    assert tree(machine.home) == before


def test_exact_takes_nothing_away_where_something_fails(machine: Machine):
    synced(machine, ONE + TWO)
    before = machine.files()

    said = exact(machine, ONE + '[models.llm.gone]\nsource = "huggingface"\nrepo = "org/gone"\n')

    assert said.code == 8
    assert "nothing was removed" in said.err
    assert machine.files() == before


def test_exact_leaves_other_roots_alone(machine: Machine):
    synced(machine, 'folders = "comfyui"\n' + TWO)

    said = exact(machine, ONE)

    assert said.code == 0, said.err
    assert machine.files()["ComfyUI/models/llm/two/two.bin"] == OTHER


def test_exact_takes_an_older_revision_out_of_the_hubs_cache(machine: Machine):
    synced(machine, CACHED + 'revision = "v1"\n')

    said = exact(machine, CACHED)

    assert said.code == 0, said.err
    snapshots = list(machine.cache.glob("models--org--one/snapshots/*/*"))
    assert sorted(path.name for path in snapshots) == ["config.json", "model.bin"]
    assert all(path.exists() for path in snapshots)


def test_exact_leaves_a_revision_that_the_hubs_own_client_fetched(machine: Machine, hub: Hub):
    import huggingface_hub

    synced(machine, CACHED)
    huggingface_hub.snapshot_download(
        "org/one", revision="v1", cache_dir=machine.cache, endpoint=hub.endpoint, max_workers=1
    )

    said = exact(machine, CACHED)

    assert said.code == 0, said.err
    assert len(list(machine.cache.glob("models--org--one/snapshots/*"))) == 2
