"""`lock`: a provision file becomes a lock, or is compared with the one it has."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from modelbay.bay import locking
from modelbay.bay.documents import Document, open_document, session_for
from modelbay.bay.lock_place import lock_of_before, lock_place, write_lock
from modelbay.bay.locking import Draft, Failures
from modelbay.bay.session import Session
from modelbay.errors import FormatError, TargetTaken
from modelbay.provision import Entry, Lock, LockedModel, Provision, provision_of, written
from modelbay.provision.keeping import asks_the_same
from modelbay.provision.reading import Written
from modelbay.queue import Run
from modelbay.text import clean


@dataclass(frozen=True, slots=True)
class Made:
    """What a locking came to."""

    lock: Lock | None
    """None where something failed: the lock before is as it was."""
    written: bool = False
    failures: Failures = ()


@dataclass(frozen=True, slots=True)
class Locking:
    """A lock that is known as far as sources tell, with nothing fetched or written yet."""

    session: Session
    draft: Draft
    place: Path
    """Where the lock is written."""

    def carry(self) -> Run:
        """Starts to fetch what no source tells a sha256 of. Raises as `Session.carry`."""
        return self.session.carry(self.draft.unknown)

    def made(self, run: Run | None) -> Made:
        """The lock, not written, after `run` has ended. Raises IntegrityError."""
        rows = run.rows if run is not None else ()
        failures = (*self.draft.failures, *locking.failures_of(self.draft, rows))
        if failures:
            return Made(None, failures=tuple(sorted(failures, key=lambda pair: pair[0])))
        return Made(locking.lock_of(self.session, self.draft, rows))

    def finish(self, run: Run | None) -> Made:
        """Writes the lock, unless something failed. Raises DiskError, IntegrityError."""
        made = self.made(run)
        if made.lock is None:
            return made
        return replace(made, written=write_lock(self.session, self.place, written(made.lock)))


def prepare(
    session: Session,
    where: str,
    *,
    out: Path | None = None,
    upgrade: Collection[str] | None = (),
    fetch: bool = True,
) -> Locking:
    """The lock of the provision file `where`, to be written to `out` or to its usual place.
    Sources are asked. Raises FormatError, UsageError, TargetTaken where `out` is no lock.
    """
    own, document, provision = _opened(session, where)
    place = out or lock_place(own, path=document.path, url=document.url)
    before = _before(own, document, out)
    found = locking.draft(own, provision, before, upgrade=upgrade, fetch=fetch, whole=False)
    return Locking(own, found, place)


def differences(session: Session, where: str, *, out: Path | None = None) -> tuple[str, ...]:
    """Sentences for everything in which the lock is not what `where` asks for. No source is
    asked. Raises FormatError.
    """
    own, document, provision = _opened(session, where)
    lock = _before(own, document, out)
    if lock is None:
        place = out or lock_place(own, path=document.path, url=document.url)
        return (f"there is no lock at {clean(place)}",)
    return tuple(locking.satisfies(own, lock, provision))


def locked_hash(session: Session, where: str, ident: str, *, out: Path | None = None) -> str | None:
    """What `hash` may say of the model `ident`, from the lock; None where it has none, or the
    entry asks for something else. Raises FormatError, UsageError.
    """
    own, document, provision = _opened(session, where)
    entry = _entry(provision, ident)
    lock = _before(own, document, out)
    models = {model.id: model for model in lock.models} if lock is not None else {}
    model: LockedModel | None = models.get(ident)
    return model.printed_hash if model is not None and asks_the_same(entry, model) else None


def prepare_hash(session: Session, where: str, ident: str, *, fetch: bool = True) -> Locking:
    """The locking of the model `ident` alone, without its pin. Raises as `prepare`."""
    own, document, provision = _opened(session, where)
    entry = _entry(provision, ident)
    keys = {key: value for key, value in entry.keys.items() if key != "hash"}
    alone = replace(provision, entries=(replace(entry, keys=keys, pin=None),), later=())
    found = locking.draft(own, alone, None, fetch=fetch, whole=False)
    return Locking(own, found, lock_place(own, path=document.path, url=document.url))


def _opened(session: Session, where: str) -> tuple[Session, Document, Provision]:
    document = open_document(session, where, trust=None, allow_http=False)
    if document.kind == "lock":
        raise FormatError(
            f"{document.name} is a lock already, and a provision file was expected",
            hint=f"`modelbay sync {document.name}` carries it out",
        )
    own = session_for(session, document)
    known = locking.known(own)
    return own, document, provision_of(Written.parse(document.text, document.name), known)


def _before(session: Session, document: Document, out: Path | None) -> Lock | None:
    path = out or lock_of_before(session, path=document.path, url=document.url)
    if path is None or not path.exists():
        return None
    if path.is_dir() or (document.path is not None and path.samefile(document.path)):
        raise TargetTaken(
            f"{clean(path)} is {'a folder' if path.is_dir() else 'the provision file itself'}, "
            "and the lock was to go there",
            hint="name another file with -o",
        )
    return locking.read_lock(session, path)


def _entry(provision: Provision, ident: str) -> Entry:
    locking.refuse_strange(provision, (ident,))
    return next(entry for entry in provision.entries if entry.id == ident)
