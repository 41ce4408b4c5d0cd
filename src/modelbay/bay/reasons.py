"""`why`: who needs a file, where it came from, and where its bytes are again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelbay.bay.roots import base_of
from modelbay.bay.session import Session
from modelbay.digest import Digest
from modelbay.errors import FileNotFound, ModelbayError
from modelbay.files import disk_errors
from modelbay.library.home import NAME
from modelbay.library.index import IndexedFile, IndexedModel
from modelbay.library.records import Known, Record, records_in
from modelbay.provision import read_lock
from modelbay.text import clean

_LOCKS = "*.lock.toml"


@dataclass(frozen=True, slots=True)
class LockNeeds:
    """A lock that has the bytes of a file, and the id and the path they have there."""

    lock: Path
    id: str
    path: str


@dataclass(frozen=True, slots=True)
class Reason:
    """What is known of one file. `path` is where its bytes lie, `asked` the name given."""

    asked: Path
    path: Path
    size: int
    ours: bool
    """modelbay put it there, and it has not changed since."""
    changed: bool
    """modelbay put a file there, and this is another one by now."""
    digests: tuple[Digest, ...]
    verified: float | None
    record: Record | None
    models: tuple[IndexedModel, ...]
    locks: tuple[LockNeeds, ...]
    names: tuple[Path, ...]
    """Other names of the same inode."""
    copies: tuple[Path, ...]
    """Other files with the same digest."""


def why(session: Session, asked: Path, locks: Sequence[Path] = ()) -> Reason:
    """Everything known of the file `asked`; locks looked into are `locks`, else those in the
    current folder and those that `sync` keeps in the workspace. Raises FileNotFound, DiskError,
    FormatError for a lock that was named and cannot be read.
    """
    path = asked.absolute()
    with disk_errors(path):
        try:
            path = path.resolve(strict=True)
        except FileNotFoundError:
            raise _absent(session, asked) from None
        if not path.is_file():
            raise FileNotFound(
                f"{clean(asked)} is a folder, and a file was expected",
                hint="`modelbay ls --files` names the files of every model",
            )
        status = path.stat()
    found = session.index.at(path)
    file = found if found is not None and found.matches(status) else None
    record, known = _recorded(path)
    placed = known is not None and known.placed
    ours = known is not None and known.placed and known.matches(status)
    digests = file.digests if file else known.digests if known and known.matches(status) else ()
    others = _same_inode(session, path, file)
    return Reason(
        asked,
        path,
        status.st_size,
        ours,
        placed and not ours,
        digests,
        file.verified if file else None,
        record,
        tuple(session.index.models_with(path)),
        tuple(_needing(session, path, digests, locks)),
        others,
        _copies(session, digests, {path, *others}),
    )


def _absent(session: Session, asked: Path) -> FileNotFound:
    known = session.index.at(asked.absolute())
    if known is not None:
        return FileNotFound(
            f"{clean(asked)} is not there any more; the library knew it as {clean(known.name)}",
            hint="`modelbay trash ls` shows what was removed, and can bring it back",
        )
    return FileNotFound(
        f"there is no file {clean(asked)}", hint="`modelbay ls --files` names what there is"
    )


def _recorded(path: Path) -> tuple[Record | None, Known | None]:
    """The record of the model that `path` was put there for first, and its row there."""
    base = base_of(path.parent)
    if base is None:
        return None, None
    name = path.relative_to(base).as_posix()
    rows = [
        (record, known)
        for record in records_in(base)
        for known in record.files
        if known.file == name
    ]
    return min(rows, key=lambda row: (not row[1].placed, row[0].when), default=(None, None))


def _same_inode(session: Session, path: Path, file: IndexedFile | None) -> tuple[Path, ...]:
    names = session.index.names_of(file) if file is not None else []
    return tuple(name for name in names if name != path)


def _copies(session: Session, digests: tuple[Digest, ...], but: set[Path]) -> tuple[Path, ...]:
    holders = session.index.holders(digests) if digests else []
    return tuple(dict.fromkeys(file.path for file in holders if file.path not in but))


def _needing(
    session: Session, path: Path, digests: tuple[Digest, ...], named: Sequence[Path]
) -> Iterator[LockNeeds]:
    in_blobs = path.parent.name == "blobs"
    for lock in named or _usual_locks(session):
        try:
            models = read_lock(lock).models
        except ModelbayError:
            if named:
                raise
            continue
        for model in models:
            for file in model.files:
                names = {digest.hex for digest in file.digests}
                if set(digests) & set(file.digests) or (in_blobs and path.name in names):
                    yield LockNeeds(lock, model.id, file.path)


def _usual_locks(session: Session) -> list[Path]:
    folders = (Path.cwd(), session.workspace / NAME / "locks")
    return [lock for folder in folders for lock in sorted(folder.glob(_LOCKS))]
