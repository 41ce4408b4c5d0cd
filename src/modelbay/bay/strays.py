"""What is ours in the places that plans fill, and in none of them: what `--exact` takes away."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from modelbay.bay.session import Session
from modelbay.errors import ModelbayError
from modelbay.library.archived import Archived
from modelbay.library.hub_removal import Revision, of_revision, revisions
from modelbay.library.ollama_removal import of_store
from modelbay.library.records import Record, records_in
from modelbay.library.removal import Removal, Removed, carry_out, recorded
from modelbay.library.trash import Trash
from modelbay.plan import Action, Plan
from modelbay.refs import ModelRef


def strays(session: Session, plans: Sequence[Plan]) -> list[Removal]:
    """Removals of files that a record says we put there, unchanged since, below every root of
    `plans`; in the Hub's cache the other revisions of the repos that they name. Writes nothing.
    Raises DiskError.
    """
    wanted = {step.target for plan in plans for step in plan.steps}
    still_packed = [plan.root for plan in plans if _is_still_packed(session, plan)]

    def is_wanted(path: Path) -> bool:
        return path in wanted or any(path.is_relative_to(root) for root in still_packed)

    found: list[Removal] = []
    for base, layout in sorted(_bases(session, plans)):
        if layout == "hf-cache":
            kept = {plan.snapshot.revision for plan in plans if plan.root == base}
            found += _revisions(session, base, kept)
        else:
            found += _records(session, base, layout, is_wanted)
    return [_going(one) for one in found if one.moves]


def _is_still_packed(session: Session, plan: Plan) -> bool:
    """Nobody knows yet what of its folder is in its archive."""
    layout = session.layout_of(plan)
    return isinstance(layout, Archived) and layout.expected is None


def _bases(session: Session, plans: Sequence[Plan]) -> set[tuple[Path, str]]:
    """The folders with a `.modelbay`, and whose layout each is."""
    return {(session.layout_of(plan).records(plan.snapshot).base, plan.layout) for plan in plans}


def _records(
    session: Session, base: Path, layout: str, is_wanted: Callable[[Path], bool]
) -> Iterator[Removal]:
    for record in records_in(base):
        ref = _ref(session, record)
        if ref is not None and layout == "ollama":
            yield of_store(base, record, ref, needed=lambda path: is_wanted(path) * "this lock")
        elif ref is not None:
            yield recorded(
                base,
                record,
                ref,
                layout=layout,
                needed=lambda path: "this lock" if is_wanted(path) else "",
            )


def _revisions(session: Session, repo: Path, kept: Collection[str]) -> Iterator[Removal]:
    ours = {record.name: record for record in records_in(repo)}
    for revision in revisions(repo):
        record = ours.get(revision.commit)
        if record is None or revision.commit in kept or not _is_all_ours(revision, record):
            continue
        ref = _ref(session, record)
        if ref is not None:
            yield of_revision(revision, ref)


def _is_all_ours(revision: Revision, record: Record) -> bool:
    """Whether every name in the snapshot is one that we put there: the Hub's own client may
    have added to it.
    """
    placed = {row.path for row in record.files if row.placed}
    there = (path for path in revision.folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return all(path.relative_to(revision.folder).as_posix() in placed for path in there)


def _ref(session: Session, record: Record) -> ModelRef | None:
    """What the record is of; None where no source of this version knows such a ref."""
    try:
        return session.sources.parse(record.ref)
    except ModelbayError:
        return None


def _going(removal: Removal) -> Removal:
    """Without the files that stay: those are not what was asked for."""
    steps = removal.plan.of(Action.REMOVE)
    return replace(removal, plan=replace(removal.plan, steps=steps))


def clear(removals: Sequence[Removal]) -> list[Removed]:
    """Moves everything to the trash of its root, one bundle each. Raises DiskError."""
    trash: dict[Path, Trash] = {}
    return [carry_out(one, trash.setdefault(one.base, Trash(one.base))) for one in removals]
