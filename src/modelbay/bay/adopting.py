"""What other programs downloaded, told to the index. Nothing but the index is written to."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from modelbay.bay.session import Session
from modelbay.digest import Digest
from modelbay.files.extents import shared_block
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
_BY_REVISION = frozenset({"hf-cache", "ollama"})
"""Layouts whose folders tell a model's name and revision."""
_Identity = tuple[int, int]
_Key = tuple[str, str, str]
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
    index, tally = session.index, _Tally()
    known = _Known(index, places)
    found = tuple(_adopt_place(index, place, places, known, tally, tell) for place in places)
    return Adopted(found, tally.size, tally.twins(index))


def places_of(session: Session, folders: Sequence[Path] = ()) -> list[Place]:
    """Where `adopt` looks. Raises FileNotFound, DiskError."""
    roots = {name: session.models_root(application(name)) for name in _applications(session)}
    standard = standard_places(session.environ, session.workspace, roots)
    return given_places(folders, standard) if folders else standard


def _applications(session: Session) -> Iterable[str]:
    """Those whose root the settings or the command line name: one has the chosen folders."""
    return [name for name in NAMES if name == session.settings.folders]


def _adopt_place(
    index: "Index",
    place: Place,
    places: Sequence[Place],
    known: "_Known",
    tally: "_Tally",
    tell: Tell | None,
) -> PlaceFound:
    looked = 0

    def tick(names: int) -> None:
        nonlocal looked
        looked += names
        if tell is not None:
            tell(place, looked)

    look = look_through(place, places, tick)
    noting = _Noting(index, look, known)
    tally.begin_place()
    for model in read(place, look):
        tally.add(model)
        noting.add(model)
    noting.write()
    forgotten = 0
    if look.whole:
        within = [str(place.root), *look.skip]
        gone = known.unlike(noting.seen, within)
        forgotten = sum(_forget_rest(index, row, noting.seen.get(_key(row))) for row in gone)
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
    """What the index knew of the places before: models that modelbay brought keep their names."""

    def __init__(self, index: "Index", places: Sequence[Place]) -> None:
        self._index = index
        self._roots = [str(place.root) for place in places]
        self._brought: dict[tuple[str, str, str], IndexedModel] = {}
        self._adopted: dict[_Key, int] = {}
        """Models of which everything may have been adopted, with the number of their files."""
        self.named: set[str] = set()
        """Files that belong to a model with a better name than their path."""
        for model in list(index.models()):
            self._learn(model)

    def _learn(self, model: IndexedModel) -> None:
        if not any(_is_below(str(model.root), root) for root in self._roots):
            return
        by_revision = model.layout in _BY_REVISION
        if model.attached and not model.named and (by_revision or model.ref.startswith(PATH)):
            self._adopted[_key(model)] = model.files
        if by_revision and not model.named:
            self._learn_revision(model)
        elif not by_revision and not model.ref.startswith(PATH):
            self.named.update(str(file.path) for file in self._index.files_of(model))

    def _learn_revision(self, model: IndexedModel) -> None:
        """Of two names for one revision the one stays that modelbay brought it under."""
        key = model.layout, str(model.root), model.revision
        other = self._brought.setdefault(key, model)
        if other is not model:
            kept, dropped = (model, other) if self._is_brought(model) else (other, model)
            self._brought[key] = kept
            if not self._is_brought(dropped):
                self._index.drop(dropped)

    def _is_brought(self, model: IndexedModel) -> bool:
        return any(file.placed for file in self._index.files_of(model))

    def row(self, found: FoundModel) -> IndexedModel:
        """How `found` is called in the index."""
        row = IndexedModel(
            found.ref,
            found.revision,
            found.layout,
            Path(found.root),
            _without_revision(found),
            source=found.source,
        )
        before = self._brought.get((found.layout, found.root, found.revision))
        if before is None or before.ref == row.ref:
            return row
        if before.model != row.model or self._is_brought(before):
            return before
        return row

    def unlike(self, seen: Mapping[_Key, int], within: Sequence[str]) -> list[IndexedModel]:
        """Models adopted from the first folder of `within`, but not from the others, of which
        other files were `seen` than are known.
        """
        root, *others = within
        stale = {
            key
            for key, files in self._adopted.items()
            if seen.get(key) != files
            and _is_below(key[1], root)
            and not any(_is_below(key[1], other) for other in others)
        }
        return [row for row in self._index.models() if _key(row) in stale] if stale else []


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


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
    seen: dict[_Key, int] = field(default_factory=dict)
    """Every model that was noted, with the number of its files."""
    _rows: list[_Row] = field(default_factory=list)

    def add(self, found: FoundModel) -> None:
        self.models += 1
        self.detached += found.detached
        for trouble in found.troubles:
            self.look.note(trouble)
        self.damaged += [Damaged(file.path, file.damage) for file in found.files if file.damage]
        files = [_indexed(file) for file in found.files if file.path not in self.known.named]
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


def _key(row: IndexedModel) -> _Key:
    """What tells the rows of one place apart."""
    several = row.layout == "hf-cache"
    return row.layout, str(row.root), row.revision if several else row.ref


def _indexed(file: FoundFile) -> IndexedFile:
    return IndexedFile(
        Path(file.path), file.size, file.mtime_ns, file.inode, file.digests, name=file.name
    )


def _forget_rest(index: "Index", row: IndexedModel, there: int | None) -> int:
    """Forgets what of `row` vanished, where `there` is how many of its files were seen just
    now; how many are gone. What modelbay put there stays, for `verify` to miss.
    """
    files = list(index.files_of(row))
    gone = [file.path for file in files if not file.placed and _is_gone(file.path)]
    if there is None and (row.ref.startswith(PATH) or not any(file.placed for file in files)):
        index.drop(row)
    else:
        index.forget(gone)
    return len(gone)


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
        if file.damage:
            return
        for digest in file.digests:
            self._claims.setdefault((digest, file.size), {}).setdefault(identity, file.path)
        if not file.digests:
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
            Twin(digest, size, tuple(paths))
            for (digest, size), files in self._claims.items()
            if size and len(files) > 1 and len(paths := _stored_apart(files)) > 1
        ]
        return tuple(sorted(_once(found), key=lambda twin: (-twin.spare, twin.paths)))


def _stored_apart(files: Mapping[_Identity, str]) -> list[str]:
    """The paths among `files` whose blocks are no other's, and one of those that share theirs."""
    apart: dict[object, str] = {}
    for identity, path in sorted(files.items(), key=lambda one: one[1]):
        device, _ = identity
        block = shared_block(path)
        apart.setdefault(identity if block is None else ("shared", device, block), path)
    return list(apart.values())


def _once(twins: Iterable[Twin]) -> Iterable[Twin]:
    """Each group of files once, whichever of their digests shows it."""
    return {twin.paths: twin for twin in twins}.values()
