"""Where programs usually keep models, and what a folder that somebody names is."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from modelbay import paths
from modelbay.errors import FileNotFound, UsageError
from modelbay.files import disk_errors
from modelbay.files.walking import list_folder
from modelbay.library.adopt.found import Place
from modelbay.library.adopt.hub import REPO_FOLDER
from modelbay.library.adopt.ollama import is_store
from modelbay.library.folders import NAMES, application
from modelbay.text import clean

_SYSTEM_OLLAMA: Final = Path("/usr/share/ollama/.ollama/models")
"""Where the Linux service keeps its store."""
_AT_HOME: Final = (
    ("ComfyUI/models", "comfyui"),
    ("stable-diffusion-webui/models", "a1111"),
    ("stable-diffusion-webui-forge/models", "forge"),
    ("sdnext/models", "sdnext"),
    (".lmstudio/models", "lmstudio"),
    (".cache/lm-studio/models", "lmstudio"),
    ("invokeai", None),
)
_BESIDE: Final = "../"


def standard_places(
    environ: Mapping[str, str], workspace: Path, roots: Mapping[str, Path]
) -> list[Place]:
    """Those that exist, each once; `roots` are models' folders of applications by name."""
    asked = [Place("hf-cache", paths.hub_cache(environ)), *_stores(environ)]
    for name in NAMES:
        asked += _of_application(name, roots.get(name) or workspace / application(name).root)
    for below, app in _AT_HOME:
        for home in _home(environ):
            asked += _of_application(app, home / below) if app else [Place("dir", home / below)]
    return _distinct(asked)


def given_places(folders: Iterable[Path], standard: Iterable[Place]) -> list[Place]:
    """What the folders that somebody named are. Raises FileNotFound for what is no folder,
    DiskError for one that cannot be read.
    """
    known = {place.root: place for place in standard}
    found = []
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFound(
                f"{clean(folder)} is no folder on this machine",
                hint="name a folder that has models in it, or none for the usual places",
            )
        root = folder.resolve()
        found.append(known.get(root) or _named(root))
    return _distinct(found)


def _named(root: Path) -> Place:
    """A folder as what its names say it is."""
    with disk_errors(root):
        entries = list_folder(str(root)).entries
    if any(REPO_FOLDER.fullmatch(entry.name) for entry in entries):
        return Place("hf-cache", root)
    if is_store(entries):
        return Place("ollama", root)
    for name in NAMES:
        suffix = application(name).root
        if "/" in suffix and str(root).endswith(f"/{suffix}"):
            return Place("folders", root, name)
    return Place("dir", root)


def _stores(environ: Mapping[str, str]) -> Iterator[Place]:
    if named := environ.get("OLLAMA_MODELS"):
        yield Place("ollama", paths.expand(named, environ))
    else:
        for home in _home(environ):
            yield Place("ollama", home / ".ollama/models")
    yield Place("ollama", _SYSTEM_OLLAMA)


def _home(environ: Mapping[str, str]) -> Iterator[Path]:
    try:
        yield paths.home(environ)
    except UsageError:
        return


def _of_application(name: str, root: Path) -> Iterator[Place]:
    """The models' folder, and each folder that the application keeps beside it."""
    yield Place("folders", root, name)
    for folder in sorted(set(application(name).categories.values())):
        if folder.startswith(_BESIDE):
            beside = folder.removeprefix(_BESIDE)
            yield Place("folders", root.parent / beside, name, beside)


def _distinct(asked: Iterable[Place]) -> list[Place]:
    """The folders among them that exist, links resolved, the first of equal ones."""
    places: dict[Path, Place] = {}
    for place in asked:
        try:
            root = place.root.resolve()
            if root.is_dir():
                found = Place(place.kind, root, place.application, place.beside)
                places.setdefault(root, found)
        except (OSError, RuntimeError):
            continue
    return list(places.values())
