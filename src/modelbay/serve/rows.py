"""Repositories, files and refs as the Hub's JSON (protocols-hub A1, SURPRISES H5, H7–H9)."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from modelbay.serve.shelf import Refs, Shelf, ShelfFile, ShelfRepo, pointer_to

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Seen:
    """A repository as it stands at one commit."""

    shelf: Shelf
    repo: ShelfRepo
    commit: str

    def files(self) -> Mapping[str, ShelfFile]:
        return self.shelf.files(self.repo, self.commit)


def _tags(seen: Seen) -> list[str]:
    facts = seen.repo.facts
    licence = f"license:{facts.licence}" if facts.licence else None
    wanted = (facts.library_name, *facts.tags, facts.pipeline_tag, licence, "region:us")
    return list(dict.fromkeys(tag for tag in wanted if tag))


def _card(seen: Seen) -> Row | None:
    facts = seen.repo.facts
    licence = {"license": facts.licence} if facts.licence else {}
    return {**licence, **facts.card} or None


def _safetensors(seen: Seen) -> Row | None:
    counts = dict(seen.repo.facts.parameters)
    return {"parameters": counts, "total": sum(counts.values())} if counts else None


def _siblings(seen: Seen) -> list[Row]:
    return [{"rfilename": path} for path in seen.files()]


_FIELDS: Final[dict[str, Callable[[Seen], object]]] = {
    "author": lambda seen: seen.repo.id.rpartition("/")[0] or None,
    "cardData": _card,
    "config": lambda seen: dict(seen.repo.facts.config) or None,
    "createdAt": lambda seen: seen.repo.facts.created,
    "disabled": lambda seen: seen.repo.facts.disabled,
    "downloads": lambda seen: seen.repo.facts.downloads,
    "downloadsAllTime": lambda seen: seen.repo.facts.downloads,
    "gated": lambda seen: False if seen.repo.facts.gated == "no" else seen.repo.facts.gated,
    "gguf": lambda seen: dict(seen.repo.facts.gguf) or None,
    "lastModified": lambda seen: seen.repo.facts.modified,
    "library_name": lambda seen: seen.repo.facts.library_name,
    "likes": lambda seen: seen.repo.facts.likes,
    "pipeline_tag": lambda seen: seen.repo.facts.pipeline_tag,
    "private": lambda seen: seen.repo.facts.private,
    "safetensors": _safetensors,
    "sha": lambda seen: seen.commit,
    "siblings": _siblings,
    "spaces": lambda _: [],
    "tags": _tags,
    "trendingScore": lambda seen: seen.repo.facts.trending,
    "usedStorage": lambda seen: sum(file.size for file in seen.files().values()),
    "xetEnabled": lambda _: False,
}
OPTIONS: Final = frozenset(
    (
        *_FIELDS,
        *("baseModels", "childrenModelCount", "evalResults", "inference", "mask_token"),
        *("inferenceProviderMapping", "model-index", "resourceGroup", "transformersInfo"),
        "widgetData",
    )
)
"""What `expand` may name. Those that no shelf can fill are left out of the answer."""
_BRIEF: Final = (
    "likes", "trendingScore", "private", "downloads", "tags", "pipeline_tag", "library_name",
    "createdAt",
)  # fmt: skip
_FULL: Final = ("author", "gated", "disabled", "sha", "lastModified", "siblings")
_ALL: Final = (
    "private", "pipeline_tag", "library_name", "tags", "downloads", "likes", "author", "sha",
    "lastModified", "gated", "disabled", "config", "cardData", "gguf", "siblings", "spaces",
    "createdAt", "safetensors", "usedStorage",
)  # fmt: skip


def expanded(seen: Seen, names: Iterable[str]) -> Row:
    """`_id`, `id` and exactly what was asked for, where there is such a thing."""
    row: Row = {"_id": seen.repo.key, "id": seen.repo.id}
    for name in names:
        told = _FIELDS[name](seen) if name in _FIELDS else None
        if told is not None:
            row[name] = told
    return row


def listed(seen: Seen, query: Collection[tuple[str, str]]) -> Row:
    """A row of the model list; `full`, `cardData` and `config` add to it."""
    names = list(_BRIEF)
    names += _FULL if ("full", "true") in query else ()
    names += [name for name in ("cardData", "config") if (name, "true") in query]
    return {**expanded(seen, names), "modelId": seen.repo.id}


def told(seen: Seen, *, blobs: bool) -> Row:
    """The answer about one model."""
    row: Row = {**expanded(seen, _ALL), "modelId": seen.repo.id, "model-index": None}
    if blobs:
        row["siblings"] = [_sibling(file) for file in seen.files().values()]
    return row


def _sibling(file: ShelfFile) -> Row:
    row: Row = {"rfilename": file.path, "size": file.size, "blobId": file.git_sha1}
    if file.sha256 is not None:
        row["lfs"] = {"sha256": file.sha256, **_lfs(file.sha256, file.size)}
    return row


def _lfs(sha256: str, size: int) -> Row:
    return {"size": size, "pointerSize": len(pointer_to(sha256, size))}


def tree(seen: Seen, folder: str, *, recursive: bool, expand: bool) -> list[Row]:
    """Files and folders below `folder`; an empty list where there is none such."""
    inside = f"{folder}/" if folder else ""
    rows: dict[str, Row] = {}
    for path, file in seen.files().items():
        if not path.startswith(inside):
            continue
        for parent in _parents(path, inside):
            rows.setdefault(parent, _directory(parent))
        if recursive or "/" not in path[len(inside) :]:
            rows[path] = _file(file)
    shown = [
        row for path, row in sorted(rows.items()) if recursive or "/" not in path[len(inside) :]
    ]
    return [{**row, **_last(seen)} for row in shown] if expand else shown


def paths(seen: Seen, wanted: Iterable[str], *, expand: bool) -> list[Row]:
    """The rows of the named files and folders that exist."""
    rows = {row["path"]: row for row in tree(seen, "", recursive=True, expand=expand)}
    return [rows[path] for path in wanted if path in rows]


def _parents(path: str, inside: str) -> Iterable[str]:
    end = path.find("/", len(inside))
    while end != -1:
        yield path[:end]
        end = path.find("/", end + 1)


def _directory(path: str) -> Row:
    oid = hashlib.sha1(path.encode(), usedforsecurity=False).hexdigest()
    return {"type": "directory", "oid": oid, "size": 0, "path": path}


def _file(file: ShelfFile) -> Row:
    row: Row = {"type": "file", "oid": file.git_sha1, "size": file.size}
    if file.sha256 is not None:
        row["lfs"] = {"oid": file.sha256, **_lfs(file.sha256, file.size)}
    return {**row, "path": file.path}


def _last(seen: Seen) -> Row:
    newest = next(iter(seen.shelf.commits(seen.repo, seen.commit)))
    commit = {"id": newest.id, "title": newest.title, "date": newest.date}
    return {"lastCommit": commit}


def refs(held: Refs, *, pulls: bool) -> Row:
    answer: Row = {
        "tags": [_ref(name, f"refs/tags/{name}", to) for name, to in held.tags.items()],
        "branches": [_ref(name, f"refs/heads/{name}", to) for name, to in held.branches.items()],
        "converts": [],
    }
    if pulls:
        answer["pullRequests"] = [
            _ref(f"refs/pr/{number}", f"refs/pr/{number}", to) for number, to in held.pulls.items()
        ]
    return answer


def _ref(name: str, ref: str, commit: str) -> Row:
    return {"name": name, "ref": ref, "targetCommit": commit}
