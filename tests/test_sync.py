"""`modelbay sync`: from a provision file or a lock to files in place."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbay.errors import (
    AccessError,
    DiskError,
    IntegrityError,
    Interrupted,
    ModelbayError,
    ModelNotFound,
    NetworkError,
    NotFound,
    PolicyError,
    TargetTaken,
    UsageError,
    deciding,
)
from modelbay.output.exits import exit_code, worst
from modelbay.serve import Facts, Hub, MemoryShelf
from tests.faults.catalogue import without_length
from tests.faults.server import Content, FaultServer
from tests.layouts import tree
from tests.syncing import Machine

WEIGHTS = random.Random(1).randbytes(200_000)
LORA = random.Random(2).randbytes(50_000)
ASKED = """
folders = "comfyui"
[models.checkpoints.base]
source = "huggingface"
repo = "org/base"
[models.lora.detail]
source = "huggingface"
repo = "org/lora"
file = "lora.bin"
[models.llm.cached]
source = "huggingface"
repo = "org/base"
layout = "hf-cache"
[models.tools.plain]
source = "huggingface"
repo = "org/lora"
layout = "dir"
[models.vae.made]
source = "mock"
files = ["empty.bin"]
"""
ONE = '[models.lora.detail]\nsource = "huggingface"\nrepo = "org/lora"\nfile = "lora.bin"\n'
TWO = ONE + '[models.vae.base]\nsource = "huggingface"\nrepo = "org/base"\nfile = "model.bin"\n'


@pytest.fixture
def shelf() -> MemoryShelf:
    shelf = MemoryShelf()
    shelf.add(
        "org/base",
        {"config.json": b"{}", "model.bin": WEIGHTS, "sub/tokens.json": b"[1]"},
        facts=Facts(licence="apache-2.0"),
    )
    shelf.add("org/lora", {"lora.bin": LORA, "README.md": b"# A lora"})
    return shelf


@pytest.fixture
def hub(shelf: MemoryShelf) -> Iterator[Hub]:
    with Hub(shelf) as hub:
        yield hub


@pytest.fixture
def machine(hub: Hub, tmp_path: Path) -> Machine:
    return Machine(hub, tmp_path / "one")


def asked_of(hub: Hub) -> int:
    return len(hub.log) + len(hub.cdn_log)


def test_a_provision_file_is_locked_beside_it_and_its_models_come_into_place(machine: Machine):
    said = machine.run("sync", machine.write("a.toml", ASKED))

    assert said.code == 0, said.err
    assert (machine.home / "a.lock.toml").is_file()
    assert said.last.startswith("Synced 5 models, 10 files, ")
    assert machine.files() == {
        "ComfyUI/models/checkpoints/base/config.json": b"{}",
        "ComfyUI/models/checkpoints/base/model.bin": WEIGHTS,
        "ComfyUI/models/checkpoints/base/sub/tokens.json": b"[1]",
        "ComfyUI/models/loras/lora.bin": LORA,
        "ComfyUI/models/vae/empty.bin": b"",
        "tools/plain/README.md": b"# A lora",
        "tools/plain/lora.bin": LORA,
    }


def test_a_lock_alone_brings_the_same_names_to_an_empty_machine(
    machine: Machine, hub: Hub, tmp_path: Path
):
    machine.run("sync", machine.write("a.toml", ASKED))
    other = Machine(hub, tmp_path / "two")
    lock = other.write("a.lock.toml", (machine.home / "a.lock.toml").read_text())

    said = other.run("sync", lock)

    assert said.code == 0, said.err
    assert other.files() == machine.files()


def test_the_second_sync_keeps_everything_and_asks_for_no_file(machine: Machine, hub: Hub):
    machine.run("sync", machine.write("a.toml", ASKED))
    before = asked_of(hub)

    said = machine.run("sync", machine.home / "a.lock.toml")

    assert (said.code, asked_of(hub)) == (0, before)
    assert ": 10 kept in " in said.last
    assert not [line for line in said.err.splitlines() if line.lstrip().startswith(("+", "~", "!"))]


def test_a_provision_file_that_is_locked_asks_no_source_again(machine: Machine, hub: Hub):
    asked = machine.write("a.toml", ASKED)
    machine.run("sync", asked)
    lock, before = (machine.home / "a.lock.toml").read_bytes(), asked_of(hub)

    said = machine.run("sync", asked)

    assert (said.code, asked_of(hub)) == (0, before)
    assert (machine.home / "a.lock.toml").read_bytes() == lock
    assert "locked:" not in said.err


def test_the_hubs_cache_is_the_one_its_own_client_makes_but_for_its_listing(
    machine: Machine, hub: Hub, tmp_path: Path
):
    import huggingface_hub

    machine.run("sync", machine.write("a.toml", ASKED))
    theirs = tmp_path / "theirs"
    huggingface_hub.snapshot_download(
        "org/base", cache_dir=theirs, endpoint=hub.endpoint, max_workers=1
    )

    ours = tree(machine.cache, without=lambda path: ".modelbay" in path.parts)
    assert ours == tree(theirs)


@pytest.mark.parametrize(
    ("folders", "names"),
    {
        "sdnext": ["Stable-diffusion/m.bin", "Lora/l.bin", "embeddings/e.bin"],
        "comfyui": ["checkpoints/m.bin", "loras/l.bin", "embeddings/e.bin"],
        "a1111": ["Stable-diffusion/m.bin", "Lora/l.bin", "../embeddings/e.bin"],
        "forge": ["Stable-diffusion/m.bin", "Lora/l.bin", "../embeddings/e.bin"],
        "lmstudio": ["org/base/m.bin", "org/base/l.bin", "org/base/e.bin"],
        "plain": ["checkpoints/m.bin", "lora/l.bin", "embeddings/e.bin"],
    }.items(),
)
def test_a_lock_puts_models_into_the_folders_of_each_application(
    machine: Machine, folders: str, names: list[str]
):
    text = f'folders = "{folders}"\n'
    for category, name in (("checkpoints", "m"), ("lora", "l"), ("embeddings", "e")):
        text += f'[models.{category}.{name}]\nsource = "huggingface"\nrepo = "org/base"\n'
        text += f'file = "model.bin"\nfilename = "{name}.bin"\n'
    machine.run("lock", machine.write("a.toml", text), "--progress", "none")
    root = machine.home / "models"

    said = machine.run("sync", machine.home / "a.lock.toml", "--root", root)

    assert said.code == 0, said.err
    assert all((root / name).read_bytes() == WEIGHTS for name in names)


def test_a_dry_run_shows_the_plan_and_leaves_the_whole_machine_as_it_is(machine: Machine):
    asked = machine.write("a.toml", ASKED)
    before = tree(machine.home)

    said = machine.run("sync", asked, "--dry-run")

    assert said.code == 0, said.err
    assert "+ checkpoints/base: 3 files, 200.0 kB" in said.out
    assert tree(machine.home) == before


def test_a_dry_run_shows_a_size_that_nobody_knows_as_a_question_mark(tmp_path: Path):
    with FaultServer(Content(b"x" * 100), without_length()) as server:
        machine = Machine(None, tmp_path)
        text = f'[models.lora]\none = "{server.url("/a.bin")}"\n'

        said = machine.run("sync", machine.write("a.toml", text), "--dry-run")

    assert said.code == 0, said.err
    assert "+ lora/one: 1 file, ?" in said.out


def test_locked_needs_a_lock_that_is_there(machine: Machine, hub: Hub):
    asked = machine.write("a.toml", ONE)

    said = machine.run("sync", asked, "--locked")

    assert said.code == 2
    assert "has no lock yet" in said.err
    assert asked_of(hub) == 0


def test_locked_names_what_the_lock_does_not_have(machine: Machine):
    asked = machine.write("a.toml", ONE)
    machine.run("sync", asked)
    asked.write_text(TWO)

    said = machine.run("sync", asked, "--locked")

    assert said.code == 2
    assert "vae/base is not in the lock" in said.err
    assert "sdnext/models/VAE/model.bin" not in machine.files()


def test_locked_carries_out_a_lock_that_fits(machine: Machine):
    asked = machine.write("a.toml", ONE)
    machine.run("sync", asked)
    shutil.rmtree(machine.workspace)

    said = machine.run("sync", asked, "--locked")

    assert said.code == 0, said.err
    assert machine.files() == {"sdnext/models/Lora/lora.bin": LORA}


def test_offline_no_server_is_asked_and_what_is_here_is_kept(machine: Machine, hub: Hub):
    machine.run("sync", machine.write("a.toml", ONE))
    before = asked_of(hub)

    kept = machine.run("sync", machine.home / "a.lock.toml", "--offline")
    shutil.rmtree(machine.workspace)
    gone = machine.run("sync", machine.home / "a.lock.toml", "--offline")

    assert (kept.code, gone.code, asked_of(hub)) == (0, 6, before)
    assert "modelbay is offline" in gone.err


def test_one_model_that_is_not_there_stops_no_other(machine: Machine):
    text = TWO + '[models.llm.gone]\nsource = "huggingface"\nrepo = "org/gone"\n'

    said = machine.run("sync", machine.write("a.toml", text))

    assert said.code == 8
    assert "failed: llm/gone (model-not-found, exit 8)" in said.err
    assert said.last.startswith("Synced 2 of 3 models, ")
    assert sorted(machine.files()) == [
        "sdnext/models/Lora/lora.bin",
        "sdnext/models/VAE/model.bin",
    ]
    assert not (machine.home / "a.lock.toml").exists()


def test_one_model_of_a_lock_that_the_policy_refuses_stops_no_other(machine: Machine):
    machine.run("sync", machine.write("a.toml", TWO))
    shutil.rmtree(machine.workspace)
    machine.write("config.toml", 'license_allow = ["apache-2.0"]\n')
    machine.more["MODELBAY_CONFIG"] = str(machine.home / "config.toml")

    said = machine.run("sync", machine.home / "a.lock.toml")

    assert said.code == 4
    assert "failed: lora/detail (policy, exit 4)" in said.err
    assert list(machine.files()) == ["sdnext/models/VAE/model.bin"]


def test_a_file_that_is_not_ours_stays_and_the_rest_comes(machine: Machine):
    asked = machine.write("a.toml", TWO)
    theirs = machine.workspace / "sdnext/models/Lora/lora.bin"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"mine")

    said = machine.run("sync", asked)

    assert said.code == 9
    assert "! lora/detail" in said.err
    assert "failed: lora/detail lora.bin (target-taken, exit 9)" in said.err
    assert theirs.read_bytes() == b"mine"
    assert machine.files()["sdnext/models/VAE/model.bin"] == WEIGHTS


def test_with_replace_a_file_that_is_not_ours_goes_to_the_trash(machine: Machine):
    asked = machine.write("a.toml", ONE)
    theirs = machine.workspace / "sdnext/models/Lora/lora.bin"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"mine")

    said = machine.run("sync", asked, "--replace")

    assert said.code == 0, said.err
    assert "  ~ replace" in said.err
    assert theirs.read_bytes() == LORA
    assert machine.trash() == {"Lora/lora.bin": b"mine"}


def test_json_is_one_document_with_every_model_and_the_exit_code(machine: Machine):
    text = ONE + '[models.llm.gone]\nsource = "huggingface"\nrepo = "org/gone"\n'

    said = machine.run("sync", machine.write("a.toml", text), "--json")
    document = json.loads(said.out)

    assert (said.code, document["exit"]) == (8, 8)
    assert [(one["id"], one["fetched"]) for one in document["models"]] == [("lora/detail", 1)]
    assert [one["ref"] for one in document["failed"]] == ["llm/gone"]
    assert document["error"]["code"] == "model-not-found"


def test_a_python_program_gets_the_report(machine: Machine):
    with machine.bay() as bay:
        report = bay.sync(machine.write("a.toml", TWO))

    assert [outcome.plan.model for outcome in report.outcomes] == ["lora/detail", "vae/base"]
    assert sum(outcome.fetched for outcome in report.outcomes) == 2


def test_a_python_program_gets_the_deciding_failure_after_the_rest_was_done(machine: Machine):
    text = ONE + '[models.llm.gone]\nsource = "huggingface"\nrepo = "org/gone"\n'
    with machine.bay() as bay, pytest.raises(ModelNotFound):
        bay.sync(machine.write("a.toml", text))

    assert list(machine.files()) == ["sdnext/models/Lora/lora.bin"]


def test_the_workspace_and_the_root_are_where_the_command_line_says(machine: Machine):
    asked, elsewhere = machine.write("a.toml", ONE), machine.home / "elsewhere"

    machine.run("sync", asked, "--workspace", elsewhere)
    machine.run("sync", asked, "--root", elsewhere / "root")

    assert (elsewhere / "sdnext/models/Lora/lora.bin").read_bytes() == LORA
    assert (elsewhere / "root/Lora/lora.bin").read_bytes() == LORA


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--background"], "--background needs the queue"),
        (["--deep"], "--check was not given"),
        (["--check", "--exact"], "--exact has no meaning"),
        (["--check", "--dry-run"], "--dry-run has no meaning"),
        (["--trust", "sha256:12"], "is not a sha256 digest"),
        (["--trust", "md5:" + "0" * 32], "is no sha256"),
    ],
)
def test_flags_that_mean_nothing_together_are_refused(
    machine: Machine, hub: Hub, flags: list[str], sentence: str
):
    said = machine.run("sync", machine.write("a.toml", ONE), *flags)

    assert said.code == 2
    assert sentence in said.err
    assert asked_of(hub) == 0


def test_two_processes_that_sync_one_lock_fetch_every_file_once(tmp_path: Path):
    large = random.Random(3).randbytes(24 << 20)
    shelf = MemoryShelf()
    files = {f"part-{n}.bin": large[n:] for n in range(3)} | {"a.json": b"{}", "b.json": b"[]"}
    shelf.add("org/large", files)
    text = 'folders = "plain"\n[models.llm.l]\nsource = "huggingface"\nrepo = "org/large"\n'
    with Hub(shelf) as hub:
        one, both = Machine(hub, tmp_path / "one"), Machine(hub, tmp_path / "both")
        one.run("sync", one.write("a.toml", text))
        lock = both.write("a.lock.toml", (one.home / "a.lock.toml").read_text())

        children = [both.start("sync", lock, "--json") for _ in range(2)]
        said = [child.communicate(timeout=120) for child in children]

    assert [child.returncode for child in children] == [0, 0], said
    documents = [json.loads(out) for out, _ in said]
    counted = [document["models"][0] for document in documents]
    assert sum(model["fetched"] for model in counted) == 5
    assert sum(model["fetched"] + model["kept"] for model in counted) == 10
    # A tail may be asked for by two connections of one process, a whole file by no second one.
    assert sum(document["bytes"] for document in documents) < 1.3 * sum(map(len, files.values()))
    assert both.files() == {f"models/llm/l/{name}": body for name, body in files.items()}


ERRORS = (
    IntegrityError,
    PolicyError,
    AccessError,
    NotFound,
    TargetTaken,
    DiskError,
    NetworkError,
    ModelbayError,
    UsageError,
    Interrupted,
)


@pytest.mark.parametrize("one", ERRORS)
@pytest.mark.parametrize("other", ERRORS)
def test_the_failure_that_stands_for_all_is_the_one_whose_exit_code_it_is(
    one: type[ModelbayError], other: type[ModelbayError]
):
    errors = [one("one"), other("other")]

    found = deciding(errors)

    assert found is not None
    assert exit_code(found) == worst(map(exit_code, errors))


def test_nobody_fails_where_nothing_does():
    assert deciding([]) is None
