"""From a provision file to a lock, and from a lock to plans."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import cast

from modelbay import files, paths, sources
from modelbay.bay.agreeing import locked_ref, noted
from modelbay.bay.observed import locked_as
from modelbay.bay.parallel import each
from modelbay.bay.session import Session
from modelbay.bay.unpacking import archived
from modelbay.errors import ModelbayError, TargetTaken, UsageError, WrongBytes
from modelbay.library.base import Layout
from modelbay.library.folders import Application, application
from modelbay.plan import Action, Plan
from modelbay.provision import (
    Entry,
    Known,
    Lock,
    LockedModel,
    Provision,
    judge,
    keeping,
    read_provision,
    snapshot_of,
    written,
)
from modelbay.provision.formats import judge_danger
from modelbay.provision.lockcache import cached
from modelbay.provision.lockfile import CREATED_BY
from modelbay.provision.lockreading import raw_lock
from modelbay.provision.making import (
    Wanted,
    check_gate,
    check_unchanged,
    misplaced,
    refuse_one_target,
    unlike_pin,
    wanted,
)
from modelbay.queue import Report, Row
from modelbay.refs import ModelRef
from modelbay.selection import Selection
from modelbay.snapshot import ModelFile
from modelbay.text import clean

Failures = tuple[tuple[str, ModelbayError], ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A provision file, resolved as far as its sources tell."""

    provision: Provision
    before: Lock | None
    kept: tuple[LockedModel, ...]
    """Models of the lock before that still are what their entries ask for."""
    wanted: tuple[Wanted, ...]
    """The others that could be resolved."""
    plans: tuple[Plan, ...]
    """One for each of `kept` and `wanted`, in the order of their ids."""
    unknown: tuple[Plan, ...]
    """The part of them that must be fetched before a lock can say its digests."""
    failures: Failures = ()
    """Ids of models that could not be resolved, and why."""
    missing: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Ids of models that were left out since nothing may be fetched, and their files that no
    source tells a sha256 of.
    """

    @property
    def notes(self) -> tuple[str, ...]:
        """What the file's reader and its sources have to say."""
        return (
            *self.provision.notes,
            *(
                f"{clean(one.entry.id)}: {note}"
                for one in self.wanted
                for note in one.snapshot.notes
            ),
        )


def provision(session: Session, path: Path) -> Provision:
    """The provision file at `path`, its sources not asked yet. Raises FormatError."""
    return read_provision(path, known(session))


def known(session: Session) -> Known:
    """What provision files may name in this session."""
    return Known(
        sources.names(),
        lambda name: session.sources.get(name).options,
        session.sources.parse,
        session.settings.sources,
        session.sources.ref_of,
    )


def read_lock(session: Session, lock: Path) -> Lock:
    """The lock at `lock`; a large one was parsed before. Raises FormatError, DiskError."""
    return parse_lock(session, raw_lock(lock), lock)


def parse_lock(session: Session, text: str | bytes, name: Path | str) -> Lock:
    """The lock `text`, which is called `name` in sentences. Raises FormatError."""
    raw = text.encode() if isinstance(text, str) else text
    return cached(raw, name, paths.state_dir(session.environ) / "locks")


def draft(
    session: Session,
    provision: Provision,
    before: Lock | None,
    *,
    upgrade: Collection[str] | None = (),
    fetch: bool = True,
    whole: bool = True,
) -> Draft:
    """`provision`, resolved. Models of `before` stay, but for those in `upgrade` (None: all)
    and those whose entries ask for something else. A model that fails stops no other.

    Without `fetch`, models that no source tells every sha256 of are left out. Without `whole`,
    only what must be fetched for the lock is planned, and nothing in place is hashed. Raises
    UsageError where two models would be one file, or `upgrade` names none.
    """
    provision.refuse_later()
    refuse_strange(provision, upgrade or ())
    one = _Drafting(
        session, provision, {model.id: model for model in before.models} if before else {}
    )
    kept, rest, failures = one.sorted_out(upgrade)
    for entry in rest:
        one.bind(entry)
    resolved = each(one.resolved, rest)
    failed = [*failures, *_failures(rest, resolved)]
    found = [answer for answer in resolved if isinstance(answer, Wanted)]
    missing = [] if fetch else [w for w in found if w.unknown]
    found = [w for w in found if w not in missing]
    refuse_one_target(one.targets(kept, found))
    plans, unknown = one.planned(kept, found, whole=whole)
    return Draft(
        provision,
        before,
        tuple(kept),
        tuple(found),
        tuple(plans),
        tuple(unknown),
        tuple(sorted(failed, key=lambda pair: pair[0])),
        tuple((w.entry.id, tuple(sorted(w.unknown))) for w in missing),
    )


def refuse_strange(provision: Provision, idents: Iterable[str]) -> None:
    """Raises UsageError with the near id where `provision` has no model of one of `idents`."""
    known = [entry.id for entry in provision.entries]
    for ident in idents:
        if ident not in known:
            near = get_close_matches(ident, known, n=1, cutoff=0.5)
            raise UsageError(
                f"the provision file has no model {clean(ident, limit=200)!r}",
                hint=f"did you mean {clean(near[0])!r}?"
                if near
                else "its models are " + ", ".join(map(clean, known[:20])),
            )


def _failures(
    entries: Sequence[Entry], answers: Sequence[Wanted | ModelbayError]
) -> Iterator[tuple[str, ModelbayError]]:
    for entry, answer in zip(entries, answers, strict=True):
        if isinstance(answer, ModelbayError):
            yield entry.id, answer


@dataclass(frozen=True, slots=True)
class _Drafting:
    """What every step of a draft needs."""

    session: Session
    provision: Provision
    before: Mapping[str, LockedModel]

    @property
    def application(self) -> Application:
        return application(self.provision.folders or self.session.settings.folders)

    @property
    def categories(self) -> Mapping[str, str]:
        return {**self.session.settings.categories, **self.provision.categories}

    def ref_of(self, entry: Entry) -> ModelRef:
        return self.session.sources.ref_of(entry.source, entry.original)

    def bind(self, entry: Entry) -> None:
        self.session.sources.bind(self.ref_of(entry), entry.auth, entry.headers)

    def sorted_out(
        self, upgrade: Collection[str] | None
    ) -> tuple[list[LockedModel], list[Entry], list[tuple[str, ModelbayError]]]:
        """The models that stay, the entries to resolve, and the failures so far."""
        kept: list[LockedModel] = []
        rest: list[Entry] = []
        failures: list[tuple[str, ModelbayError]] = []
        for entry in self.provision.entries:
            model = self.before.get(entry.id)
            moves = upgrade is None or entry.id in upgrade
            if model is None or moves or not keeping.asks_the_same(entry, model):
                rest.append(entry)
                continue
            try:
                kept.append(self._kept(entry, model))
            except ModelbayError as error:
                failures.append((entry.id, error))
        return kept, rest, failures

    def _kept(self, entry: Entry, model: LockedModel) -> LockedModel:
        policies = self.provision.license_allow, self.session.settings.license_allow
        judge(entry.id, model.licence, *policies)
        return keeping.kept(
            entry,
            model,
            self.ref_of(entry),
            application=self.application,
            categories=self.categories,
        )

    def resolved(self, entry: Entry) -> Wanted:
        ref = self.ref_of(entry)
        snapshot = noted(self.session, self.session.sources.resolve(ref), entry.auth)
        snapshot = misplaced(entry, snapshot)
        policies = self.provision.license_allow, self.session.settings.license_allow
        judge(entry.id, snapshot.licence, *policies)
        found = wanted(
            entry,
            snapshot,
            path=ref.path,
            application=self.application,
            categories=self.categories,
        )
        judge_danger(entry.id, found.selection.files)
        check_gate(found, self.session.check_token)
        if entry.id in self.before:
            check_unchanged(found, self.before[entry.id])
        return found

    def targets(
        self, kept: Iterable[LockedModel], found: Iterable[Wanted]
    ) -> Iterator[tuple[str, str, ModelFile]]:
        for one in found:
            yield from _targets(self.session, one.entry.id, one.selection, one)
        for model in kept:
            selection = _selection(self.session, model)
            yield from _targets(self.session, model.id, selection, model)

    def planned(
        self, kept: Iterable[LockedModel], found: Iterable[Wanted], *, whole: bool
    ) -> tuple[list[Plan], list[Plan]]:
        plans = [_plan(self.session, model) for model in kept] if whole else []
        unknown = []
        for one in found:
            paths = one.unknown
            selection = one.selection
            if not whole:
                part = tuple(file for file in selection.files if file.path in paths)
                selection = replace(selection, files=part)
            if not selection.files:
                continue
            layout = _layout(self.session, one)
            plan = self.session.plan(selection, layout, model=one.entry.id)
            plans.append(plan)
            if paths:
                unknown.append(_part(plan, paths))
        return sorted(plans, key=lambda plan: plan.model), unknown


def lock_of(session: Session, draft: Draft, rows: Iterable[Row]) -> Lock:
    """The lock of `draft`, after its `unknown` plans were carried as `rows`. Raises the first
    failure of those, IntegrityError where what came is not what was pinned.
    """
    for _, error in failures_of(draft, rows):
        raise error
    unknown = {plan.model: plan for plan in draft.unknown}
    made = [locked_as(session, one, unknown.get(one.entry.id)) for one in draft.wanted]
    before = draft.before or Lock(())
    models = tuple(sorted([*draft.kept, *made], key=lambda model: model.id))
    lock = replace(
        before,
        models=models,
        license_allow=draft.provision.license_allow,
        manifest_hash=draft.provision.manifest_hash,
    )
    # Whose version wrote it is no reason to write it again.
    return lock if written(lock) == written(before) else replace(lock, created_by=CREATED_BY)


def failures_of(draft: Draft, rows: Iterable[Row]) -> Failures:
    """The models whose unknown digests could not be read, and why, each once."""
    found: dict[str, ModelbayError] = {}
    wanted = {one.entry.id: one for one in draft.wanted}
    for plan in draft.unknown:
        for step in plan.of(Action.BLOCKED):
            hint = "move it away, or choose another filename"
            found.setdefault(plan.model, TargetTaken(step.reason, hint=hint))
    for row in rows:
        ident, error = row.plan.model, row.error
        if error is None or ident not in wanted:
            continue
        if isinstance(error, WrongBytes):
            error = unlike_pin(wanted[ident], error)
        found.setdefault(ident, error)
    return tuple(sorted(found.items(), key=lambda pair: pair[0]))


def satisfies(session: Session, lock: Lock, provision: Provision) -> list[str]:
    """Sentences for everything in which `lock` is not what `provision` asks for; none when it
    is up to date. No source is asked.
    """
    settings = session.settings
    return keeping.satisfies(lock, provision, settings.folders, settings.categories)


def lock(session: Session, asked: Path, path: Path) -> Report:
    """Resolves every entry of a provision file and writes the lock `path`, fetching into place
    what no source tells a sha256 of. Pins of a lock that is there stay. Raises FormatError,
    PolicyError, IntegrityError, AccessError, and the first failure of a fetch.
    """
    before = read_lock(session, path) if path.exists() else None
    found = draft(session, provision(session, asked), before, whole=False)
    for _, error in found.failures:
        raise error
    run = session.carry(found.unknown)
    while not run.wait(1.0):
        pass
    with files.disk_errors(path):
        files.write_atomic(path, written(lock_of(session, found, run.rows)))
    return run.report()


def plans_of(session: Session, lock: Lock | Path) -> list[Plan]:
    """A plan for each model of a lock; no source is asked. Raises FormatError, PolicyError,
    IntegrityError where a pin and the lock differ.
    """
    found = read_lock(session, lock) if isinstance(lock, Path) else lock
    for model in found.models:
        judge(model.id, model.licence, found.license_allow, session.settings.license_allow)
        model.check_pin()
    refuse_one_target(
        target
        for model in found.models
        for target in _targets(session, model.id, _selection(session, model), model)
    )
    return [_plan(session, model) for model in found.models]


def _selection(session: Session, model: LockedModel) -> Selection:
    snapshot = snapshot_of(model, locked_ref(session, model))
    return Selection(noted(session, snapshot, model.auth), model.files)


def _plan(session: Session, model: LockedModel) -> Plan:
    selection = _selection(session, model)
    headers = cast("Mapping[str, str]", model.original.get("headers", {}))
    session.sources.bind(selection.snapshot.ref, model.auth, headers)
    return session.plan(selection, _layout(session, model), model=model.id)


def _layout(session: Session, at: LockedModel | Wanted) -> Layout:
    layout = session.layout_at(at.place, at.names)
    return archived(at, layout, session.settings.formats)


def _targets(
    session: Session, ident: str, selection: Selection, at: LockedModel | Wanted
) -> Iterator[tuple[str, str, ModelFile]]:
    """Where its files go. The Hub's cache has a folder for each repository."""
    if at.place.layout == "hf-cache":
        return
    layout = session.layout_at(at.place, at.names)
    for file in selection.files:
        yield ident, layout.target_of(selection.snapshot, file), file


def _part(plan: Plan, paths: AbstractSet[str]) -> Plan:
    """The steps of `plan` for the files `paths`."""
    return replace(plan, steps=tuple(step for step in plan.steps if step.file.path in paths))
