"""Application folders, and any other folder with models in it.

A file is a model by itself, shards of one are a model together, and so is a folder that a
program loads as a whole: one of diffusers or transformers, a repository in LM Studio's tree.
Names that begin with a dot are not looked into.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from modelbay.files.walking import Entry, file_below, read_small
from modelbay.library.adopt.found import (
    DEEPEST,
    FoundFile,
    FoundModel,
    Look,
    Place,
    PlaceKind,
    found_file,
    named_digest,
)
from modelbay.library.adopt.hub import REPO_FOLDER, read_cache
from modelbay.library.adopt.ollama import is_store, read_store
from modelbay.library.folders import NAMES, Application, application
from modelbay.selection import WEIGHTS
from modelbay.text import clean

PATH: Final = "file://"
"""What the ref of a model begins with that only its path names; the path follows as it is."""
_SUFFIXES: Final = tuple(sorted(WEIGHTS | {".sft", ".ggml"}))
_PARTIAL: Final = (".incomplete", ".part", ".partial", ".crdownload", ".aria2", ".tmp", ".lock")
_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5}\..+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LOCAL = ".cache/huggingface/download"
_METADATA: Final = ".metadata"
_BESIDE: Final = "../"
_WHOLE_DEPTH: Final = 2
"""LM Studio: `<publisher>/<repo>`."""


@dataclass(frozen=True, slots=True)
class _Folder:
    path: str
    below: str
    """Its path below the application's models, or below the place: empty, or ending in `/`."""
    application: Application | None
    category: str | None = None
    known: bool = False
    """A folder of the application's own, which holds many models."""


@dataclass(slots=True)
class _Walk:
    look: Look
    waiting: list[_Folder] = field(default_factory=list)
    claimed: set[str] = field(default_factory=set)
    """Files that a download of the Hub's client into this folder has told of."""


def read_folders(place: Place, look: Look) -> Iterator[FoundModel]:
    """Every model below `place`, folder by folder. Caches and stores in it are read as such."""
    app = application(place.application) if place.application else None
    below = f"{place.beside}/" if place.beside else ""
    category = _category(app, place.beside)
    walk = _Walk(look, [_Folder(str(place.root), below, app, category, known=app is not None)])
    while walk.waiting:
        folder = walk.waiting.pop()
        if folder.below.count("/") > DEEPEST:
            look.too_deep(folder.path)
        else:
            yield from _read(walk, folder)


def _read(walk: _Walk, folder: _Folder) -> Iterator[FoundModel]:
    entries = walk.look.folder(folder.path)
    names = {entry.name: entry.kind for entry in entries}
    if any(REPO_FOLDER.fullmatch(name) for name in names):
        yield from read_cache(folder.path, walk.look, entries)
        return
    if is_store(entries):
        yield from read_store(folder.path, walk.look, entries)
        return
    if names.get(".cache") == "folder":
        yield from _local_download(walk, folder)
    walk.look.links += sum(entry.kind == "link" for entry in entries)
    own = [entry for entry in entries if f"{folder.path}/{entry.name}" not in walk.claimed]
    weights = [entry for entry in own if _is_weight(entry)]
    if _is_one_model(folder, {entry.name: entry.kind for entry in own}, weights):
        yield from _whole(walk, folder, entries)
        return
    for group in _groups(weights):
        yield from _model(walk, folder, _files(walk.look, folder.path, group))
    for entry in reversed(entries):
        if entry.kind != "folder" or entry.name.startswith("."):
            continue
        if entry.name.isprintable():
            walk.waiting.append(_child(folder, entry.name))
        else:
            shown = clean(f"{folder.path}/{entry.name}")
            walk.look.note(f"{shown} was skipped: its name holds what cannot be shown")


def _child(folder: _Folder, name: str) -> _Folder:
    path = f"{folder.path}/{name}"
    if folder.application is None:
        app = next((app for app in _applications() if path.endswith(f"/{app.root}")), None)
        below = "" if app else f"{folder.below}{name}/"
        return _Folder(path, below, app, known=app is not None)
    below = f"{folder.below}{name}"
    known = folder.below == "" or below in folder.application.categories.values()
    category = _category(folder.application, below)
    return _Folder(path, f"{below}/", folder.application, category, known=known)


def _applications() -> list[Application]:
    """Those that can be told by where their models lie; plain ones can not."""
    return [app for name in NAMES if "/" in (app := application(name)).root]


def _is_weight(entry: Entry) -> bool:
    return (
        entry.kind == "file"
        and entry.name.lower().endswith(_SUFFIXES)
        and not entry.name.startswith(".")
    )


def _is_one_model(folder: _Folder, names: Mapping[str, str], weights: list[Entry]) -> bool:
    if folder.application is not None and folder.application.by_publisher:
        return folder.below.count("/") == _WHOLE_DEPTH
    if folder.known:
        return False
    return names.get("model_index.json") == "file" or (
        names.get("config.json") == "file" and bool(weights)
    )


def _whole(walk: _Walk, folder: _Folder, entries: list[Entry]) -> Iterator[FoundModel]:
    """Everything in a folder that is loaded as one, without what is still on its way."""
    files: list[FoundFile] = []
    waiting = [(folder.path, "", entries)]
    while waiting:
        path, prefix, entries = waiting.pop()
        for entry in entries:
            name, at = prefix + entry.name, f"{path}/{entry.name}"
            if entry.name.startswith(".") or at in walk.claimed:
                continue
            if entry.kind == "folder" and name.count("/") > DEEPEST:
                walk.look.too_deep(at)
            elif entry.kind == "folder":
                waiting.append((at, f"{name}/", walk.look.folder(at)))
            elif entry.kind == "link" and prefix:
                walk.look.links += 1
            elif entry.kind == "file" and not entry.name.endswith(_PARTIAL):
                files += _file(walk.look, at, name, entry)
    if any(file.name.lower().endswith(_SUFFIXES) for file in files):
        yield from _model(walk, folder, files, ref=folder.path)


def _groups(weights: list[Entry]) -> Iterable[list[Entry]]:
    """Each file by itself, shards of one set together."""
    groups: dict[str, list[Entry]] = {}
    for entry in weights:
        shard = _SHARD.fullmatch(entry.name)
        key = f"{shard['stem']}/{shard['count']}" if shard else entry.name
        groups.setdefault(key, []).append(entry)
    return groups.values()


def _files(look: Look, folder: str, entries: list[Entry]) -> list[FoundFile]:
    return [
        file
        for entry in entries
        for file in _file(look, f"{folder}/{entry.name}", entry.name, entry)
    ]


def _file(look: Look, path: str, name: str, entry: Entry) -> Iterator[FoundFile]:
    safe = look.safe_name(name, path)
    if safe is not None:
        yield found_file(path, safe, entry)


def _model(
    walk: _Walk, folder: _Folder, files: list[FoundFile], *, ref: str = "", revision: str = ""
) -> Iterator[FoundModel]:
    """A model whose place does not tell what it is called: its path names it."""
    if not files:
        return
    ref = PATH + (ref or files[0].path)
    if not ref.isprintable():
        walk.look.note(f"{clean(ref)} was skipped: its path holds what cannot be shown")
        return
    layout: PlaceKind = "folders" if folder.application else "dir"
    yield FoundModel(ref, revision, layout, folder.path, tuple(files), category=folder.category)


def _category(app: Application | None, below: str) -> str | None:
    """The application's word for what it keeps in `below`, else the folder's own name."""
    if app is None or app.by_publisher:
        return None
    while below:
        for word, known in app.categories.items():
            if known.removeprefix(_BESIDE) == below:
                return word
        if "/" not in below:
            return below
        below = below.rpartition("/")[0]
    return None


def _local_download(walk: _Walk, folder: _Folder) -> Iterator[FoundModel]:
    """What `hf download --local-dir` brought here: a model for each commit (protocols-hub A8)."""
    commits: dict[str, list[FoundFile]] = {}
    if not _is_folder(walk.look, f"{folder.path}/.cache", "huggingface"):
        return
    for name in _told_names(walk.look, f"{folder.path}/{_LOCAL}", ""):
        found = _told_file(walk.look, folder.path, name)
        if found is not None:
            commit, file = found
            walk.claimed.add(file.path)
            commits.setdefault(commit, []).append(file)
    for commit, files in commits.items():
        ref = folder.path if len(commits) == 1 else f"{folder.path}@{commit}"
        if any(file.name.lower().endswith(_SUFFIXES) for file in files):
            yield from _model(walk, folder, files, ref=ref, revision=commit)


def _is_folder(look: Look, folder: str, name: str) -> bool:
    return any(entry.name == name and entry.kind == "folder" for entry in look.folder(folder))


def _told_names(look: Look, folder: str, prefix: str) -> Iterator[str]:
    if prefix.count("/") > DEEPEST:
        return
    for entry in look.folder(folder, optional=True):
        if entry.kind == "folder":
            yield from _told_names(look, f"{folder}/{entry.name}", f"{prefix}{entry.name}/")
        elif entry.kind == "file" and entry.name.endswith(_METADATA):
            yield prefix + entry.name.removesuffix(_METADATA)


def _told_file(look: Look, folder: str, name: str) -> tuple[str, FoundFile] | None:
    """The commit and the file that a metadata file tells of, if it is still as it was then."""
    content = read_small(f"{folder}/{_LOCAL}/{name}{_METADATA}", 4096)
    lines = (content or b"").decode("latin-1").split("\n")
    entry = file_below(folder, name)
    safe = look.safe_name(name, f"{folder}/{name}")
    if entry is None or safe is None or len(lines) < 3 or not _COMMIT.fullmatch(lines[0]):
        return None
    try:
        unchanged = entry.mtime_ns / 1e9 - 1 <= float(lines[2])
    except ValueError:
        return None
    claim = named_digest(lines[1]) if unchanged else None
    return lines[0], found_file(f"{folder}/{name}", safe, entry, claim)
