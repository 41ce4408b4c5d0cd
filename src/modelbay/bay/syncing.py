"""From a provision file or a lock to files in place: what is known before anything moves, and
what is left to do after.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypedDict, Unpack

from modelbay.bay import locking, strays
from modelbay.bay.documents import Document, open_document, session_for
from modelbay.bay.lock_place import lock_of_before, lock_place, provision_beside, write_lock
from modelbay.bay.locking import Draft
from modelbay.bay.session import Session
from modelbay.digest import Digest
from modelbay.errors import ModelbayError, TargetTaken, UsageError, WrongBytes, deciding
from modelbay.http.redact import origin_of
from modelbay.library.removal import Removal
from modelbay.plan import MOVES, Action, Plan
from modelbay.provision import (
    Entry,
    Lock,
    Provision,
    provision_of,
    written,
)
from modelbay.provision.keys import names_a_secret
from modelbay.provision.making import unlike_pin
from modelbay.provision.reading import Written
from modelbay.queue import Report, Row, Run
from modelbay.selection import Selection
from modelbay.text import clean

_DIFFERENCES_SAID: Final = 5
_BLOCKED_HINT: Final = "move it away, give --replace, or choose another filename"


class Options(TypedDict, total=False):
    """What a sync may be asked for besides its file."""

    locked: bool
    """Raise UsageError unless the lock is what the provision file asks for."""
    exact: bool
    """Take away what is ours in the places that are filled, and in no plan."""
    replace: bool
    """Files that are not ours go to the trash instead of blocking."""
    trust: Digest | None
    """Of the text of a file that came from an address: believe it like one's own."""
    allow_http: bool
    """A file may come from a server of this machine over plain http."""
    mirrors: Sequence[str]
    """Endpoints of the Hub that are asked before the source."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A model that is not as it should be, or one file of it, and why."""

    model: str
    error: ModelbayError
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """What a sync came to. `removed` counts names that went to the trash."""

    report: Report
    failures: tuple[Failed, ...] = ()
    """Each error once: one that all files of a model share is the model's."""
    removed: int = 0
    notes: tuple[str, ...] = ()

    @property
    def deciding(self) -> ModelbayError | None:
        """The failure that stands for all, where there is one."""
        return deciding(failure.error for failure in self.failures)


@dataclass(slots=True)
class Syncing:
    """A sync of which everything is known and nothing has moved."""

    document: Document
    session: Session
    plans: tuple[Plan, ...]
    """One for each model that could be planned, in the order of their ids."""
    failures: tuple[Failed, ...] = ()
    """The models that could not."""
    removals: tuple[Removal, ...] = ()
    notes: tuple[str, ...] = ()
    draft: Draft | None = None
    """Of a provision file that is locked on the way."""
    lock: Path | None = None
    """The lock that is carried out, or where that of `draft` is written."""
    relocked: bool = False
    """`lock` was written, and is not what it was."""

    @property
    def blocked(self) -> tuple[Failed, ...]:
        """Files that stay as they are, since they are not ours."""
        return tuple(_blocked(self.plans))

    def carry(self) -> Run:
        """Starts the work and returns at once. A lock for which nothing must be fetched is
        written first. Raises as `Session.carry`.
        """
        if self._is_known:
            self._write_lock(())
        return self.session.carry(self.plans)

    @property
    def _is_known(self) -> bool:
        """The lock can be written before anything is fetched."""
        return self.draft is not None and not self.draft.unknown and not self.failures

    def finish(self, run: Run) -> Finished:
        """What comes after `run` has ended: the lock, then the trash. Nothing is removed where
        something else failed. Raises DiskError.
        """
        failures = [*self.failures, *self._failed(run.rows), *self.blocked]
        notes: list[str] = []
        if self.draft is not None and not self._is_known:
            try:
                self._write_lock(run.rows)
            except ModelbayError as error:
                if not failures:
                    failures.append(Failed(clean(self.lock), error))
                notes.append(f"{clean(self.lock)} was not written, since not all of it is known")
        removed = 0
        if failures and self.removals:
            notes.append("nothing was removed, since something else failed")
        elif self.removals:
            removed = sum(len(one.gone) for one in strays.clear(self.removals))
        return Finished(run.report(), tuple(failures), removed, tuple(notes))

    def _write_lock(self, rows: Iterable[Row]) -> None:
        """Raises what keeps the lock from being whole, DiskError."""
        if self.draft is None or self.lock is None:
            return
        if self.failures:
            raise self.failures[0].error
        asked = _fetched_for(self.draft)
        rows = [row for row in rows if (row.plan.model, row.step.file.path) in asked]
        lock = locking.lock_of(self.session, self.draft, rows)
        self.relocked = write_lock(self.session, self.lock, written(lock))

    def _failed(self, rows: Sequence[Row]) -> Iterator[Failed]:
        pinned = {one.entry.id: one for one in self.draft.wanted} if self.draft else {}
        times = Counter(id(row.error) for row in rows if row.error is not None)
        for row in rows:
            error, model = row.error, row.plan.model
            if error is None or id(error) not in times:
                continue
            shared = times.pop(id(error)) > 1
            if isinstance(error, WrongBytes) and model in pinned:
                error = unlike_pin(pinned[model], error)
            yield Failed(model, error, None if shared else row.name)


def _fetched_for(draft: Draft) -> set[tuple[str, str]]:
    """The files, by model, that are fetched for their digests."""
    return {(plan.model, step.file.path) for plan in draft.unknown for step in plan.steps}


def _blocked(plans: Iterable[Plan]) -> Iterator[Failed]:
    for plan in plans:
        for step in plan.of(Action.BLOCKED):
            error = TargetTaken(step.reason, hint=_BLOCKED_HINT)
            yield Failed(plan.model, error, step.file.path)


def prepare(session: Session, where: str, **options: Unpack[Options]) -> Syncing:
    """The sync of the provision file or lock at the path or address `where`. Sources are asked
    and files in place are read; nothing is written. Raises what the file itself is refused for:
    FormatError, PolicyError, UsageError, IntegrityError, AccessError, NotFound, NetworkError.
    """
    mirrors = _checked(options.get("mirrors", ()))
    document = open_document(
        session,
        where,
        trust=options.get("trust"),
        allow_http=options.get("allow_http", False),
        mirrors=mirrors,
    )
    own = session_for(session, document)
    own.mirrors = tuple(dict.fromkeys([*mirrors, *session.settings.mirrors]))
    with own.together():
        if document.kind == "lock":
            made = _of_lock(own, document)
        elif options.get("locked"):
            made = _of_lock_beside(own, document)
        else:
            made = _of_provision(own, document)
    if options.get("replace"):
        made = replace(made, plans=tuple(_replacing(own, plan) for plan in made.plans))
    if options.get("exact"):
        made = replace(made, removals=tuple(strays.strays(own, made.plans)))
    if mirrors:
        made = replace(made, notes=(*made.notes, *_unmirrored(own, made.plans)))
    return made


def _checked(mirrors: Sequence[str]) -> Sequence[str]:
    """Raises UsageError for one that is no address."""
    for mirror in mirrors:
        try:
            origin_of(mirror)
        except ValueError as error:
            raise UsageError(
                f"the mirror {clean(mirror, limit=200)!r} is no address",
                hint="write it as https://host or https://host/path",
            ) from error
    return mirrors


def _unmirrored(session: Session, plans: Iterable[Plan]) -> Iterator[str]:
    """What of `plans` is to be fetched, and can come from no mirror."""
    sources = {plan.snapshot.ref.source for plan in plans if plan.of(*MOVES)}
    alone = sorted(name for name in sources if not session.sources.has_mirrors(name))
    if alone:
        yield f"models of {', '.join(alone)} have no mirrors, and are asked for where they are"


def _of_lock(session: Session, document: Document) -> Syncing:
    lock = locking.parse_lock(session, document.text, document.name)
    plans, failures = _planned(session, lock)
    notes = _bind_beside(session, document, lock)
    return Syncing(document, session, plans, failures, notes=notes, lock=document.path)


def _planned(session: Session, lock: Lock) -> tuple[tuple[Plan, ...], tuple[Failed, ...]]:
    """Plans, and the models that have none. Raises what is no single model's fault."""
    try:
        return tuple(locking.plans_of(session, lock)), ()
    except ModelbayError as whole:
        plans: list[Plan] = []
        failures: list[Failed] = []
        for model in lock.models:
            try:
                plans += locking.plans_of(session, replace(lock, models=(model,)))
            except ModelbayError as error:
                failures.append(Failed(model.id, error))
        if not failures:
            raise whole from None
        return tuple(plans), tuple(failures)


def _bind_beside(session: Session, document: Document, lock: Lock) -> tuple[str, ...]:
    """Headers and token files that no lock may hold, from the provision file beside it."""
    path = provision_beside(document.path) if document.path is not None else None
    if path is None:
        return ()
    try:
        provision = locking.provision(session, path)
    except ModelbayError:
        return ()
    secret = [entry for entry in provision.entries if _keeps_secrets(entry)]
    if secret and provision.manifest_hash != lock.manifest_hash:
        changed = f"{clean(path)} has changed since it was locked"
        return (f"{changed}, so its headers and token files are not used",)
    _bind(session, secret)
    return ()


def _keeps_secrets(entry: Entry) -> bool:
    return "token_file" in entry.auth or any(names_a_secret(name) for name in entry.headers)


def _bind(session: Session, entries: Iterable[Entry]) -> None:
    for entry in entries:
        ref = session.sources.ref_of(entry.source, entry.original)
        session.sources.bind(ref, entry.auth, entry.headers)


def _of_lock_beside(session: Session, document: Document) -> Syncing:
    """Raises UsageError where there is no lock, or one of something else."""
    provision = read(session, document)
    path = lock_of_before(session, path=document.path, url=document.url)
    if path is None:
        raise UsageError(
            f"{document.name} has no lock yet, and --locked allows no new one",
            hint=f"`modelbay lock {document.name}` makes it, or leave --locked out",
        )
    lock = locking.read_lock(session, path)
    differences = locking.satisfies(session, lock, provision)
    if differences:
        said = "; ".join(differences[:_DIFFERENCES_SAID])
        more = len(differences) - _DIFFERENCES_SAID
        raise UsageError(
            f"{clean(path)} is not what {document.name} asks for: {said}"
            + (f"; and {more} more" if more > 0 else ""),
            hint=f"`modelbay lock {document.name}` brings it up to date, or leave --locked out",
        )
    plans, failures = _planned(session, lock)
    _bind(session, filter(_keeps_secrets, provision.entries))
    return Syncing(document, session, plans, failures, notes=provision.notes, lock=path)


def _of_provision(session: Session, document: Document) -> Syncing:
    provision = read(session, document)
    place = lock_place(session, path=document.path, url=document.url)
    path = lock_of_before(session, path=document.path, url=document.url)
    before = locking.read_lock(session, path) if path is not None else None
    draft = locking.draft(session, provision, before)
    _bind(session, filter(_keeps_secrets, provision.entries))
    return Syncing(
        document,
        session,
        draft.plans,
        tuple(Failed(ident, error) for ident, error in draft.failures),
        notes=provision.notes,
        draft=draft,
        lock=place,
    )


def read(session: Session, document: Document) -> Provision:
    """What the text of `document` asks for. Raises FormatError."""
    written = Written.parse(document.text, document.name)
    return provision_of(written, locking.known(session))


def _replacing(session: Session, plan: Plan) -> Plan:
    """`plan` again where something of it is blocked, with what is in the way going away."""
    if not plan.of(Action.BLOCKED):
        return plan
    selection = Selection(plan.snapshot, tuple(step.file for step in plan.steps))
    return session.plan(selection, session.layout_of(plan), replacing=True, model=plan.model)


def sync(session: Session, where: str, **options: Unpack[Options]) -> Report:
    """All of it, blocking. Raises as `prepare`; and, after everything else was done, the
    failure that stands for all.
    """
    syncing = prepare(session, where, **options)
    run = syncing.carry()
    try:
        while not run.wait(1.0):
            pass
    except BaseException:
        run.stop()
        raise
    finished = syncing.finish(run)
    if finished.deciding is not None:
        raise finished.deciding
    return finished.report
