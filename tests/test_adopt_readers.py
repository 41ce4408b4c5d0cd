"""What other programs left is read as they mean it, and nothing hostile in it is followed."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbay.digest import Digest, find
from modelbay.errors import FileNotFound
from modelbay.files import hash_file
from modelbay.library.adopt import PATH, FoundModel, Place, given_places, standard_places
from modelbay.serve import Hub, MemoryShelf
from tests.adopting import (
    found,
    found_in,
    hub_repo,
    listing,
    ollama_layer,
    ollama_model,
    one,
    sha256,
    written,
)

FILES = {
    "config.json": b'{"model_type": "llama"}',
    "empty.txt": b"",
    "sub/deeper/tokenizer.json": b"tokens",
    "sub/model.safetensors": b"weights" * 1000,
}
COMMIT = "c" * 40
FIXTURES = Path(os.environ.get("MODELBAY_FIXTURES", Path(__file__).parents[2] / "shared/fixtures"))


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    shelf = MemoryShelf()
    shelf.add("org/model", FILES)
    shelf.add("org/model", {**FILES, "config.json": b"{}"}, branch="feature/x")
    with Hub(shelf) as hub:
        yield hub


def real_client(hub: Hub, script: str, home: Path, **more: str) -> Path:
    """The cache that huggingface_hub itself wrote."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        **more,
    }
    whole = f"from huggingface_hub import *\n{script}"
    command = [sys.executable, "-P", "-c", whole]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return home / "hub"


BOTH = (
    "for revision in ('main', 'feature/x'):"
    " snapshot_download('org/model', revision=revision, max_workers=1)"
)


def assert_every_claim_is_true(model: FoundModel) -> None:
    for file in model.files:
        (claim,) = file.digests
        assert not claim.observed
        assert find(hash_file(Path(file.path), (claim.algorithm,)), claim.algorithm) == claim


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_the_cache_of_the_real_client_is_read_with_true_claims(
    hub: Hub, tmp_path: Path, *, links: bool
):
    more = {} if links else {"HF_HUB_DISABLE_SYMLINKS": "1"}
    cache = real_client(hub, BOTH, tmp_path, **more)

    models, look = found(Place("hf-cache", cache))

    assert [model.ref for model in models] in (
        ["hf://org/model", "hf://org/model@feature%2Fx"],
        ["hf://org/model@feature%2Fx", "hf://org/model"],
    )
    assert (look.notes, look.whole) == ([], True)
    for model in models:
        assert {file.name for file in model.files} == set(FILES)
        assert model.root == str(cache / "models--org--model")
        assert not model.detached
        assert_every_claim_is_true(model)


def test_a_download_into_a_folder_is_told_with_its_commit_and_claims(hub: Hub, tmp_path: Path):
    folder = tmp_path / "own"
    written(folder / "other.safetensors")
    real_client(hub, f"snapshot_download('org/model', local_dir={str(folder)!r})", tmp_path)

    models, _ = found_in(folder)

    brought = one([model for model in models if model.revision])
    assert {file.name for file in brought.files} == set(FILES)
    assert_every_claim_is_true(brought)
    other = one([model for model in models if not model.revision])
    assert other.ref == PATH + str(folder / "other.safetensors")


def test_a_file_changed_since_its_download_claims_nothing(hub: Hub, tmp_path: Path):
    folder = tmp_path / "own"
    real_client(hub, f"snapshot_download('org/model', local_dir={str(folder)!r})", tmp_path)
    path = written(folder / "sub/model.safetensors", b"other" * 1400)
    later = path.stat().st_mtime + 60
    os.utime(path, (later, later))

    (file,) = (f for f in one(found_in(folder)[0]).files if f.name == "sub/model.safetensors")

    assert file.digests == ()


def test_datasets_and_spaces_have_refs_of_their_own(tmp_path: Path):
    for kind in ("datasets", "spaces"):
        repo = hub_repo(tmp_path, COMMIT, {"a.txt": b"text"})
        repo.rename(tmp_path / f"{kind}--org--m")

    models, _ = found_in(tmp_path)

    assert [model.ref for model in models] == ["hf://datasets/org/m", "hf://spaces/org/m"]


def test_a_revision_without_a_ref_is_named_by_its_commit_and_detached(tmp_path: Path):
    repo = hub_repo(tmp_path, COMMIT, {"a.gguf": b"a"})
    (repo / "refs/main").unlink()

    model = one(found_in(tmp_path)[0])

    assert (model.ref, model.detached) == (f"hf://org/m@{COMMIT}", True)


def test_a_link_whose_blob_is_gone_is_told_as_broken(tmp_path: Path):
    repo = hub_repo(tmp_path, COMMIT, {"a.gguf": b"a", "b.gguf": b"b"})
    (repo / "blobs" / sha256(b"a")).unlink()

    model = one(found_in(tmp_path)[0])

    assert [file.name for file in model.files] == ["b.gguf"]
    (trouble,) = model.troubles
    assert "a.gguf is broken" in trouble


def test_a_link_out_of_its_repository_is_not_followed(tmp_path: Path):
    secret = written(tmp_path / "secret.txt", b"mine")
    repo = hub_repo(tmp_path / "hub", COMMIT, {"a.gguf": b"a"})
    (repo / "snapshots" / COMMIT / "b.gguf").symlink_to(secret)
    (repo / "snapshots" / COMMIT / "c.gguf").symlink_to("../../../../secret.txt")

    model = one(found_in(tmp_path / "hub")[0])

    assert [file.name for file in model.files] == ["a.gguf"]
    assert len(model.troubles) == 2
    assert all("leads out of its repository" in trouble for trouble in model.troubles)


def test_a_blob_that_is_a_link_counts_only_where_the_cache_shares_it(tmp_path: Path):
    content, xet = b"shared", "7" * 64
    cache = tmp_path / "hub"
    repo = hub_repo(cache, COMMIT, {"a.gguf": content, "b.gguf": b"elsewhere"})
    payload = written(cache / "blobs/77" / xet, content)
    (repo / "blobs" / sha256(content)).unlink()
    (repo / "blobs" / sha256(content)).symlink_to(f"../../blobs/77/{xet}")
    (repo / "blobs" / sha256(b"elsewhere")).unlink()
    (repo / "blobs" / sha256(b"elsewhere")).symlink_to(written(tmp_path / "secret.txt"))

    model = one(found_in(cache)[0])

    (file,) = model.files
    assert (file.path, file.size) == (str(payload), len(content))
    assert file.digests == (Digest.sha256(sha256(content)),)
    assert "b.gguf is broken" in model.troubles[0]


def test_an_empty_blob_named_by_the_digest_of_something_is_damaged(tmp_path: Path):
    repo = hub_repo(tmp_path, COMMIT, {"a.gguf": b"a", "empty.txt": b""})
    (repo / "blobs" / sha256(b"a")).write_bytes(b"")

    model = one(found_in(tmp_path)[0])

    assert {file.name: file.damage for file in model.files} == {
        "a.gguf": "0 bytes: damaged by name",
        "empty.txt": "",
    }
    assert {file.name: len(file.digests) for file in model.files} == {"a.gguf": 1, "empty.txt": 1}


def test_partials_are_no_files_of_a_model(tmp_path: Path):
    repo = hub_repo(tmp_path, COMMIT, {"a.gguf": b"a"})
    written(repo / "blobs/feed.12345678.incomplete")
    written(repo / ".modelbay/parts/x.part")

    models, look = found_in(tmp_path)

    assert [file.name for file in one(models).files] == ["a.gguf"]
    assert look.notes == []


def test_blobs_that_no_snapshot_leads_to_are_noted_with_their_size(tmp_path: Path):
    repo = hub_repo(tmp_path, COMMIT, {"a.gguf": b"a"})
    written(repo / "blobs" / ("e" * 64), b"12345")

    _, look = found_in(tmp_path)

    assert look.notes == ["hf://org/m has 1 blob of 5 bytes that no snapshot leads to"]


def test_a_store_of_ollama_is_read_by_its_manifests(tmp_path: Path):
    layers = {"projector": b"eyes", "model": b"weights", "license": b"MIT", "config": b"{}\n"}
    manifest = ollama_model(tmp_path, "llama3:8b", layers)

    model = one(found_in(tmp_path)[0])

    assert model.ref == "ollama://registry.ollama.ai/library/llama3:8b"
    assert model.revision == f"sha256:{sha256(manifest.read_bytes())}"
    assert [file.name for file in model.files] == [
        *("projector.gguf", "model.gguf", "license", "config.json"),
    ]
    assert_every_claim_is_true(model)


def test_layers_of_one_kind_get_names_that_differ_and_equal_ones_count_once(tmp_path: Path):
    first = ollama_layer(tmp_path, "license", b"MIT")
    second = ollama_layer(tmp_path, "license", b"Apache")
    document = {"layers": [first, second, first]}
    path = tmp_path / "manifests/registry.ollama.ai/library/m/latest"
    written(path, json.dumps(document).encode())

    model = one(found_in(tmp_path)[0])

    assert [file.name for file in model.files] == ["license", "license-2"]


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="the recorded store is not here")
def test_the_recorded_store_is_read_and_its_missing_blobs_are_told():
    models, look = found_in(FIXTURES / "ollama/disk")

    assert [model.ref for model in models] == [
        "ollama://registry.ollama.ai/library/gemma:2b",
        "ollama://registry.ollama.ai/library/llama3.2:3b",
    ]
    assert models[0].revision.startswith("sha256:b50d6c999e59")
    assert models[1].revision.startswith("sha256:a80c4f17acd5")
    assert all("is not whole" in trouble for model in models for trouble in model.troubles)
    assert len(models[0].troubles) == 5
    assert len(look.notes) == 1


def test_a_blob_of_another_size_than_its_manifest_says_is_damaged(tmp_path: Path):
    ollama_model(tmp_path, "m:latest", {"model": b"weights"})
    (tmp_path / f"blobs/sha256-{sha256(b'weights')}").write_bytes(b"wei")

    (file,) = one(found_in(tmp_path)[0]).files

    assert file.damage == "3 bytes instead of 7"
    assert file.digests == (Digest.sha256(sha256(b"weights")),)


BAD_MANIFESTS = {
    "no JSON": b"<html>",
    "a list": b"[]",
    "nested beyond reason": b"[" * 200_000,
    "no digest": b'{"layers": [{"mediaType": "x", "size": 1}]}',
    "a path for a digest": b'{"layers": [{"mediaType": "x", "digest": "sha256:../../x",'
    b' "size": 1}]}',
    "a size in words": b'{"layers": [{"mediaType": "x", "digest": "sha256:'
    + b"a" * 64
    + b'", "size": "1"}]}',
}


@pytest.mark.parametrize("content", BAD_MANIFESTS.values(), ids=list(BAD_MANIFESTS))
def test_a_manifest_that_is_none_is_noted_and_the_others_are_read(content: bytes, tmp_path: Path):
    bad = ollama_model(tmp_path, "bad:latest", {"model": b"bad"})
    ollama_model(tmp_path, "good:latest", {"model": b"good"})
    bad.write_bytes(content)

    models, look = found_in(tmp_path)

    assert [model.ref for model in models] == ["ollama://registry.ollama.ai/library/good:latest"]
    assert any("bad/latest was skipped" in note for note in look.notes)


def test_a_manifest_of_100_megabytes_is_not_read(tmp_path: Path):
    bad = ollama_model(tmp_path, "bad:latest", {"model": b"bad"})
    os.truncate(bad, 100 << 20)

    models, look = found_in(tmp_path)

    assert models == []
    assert any("bad/latest was skipped" in note for note in look.notes)


def test_names_of_manifests_that_ollama_has_not_are_skipped(tmp_path: Path):
    ollama_model(tmp_path, "good:latest", {"model": b"good"})
    library = tmp_path / "manifests/registry.ollama.ai/library"
    written(library / "good/\x1b[2Jevil", b"{}")
    written(library / "...three/latest", b"{}")
    written(library / "good/deep/er", b"{}")

    models, look = found_in(tmp_path)

    assert len(models) == 1
    assert len(look.notes) == 2
    assert not any("\x1b" in note for note in look.notes)


def test_folders_of_an_application_tell_the_category(tmp_path: Path):
    root = tmp_path / "ComfyUI/models"
    written(root / "loras/style.safetensors")
    written(root / "upscale_models/sub/4x.pth")
    written(root / "LLM/tiny.gguf")
    written(root / "loras/style.txt")

    models, _ = found_in(root)

    assert {(model.ref.removeprefix(f"{PATH}{root}/"), model.category) for model in models} == {
        ("loras/style.safetensors", "lora"),
        ("upscale_models/sub/4x.pth", "esrgan"),
        ("LLM/tiny.gguf", "LLM"),
    }
    assert {model.layout for model in models} == {"folders"}


def test_what_an_application_keeps_beside_its_models_is_a_place_of_its_own(tmp_path: Path):
    root = tmp_path / "workspace/stable-diffusion-webui"
    written(root / "models/Lora/a.safetensors")
    written(root / "embeddings/b.pt")

    places = standard_places({"HOME": str(tmp_path)}, tmp_path / "workspace", {})
    models = [model for place in places for model in found(place)[0]]

    assert {(model.ref.rpartition("/")[2], model.category) for model in models} == {
        ("a.safetensors", "lora"),
        ("b.pt", "embeddings"),
    }


def test_a_folder_that_is_loaded_as_one_is_one_model(tmp_path: Path):
    root = tmp_path / "sdnext/models"
    for name in ("model_index.json", "unet/config.json", "unet/diffusion.safetensors"):
        written(root / "Diffusers/flux" / name)
    for name in ("config.json", "model-00001-of-00002.safetensors", ".git/objects/x.pack"):
        written(root / "LLM/qwen" / name)
    written(root / "Stable-diffusion/config.json")
    written(root / "Stable-diffusion/a.safetensors")

    models, _ = found_in(root)

    assert {model.ref.removeprefix(f"{PATH}{root}/"): len(model.files) for model in models} == {
        "Diffusers/flux": 3,
        "LLM/qwen": 2,
        "Stable-diffusion/a.safetensors": 1,
    }


def test_shards_of_one_set_are_one_model(tmp_path: Path):
    for number in (1, 2, 3):
        written(tmp_path / f"big-Q4-0000{number}-of-00003.gguf")
    written(tmp_path / "big-Q8-00001-of-00003.gguf")

    models, _ = found_in(tmp_path)

    assert sorted(len(model.files) for model in models) == [1, 3]


def test_a_repository_of_lm_studio_is_one_model(tmp_path: Path):
    root = tmp_path / ".lmstudio/models"
    written(root / "bartowski/Qwen-GGUF/Q4.gguf")
    written(root / "bartowski/Qwen-GGUF/mmproj.gguf")

    (place,) = standard_places({"HOME": str(tmp_path)}, tmp_path / "none", {})
    model = one(found(place)[0])

    assert place.application == "lmstudio"
    assert model.ref == PATH + str(root / "bartowski/Qwen-GGUF")
    assert len(model.files) == 2


def test_caches_stores_and_applications_inside_a_named_folder_are_read_as_what_they_are(
    tmp_path: Path,
):
    hub_repo(tmp_path / "huggingface/hub", COMMIT, {"a.gguf": b"a"})
    ollama_model(tmp_path / "ollama/models", "m:latest", {"model": b"weights"})
    written(tmp_path / "old/ComfyUI/models/vae/v.safetensors")
    written(tmp_path / "loose.gguf")

    models, _ = found_in(tmp_path)

    assert {(model.layout, model.ref.rpartition("/")[2]) for model in models} == {
        ("hf-cache", "m"),
        ("ollama", "m:latest"),
        ("folders", "v.safetensors"),
        ("dir", "loose.gguf"),
    }


def test_links_loops_fifos_and_names_that_steer_terminals_are_left_alone(tmp_path: Path):
    outside = written(tmp_path / "outside/x.gguf")
    root = tmp_path / "models"
    written(root / "a.gguf")
    (root / "loop").symlink_to(root)
    (root / "linked.gguf").symlink_to(outside)
    (root / "folder").symlink_to(outside.parent)
    os.mkfifo(root / "pipe.gguf")
    written(root / "bad\x1b[31m.gguf")
    written(root / "bad\x1bfolder/x.gguf")
    written(root / "what?.gguf")
    (root / os.fsdecode(b"\xff.gguf")).write_bytes(b"x")

    models, look = found_in(root)

    assert [model.ref for model in models] == [PATH + str(root / "a.gguf")]
    assert look.links == 3
    assert len(look.notes) == 4
    assert all(note.isprintable() for note in look.notes)


def test_a_fifo_where_a_small_file_is_read_keeps_nobody_waiting(tmp_path: Path):
    repo = hub_repo(tmp_path / "hub", COMMIT, {"a.gguf": b"a"})
    os.mkfifo(repo / "refs/pipe")
    (repo / "trees").mkdir()
    written(repo / "snapshots" / COMMIT / "plain.txt", b"p")
    os.mkfifo(repo / f"trees/{COMMIT}.json")
    ollama_model(tmp_path / "store", "m:latest", {"model": b"w"})
    os.mkfifo(tmp_path / "store/manifests/registry.ollama.ai/library/m/pipe")

    in_hub, in_store = found_in(tmp_path / "hub")[0], found_in(tmp_path / "store")[0]

    assert {file.name for file in one(in_hub).files} == {"a.gguf", "plain.txt"}
    assert one(in_store).ref.endswith("m:latest")


def test_a_tree_deeper_than_any_model_is_noted_and_left(tmp_path: Path):
    written(tmp_path / Path(*["d"] * 40) / "x.gguf")
    written(tmp_path / "a.gguf")

    models, look = found_in(tmp_path)

    assert one(models).ref == PATH + str(tmp_path / "a.gguf")
    assert not look.whole
    assert "more than 32 folders deep" in look.notes[0]


def test_a_folder_that_cannot_be_opened_is_noted_and_skipped(tmp_path: Path):
    written(tmp_path / "a.gguf")
    # Beyond the longest path, which even root cannot open by its whole name.
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=folder)
        child = os.open("d" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = child
    os.close(folder)

    models, look = found_in(tmp_path)

    assert one(models).ref == PATH + str(tmp_path / "a.gguf")
    assert not look.whole
    (note,) = look.notes
    assert note.endswith("was skipped: File name too long")


def test_a_thousand_refused_names_make_twenty_notes(tmp_path: Path):
    for number in range(1000):
        written(tmp_path / f"what{number}?.gguf")

    _, look = found_in(tmp_path)

    assert (len(look.notes), look.unsaid) == (20, 980)


def test_looking_changes_nothing_on_disk(hub: Hub, tmp_path: Path):
    real_client(hub, BOTH, tmp_path)
    ollama_model(tmp_path / "store", "m:latest", {"model": b"w", "config": b"{}"})
    written(tmp_path / "ComfyUI/models/vae/v.safetensors")
    before = listing(tmp_path)

    models, _ = found_in(tmp_path)

    assert len(models) == 4
    assert listing(tmp_path) == before


def test_a_folder_that_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(FileNotFound, match="is no folder on this machine"):
        given_places([tmp_path / "none"], [])


def test_a_place_that_is_reached_by_two_names_is_read_once(tmp_path: Path):
    written(tmp_path / "real/a.gguf")
    (tmp_path / "link").symlink_to(tmp_path / "real")

    places = given_places([tmp_path / "link", tmp_path / "real"], [])

    assert [place.root for place in places] == [(tmp_path / "real").resolve()]
