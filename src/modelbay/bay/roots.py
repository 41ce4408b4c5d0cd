"""Every folder of this user that may hold a `.modelbay`: known to the index, or usual."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelbay import paths
from modelbay.bay.session import Session
from modelbay.library.folders import NAMES, application
from modelbay.library.home import NAME


@dataclass(frozen=True, slots=True)
class Root:
    """A folder that holds a `.modelbay`, or could; `layout` tells how files lie below it."""

    base: Path
    layout: str

    @property
    def is_home(self) -> bool:
        return (self.base / NAME).is_dir()


def roots(session: Session) -> list[Root]:
    """Those that are there, each once, by path."""
    found: dict[Path, Root] = {}
    for root in (*_indexed(session), *_usual(session)):
        if root.base.is_dir():
            found.setdefault(root.base, root)
    return [found[base] for base in sorted(found)]


def homes(session: Session) -> list[Root]:
    """Those that hold a `.modelbay`."""
    return [root for root in roots(session) if root.is_home]


def repos(session: Session) -> Iterator[Path]:
    """The folders of the Hub's cache that hold a repo, by name."""
    cache = paths.hub_cache(session.environ)
    if cache.is_dir():
        for path in sorted(cache.resolve().iterdir()):
            if "--" in path.name and (path / "snapshots").is_dir() and not path.is_symlink():
                yield path


def base_of(path: Path) -> Path | None:
    """The nearest folder from `path` upwards that holds a `.modelbay`."""
    return next((one for one in (path, *path.parents) if (one / NAME).is_dir()), None)


def _indexed(session: Session) -> Iterator[Root]:
    for home in session.index.homes():
        if home.attached:
            yield Root(home.base, home.layout)


def _usual(session: Session) -> Iterator[Root]:
    for repo in repos(session):
        yield Root(repo, "hf-cache")
    yield Root(paths.ollama_models(session.environ).resolve(), "ollama")
    for name in NAMES:
        app = application(name)
        top = session.models_root(app).resolve()
        yield Root(top, "folders")
        if any(folder.startswith("../") for folder in app.categories.values()):
            yield Root(top.parent, "folders")
    here = Path.cwd().resolve()
    if (here / NAME).is_dir():
        yield Root(here, "dir")
