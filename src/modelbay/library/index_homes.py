"""What records on disk tell the index: where to look for them, and whose files they name."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from modelbay.files import write_atomic
from modelbay.library.index_rows import IndexedFile, IndexedHome, IndexedModel
from modelbay.library.records import Known, Record, records_in
from modelbay.library.trash import HOME


def homes_in_cache(cache: Path) -> Iterator[IndexedHome]:
    """The repos in the Hub's cache that modelbay put something into."""
    with suppress(OSError), os.scandir(cache) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if "--" in entry.name and holds_home(Path(entry.path)):
                yield IndexedHome(Path(entry.path).resolve(), "hf-cache")


def home_in_store(store: Path) -> list[IndexedHome]:
    """Ollama's store, where modelbay put something into it."""
    return [IndexedHome(store.resolve(), "ollama")] if holds_home(store) else []


def homes_of_application(root: Path, application: str, folders: Iterable[str]) -> list[IndexedHome]:
    """The models' folder `root` of an application, and the one around it where one of its
    `folders` lies beside.
    """
    bases = [root.resolve()]
    if any(folder.startswith("../") for folder in folders):
        bases.append(bases[0].parent)
    return [IndexedHome(base, "folders", application) for base in bases if holds_home(base)]


def holds_home(base: Path) -> bool:
    """Whether a `.modelbay` of ours lies in `base`."""
    return (base / HOME / "meta").is_dir()


def remember(index: Path, homes: Sequence[IndexedHome]) -> None:
    """Writes `homes` beside the file of the `index`, where its loss does not take them along.
    Raises OSError.
    """
    rows = [
        {"base": os.fspath(home.base), "layout": home.layout, "application": home.application}
        for home in homes
    ]
    write_atomic(_beside(index), json.dumps(rows, indent=1).encode(), durable=False)


def remembered(index: Path) -> list[IndexedHome]:
    """The homes that were written beside the file of the `index`, if they can be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return [
            IndexedHome(Path(row["base"]), str(row["layout"]), row["application"])
            for row in json.loads(_beside(index).read_bytes())
        ]
    return []


def _beside(index: Path) -> Path:
    return index.with_name("homes.json")


def recorded(home: IndexedHome) -> Iterator[tuple[IndexedModel, list[IndexedFile]]]:
    """The models that the records in `home` name, with those of their files that are there,
    unchanged since their bytes were read.
    """
    for record in records_in(home.base):
        places: dict[tuple[Path, str], list[IndexedFile]] = {}
        for known in record.files:
            file = _standing(home.base, known)
            if file is not None:
                root = _root(home, known)
                revision = known.revision or record.revision
                places.setdefault((root, revision), []).append(file)
        for (root, revision), files in places.items():
            yield _model(home, record, root, revision), files


def _model(home: IndexedHome, record: Record, root: Path, revision: str) -> IndexedModel:
    return IndexedModel(
        ref=record.ref,
        revision=revision,
        layout=home.layout,
        root=root,
        model=_without_revision(record.ref),
        licence=record.licence,
        source=record.source,
    )


def _without_revision(ref: str) -> str:
    scheme, slashes, rest = ref.partition("://")
    body, _, options = rest.partition("?")
    name, _, revised = body.partition("@")
    _, slash, path = revised.partition("/")
    return f"{scheme}{slashes}{name}{slash}{path}{'?' if options else ''}{options}"


def _standing(base: Path, known: Known) -> IndexedFile | None:
    path = base / known.file
    try:
        if not known.matches(path.lstat()):
            return None
        # What we placed was read when it was written: at that time or a little later.
        read = known.mtime_ns / 1e9 if known.placed and known.digests else None
        name = known.path or known.file
        return IndexedFile.seen(path, known.digests, name=name, placed=known.placed, verified=read)
    except OSError:
        return None


def _root(home: IndexedHome, known: Known) -> Path:
    """The folder that a person knows the model by, as its layout had it."""
    if home.layout != "folders":
        return home.base
    path = home.base / known.file
    if known.path and known.file.endswith(f"/{known.path}"):
        return Path(str(path).removesuffix(f"/{known.path}"))
    return path.parent
