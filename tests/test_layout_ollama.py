"""Ollama's own store: what its daemon would find there, and what stays its own."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.ollama import OllamaDouble, sha256, weights
from tests.syncing import Machine

WEIGHTS = weights("a", 200_000)
LAYERS = {"model": WEIGHTS, "license": b"MIT License\n", "params": b"{}"}


@pytest.fixture
def double() -> Iterator[OllamaDouble]:
    with OllamaDouble() as double:
        double.put("library/m:1", LAYERS, {"model_format": "gguf"})
        double.put("library/m:2", LAYERS | {"params": b'{"top_k":2}'}, {"model_format": "gguf"})
        yield double


@pytest.fixture
def user(double: OllamaDouble, tmp_path: Path) -> Machine:
    return Machine(None, tmp_path, {"MODELBAY_OLLAMA_ENDPOINT": double.registry})


def store(user: Machine) -> Path:
    return user.home / ".ollama/models"


def tree(user: Machine) -> set[str]:
    """What Ollama sees."""
    found = (path.relative_to(store(user)) for path in store(user).rglob("*") if path.is_file())
    return {path.as_posix() for path in found if path.parts[0] != ".modelbay"}


def blobs(*bodies: bytes) -> set[str]:
    return {f"blobs/sha256-{sha256(body)}" for body in bodies}


def manifest(double: OllamaDouble, tag: str) -> str:
    return f"manifests/{double.host}/library/m/{tag}"


def config() -> bytes:
    return json.dumps({"model_format": "gguf"}).encode() + b"\n"


def test_the_store_is_what_ollama_itself_writes(double: OllamaDouble, user: Machine):
    assert user.run("get", "ollama:m:1").code == 0

    assert tree(user) == {manifest(double, "1")} | blobs(*LAYERS.values(), config())
    written = (store(user) / manifest(double, "1")).read_bytes()
    assert written == double.manifests["library/m:1"]


def test_the_store_is_where_ollama_models_says(double: OllamaDouble, tmp_path: Path):
    where = tmp_path / "elsewhere"
    more = {"MODELBAY_OLLAMA_ENDPOINT": double.registry, "OLLAMA_MODELS": str(where)}

    assert Machine(None, tmp_path, more).run("get", "ollama:m:1").code == 0
    assert (where / manifest(double, "1")).is_file()


def test_files_can_be_read_by_the_service_of_another_user(double: OllamaDouble, user: Machine):
    before = os.umask(0o022)
    try:
        assert user.run("get", "ollama:m:1").code == 0
    finally:
        os.umask(before)

    modes = {(store(user) / name).stat().st_mode & 0o777 for name in tree(user)}
    assert modes == {0o644}


def test_a_blob_that_two_models_have_is_fetched_once(double: OllamaDouble, user: Machine):
    assert user.run("get", "ollama:m:1", "ollama:m:2").code == 0

    asked = [one.path for one in double.asked_store if sha256(WEIGHTS) in one.path]
    assert len(asked) == 1
    assert {manifest(double, "1"), manifest(double, "2")} <= tree(user)


def test_without_one_of_its_blobs_a_model_is_not_listed(double: OllamaDouble, user: Machine):
    double.gone = {f"sha256:{sha256(WEIGHTS)}"}

    assert user.run("get", "ollama:m:1").code == 8
    assert manifest(double, "1") not in tree(user)


def test_the_next_run_lists_it(double: OllamaDouble, user: Machine):
    double.gone = {f"sha256:{sha256(WEIGHTS)}"}
    user.run("get", "ollama:m:1")
    double.gone = set()

    assert user.run("get", "ollama:m:1").code == 0
    assert manifest(double, "1") in tree(user)


def test_a_damaged_blob_is_replaced(double: OllamaDouble, user: Machine):
    assert user.run("get", "ollama:m:1").code == 0
    blob = store(user) / next(iter(blobs(WEIGHTS)))
    blob.write_bytes(WEIGHTS[:-1] + b"!")

    assert user.run("get", "ollama:m:1").code == 0
    assert blob.read_bytes() == WEIGHTS


def test_a_blob_that_ollama_fetched_itself_is_kept(double: OllamaDouble, user: Machine):
    blob = store(user) / next(iter(blobs(WEIGHTS)))
    blob.parent.mkdir(parents=True)
    blob.write_bytes(WEIGHTS)
    inode = blob.stat().st_ino

    said = user.run("get", "ollama:m:1")

    assert said.code == 0
    assert "1 kept" in said.err
    assert blob.stat().st_ino == inode
    assert not any(sha256(WEIGHTS) in one.path for one in double.asked_store)


def test_a_tag_that_moved_takes_the_place_of_our_own(double: OllamaDouble, user: Machine):
    assert user.run("get", "ollama:m:1").code == 0
    double.manifests["library/m:1"] = double.manifests["library/m:2"]

    assert user.run("get", "ollama:m:1").code == 0
    written = (store(user) / manifest(double, "1")).read_bytes()
    assert written == double.manifests["library/m:2"]


def test_a_tag_that_ollama_pulled_is_left_alone(double: OllamaDouble, user: Machine):
    path = store(user) / manifest(double, "1")
    path.parent.mkdir(parents=True)
    path.write_bytes(double.manifests["library/m:2"])

    said = user.run("get", "ollama:m:1")

    assert said.code == 9
    assert path.read_bytes() == double.manifests["library/m:2"]


def test_a_part_of_a_model_goes_to_no_store(double: OllamaDouble, user: Machine):
    said = user.run("get", "ollama:m:1", "--include", "model.gguf")

    assert said.code == 2
    assert "holds whole models" in said.err
    assert not store(user).exists()


def test_what_is_removed_is_what_no_other_model_needs(double: OllamaDouble, user: Machine):
    assert user.run("get", "ollama:m:1", "ollama:m:2").code == 0

    said = user.run("rm", "ollama:m:1", "--yes")

    assert said.code in {0, 9}, said.err
    wanted = blobs(WEIGHTS, b"MIT License\n", b'{"top_k":2}', config())
    assert tree(user) == {manifest(double, "2")} | wanted


def test_a_blob_that_a_model_of_ollamas_own_names_stays(double: OllamaDouble, user: Machine):
    assert user.run("get", "ollama:m:1").code == 0
    own = store(user) / "manifests/registry.ollama.ai/library/own/latest"
    own.parent.mkdir(parents=True)
    own.write_bytes(double.manifests["library/m:2"])

    user.run("rm", "ollama:m:1", "--yes")

    assert blobs(WEIGHTS, b"MIT License\n") <= tree(user)
    assert manifest(double, "1") not in tree(user)


def test_a_manifest_that_nobody_can_read_keeps_every_blob(double: OllamaDouble, user: Machine):
    assert user.run("get", "ollama:m:1").code == 0
    own = store(user) / "manifests/registry.ollama.ai/library/own/latest"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"half a manif")

    user.run("rm", "ollama:m:1", "--yes")

    assert blobs(*LAYERS.values(), config()) <= tree(user)


def test_one_file_of_a_model_that_is_listed_stays(double: OllamaDouble, user: Machine):
    assert user.run("get", "ollama:m:1").code == 0
    before = tree(user)

    ref = f"ollama://{double.host}/library/m:1/model.gguf?endpoint={double.registry}"
    user.run("rm", ref, "--yes")

    assert tree(user) == before


def test_what_was_removed_comes_back(double: OllamaDouble, user: Machine):
    assert user.run("get", "ollama:m:1").code == 0
    before = tree(user)
    assert user.run("rm", "ollama:m:1", "--yes").code == 0
    assert not tree(user)

    assert user.run("trash", "restore", "ollama:m:1").code == 0
    assert tree(user) == before
    assert user.run("verify", "ollama:m:1").code == 0


def test_verify_mends_a_blob(double: OllamaDouble, user: Machine):
    assert user.run("get", "ollama:m:1").code == 0
    blob = store(user) / next(iter(blobs(WEIGHTS)))
    blob.write_bytes(WEIGHTS[:-1] + b"!")

    assert user.run("verify", "--repair", "ollama:m:1").code == 0
    assert blob.read_bytes() == WEIGHTS


def test_exact_takes_away_what_the_lock_has_not(double: OllamaDouble, user: Machine):
    assert user.run("get", "ollama:m:1").code == 0
    entry = '[models.llm.m]\nsource = "ollama"\nmodel = "m"\ntag = "2"\nlayout = "ollama"\n'
    provision = user.write("team.toml", entry)

    said = user.run("sync", "--exact", "--yes", provision)

    assert said.code == 0, said.err
    wanted = blobs(WEIGHTS, b"MIT License\n", b'{"top_k":2}', config())
    assert tree(user) == {manifest(double, "2")} | wanted


def test_the_library_is_exported_and_put_there_again(
    double: OllamaDouble, user: Machine, tmp_path: Path
):
    assert user.run("get", "ollama:m:1").code == 0
    assert user.run("export", user.home / "out.toml").code == 0
    other = Machine(None, tmp_path / "other", user.more)

    said = other.run("sync", other.write("out.toml", (user.home / "out.toml").read_text()))

    assert said.code == 0, said.err
    assert tree(other) == tree(user)


def test_the_index_is_made_again_from_what_lies_there(double: OllamaDouble, user: Machine):
    assert user.run("get", "ollama:m:1").code == 0
    for path in (user.home / "state").rglob("library.db*"):
        path.unlink()

    assert "library/m:1" in user.run("ls").out


def test_adopting_knows_the_files_by_the_same_names(double: OllamaDouble, user: Machine):
    assert user.run("get", "ollama:m:1").code == 0

    said = user.run("adopt", store(user))

    assert said.code == 0
    listed = json.loads(user.run("ls", "--files", "--json").out)
    assert "model.gguf" in json.dumps(listed)


def test_a_model_is_listed_with_the_digits_that_ollama_shows(double: OllamaDouble, user: Machine):
    assert user.run("get", "ollama:m:1").code == 0

    assert f" {sha256(double.manifests['library/m:1'])[:7]} " in user.run("ls").out


def test_what_a_tag_stands_for_now_is_told(double: OllamaDouble, user: Machine):
    assert user.run("get", "ollama:m:1").code == 0
    double.manifests["library/m:1"] = double.manifests["library/m:2"]

    said = user.run("outdated")

    assert f" {sha256(double.manifests['library/m:2'])[:7]} " in said.out
    assert "2 files" in said.out


def test_a_factory_names_a_registry_of_ones_own(double: OllamaDouble, user: Machine):
    text = f'[sources.lab]\ntype = "ollama"\nregistry = "{double.registry}"\n'
    provision = user.write("team.toml", text + '[models.llm]\nm = "lab:m:1"\n')

    assert user.run("sync", provision).code == 0
    assert {"llm/m/model.gguf", "llm/m/manifest.json"} <= {
        name.partition("models/")[2] for name in user.files()
    }


def test_an_entry_of_which_a_part_is_wanted_has_no_place_in_the_store(
    double: OllamaDouble, user: Machine
):
    text = '[models.llm.m]\nsource = "ollama"\nmodel = "m"\ntag = "1"\nfile = "model.gguf"\n'

    said = user.run("sync", user.write("team.toml", text + 'layout = "ollama"\n'))

    assert said.code == 2
    assert "holds whole models" in said.err
    assert user.run("sync", user.write("flat.toml", text)).code == 0
