"""Whether what lies on the disk is what a lock says. Writes nothing."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, Unpack

from modelbay import files
from modelbay.bay import locking
from modelbay.bay.agreeing import locked_ref
from modelbay.bay.documents import Document, open_document, session_for
from modelbay.bay.lock_place import lock_of_before
from modelbay.bay.session import Session
from modelbay.bay.syncing import read
from modelbay.bay.work import Task, Work
from modelbay.digest import Digest, disagreement
from modelbay.errors import DiskError
from modelbay.library.base import Layout
from modelbay.provision import Lock, LockedModel, snapshot_of
from modelbay.snapshot import ModelFile, Snapshot
from modelbay.text import clean
from modelbay.transfer import Stop


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which disk and lock differ, or lock and provision file."""

    what: str
    model: str = ""
    path: str = ""
    target: Path | None = None

    def __str__(self) -> str:
        return ": ".join(clean(part) for part in (self.model, self.path, self.what) if part)


@dataclass(frozen=True, slots=True)
class Lying:
    """A file that is in place, and what its bytes should be."""

    model: str
    file: ModelFile
    target: Path
    blob: Path


@dataclass(slots=True)
class Checking:
    """A look at every name. `work` reads the bytes too, where that was asked for; it is to be
    started, and followed to its end.
    """

    models: int = 0
    files: int = 0
    size: int = 0
    found: list[Difference] = field(default_factory=list)
    work: Work[Lying] | None = None

    @property
    def differences(self) -> list[Difference]:
        """What was found so far, by model and path."""
        return sorted(self.found, key=lambda one: (one.model, one.path))


class Options(TypedDict, total=False):
    deep: bool
    """Read every byte."""
    trust: Digest | None
    allow_http: bool
    mirrors: Sequence[str]


def check(session: Session, where: str, **options: Unpack[Options]) -> Checking:
    """Compares the disk with the lock `where`, or with that of the provision file `where`: names,
    sizes, and digests as far as they are known. No source is asked. Raises as `open_document`.
    """
    deep = options.get("deep", False)
    document = open_document(
        session,
        where,
        trust=options.get("trust"),
        allow_http=options.get("allow_http", False),
        mirrors=options.get("mirrors", ()),
    )
    own = session_for(session, document)
    checking = Checking()
    lock = _lock_of(own, document, checking)
    lying: list[Lying] = []
    for model in lock.models if lock is not None else ():
        checking.models += 1
        checking.files += len(model.files)
        checking.size += model.size
        lying += _looked_at(own, model, checking, deep=deep)
    if deep:
        tasks = [Task(one, one.file.path, one.file.size or 0) for one in lying]
        checking.work = Work(tasks, _reading(checking), threads=files.cores())
    return checking


def _lock_of(session: Session, document: Document, checking: Checking) -> Lock | None:
    """The lock; in what it is not what the provision file asks for is found too."""
    if document.kind == "lock":
        return locking.parse_lock(session, document.text, document.name)
    path = lock_of_before(session, path=document.path, url=document.url)
    if path is None:
        hint = f"`modelbay lock {document.name}` makes it"
        checking.found.append(Difference(f"{document.name} has no lock yet: {hint}"))
        return None
    lock = locking.read_lock(session, path)
    unlike = locking.satisfies(session, lock, read(session, document))
    checking.found += [Difference(sentence) for sentence in unlike]
    return lock


def _looked_at(
    session: Session, model: LockedModel, checking: Checking, *, deep: bool
) -> Iterator[Lying]:
    """What is in place; with `deep`, what is as it was when it was read last too."""
    snapshot = snapshot_of(model, locked_ref(session, model))
    layout = session.layout_at(model.place, model.names)
    known = layout.as_recorded(snapshot, model.files)
    for file in model.files:
        place = known.get(file.path)
        if place is None:
            blob = _standing(layout, snapshot, file, model.id, checking)
            place = layout.place_of(snapshot, file) if blob is not None else None
        else:
            blob = place.blob
        if deep and place is not None and blob is not None:
            yield Lying(model.id, file, place.target, blob)


def _standing(
    layout: Layout, snapshot: Snapshot, file: ModelFile, model: str, checking: Checking
) -> Path | None:
    """Where its bytes are, if nothing shows yet that they are others."""
    target = layout.place_of(snapshot, file).target
    try:
        standing = layout.look(snapshot, file)
        what, path = standing.taken, standing.path
        if path is None:
            what = what or f"{target} is missing"
        elif not standing.reached:
            what = f"{target} does not lead to its bytes"
        else:
            what = _unlike(layout, snapshot, file, path)
    except DiskError as error:
        what, path = str(error), None
    if what:
        checking.found.append(Difference(what, model, file.path, target))
        return None
    return path


def _unlike(layout: Layout, snapshot: Snapshot, file: ModelFile, path: Path) -> str:
    with files.disk_errors(path):
        size = path.stat().st_size
        if size != file.size:
            return f"{path} has {size} bytes instead of {file.size}"
        wrong = disagreement(file.digests, layout.records(snapshot).unchanged(path))
    return f"{path} is {wrong[1]} instead of {wrong[0]}" if wrong else ""


def _reading(checking: Checking) -> Callable[[Task[Lying], Stop], None]:
    def do(task: Task[Lying], stop: Stop) -> None:
        one, progress = task.item, task.progress
        progress.state = "verifying"

        def tick(count: int) -> None:
            stop.check()
            progress.fetched += count
            progress.received = progress.hashed = progress.fetched

        try:
            found = files.hash_file(one.blob, ("sha256",), tick=tick, follow=True)
            wrong = disagreement(one.file.digests, found)
            what = f"{one.target} is {wrong[1]} instead of {wrong[0]}" if wrong else ""
        except DiskError as error:
            what = str(error)
        if what:
            checking.found.append(Difference(what, one.model, one.file.path, one.target))

    return do
