"""From a provision file to a lock, and from a lock to plans."""

from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import cast

from modelbay import files, sources
from modelbay.bay.session import Session
from modelbay.digest import Algorithm, Digest
from modelbay.errors import TargetTaken, WrongBytes
from modelbay.library.folders import application
from modelbay.plan import Action, Plan
from modelbay.provision import (
    Entry,
    Known,
    Lock,
    Provision,
    judge,
    read_lock,
    read_provision,
    snapshot_of,
    written,
)
from modelbay.provision.making import (
    Wanted,
    check_gate,
    locked,
    refuse_one_target,
    unlike_pin,
    wanted,
)
from modelbay.queue import Report
from modelbay.selection import Selection


def provision(session: Session, path: Path) -> Provision:
    """The provision file at `path`, its sources not asked yet. Raises FormatError."""
    return read_provision(
        path,
        Known(
            sources.names(),
            lambda name: session.sources.get(name).options,
            session.sources.parse,
            session.settings.sources,
        ),
    )


def lock(session: Session, asked: Path, path: Path) -> Report:
    """Resolves every entry of a provision file and writes the lock `path`, fetching into place
    what no source tells a sha256 of. Raises FormatError, PolicyError, IntegrityError,
    AccessError, and the first failure of a fetch.
    """
    found = provision(session, asked)
    found.refuse_later()
    chosen = [_wanted(session, entry, found) for entry in found.entries]
    for one in chosen:
        check_gate(one, session.check_token)
    plans = [
        session.plan(one.selection, session.layout_at(one.place, one.names), model=one.entry.id)
        for one in chosen
    ]
    refuse_one_target(plans)
    unknown = [_part(plan, one.unknown) for one, plan in zip(chosen, plans, strict=True)]
    run = session.carry([plan for plan in unknown if plan.steps])
    while not run.wait(1.0):
        pass
    of = {id(plan): one for one, plan in zip(chosen, unknown, strict=True)}
    for row in run.rows:
        if isinstance(row.error, WrongBytes):
            raise unlike_pin(of[id(row.plan)], row.error)
        if row.error is not None:
            raise row.error
    models = tuple(
        locked(one, _observed(session, plan)) for one, plan in zip(chosen, unknown, strict=True)
    )
    files.write_atomic(path, written(Lock(models, found.license_allow, found.manifest_hash)))
    return run.report()


def _wanted(session: Session, entry: Entry, found: Provision) -> Wanted:
    ref = session.sources.ref_of(entry.source, entry.original)
    session.sources.bind(ref, entry.auth, entry.headers)
    snapshot = session.sources.resolve(ref)
    judge(entry.id, snapshot.licence, found.license_allow, session.settings.license_allow)
    return wanted(
        entry,
        snapshot,
        path=ref.path,
        application=application(found.folders or session.settings.folders),
        categories={**session.settings.categories, **found.categories},
    )


def _observed(session: Session, plan: Plan) -> dict[str, tuple[int, tuple[Digest, ...]]]:
    """Size and digests of every file of `plan`, as they are in place now."""
    records = session.layout_of(plan).records(plan.snapshot)
    found: dict[str, tuple[int, tuple[Digest, ...]]] = {}
    for step in plan.steps:
        if step.action is Action.BLOCKED:
            raise TargetTaken(step.reason, hint="move it away, or choose another filename")
        names: list[Algorithm] = ["sha256", *(one.algorithm for one in step.file.digests)]
        digests = records.observe(step.blob, dict.fromkeys(names))
        found[step.file.path] = (step.blob.stat().st_size, digests)
    return found


def plans_of(session: Session, path: Path) -> list[Plan]:
    """A plan for each model of a lock; no source is asked. Raises FormatError, PolicyError,
    IntegrityError where a pin and the lock differ.
    """
    found = read_lock(path)
    for model in found.models:
        judge(model.id, model.licence, found.license_allow, session.settings.license_allow)
        model.check_pin()
    plans = []
    for model in found.models:
        ref = session.sources.ref_of(model.source, model.original)
        headers = model.original.get("headers", {})
        session.sources.bind(ref, model.auth, cast("dict[str, str]", headers))
        selection = Selection(snapshot_of(model, ref), model.files)
        layout = session.layout_at(model.place, model.names)
        plans.append(session.plan(selection, layout, model=model.id))
    refuse_one_target(plans)
    return plans


def _part(plan: Plan, paths: AbstractSet[str]) -> Plan:
    """The steps of `plan` for the files `paths`."""
    return replace(plan, steps=tuple(step for step in plan.steps if step.file.path in paths))
