"""Folders as other programs leave them, and what a reader makes of them."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from modelbay.library.adopt import FoundModel, Look, Place, given_places, read

MEDIA = "application/vnd.ollama.image."


def found(place: Place) -> tuple[list[FoundModel], Look]:
    look = Look(tick=lambda _: None)
    return list(read(place, look)), look


def found_in(folder: Path) -> tuple[list[FoundModel], Look]:
    """The same for a folder that somebody names."""
    (place,) = given_places([folder], [])
    return found(place)


def one(models: list[FoundModel]) -> FoundModel:
    assert len(models) == 1, [model.ref for model in models]
    return models[0]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def written(path: Path, content: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def hub_repo(cache: Path, commit: str, contents: Mapping[str, bytes], name: str = "org/m") -> Path:
    """A repository with links, every blob named by its sha256, and a ref `main`."""
    repo = cache / f"models--{name.replace('/', '--')}"
    for path, content in contents.items():
        blob = written(repo / "blobs" / sha256(content), content)
        link = repo / "snapshots" / commit / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    written(repo / "refs/main", commit.encode())
    return repo


def ollama_layer(store: Path, kind: str, content: bytes) -> dict[str, object]:
    written(store / f"blobs/sha256-{sha256(content)}", content)
    digest = f"sha256:{sha256(content)}"
    return {"mediaType": MEDIA + kind, "digest": digest, "size": len(content)}


def ollama_model(store: Path, name: str, layers: Mapping[str, bytes]) -> Path:
    """A model of the library, its layers in the order given; `config` is its configuration."""
    rows = {kind: ollama_layer(store, kind, content) for kind, content in layers.items()}
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {**rows.pop("config", {}), "mediaType": "application/vnd.docker.container"},
        "layers": list(rows.values()),
    }
    model, _, tag = name.partition(":")
    path = store / "manifests/registry.ollama.ai/library" / model / tag
    return written(path, json.dumps(document).encode())


def listing(*roots: Path) -> dict[str, tuple[int, ...]]:
    """Every name with what a change of any kind would change."""
    stats: dict[str, tuple[int, ...]] = {}
    for root in roots:
        for path in [root, *root.rglob("*")]:
            status = path.lstat()
            stats[str(path)] = (
                *(status.st_ino, status.st_mode, status.st_size, status.st_nlink),
                *(status.st_mtime_ns, status.st_ctime_ns),
            )
    return stats
