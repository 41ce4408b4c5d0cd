"""What other programs downloaded, told to the index. Nothing but the index is written to."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from modelbay.bay.session import Session
from modelbay.digest import Digest
from modelbay.library.adopt import (
    PATH,
    FoundFile,
    FoundModel,
    Look,
    Place,
    given_places,
    look_through,
    read,
    standard_places,
)
from modelbay.library.folders import NAMES, application
from modelbay.library.index_rows import IndexedFile, IndexedModel

if TYPE_CHECKING:
    from modelbay.library.index import Index  # brings SQLite

_AT_ONCE = 200
"""Models of one transaction."""
_Identity = tuple[int, int]
_Row = tuple[IndexedModel, list[IndexedFile]]

Tell = Callable[[Place, int], None]
"""Hears how many names were looked at in a place so far; raises to stop."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A file whose bytes cannot be what its name says, and why."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Twin:
    """Different files that claim the same bytes. `size` is that of each."""

    digest: Digest
    size: int
    paths: tuple[str, ...]

    @property
    def spare(self) -> int:
        """Bytes that one file in place of them would save."""
        return self.size * (len(self.paths) - 1)


@dataclass(frozen=True, slots=True)
class PlaceFound:
    """What one place holds. `size` in bytes, each file counted once, however it is reached."""

    place: Place
    models: int
    files: int
    size: int
    damaged: tuple[Damaged, ...]
    detached: int
    """Revisions of the Hub's cache that no ref leads to."""
    links: int
    """Symbolic links, which were not followed."""
    notes: tuple[str, ...]
    unsaid: int
    """How many more notes there were."""
    whole: bool
    """Nothing in it was left out; what the index knew of it beyond that is gone."""
    forgotten: int
    """Files that were here the last time."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """What this machine holds. A file that several places reach is counted once in `size`."""

    places: tuple[PlaceFound, ...]
    size: int
    twins: tuple[Twin, ...]
    """The largest saving first. Only digests make twins: claimed by names, or observed."""

    @property
    def twice(self) -> int:
        return sum(twin.spare for twin in self.twins)


def adopt(session: Session, folders: Sequence[Path] = (), *, tell: Tell | None = None) -> Adopted:
    """Indexes what is in `folders`, or, without any, where programs usually keep models.

    Nothing is moved, hashed or written to but the index. Raises FileNotFound for a folder that
    is not there, DiskError where the index cannot be written, and what `tell` raises.
    """
    places = places_of(session, folders)
    tally = _Tally()
    found = tuple(_adopt_place(session.index, place, places, tally, tell) for place in places)
    return Adopted(found, tally.size, tally.twins(session.index))


def places_of(session: Session, folders: Sequence[Path] = ()) -> list[Place]:
    """Where `adopt` looks. Raises FileNotFound, DiskError."""
    roots = {name: session.models_root(application(name)) for name in _applications(session)}
    standard = standard_places(session.environ, session.workspace, roots)
    return given_places(folders, standard) if folders else standard


def _applications(session: Session) -> Iterable[str]:
    """Those whose root the settings or the command line name: one has the chosen folders."""
    return [name for name in NAMES if name == session.settings.folders]


def _adopt_place(
    index: "Index", place: Place, places: Sequence[Place], tally: "_Tally", tell: Tell | None
) -> PlaceFound:
    looked = 0

    def tick(names: int) -> None:
        nonlocal looked
        looked += names
        if tell is not None:
            tell(place, looked)

    look = look_through(place, places, tick)
    noting = _Noting(index, look, _Known(index, place))
    tally.begin_place()
    for model in read(place, look):
        tally.add(model)
        noting.add(model)
    noting.write()
    forgotten = _forget_vanished(index, place, look, noting) if look.whole else 0
    return PlaceFound(
        place,
        noting.models,
        tally.files_here,
        tally.size_here,
        tuple(noting.damaged),
        noting.detached,
        look.links,
        tuple(look.notes),
        look.unsaid,
        look.whole,
        forgotten,
    )


class _Known:
    """What the index knew of a place before: models that modelbay brought keep their names."""

    def __init__(self, index: "Index", place: Place) -> None:
        self._index = index
        self._revisions: dict[tuple[str, str, str], IndexedModel] = {}
        self.placed: set[str] = set()
        """Files of other layouts than the Hub's cache that modelbay put there."""
        for model in index.models():
            if not _is_below(model.root, place.root):
                continue
            if model.layout in {"hf-cache", "ollama"}:
                key = model.layout, str(model.root), model.revision
                if not model.named or key not in self._revisions:
                    self._revisions[key] = model
            elif not model.ref.startswith(PATH):
                self.placed.update(str(file.path) for file in index.files_of(model) if file.placed)

    def row(self, found: FoundModel) -> IndexedModel:
        """How `found` is called in the index."""
        key = found.layout, found.root, found.revision
        row = IndexedModel(
            found.ref,
            found.revision,
            found.layout,
            Path(found.root),
            _without_revision(found),
            source=found.source,
        )
        before = self._revisions.get(key)
        if before is None or before.named or before.ref == row.ref:
            return row
        if before.model != row.model or any(f.placed for f in self._index.files_of(before)):
            return before
        return row


def _is_below(root: Path, folder: Path) -> bool:
    return root == folder or folder in root.parents


def _without_revision(found: FoundModel) -> str:
    if found.layout == "hf-cache":
        return found.ref.partition("@")[0]
    return found.ref


@dataclass(slots=True)
class _Noting:
    """Models on their way into the index, many in one transaction."""

    index: "Index"
    look: Look
    known: _Known
    models: int = 0
    detached: int = 0
    damaged: list[Damaged] = field(default_factory=list)
    seen: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """Every model that was noted, with the number of its files."""
    _rows: list[_Row] = field(default_factory=list)

    def add(self, found: FoundModel) -> None:
        self.models += 1
        self.detached += found.detached
        for trouble in found.troubles:
            self.look.note(trouble)
        self.damaged += [Damaged(file.path, file.damage) for file in found.files if file.damage]
        files = [_indexed(file) for file in found.files if file.path not in self.known.placed]
        if files:
            row = self.known.row(found)
            self.seen[_key(row)] = len({file.name for file in files})
            self._rows.append((row, files))
            if len(self._rows) >= _AT_ONCE:
                self.write()

    def write(self) -> None:
        rows, self._rows = self._rows, []
        if rows:
            self.index.note_all(rows)


def _key(row: IndexedModel) -> tuple[str, str, str]:
    """What tells the rows of one place apart."""
    several = row.layout == "hf-cache"
    return row.layout, str(row.root), row.revision if several else row.ref


def _indexed(file: FoundFile) -> IndexedFile:
    return IndexedFile(
        Path(file.path), file.size, file.mtime_ns, file.inode, file.digests, name=file.name
    )


def _forget_vanished(index: "Index", place: Place, look: Look, noting: _Noting) -> int:
    """Takes out of the index what was adopted from `place` and is no longer in it: how many
    files. What modelbay put there stays, for `verify` to miss.
    """
    others = [Path(folder) for folder in look.skip]
    forgotten = 0
    for row in list(index.models()):
        elsewhere = any(_is_below(row.root, folder) for folder in others)
        if row.attached and not elsewhere and not row.named and _is_below(row.root, place.root):
            forgotten += _forget_rest(index, row, noting.seen.get(_key(row)))
    return forgotten


def _forget_rest(index: "Index", row: IndexedModel, there: int | None) -> int:
    """Forgets the files of `row` that vanished, where `there` is how many were seen just now."""
    if there == row.files:
        return 0
    files = list(index.files_of(row))
    if there is not None:
        gone = [file.path for file in files if not file.placed and _is_gone(file.path)]
        index.forget(gone)
        return len(gone)
    if _was_adopted(row) and not any(file.placed for file in files):
        index.drop(row)
        return len(files)
    return 0


def _was_adopted(row: IndexedModel) -> bool:
    return row.layout in {"hf-cache", "ollama"} or row.ref.startswith(PATH)


def _is_gone(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


class _Tally:
    """How many bytes there are, each inode once, and which of them are there twice."""

    def __init__(self) -> None:
        self.size = 0
        self.files_here = 0
        self.size_here = 0
        self._all: set[_Identity] = set()
        self._here: set[_Identity] = set()
        self._claims: dict[tuple[Digest, int], dict[_Identity, str]] = {}
        self._unnamed: dict[int, dict[_Identity, str]] = {}
        self._sizes: Counter[int] = Counter()

    def begin_place(self) -> None:
        self._here.clear()
        self.files_here = self.size_here = 0

    def add(self, model: FoundModel) -> None:
        for file in model.files:
            identity = file.device, file.inode
            if identity not in self._here:
                self._here.add(identity)
                self.files_here += 1
                self.size_here += file.size
            if identity not in self._all:
                self._all.add(identity)
                self.size += file.size
                self._sizes[file.size] += 1
            self._claim(identity, file)

    def _claim(self, identity: _Identity, file: FoundFile) -> None:
        for digest in file.digests:
            self._claims.setdefault((digest, file.size), {}).setdefault(identity, file.path)
        if not file.digests and not file.damage:
            self._unnamed.setdefault(file.size, {}).setdefault(identity, file.path)

    def twins(self, index: "Index") -> tuple[Twin, ...]:
        """Groups of files with one digest. Files whose names claim none are asked of the index,
        which may have seen their bytes.
        """
        for size, files in self._unnamed.items():
            if size and self._sizes[size] > 1:
                for identity, path in files.items():
                    known = index.at(Path(path))
                    for digest in known.digests if known is not None else ():
                        self._claims.setdefault((digest, size), {}).setdefault(identity, path)
        found = [
            Twin(digest, size, tuple(sorted(files.values())))
            for (digest, size), files in self._claims.items()
            if size and len(files) > 1
        ]
        return tuple(sorted(_once(found), key=lambda twin: (-twin.spare, twin.paths)))


def _once(twins: Iterable[Twin]) -> Iterable[Twin]:
    """Each group of files once, whichever of their digests shows it."""
    return {twin.paths: twin for twin in twins}.values()
