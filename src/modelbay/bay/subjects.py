"""What `verify` reads: files of the library or of a lock, with what their bytes should be."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

from modelbay.bay.session import Session
from modelbay.digest import Digest
from modelbay.errors import FileNotFound, FormatError, ModelNotFound, RefError
from modelbay.library.base import Layout, Standing
from modelbay.library.dir import Dir
from modelbay.library.hf_cache import HfCache
from modelbay.library.home import NAME
from modelbay.library.index_rows import IndexedFile, IndexedModel
from modelbay.library.ollama_layout import stored_name
from modelbay.library.records import Known, Record, records_in
from modelbay.provision import read_lock, snapshot_of
from modelbay.refs import ModelRef
from modelbay.safepath import SafeRelPath
from modelbay.snapshot import ModelFile, Snapshot
from modelbay.text import clean


@dataclass(frozen=True, slots=True)
class Origin:
    """How a file can be had again, and be put where it is."""

    snapshot: Snapshot
    file: ModelFile
    layout: Layout


@dataclass(frozen=True, slots=True)
class Recorded:
    """Where a file is on record: the folder with `.modelbay`, the record, the row."""

    base: Path
    record: Record
    known: Known


@dataclass(frozen=True, slots=True)
class Subject:
    """One file. `path` is where its bytes lie, `name` its path in the snapshot, `ref` what
    fetches it again.
    """

    path: Path
    name: str
    ref: str
    size: int | None
    digests: tuple[Digest, ...]
    placed: bool = False
    """modelbay put it there."""
    locked: bool = False
    """A lock says what it should be."""
    reader: Path | None = None
    """The name that readers use, where that is a link to `path`."""
    taken: str = ""
    """Why what stands there cannot be it."""
    records: Sequence[Recorded] = ()
    """Where it is on record, the row that says most first."""
    origin: Callable[[], Origin] | None = None
    model: IndexedModel | None = None

    @property
    def named_by_content(self) -> bool:
        """Its name is a digest of what it should hold, so that other bytes are damage."""
        name = self.path.name.removeprefix("sha256-")
        in_blobs = self.path.parent.name == "blobs"
        return in_blobs and any(name == digest.hex for digest in self.digests)

    @property
    def recorded(self) -> Recorded | None:
        return next(iter(self.records), None)


@dataclass(frozen=True, slots=True)
class Asked:
    """Files, each once, and the models they are of."""

    subjects: Sequence[Subject]
    models: int
    detached: Sequence[str] = ()
    """Models whose disk is not mounted."""


def asked(session: Session, names: Sequence[str]) -> Asked:
    """The files of the locks and models called `names`, all of the library without any.

    Raises ModelNotFound, FileNotFound, FormatError, RefError, DiskError.
    """
    found: dict[Path, Subject] = {}
    models, detached = 0, []
    records = _Homes()
    locks = [name for name in names if _is_lock(name)]
    refs = [name for name in names if name not in locks]
    for name in locks:
        locked = list(_of_lock(session, Path(name), records))
        models += len({subject.ref for subject in locked})
        found.update((subject.path, subject) for subject in locked)
    seen: set[str] = set()
    for model, path in models_asked(session, refs) if refs or not locks else ():
        if not model.attached:
            detached.append(model.ref)
            continue
        models += 1
        for file in session.index.files_of(model):
            if path is None or file.name == path or file.name.startswith(f"{path}/"):
                found.setdefault(file.path, records.subject(session, model, file))
        if path is None:
            seen.add(model.ref)
    for subject in _only_recorded(session, records, found) if refs or not locks else ():
        if not refs or subject.ref in seen:
            models += subject.ref not in seen
            seen.add(subject.ref)
            found[subject.path] = subject
    return Asked(list(found.values()), models, detached)


def _is_lock(name: str) -> bool:
    path = Path(name)
    if path.is_file():
        return True
    if name.endswith(".toml"):
        raise FileNotFound(
            f"there is no file {clean(name)}",
            hint="name a lock file, or a model as `modelbay ls` shows it",
        )
    return False


def models_asked(
    session: Session, names: Sequence[str]
) -> Iterator[tuple[IndexedModel, str | None]]:
    """The models of the library that `names` mean, refs or ids of a lock, each with the path in
    it that was asked for; all of them without any. Raises ModelNotFound, RefError.
    """
    if not names:
        yield from ((model, None) for model in session.index.models())
    for name in names:
        matching = list(_matching(session, name))
        if not matching:
            raise ModelNotFound(
                f"{clean(name)} is not in the library of this machine",
                hint="`modelbay ls` shows what is; `modelbay adopt` looks for more",
            )
        yield from matching


def _matching(session: Session, name: str) -> Iterator[tuple[IndexedModel, str | None]]:
    named = [model for model in session.index.models(name) if model.model == name]
    if named:
        yield from ((model, None) for model in named)
        return
    ref = session.parse(name)
    for model in session.index.models(ref.name):
        try:
            other = session.parse(model.ref)
        except RefError:
            continue
        same = other.at(None) == ModelRef(ref.source, ref.scheme, ref.name, options=ref.options)
        if same and ref.revision in {None, other.revision, model.revision}:
            yield model, ref.path


def _only_recorded(
    session: Session, records: "_Homes", found: Mapping[Path, Subject]
) -> Iterator[Subject]:
    """Files of ours that the index, made anew from the disk, does not take for what they were."""
    for home in session.index.homes():
        for row in records.rows(home.base) if home.attached else ():
            path = home.base / row.known.file
            if path not in found and row.known.placed and row.known.path:
                yield _of_record(session, row, home.layout, records.of(path, row.known.path))


def _of_record(
    session: Session, row: Recorded, layout: str, several: Sequence[Recorded]
) -> Subject:
    known = row.known
    return Subject(
        row.base / known.file,
        known.path,
        row.record.ref,
        known.size,
        known.digests,
        placed=True,
        records=several,
        origin=partial(_origin, session, row, layout),
    )


def _of_lock(session: Session, path: Path, records: "_Homes") -> Iterator[Subject]:
    for model in read_lock(path).models:
        ref = session.sources.ref_of(model.source, model.original)
        headers = model.original.get("headers", {})
        session.sources.bind(ref, model.auth, cast("dict[str, str]", headers))
        snapshot, layout = snapshot_of(model, ref), session.layout_at(model.place, model.names)
        for file in model.files:
            origin = Origin(snapshot, file, layout)
            yield _locked(origin, model.id, layout.look(snapshot, file), records)


def _locked(origin: Origin, id_: str, standing: Standing, records: "_Homes") -> Subject:
    file = origin.file
    place = origin.layout.place_of(origin.snapshot, file)
    path = standing.path or place.blob
    several = records.of(path, file.path)
    linked = path != place.target and standing.path is not None
    return Subject(
        path,
        file.path,
        id_,
        file.size,
        file.digests,
        placed=bool(several) and several[0].known.placed,
        locked=True,
        reader=place.target if linked else None,
        taken=standing.taken,
        records=several,
        origin=lambda: origin,
    )


@dataclass
class _Homes:
    """Records, read once for each `.modelbay`."""

    _bases: dict[Path, Path | None] = field(default_factory=dict)
    _rows: dict[Path, dict[str, list[Recorded]]] = field(default_factory=dict)

    def of(self, path: Path, name: str) -> Sequence[Recorded]:
        """The rows for `path`, the one that says most first: of that name, put there by us."""
        base = self._base(path.parent)
        if base is None:
            return ()
        rows = self._of_base(base).get(path.relative_to(base).as_posix(), [])
        return sorted(rows, key=lambda row: (not row.known.placed, row.known.path != name))

    def rows(self, base: Path) -> Iterator[Recorded]:
        """Every row of the records in `base`."""
        for several in self._of_base(base).values():
            yield from several

    def subject(self, session: Session, model: IndexedModel, file: IndexedFile) -> Subject:
        several = self.of(file.path, file.name)
        recorded = next((row for row in several if row.known.digests), None)
        known = recorded.known if recorded else None
        placed = known.placed if known else file.placed
        linked = placed and model.layout == "hf-cache" and file.path.parent.name == "blobs"
        return Subject(
            file.path,
            file.name,
            model.ref,
            known.size if known else file.size,
            known.digests if known else file.digests,
            placed=placed,
            reader=model.root / "snapshots" / model.revision / file.name if linked else None,
            records=several,
            origin=partial(_origin, session, recorded, model.layout) if recorded else None,
            model=model,
        )

    def _of_base(self, base: Path) -> dict[str, list[Recorded]]:
        if base not in self._rows:
            rows = self._rows[base] = {}
            for record in records_in(base):
                for known in record.files:
                    rows.setdefault(known.file, []).append(Recorded(base, record, known))
        return self._rows[base]

    def _base(self, folder: Path) -> Path | None:
        """The nearest folder up from `folder` that holds a `.modelbay` with records."""
        if folder not in self._bases:
            here = (folder / NAME / "meta").is_dir()
            up = None if folder == folder.parent else folder.parent
            self._bases[folder] = folder if here else self._base(up) if up else None
        return self._bases[folder]


def _origin(session: Session, recorded: Recorded, layout: str) -> Origin:
    """From a record: its source need not be asked what the ref means."""
    record, known, base = recorded.record, recorded.known, recorded.base
    revision = known.revision or record.revision
    table = {
        key: revision if value == record.revision else value for key, value in record.table.items()
    }
    name = SafeRelPath.parse(known.path or known.file)
    in_cache = layout == "hf-cache"
    etag = Path(known.file).name if in_cache and known.file.startswith("blobs/") else None
    file = ModelFile(name, known.size, known.digests, etag=etag)
    ref = session.parse(record.ref)
    snapshot = Snapshot(ref, revision, (file,), table, fresh=False)
    if not known.path:
        raise FormatError(
            f"the record of {clean(known.file)} does not say which file of {ref} it is",
            hint=f"`modelbay get {ref}` looks at it",
        )
    if in_cache:
        return Origin(snapshot, file, HfCache(base.parent, symlinks=etag is not None))
    return Origin(snapshot, file, Dir(base, names={name: stored_name(known.file)}))
