"""What huggingface_hub itself makes of the served Hub. It runs in children of its own,
because it reads its endpoint once, when it is imported."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from modelbay.serve import Account, Facts, Generated, Hub, MemoryShelf, demo_shelf
from modelbay.text import Secret

GRANTED = "hf_granted"
OUTSIDER = "hf_outsider"
TOKENS = {
    Secret(GRANTED): Account("ada", frozenset({"demo/gated-llm", "org/private"})),
    Secret(OUTSIDER): Account("bob"),
}
CHILD = """
import json, sys
from pathlib import Path
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub import snapshot_download

GRANTED, OUTSIDER = "hf_granted", "hf_outsider"
api = HfApi(token=False)

def fault(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        return [type(error).__name__, status]
    return None

def model(name):
    told = api.model_info(name, files_metadata=True)
    return {
        "id": told.id, "sha": told.sha, "licence": told.card_data.license, "gated": told.gated,
        "parameters": told.safetensors.total if told.safetensors else None,
        "files": {one.rfilename: [one.size, one.lfs.sha256 if one.lfs else one.blob_id]
                  for one in told.siblings},
    }

def kept(folder):
    root = Path(folder)
    return {str(p.relative_to(root)): str(p) for p in sorted(root.rglob("*")) if p.is_file()}

def whole(expired):
    first = snapshot_download("demo/sharded-llm", token=False)
    return {
        "tiny": model("demo/tiny-llm"),
        "renamed": model("OLD-demo/tiny-llm")["id"],
        "list": [one.id for one in api.list_models(author="demo", sort="downloads")],
        "three": [one.id for one in api.list_models(limit=3)],
        "licensed": [one.id for one in api.list_models(filter="license:mit", full=True)],
        "gated": [one.id for one in api.list_models(gated=True)],
        "tree": [row.path for row in api.list_repo_tree("demo/gguf-quants", recursive=True)],
        "paths": [row.path for row in api.get_paths_info("demo/gguf-quants", ["F16", "no"])],
        "branches": [[ref.name, ref.target_commit]
                     for ref in api.list_repo_refs("demo/tiny-llm").branches],
        "commits": [one.title for one in api.list_repo_commits("demo/tiny-llm")],
        "whoami": api.whoami(token=GRANTED)["name"],
        "sharded": kept(first),
        "config": hf_hub_download("demo/tiny-llm", "config.json", token=False),
        "private": hf_hub_download("org/private", "w.bin", token=GRANTED),
        "let in": hf_hub_download("demo/gated-llm", "model.safetensors", token=GRANTED),
        "faults": {
            "gate, nobody": fault(hf_hub_download, "demo/gated-llm", "config.json", token=False),
            "gate, outsider":
                fault(hf_hub_download, "demo/gated-llm", "config.json", token=OUTSIDER),
            "auth check": fault(api.auth_check, "demo/gated-llm", token=OUTSIDER),
            "no repository": fault(api.model_info, "demo/nothing", token=OUTSIDER),
            "private, outsider": fault(api.model_info, "org/private", token=OUTSIDER),
            "private, nobody": fault(api.model_info, "org/private"),
            "no revision": fault(api.model_info, "demo/tiny-llm", revision="nope"),
            "no file": fault(hf_hub_download, "demo/tiny-llm", "nope.txt", token=False),
            "disabled": fault(get_hf_file_metadata, hf_hub_url("org/disabled", "w.bin"),
                              token=False),
            "unknown token": fault(api.model_info, "demo/tiny-llm", token="hf_bogus"),
            "expired link": fault(hf_hub_download, "demo/tiny-llm", "model.safetensors",
                                  token=False, endpoint=expired, force_download=True),
        },
    }

def below_prefix():
    folder = snapshot_download("demo/tiny-llm", token=False, local_dir="here")
    return {
        "kept": {name: path for name, path in kept(folder).items() if ".cache" not in name},
        "list": [one.id for one in api.list_models(author="demo")],
        "renamed": model("OLD-demo/tiny-llm")["id"],
    }

print(json.dumps(whole(sys.argv[2]) if sys.argv[1] == "whole" else below_prefix()))
"""


def shelf_of_all() -> MemoryShelf:
    shelf = demo_shelf()
    weights = {"w.bin": Generated(100_000, "w")}
    shelf.add("org/private", weights, facts=Facts(private=True))
    shelf.add("org/disabled", weights, facts=Facts(disabled=True))
    return shelf


def run(home: Path, hub: Hub, *arguments: str) -> Any:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    }
    child = subprocess.run(
        [sys.executable, "-P", "-c", CHILD, *arguments],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


def sha256_of(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def shelf() -> MemoryShelf:
    return shelf_of_all()


@pytest.fixture(scope="module")
def hub(shelf: MemoryShelf) -> Iterator[Hub]:
    with Hub(shelf, tokens=TOKENS, page=2) as one:
        yield one


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, hub: Hub, shelf: MemoryShelf) -> Any:
    home = tmp_path_factory.mktemp("home")
    with ExitStack() as stack:
        expired = stack.enter_context(Hub(shelf, link_seconds=-60))
        return run(home, hub, "whole", expired.endpoint)


def test_the_client_reads_a_model_as_it_stands_on_the_shelf(told: Any, shelf: MemoryShelf):
    repo = shelf.repo("demo/tiny-llm")
    assert repo is not None
    files = shelf.files(repo, repo.commit)

    assert told["tiny"] == {
        "id": "demo/tiny-llm",
        "sha": repo.commit,
        "licence": "apache-2.0",
        "gated": False,
        "parameters": sum(repo.facts.parameters.values()),
        "files": {path: [file.size, file.etag] for path, file in files.items()},
    }


def test_the_client_follows_an_earlier_name(told: Any):
    assert told["renamed"] == "demo/tiny-llm"


def test_the_client_follows_pages_of_two(told: Any):
    assert told["list"] == [
        "demo/gated-llm",
        "demo/tiny-llm",
        "demo/gguf-quants",
        "demo/sharded-llm",
        "demo/large-llm",
    ]
    assert told["three"] == ["demo/gated-llm", "demo/gguf-quants", "demo/tiny-llm"]
    assert told["licensed"] == ["demo/large-llm"]
    assert told["gated"] == ["demo/gated-llm"]
    assert told["tree"] == [
        "F16",
        "F16/gguf-quants-F16-00001-of-00002.gguf",
        "F16/gguf-quants-F16-00002-of-00002.gguf",
        "README.md",
        "gguf-quants-Q4_K_M.gguf",
        "gguf-quants-Q8_0.gguf",
        "mmproj-gguf-quants-F16.gguf",
    ]


def test_the_client_reads_refs_commits_paths_and_the_account(told: Any, shelf: MemoryShelf):
    repo = shelf.repo("demo/tiny-llm")
    assert repo is not None

    assert told["branches"] == [["main", repo.commit]]
    assert told["commits"] == ["Upload files"]
    assert told["paths"] == ["F16"]
    assert told["whoami"] == "ada"


def test_the_client_downloads_a_whole_model_byte_for_byte(told: Any, shelf: MemoryShelf):
    repo = shelf.repo("demo/sharded-llm")
    assert repo is not None
    files = shelf.files(repo, repo.commit)

    assert list(told["sharded"]) == list(files)
    for path, file in files.items():
        whole = b"".join(shelf.open(repo, repo.commit, path).pieces(0, file.size))
        assert Path(told["sharded"][path]).read_bytes() == whole


def test_the_client_names_the_blobs_as_the_shelf_does(told: Any, shelf: MemoryShelf):
    repo = shelf.repo("demo/tiny-llm")
    assert repo is not None
    config = shelf.files(repo, repo.commit)["config.json"]

    assert Path(told["config"]).resolve().name == config.git_sha1
    assert sha256_of(told["let in"]) in Path(told["let in"]).resolve().name
    assert Path(told["private"]).stat().st_size == 100_000


def test_the_client_names_every_fault_as_it_does_the_real_hubs(told: Any):
    assert told["faults"] == {
        "gate, nobody": ["GatedRepoError", 401],
        "gate, outsider": ["GatedRepoError", 403],
        "auth check": ["GatedRepoError", 403],
        "no repository": ["RepositoryNotFoundError", 404],
        "private, outsider": ["RepositoryNotFoundError", 404],
        # Over https the client takes this one, without a code, for RepositoryNotFoundError.
        "private, nobody": ["HfHubHTTPError", 401],
        "no revision": ["RevisionNotFoundError", 404],
        "no file": ["RemoteEntryNotFoundError", 404],
        "disabled": ["DisabledRepoError", 403],
        "unknown token": ["HfHubHTTPError", 401],
        "expired link": ["HfHubHTTPError", 403],
    }


def test_no_token_ever_reached_the_other_origin(told: Any, hub: Hub):
    assert told["whoami"] == "ada"
    assert any("authorization" in request.headers for request in hub.log)
    assert len(hub.cdn_log) >= 5
    assert not any("authorization" in request.headers for request in hub.cdn_log)


def test_below_a_prefix_the_client_finds_everything(tmp_path: Path, shelf: MemoryShelf):
    repo = shelf.repo("demo/tiny-llm")
    assert repo is not None
    with Hub(shelf, prefix="/org/registry/huggingface", page=2) as hub:
        told = run(tmp_path, hub, "prefix")
        asked = {request.path for request in hub.log}

    assert list(told["kept"]) == list(shelf.files(repo, repo.commit))
    assert len(told["list"]) == 5
    assert told["renamed"] == "demo/tiny-llm"
    assert all(path.startswith("/org/registry/huggingface/") for path in asked)
