"""The library written down: what was exported brings the same files to an empty machine."""

import hashlib
import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbay.bay import Bay
from modelbay.bay.exported import There, sums_of
from modelbay.cli import run
from modelbay.digest import Digest
from modelbay.library.index import IndexedFile, IndexedModel
from modelbay.provision import read_lock
from modelbay.serve import Hub, demo_shelf


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub(demo_shelf()) as hub:
        yield hub


class Machine:
    """A home of its own, its workspace in it."""

    def __init__(self, home: Path, hub: Hub) -> None:
        self.home = home
        self.workspace = home / "workspace"
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "HF_HOME": str(home / "hf"),
            "HF_ENDPOINT": hub.endpoint,
            "WORKSPACE": str(self.workspace),
        }

    def run(self, *argv: str, code: int = 0) -> tuple[str, str]:
        out, err = io.StringIO(), io.StringIO()
        done = run(argv, environ=self.environ, out=out, err=err)
        assert done == code, err.getvalue()
        return out.getvalue(), err.getvalue()

    def lock(self, asked: Path, lock: Path) -> None:
        with Bay.open(environ=self.environ) as bay:
            bay.lock(asked, lock)

    def bring(self, lock: Path) -> None:
        with Bay.open(environ=self.environ) as bay:
            work = bay.carry(bay.plans_of(lock))
            assert work.wait(60)
            assert not [row.error for row in work.rows if row.error]

    def tree(self) -> dict[str, str]:
        """Every file of a model by its path, links followed, with its sha256."""
        return {
            str(path.relative_to(self.home)): hashlib.sha256(path.read_bytes()).hexdigest()
            for top in (self.workspace, self.home / "hf")
            for path in sorted(top.rglob("*"))
            if path.is_file() and not {".modelbay", ".locks", "trees", "refs"} & set(path.parts)
            and path.name != "CACHEDIR.TAG"
        }  # fmt: skip


@pytest.fixture
def full(hub: Hub, tmp_path: Path) -> Machine:
    """A machine with models in folders, in the Hub's cache and in a plain folder."""
    machine = Machine(tmp_path / "one", hub)
    get = ("get", "--progress", "none", "--yes")
    machine.run(*get, "demo/tiny-llm")
    machine.run(*get, "demo/sharded-llm", "--category", "checkpoints")
    machine.run(*get, "hf://demo/gguf-quants", "--variant", "Q4_K_M", "--category", "llm")
    machine.run(*get, "hf://demo/tiny-llm@main/model.safetensors", "--category", "lora")
    machine.run(*get, "mock://demo/made-up", "--to", str(machine.workspace / "papers/made-up"))
    url = f"url:{hub.endpoint}/demo/tiny-llm/resolve/main/tokenizer.json"
    machine.run(*get, url, "--category", "embeddings")
    return machine


def test_a_provision_file_of_the_library_brings_the_same_files_to_an_empty_machine(
    full: Machine, hub: Hub, tmp_path: Path
):
    asked, lock = tmp_path / "mine.toml", tmp_path / "mine.lock.toml"
    full.run("export", str(asked))
    other = Machine(tmp_path / "two", hub)
    other.lock(asked, lock)
    other.bring(lock)

    assert other.tree() == full.tree()
    assert len(full.tree()) > 20


def test_a_lock_of_the_library_brings_the_same_files_to_an_empty_machine(
    full: Machine, hub: Hub, tmp_path: Path
):
    lock = tmp_path / "mine.lock.toml"
    full.run("export", "--lock", str(lock))
    other = Machine(tmp_path / "two", hub)
    other.bring(lock)

    assert other.tree() == full.tree()


def test_a_lock_of_the_library_names_the_revision_that_the_cache_is_asked_by(
    full: Machine, hub: Hub, tmp_path: Path
):
    lock = tmp_path / "mine.lock.toml"
    full.run("export", "--lock", str(lock), "hf://demo/tiny-llm")
    other = Machine(tmp_path / "two", hub)
    other.bring(lock)

    cache = "hf/hub/models--demo--tiny-llm/refs/main"
    assert (other.home / cache).read_text() == (full.home / cache).read_text()


def test_revisions_are_pinned_and_an_address_gets_a_hash(full: Machine, hub: Hub, tmp_path: Path):
    asked = tmp_path / "mine.toml"
    full.run("export", str(asked))
    with Bay.open(environ=full.environ) as bay:
        entries = {entry.id: entry for entry in bay.provision(asked).entries}
        commit = bay.resolve(bay.parse("demo/sharded-llm")).revision

    assert entries["checkpoints/sharded-llm"].keys["revision"] == commit
    assert entries["embeddings/tokenizer.json"].pin is not None
    assert set(entries) == {
        "checkpoints/sharded-llm", "llm/gguf-quants", "lora/tiny-llm", "models/tiny-llm",
        "models/made-up", "embeddings/tokenizer.json",
    }  # fmt: skip


def test_only_the_models_that_are_named_are_written(full: Machine, tmp_path: Path):
    asked = tmp_path / "mine.toml"
    out, _ = full.run("export", str(asked), "mock://demo/made-up", "--json")

    assert [model["id"] for model in json.loads(out)["models"]] == ["models/made-up"]
    with Bay.open(environ=full.environ) as bay:
        assert [entry.id for entry in bay.provision(asked).entries] == ["models/made-up"]


def test_sha256sum_finds_every_file_in_order(full: Machine):
    sums = full.workspace / "SHA256SUMS"
    full.run("export", "--format", "sha256sums", str(sums))

    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", sums.name], cwd=full.workspace, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.count(": OK\n") == len(sums.read_text().splitlines())
    papers = [line for line in sums.read_text().splitlines() if "papers/made-up" in line]
    assert all(line.partition("  ")[2].startswith("papers/") for line in papers)
    assert len(papers) == 3


def test_names_with_a_backslash_or_a_line_break_are_escaped_as_coreutils_does(tmp_path: Path):
    held = []
    for name in ("plain", "back\\slash", "line\nbreak", "re\rturn", " -lead", "ümlaut\\n"):
        path = tmp_path / name
        path.write_text(name, newline="")
        digest = Digest.sha256(hashlib.sha256(path.read_bytes()).hexdigest(), observed=True)
        model = IndexedModel("mock://a/b", "1", "dir", tmp_path, "mock://a/b")
        held.append(There(model, {name: IndexedFile.seen(path, [digest], name=name)}))
    (tmp_path / "SUMS").write_bytes(b"".join(sums_of(held, tmp_path)))

    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SUMS"], cwd=tmp_path, capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.count(b": OK\n") == 6


def test_a_provision_file_that_is_there_is_added_to_and_its_comments_stay(
    full: Machine, tmp_path: Path
):
    asked = tmp_path / "mine.toml"
    before = (
        "# What we use\n"
        "\n"
        "# the small one\n"
        "[models.lora.tiny-llm]   # ask Ann\n"
        'source = "huggingface"\n'
        'repo = "demo/tiny-llm"\n'
        'include = ["model.*"]\n'
        'revision = "main"        # moves\n'
        "\n"
        "[models.vae]\n"
        'mine = "mock://demo/vae"\n'
    )
    asked.write_text(before)
    full.run("export", str(asked))

    after = asked.read_text()
    kept = [line for line in before.splitlines() if "revision" not in line]
    lines = iter(after.splitlines())
    assert all(line in lines for line in kept)
    assert '"        # moves' in after
    assert 'revision = "main" ' not in after
    assert (
        "file = " not in after.partition("[models.vae]")[0].partition("[models.lora.tiny-llm]")[2]
    )
    with Bay.open(environ=full.environ) as bay:
        assert len(bay.provision(asked).entries) == 7


def test_what_is_exported_again_changes_nothing(full: Machine, tmp_path: Path):
    asked = tmp_path / "mine.toml"
    full.run("export", str(asked))
    first = asked.read_bytes()
    full.run("export", str(asked))

    assert asked.read_bytes() == first


@pytest.mark.parametrize("form", [("--lock",), ("--format", "sha256sums")])
def test_a_lock_or_a_list_that_is_there_is_written_anew_only_when_asked(
    full: Machine, tmp_path: Path, form: tuple[str, ...]
):
    file = tmp_path / "mine"
    file.write_text("mine")
    _, err = full.run("export", *form, str(file), code=9)
    stayed = file.read_text()
    full.run("export", *form, str(file), "--replace")

    assert "add --replace" in err
    assert stayed == "mine"
    assert file.read_text() != "mine"


def test_a_provision_file_for_another_application_is_not_mixed(full: Machine, tmp_path: Path):
    asked = tmp_path / "mine.toml"
    asked.write_text('folders = "comfyui"\n[models.vae]\nx = "mock://a/b"\n')
    before = asked.read_bytes()
    _, err = full.run("export", str(asked), code=2)

    assert "is for comfyui, and these models lie for sdnext" in err
    assert asked.read_bytes() == before


def test_a_model_that_is_not_here_is_told_and_nothing_is_written(full: Machine, tmp_path: Path):
    _, err = full.run("export", str(tmp_path / "a.toml"), "demo/tiny-lm", code=8)

    assert "tiny-lm is not in the library of this machine" in err
    assert not (tmp_path / "a.toml").exists()


def test_an_empty_library_writes_nothing(hub: Hub, tmp_path: Path):
    Machine(tmp_path, hub).run("export", str(tmp_path / "a.toml"), code=8)

    assert not (tmp_path / "a.toml").exists()


def test_a_file_that_changed_since_is_read_before_a_lock_says_what_it_is(
    full: Machine, tmp_path: Path
):
    file = full.workspace / "papers/made-up/config.json"
    file.write_text("{}")
    lock = tmp_path / "mine.lock.toml"
    _, err = full.run("export", "--lock", str(lock), "mock://demo/made-up")

    (model,) = read_lock(lock).models
    digests = {str(row.path): row.sha256 for row in model.files}
    assert "reading 1 file" in err
    assert digests["config.json"]
    assert digests["config.json"].hex == hashlib.sha256(b"{}").hexdigest()


def test_a_model_outside_the_workspace_is_spoken_of(hub: Hub, tmp_path: Path):
    machine = Machine(tmp_path / "one", hub)
    machine.run("get", "mock://demo/made-up", "--to", str(tmp_path / "elsewhere"))
    _, err = machine.run("export", str(tmp_path / "a.toml"))

    assert f"lies in {tmp_path}/elsewhere, outside the workspace" in err
    assert 'dir = "models/made-up"' in (tmp_path / "a.toml").read_text()


def test_a_file_that_is_gone_is_left_out_and_said(hub: Hub, tmp_path: Path):
    machine = Machine(tmp_path / "one", hub)
    machine.run("get", "mock://demo/made-up", "--category", "lora")
    shutil.rmtree(next(machine.workspace.rglob("Lora")))
    machine.run("export", str(tmp_path / "a.toml"), code=8)


def test_what_other_programs_left_is_written_too_and_what_nobody_could_fetch_is_named(
    full: Machine, hub: Hub, tmp_path: Path
):
    for home in list(full.home.rglob(".modelbay")):
        shutil.rmtree(home)
    shutil.rmtree(full.home / ".local")
    full.run("adopt")
    lock = tmp_path / "mine.lock.toml"
    _, err = full.run("export", "--lock", str(lock))
    full.run("export", "--format", "sha256sums", str(tmp_path / "SUMS"))

    assert "reading " in err
    assert "is left out: nothing here could fetch file://" in err
    assert {model.id for model in read_lock(lock).models} == {"models/tiny-llm"}
    assert "Stable-diffusion/" in (tmp_path / "SUMS").read_text()
    other = Machine(tmp_path / "two", hub)
    other.bring(lock)
    cache = {name: sha for name, sha in full.tree().items() if name.startswith("hf/")}
    assert other.tree() == cache


def test_bytes_that_are_not_what_their_name_claims_get_into_no_lock(full: Machine, tmp_path: Path):
    shutil.rmtree(full.home / ".local")
    for home in list(full.home.rglob(".modelbay")):
        shutil.rmtree(home)
    full.run("adopt")
    blob = max((full.home / "hf").rglob("blobs/*"), key=lambda path: path.stat().st_size)
    stat, content = blob.stat(), bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    os.utime(blob, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    lock = tmp_path / "mine.lock.toml"
    _, err = full.run("export", "--lock", str(lock), code=5)

    assert f"{blob} is said to be sha256:{blob.name}" in err
    assert not lock.exists()
