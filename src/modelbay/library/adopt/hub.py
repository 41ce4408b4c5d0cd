"""The Hub's cache as its own client leaves it: with links, without, and with shared blobs.

Facts: protocols-hub A6 to A8, huggingface_hub 2.4. Blobs are named by their content (64
digits: sha256 of an LFS file, 40: git's blob id), or by what another registry calls an ETag.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from posixpath import normpath
from typing import Final

from modelbay.digest import Digest
from modelbay.files.walking import Entry, file_at, link_text, read_small
from modelbay.library.adopt.found import (
    DEEPEST,
    FoundFile,
    FoundModel,
    Look,
    found_file,
    left_over,
    named_digest,
)
from modelbay.refs import ModelRef
from modelbay.text import clean
from modelbay.wire.hub import is_repo_id

REPO_FOLDER: Final = re.compile(r"(models|datasets|spaces|kernels)--(.+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHARED = re.compile(r"blobs/[0-9a-f]{2}/[0-9a-f]{64}")
_PARTIAL = (".incomplete", ".tmp", ".lock", ".refs")
_LARGEST_TREE = 32 << 20
_PREFIX: Final = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}


@dataclass(slots=True)
class _Repo:
    """One repository's folder. `reached` are blobs that a snapshot leads to."""

    cache: str
    folder: str
    name: str
    look: Look
    blobs: Mapping[str, tuple[str, Entry] | None]
    reached: set[str] = field(default_factory=set)


def read_cache(root: str, look: Look, entries: list[Entry] | None = None) -> Iterator[FoundModel]:
    """Every revision of every repository, in order of names."""
    for entry in look.folder(root) if entries is None else entries:
        matched = REPO_FOLDER.fullmatch(entry.name)
        if matched is None:
            continue
        path = f"{root}/{entry.name}"
        id_ = matched[2].replace("--", "/")
        if entry.kind == "link":
            look.links += 1
        elif entry.kind != "folder" or matched[1] not in _PREFIX or not is_repo_id(id_):
            look.note(f"{clean(path)} was skipped: it is no repository that modelbay can name")
        else:
            yield from _repo(root, path, _PREFIX[matched[1]] + id_, look)


def _repo(cache: str, folder: str, name: str, look: Look) -> Iterator[FoundModel]:
    entries = {entry.name: entry.kind for entry in look.folder(folder)}
    if entries.get("snapshots") != "folder":
        return
    blobs = _blobs(cache, folder, look) if entries.get("blobs") == "folder" else {}
    repo = _Repo(cache, folder, name, look, blobs)
    refs = dict(_refs(f"{folder}/refs", look)) if entries.get("refs") == "folder" else {}
    for entry in look.folder(f"{folder}/snapshots"):
        if entry.kind == "folder" and _COMMIT.fullmatch(entry.name):
            model = _snapshot(repo, entry.name, refs)
            if model is not None:
                yield model
    left = [at[1].size for blob, at in blobs.items() if at and blob not in repo.reached]
    if left:
        look.note(f"hf://{name} has {left_over(left)} that no snapshot leads to")


def _refs(folder: str, look: Look, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names of refs with the commits they lead to."""
    for entry in look.folder(folder):
        name = prefix + entry.name
        if entry.kind == "folder" and name.count("/") < DEEPEST:
            yield from _refs(f"{folder}/{entry.name}", look, f"{name}/")
        elif entry.kind == "file":
            text = (read_small(f"{folder}/{entry.name}", 64) or b"").decode("latin-1").strip()
            if _COMMIT.fullmatch(text) and name.isprintable():
                yield name, text


def _blobs(cache: str, folder: str, look: Look) -> dict[str, tuple[str, Entry] | None]:
    """Where the bytes of each blob lie; None for one that is a link to nothing of this cache."""
    found: dict[str, tuple[str, Entry] | None] = {}
    for entry in look.folder(f"{folder}/blobs"):
        if entry.kind == "file" and not entry.name.endswith(_PARTIAL):
            found[entry.name] = (f"{folder}/blobs/{entry.name}", entry)
        elif entry.kind == "link":
            found[entry.name] = _shared_blob(cache, f"{folder}/blobs/{entry.name}")
    return found


def _shared_blob(cache: str, link: str) -> tuple[str, Entry] | None:
    path = _led_to(link)
    inside = path is not None and path.startswith(f"{cache}/")
    if path is None or not inside or not _SHARED.fullmatch(path.removeprefix(f"{cache}/")):
        return None
    entry = file_at(path)
    return (path, entry) if entry else None


def _led_to(link: str) -> str | None:
    """Where a link leads by its text alone: no folder on its way is a link."""
    text = link_text(link)
    if text is None:
        return None
    return normpath(text if text.startswith("/") else f"{link.rpartition('/')[0]}/{text}")


def _snapshot(repo: _Repo, commit: str, refs: Mapping[str, str]) -> FoundModel | None:
    files: list[FoundFile] = []
    troubles: list[str] = []
    plain: list[tuple[str, str, Entry]] = []
    for name, path, entry in _names(repo, f"{repo.folder}/snapshots/{commit}"):
        if entry.kind == "file":
            plain.append((name, path, entry))
            continue
        file = _linked(repo, name, path)
        if isinstance(file, FoundFile):
            files.append(file)
        else:
            troubles.append(file)
    files += _plain_files(f"{repo.folder}/trees/{commit}.json", plain)
    if not files and not troubles:
        return None
    names = sorted(name for name, leads_to in refs.items() if leads_to == commit)
    revision = None if "main" in names else names[0] if names else commit
    return FoundModel(
        str(ModelRef("huggingface", "hf", repo.name, revision)),
        commit,
        "hf-cache",
        repo.folder,
        tuple(files),
        source="huggingface",
        troubles=tuple(troubles),
        detached=not names,
    )


def _names(repo: _Repo, top: str) -> Iterator[tuple[str, str, Entry]]:
    """Every link and file below a snapshot: its name there, its path, and what it is."""
    waiting = [(top, "")]
    while waiting:
        folder, prefix = waiting.pop()
        if prefix.count("/") > DEEPEST:
            repo.look.too_deep(folder)
            continue
        for entry in repo.look.folder(folder):
            path = f"{folder}/{entry.name}"
            if entry.kind == "folder":
                waiting.append((path, f"{prefix}{entry.name}/"))
            elif entry.kind != "other" and not entry.name.endswith(_PARTIAL):
                name = repo.look.safe_name(prefix + entry.name, path)
                if name is not None:
                    yield name, path, entry


def _linked(repo: _Repo, name: str, path: str) -> FoundFile | str:
    """The file that a link of a snapshot leads to, or what is wrong with it."""
    leads_to = _led_to(path) or ""
    folder, _, blob = leads_to.rpartition("/")
    if folder != f"{repo.folder}/blobs":
        return f"{clean(path)} leads out of its repository, and was not followed"
    there = repo.blobs.get(blob)
    if there is None:
        return f"{clean(path)} is broken: there is no {clean(blob)} in blobs"
    repo.reached.add(blob)
    return found_file(there[0], name, there[1], named_digest(blob))


def _plain_files(tree: str, plain: list[tuple[str, str, Entry]]) -> Iterator[FoundFile]:
    """Files of a cache without links, whose digests only the Hub's listing tells."""
    rows = _tree(tree) if plain else {}
    for name, path, entry in plain:
        claim, size = _told(rows.get(name))
        yield found_file(path, name, entry, claim, size)


def _tree(path: str) -> Mapping[str, object]:
    try:
        document = json.loads(read_small(path, _LARGEST_TREE) or b"{}")
    except (ValueError, RecursionError):
        return {}
    rows = document.get("files") if isinstance(document, dict) else None
    return rows if isinstance(rows, dict) else {}


def _told(row: object) -> tuple[Digest | None, int | None]:
    """What one row of a listing says: an LFS file's sha256, else git's blob id; its size."""
    if not isinstance(row, dict):
        return None, None
    name, size = row.get("lfs_sha256") or row.get("blob_id"), row.get("size")
    claim = named_digest(name) if isinstance(name, str) else None
    return claim, size if type(size) is int else None
