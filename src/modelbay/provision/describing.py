"""A model as it lies on a disk, described by an entry that would put it there again."""

import os
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from modelbay.errors import UnsafeName
from modelbay.library.folders import Application, canonical
from modelbay.safepath import SafeRelPath

_LABELS: Final = {"hf-cache": "models", "ollama": "llm", "dir": "models"}
"""Category words for layouts in which a category is only a label."""


@dataclass(frozen=True, slots=True)
class Lying:
    """One model in one place. `files` are names in the snapshot, each with where it lies."""

    name: str
    """Of the ref, which the last part of becomes the entry's."""
    layout: str
    root: Path
    files: Mapping[str, Path]
    ident: str | None = None
    """Its id in the lock that it came from."""


@dataclass(slots=True)
class Described:
    """Entries by id, and what they need to mean the same folders."""

    folders: str | None = None
    entries: dict[str, dict[str, object]] = field(default_factory=dict)
    categories: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _taken: set[str] = field(default_factory=set)

    def add(self, wanted: str, keys: dict[str, object]) -> str:
        """The id that the entry got: `wanted`, with a number where that is taken, aliases and
        case aside.
        """
        number, ident = 1, wanted
        while _folded(ident) in self._taken:
            number += 1
            ident = f"{wanted}-{number}"
        self._taken.add(_folded(ident))
        self.entries[ident] = keys
        return ident


def keys_of_place(lying: Lying, workspace: Path) -> dict[str, object]:
    """`layout`, `dir` and `filename` that an entry needs so that its files lie as these do."""
    keys: dict[str, object] = {}
    if lying.layout in {"hf-cache", "ollama"}:
        return {"layout": lying.layout}
    if lying.layout == "dir":
        keys["layout"] = "dir"
        keys["dir"] = dir_below(lying.root, workspace) or f"models/{plain_name(lying.name)}"
    if len(lying.files) == 1:
        ((name, path),) = lying.files.items()
        if path.name != PurePosixPath(name).name:
            keys["filename"] = path.name
    return keys


def dir_below(root: Path, workspace: Path) -> str | None:
    """`root` as a `dir` of a provision file; None where it does not lie below the workspace."""
    below = os.path.relpath(root, workspace.resolve())
    try:
        return SafeRelPath.parse(Path(below).as_posix())
    except UnsafeName:
        return None


def category_of(
    lying: Lying, models: Path, app: Application, more: Mapping[str, str]
) -> tuple[str, str, dict[str, str]]:
    """Category and name of a model in the folders of `app`, whose root is `models`, and the
    `[categories]` without which they would mean another folder.
    """
    folder = Path(os.path.relpath(lying.root, models)).as_posix()
    name = plain_name(lying.name)
    if app.by_publisher and folder == lying.name:
        return "llm", name, {}
    parent, _, last = folder.rpartition("/")
    words = {to: word for word, to in reversed({**app.categories, **more}.items())}
    own = len(lying.files) > 1 and (parent in words or "/" not in parent.removeprefix("../"))
    place = parent if own and parent else folder
    name = last if own and parent else name
    word = words.get(place)
    if word is not None:
        return word, name, {word: place} if word in more else {}
    if "/" not in place:
        return place, name, {}
    label = plain_name(place.replace("/", "-"))
    return label, name, {label: place}


def labelled(lying: Lying) -> tuple[str, str]:
    """Category and name of a model whose layout knows no categories."""
    return _LABELS.get(lying.layout, "models"), plain_name(lying.name)


def plain_name(text: str) -> str:
    """The last part of `text` as the name of an entry."""
    last = PurePosixPath(text.rstrip("/") or "model").name
    try:
        return SafeRelPath.component(last)
    except UnsafeName:
        kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in last)
        return kept.strip("-. ") or "model"


def file_keys(names: Collection[str]) -> dict[str, object]:
    """`file` or `files`, for a source that knows both."""
    several = sorted(names)
    return {"file": several[0]} if len(several) == 1 else {"files": several}


def _folded(ident: str) -> str:
    category, _, name = ident.partition("/")
    return unicodedata.normalize("NFC", f"{canonical(category)}/{name}").casefold()
