"""Which folder an application keeps a category in: one TOML file for each (formats.md §2).

A new application is a new file here, and its name in `NAMES`.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Final

from modelbay.errors import FormatError, UnsafeName, UsageError
from modelbay.safepath import SafeRelPath
from modelbay.snapshot import ModelFile
from modelbay.text import clean

NAMES: Final = ("sdnext", "comfyui", "a1111", "forge", "lmstudio", "plain")
_BESIDE = "../"


@dataclass(frozen=True, slots=True)
class Application:
    """`root` is below the workspace, the folders of `categories` below `root`.

    One of them may begin with `../`: it then lies beside the root. Only the files of this
    package may say so.
    """

    name: str
    root: SafeRelPath
    categories: Mapping[str, str]
    by_publisher: bool = False
    written: frozenset[str] = frozenset()
    """Folders whose files the application changes in place, as in training."""

    def folder(
        self, category: str, ref_name: str = "", more: Mapping[str, str] | None = None
    ) -> str:
        """The folder of `category`; `more` adds to what the application has and overrides it.
        A word that nobody knows is a folder of that name. Raises UsageError.
        """
        word = canonical(category)
        own = {canonical(name): folder for name, folder in (more or {}).items()}
        if word in own:
            return checked(own[word])
        if self.by_publisher and ref_name.count("/") == 1:
            return checked(ref_name)
        return self.categories.get(word) or checked(category)

    def writes_into(self, folder: str) -> bool:
        """Whether files in `folder` may be changed in place, so that none of them may share
        its bytes with another name.
        """
        return any(f"{folder}/".startswith(f"{known}/") for known in self.written)

    def allows(self, folder: str) -> bool:
        """Whether a lock may send a model to `folder`: below the root, or beside it where the
        application itself keeps one.
        """
        if folder in self.categories.values():
            return True
        outside = [known + "/" for known in self.categories.values() if known.startswith(_BESIDE)]
        inside = next((folder[len(known) :] for known in outside if folder.startswith(known)), "")
        try:
            SafeRelPath.parse(inside or folder)
        except UnsafeName:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Mapped:
    """Where a model goes: a folder, and the names of files that are not called as in the
    snapshot.
    """

    folder: str
    names: Mapping[str, SafeRelPath]


def mapped(
    folder: str, name: str, chosen: Sequence[ModelFile], filename: str | None, *, own: bool
) -> Mapped:
    """A single file goes into `folder` itself, under `filename` if that is given; several
    go into a folder of their `own` called `name`. Raises UsageError.
    """
    if len(chosen) == 1:
        only = chosen[0].path
        wanted = _component(filename) if filename else SafeRelPath.component(only.name)
        return Mapped(folder, {} if wanted == only else {only: wanted})
    if filename is not None:
        raise UsageError(
            f"{clean(name)} is {len(chosen)} files, and filename = {clean(filename)!r} names one",
            hint='choose one with file = "…", or take filename out',
        )
    return Mapped(f"{folder}/{_component(name)}" if own else folder, {})


def checked(folder: str) -> str:
    """`folder` if it is a path of ordinary names. Raises UsageError."""
    try:
        return SafeRelPath.parse(folder)
    except UnsafeName as error:
        raise UsageError(
            f"{clean(folder, limit=160)!r} cannot be a category's folder",
            hint="name a folder below the application's models, with / between its parts",
        ) from error


def _component(name: str) -> SafeRelPath:
    try:
        return SafeRelPath.component(name)
    except UnsafeName as error:
        raise UsageError(
            f"{clean(name, limit=160)!r} cannot be the name of a file or a folder",
            hint='write one plain name, like "custom_name.safetensors"',
        ) from error


def canonical(category: str) -> str:
    """The word that `category` stands for, where case does not count; itself if unknown."""
    folded = category.casefold()
    word = _aliases().get(folded, folded)
    return word if word in known_categories() else category


def near_category(category: str, more: Sequence[str] = ()) -> str | None:
    """The known word that an unknown `category` is close to, or None."""
    known = {*known_categories(), *_aliases(), *more}
    if category.casefold() in known or category in known:
        return None
    near = get_close_matches(category.casefold(), sorted(known), n=1, cutoff=0.75)
    return near[0] if near else None


@cache
def application(name: str) -> Application:
    """The application called `name`. Raises UsageError with the nearest name."""
    if name not in NAMES:
        near = get_close_matches(name, NAMES, n=1)
        raise UsageError(
            f"no application's folders are called {clean(name, limit=80)!r}",
            hint=f"did you mean {near[0]!r}?" if near else "write one of " + ", ".join(NAMES),
        )
    document = _document(name)
    folders = document["categories"]
    root = document["root"]
    if not isinstance(folders, dict) or not isinstance(root, str):
        raise FormatError(f"the folders of {name} cannot be read", hint="install modelbay again")
    written = document.get("written", [])
    return Application(
        name,
        SafeRelPath.parse(root),
        folders,
        "by_publisher" in document,
        frozenset(folders[word] for word in written) if isinstance(written, list) else frozenset(),
    )


@cache
def known_categories() -> frozenset[str]:
    return frozenset(word for name in NAMES for word in application(name).categories)


@cache
def _aliases() -> Mapping[str, object]:
    return _document("aliases")


def _document(name: str) -> dict[str, object]:
    return tomllib.loads(files(__name__).joinpath(f"{name}.toml").read_text("utf-8"))
