"""`modelbay adopt`: what is found is told and indexed, once, and nothing on disk changes."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelbay.bay import Bay
from modelbay.bay.adopting import Adopted
from modelbay.cli import run
from modelbay.commands.adopt import _Teller
from modelbay.config import Settings
from modelbay.library.adopt import Place
from modelbay.library.index import Index
from modelbay.output.face import Face
from modelbay.output.follow import JsonWatch, PlainWatch
from modelbay.paths import state_dir
from modelbay.serve import Hub, MemoryShelf
from tests.adopting import hub_repo, listing, ollama_model, sha256, written

COMMIT = "c" * 40
WEIGHTS = b"weights" * 5000
CONTENTS = {"config.json": b'{"model_type": "llama"}', "model.bin": WEIGHTS}


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    shelf = MemoryShelf()
    shelf.add("org/model", CONTENTS)
    with Hub(shelf) as hub:
        yield hub


def environment(home: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "MODELBAY_STATE_DIR": str(home / "state"),
        "WORKSPACE": str(home / "workspace"),
        **more,
    }


def said(home: Path, *words: str, **more: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = run(words, environ=environment(home, **more), out=out, err=err)
    return code, out.getvalue(), err.getvalue()


def adopted(home: Path, *folders: Path) -> Adopted:
    with Bay.open(settings=Settings(), environ=environment(home)) as bay:
        return bay.adopt(folders)


def index_of(home: Path) -> Index:
    return Index.open(state_dir(environment(home)) / "library.db")


def indexed(home: Path) -> dict[str, set[str]]:
    """Refs in the index with the names of their files."""
    with index_of(home) as index:
        return {
            model.ref: {file.name for file in index.files_of(model)} for model in index.models()
        }


def a_machine(home: Path) -> None:
    """The same weights in the Hub's cache and in Ollama's store; others for ComfyUI."""
    hub_repo(home / "hub", COMMIT, {"model.gguf": WEIGHTS, "config.json": b"{}"})
    ollama_model(home / ".ollama/models", "m:latest", {"model": WEIGHTS, "license": b"MIT"})
    written(home / "workspace/ComfyUI/models/loras/style.safetensors", b"style" * 100)


def test_what_is_there_twice_is_said_in_one_sentence(tmp_path: Path):
    a_machine(tmp_path)

    code, out, err = said(tmp_path, "adopt")

    assert code == 0, err
    assert "70.5 kB in 3 places; 35.0 kB are the same bytes twice" in out
    assert str(tmp_path / f"hub/models--org--m/blobs/{sha256(WEIGHTS)}") in out
    assert "claimed by name" in out


def test_one_document_tells_everything(tmp_path: Path):
    a_machine(tmp_path)

    code, out, _ = said(tmp_path, "adopt", "--json")

    document: dict[str, Any] = json.loads(out)
    assert code == 0
    assert (document["bytes"], document["bytes_twice"]) == (70_505, 35_000)
    assert [(place["kind"], place["models"], place["files"]) for place in document["places"]] == [
        ("hf-cache", 1, 2),
        ("ollama", 1, 2),
        ("folders", 1, 1),
    ]
    (twin,) = document["twins"]
    assert twin["digest"] == f"sha256:{sha256(WEIGHTS)}"
    assert (twin["observed"], len(twin["paths"])) == (False, 2)


def test_everything_found_is_in_the_index_with_claims_that_nobody_observed(tmp_path: Path):
    a_machine(tmp_path)
    adopted(tmp_path)

    lora = tmp_path / "workspace/ComfyUI/models/loras/style.safetensors"
    blob = tmp_path / f"hub/models--org--m/blobs/{sha256(WEIGHTS)}"
    with index_of(tmp_path) as index:
        known = index.at(blob)

    assert indexed(tmp_path) == {
        "hf://org/m": {"model.gguf", "config.json"},
        "ollama://registry.ollama.ai/library/m:latest": {"model.gguf", "license"},
        f"file://{lora}": {"style.safetensors"},
    }
    assert known is not None
    assert [(str(digest), digest.observed) for digest in known.digests] == [
        (f"sha256:{sha256(WEIGHTS)}", False)
    ]
    assert (known.placed, known.verified) == (False, None)


def test_nothing_on_disk_changes(tmp_path: Path):
    a_machine(tmp_path)
    roots = [tmp_path / "hub", tmp_path / ".ollama", tmp_path / "workspace"]
    before = listing(*roots)

    adopted(tmp_path)

    assert listing(*roots) == before


def test_a_second_run_adds_nothing_twice_and_takes_up_what_changed(tmp_path: Path):
    a_machine(tmp_path)
    adopted(tmp_path)
    written(tmp_path / "workspace/ComfyUI/models/vae/new.safetensors")
    before = indexed(tmp_path)

    again = adopted(tmp_path)

    assert again.size == 70_505 + len(b"weights")
    assert len(indexed(tmp_path)) == len(before) + 1


def test_what_vanished_is_forgotten_where_it_was_looked_for(tmp_path: Path):
    a_machine(tmp_path)
    other = written(tmp_path / "elsewhere/x.gguf")
    adopted(tmp_path)
    adopted(tmp_path, other.parent)
    (tmp_path / "workspace/ComfyUI/models/loras/style.safetensors").unlink()
    (tmp_path / "hub/models--org--m/snapshots" / COMMIT / "config.json").unlink()
    (tmp_path / "hub/models--org--m/blobs" / sha256(b"{}")).unlink()
    other.unlink()

    found = adopted(tmp_path)

    assert sum(place.forgotten for place in found.places) == 2
    assert indexed(tmp_path) == {
        "hf://org/m": {"model.gguf"},
        "ollama://registry.ollama.ai/library/m:latest": {"model.gguf", "license"},
        f"file://{other}": {"x.gguf"},
    }


def test_nothing_is_forgotten_in_a_place_that_was_not_seen_whole(tmp_path: Path):
    root = tmp_path / "models"
    gone = written(root / "gone.gguf")
    adopted(tmp_path, root)
    gone.unlink()
    written(root / Path(*["d"] * 40) / "deep.gguf")

    (place,) = adopted(tmp_path, root).places

    assert not place.whole
    assert indexed(tmp_path) == {f"file://{gone}": {"gone.gguf"}}


def test_a_revision_that_lost_its_ref_is_the_same_model_under_its_commit(tmp_path: Path):
    repo = hub_repo(tmp_path / "hub", COMMIT, {"a.gguf": WEIGHTS})
    adopted(tmp_path)
    (repo / "refs/main").unlink()

    (place,) = adopted(tmp_path).places

    assert place.detached == 1
    assert list(indexed(tmp_path)) == [f"hf://org/m@{COMMIT}"]


def test_names_of_one_inode_are_not_there_twice(tmp_path: Path):
    hub_repo(tmp_path / "hub", COMMIT, {"a.gguf": WEIGHTS})
    blob = tmp_path / f"hub/models--org--m/blobs/{sha256(WEIGHTS)}"
    store = ollama_model(tmp_path / ".ollama/models", "m:latest", {"model": WEIGHTS}).parents[4]
    (store / f"blobs/sha256-{sha256(WEIGHTS)}").unlink()
    (store / f"blobs/sha256-{sha256(WEIGHTS)}").hardlink_to(blob)

    found = adopted(tmp_path)

    assert (found.size, found.twice) == (len(WEIGHTS), 0)
    assert [place.size for place in found.places] == [len(WEIGHTS)] * 2


def test_two_revisions_that_share_a_blob_hold_it_once(tmp_path: Path):
    hub_repo(tmp_path / "hub", COMMIT, {"a.gguf": WEIGHTS})
    hub_repo(tmp_path / "hub", "d" * 40, {"a.gguf": WEIGHTS})

    (place,) = adopted(tmp_path).places

    assert (place.models, place.files, place.size) == (2, 1, len(WEIGHTS))


def test_equal_sizes_without_a_digest_are_not_the_same(tmp_path: Path):
    root = tmp_path / "models"
    written(root / "a.gguf", WEIGHTS)
    written(root / "b.gguf", WEIGHTS)

    assert adopted(tmp_path, root).twice == 0


def test_a_damaged_blob_is_listed_and_is_nobodys_twin(tmp_path: Path):
    a_machine(tmp_path)
    blob = tmp_path / f"hub/models--org--m/blobs/{sha256(WEIGHTS)}"
    blob.write_bytes(b"")

    _, out, _ = said(tmp_path, "adopt")

    assert f"damaged: {blob}: 0 bytes: damaged by name" in out
    assert "none of it is known to be there twice" in out


def test_a_damaged_blob_is_what_verify_finds(tmp_path: Path):
    a_machine(tmp_path)
    (tmp_path / f"hub/models--org--m/blobs/{sha256(WEIGHTS)}").write_bytes(b"")
    adopted(tmp_path)

    code, out, err = said(tmp_path, "verify")

    assert code == 5, out + err


def test_a_damaged_blob_is_not_linked(hub: Hub, tmp_path: Path):
    ollama_model(tmp_path / ".ollama/models", "m:latest", {"model": WEIGHTS})
    (tmp_path / f".ollama/models/blobs/sha256-{sha256(WEIGHTS)}").write_bytes(b"")
    adopted(tmp_path)

    get = ("get", "org/model", "--to", str(tmp_path / "own"), "--include", "*.bin", "--yes")
    code, _, err = said(tmp_path, *get, HF_ENDPOINT=hub.endpoint)

    assert code == 0, err
    assert "1 fetched" in err


def test_what_modelbay_brought_keeps_its_name_and_what_was_observed(hub: Hub, tmp_path: Path):
    more = {"HF_ENDPOINT": hub.endpoint}
    code, _, err = said(tmp_path, "get", "org/model", "--layout", "hf-cache", "--yes", **more)
    assert code == 0, err
    code, _, err = said(tmp_path, "get", "org/model", "--category", "llm", "--yes", **more)
    assert code == 0, err
    before = indexed(tmp_path)

    found = adopted(tmp_path)

    with index_of(tmp_path) as index:
        known = index.at(tmp_path / f"hub/models--org--model/blobs/{sha256(WEIGHTS)}")
    assert indexed(tmp_path) == before
    assert known is not None
    assert known.placed
    assert [digest.observed for digest in known.digests] == [True] * len(known.digests)
    assert len(found.places) == 2


def test_bytes_that_modelbay_read_are_known_to_be_there_twice(hub: Hub, tmp_path: Path):
    get = ("get", "org/model", "--category", "llm", "--include", "*.bin", "--yes")
    code, _, err = said(tmp_path, *get, HF_ENDPOINT=hub.endpoint)
    ollama_model(tmp_path / ".ollama/models", "m:latest", {"model": WEIGHTS})

    (twin,) = adopted(tmp_path).twins

    assert code == 0, err
    assert {Path(path).name for path in twin.paths} == {"model.bin", f"sha256-{sha256(WEIGHTS)}"}


def test_a_file_that_got_a_better_name_since_is_listed_under_that_alone(hub: Hub, tmp_path: Path):
    path = written(tmp_path / "workspace/sdnext/models/llm/model/model.bin", WEIGHTS)
    written(path.with_name("config.json"), CONTENTS["config.json"])
    adopted(tmp_path)
    assert list(indexed(tmp_path)) == [f"file://{path.parent}"]

    get = ("get", "org/model", "--category", "llm", "--yes")
    code, _, err = said(tmp_path, *get, HF_ENDPOINT=hub.endpoint)
    (place,) = adopted(tmp_path).places

    assert code == 0, err
    assert list(indexed(tmp_path)) == [f"hf://org/model?endpoint={hub.endpoint}"]
    assert (place.files, place.forgotten) == (2, 0)


def test_a_cache_that_was_adopted_before_it_was_brought_is_listed_once(hub: Hub, tmp_path: Path):
    more = {"HF_ENDPOINT": hub.endpoint}
    with Bay.open(settings=Settings(), environ=environment(tmp_path)) as bay:
        ref = f"hf://org/model?endpoint={hub.endpoint}"
        commit = bay.resolve(bay.parse(ref)).revision
    hub_repo(tmp_path / "hub", commit, {"model.bin": WEIGHTS}, "org/model")
    adopted(tmp_path)
    assert indexed(tmp_path) == {"hf://org/model": {"model.bin"}}

    code, _, err = said(tmp_path, "get", "org/model", "--layout", "hf-cache", "--yes", **more)
    adopted(tmp_path)

    assert code == 0, err
    assert indexed(tmp_path) == {ref: set(CONTENTS)}


def test_an_adopted_file_is_linked_in_place_of_being_fetched(hub: Hub, tmp_path: Path):
    ollama_model(tmp_path / ".ollama/models", "m:latest", {"model": WEIGHTS})
    adopted(tmp_path)
    before = len(hub.cdn_log)

    get = ("get", "org/model", "--to", str(tmp_path / "own"), "--include", "*.bin")
    code, _, err = said(tmp_path, *get, "--yes", HF_ENDPOINT=hub.endpoint)

    assert code == 0, err
    assert (tmp_path / "own/model.bin").read_bytes() == WEIGHTS
    assert len(hub.cdn_log) == before
    assert "1 linked" in err


def test_an_adopted_file_whose_name_lies_is_fetched_all_the_same(hub: Hub, tmp_path: Path):
    store = tmp_path / ".ollama/models"
    ollama_model(store, "m:latest", {"model": WEIGHTS})
    written(store / f"blobs/sha256-{sha256(WEIGHTS)}", b"garbage" * 5000)
    adopted(tmp_path)

    get = ("get", "org/model", "--to", str(tmp_path / "own"), "--include", "*.bin")
    code, _, err = said(tmp_path, *get, "--yes", HF_ENDPOINT=hub.endpoint)

    assert code == 0, err
    assert (tmp_path / "own/model.bin").read_bytes() == WEIGHTS


def test_a_machine_without_models_is_told_what_to_do(tmp_path: Path):
    code, out, err = said(tmp_path, "adopt")

    assert (code, out) == (0, "")
    assert "no models were found" in err
    assert "`modelbay adopt DIR`" in err


def test_a_folder_that_is_not_there_is_exit_8(tmp_path: Path):
    code, _, err = said(tmp_path, "adopt", str(tmp_path / "none"))

    assert code == 8
    assert "is no folder on this machine" in err


def test_names_that_steer_a_terminal_reach_none(tmp_path: Path):
    root = tmp_path / "models"
    written(root / "evil\x1b[2J.gguf")
    written(root / "a.gguf")

    _, out, err = said(tmp_path, "adopt", str(root))

    assert "\x1b" not in out + err
    assert "note: " in err


def a_face() -> tuple[Face, io.StringIO]:
    err = io.StringIO()

    def no_bay(**_: object) -> Bay:
        raise AssertionError("nobody opens a Bay here")

    return Face({}, no_bay, io.StringIO(), err), err


@pytest.mark.parametrize("began", [0.0, float("inf")], ids=["long ago", "just now"])
def test_a_look_that_takes_long_says_where_it_is(tmp_path: Path, began: float):
    face, err = a_face()
    with _Teller(face, PlainWatch(face), began) as teller:
        teller.tell(Place("dir", tmp_path), 12_345)
        teller.tell(Place("dir", tmp_path), 12_346)

    expected = f"looking through {tmp_path}: 12,345 names so far\n"
    assert err.getvalue() == (expected if began == 0.0 else "")


def test_programs_hear_where_the_look_is(tmp_path: Path):
    face, err = a_face()
    with _Teller(face, JsonWatch(face), 0.0) as teller:
        teller.tell(Place("dir", tmp_path), 7)

    event = json.loads(err.getvalue())
    assert (event["event"], event["path"], event["names"]) == ("looking", str(tmp_path), 7)
