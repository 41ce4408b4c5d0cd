"""Entries with `extract = true`: planned, carried and locked by the members of their archive."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from modelbay.errors import FormatError, UsageError
from modelbay.library.archived import Archived
from modelbay.library.base import Layout
from modelbay.library.dir import Dir
from modelbay.library.elsewhere import Elsewhere
from modelbay.plan import MOVES, Action, Plan, Step
from modelbay.planner import make_plan
from modelbay.provision import LockedModel
from modelbay.provision.formats import judge_formats
from modelbay.provision.making import Wanted, unpacked
from modelbay.selection import Selection
from modelbay.snapshot import ModelFile, Snapshot
from modelbay.text import clean
from modelbay.transfer import held_bytes


def archived(at: LockedModel | Wanted, layout: Layout, formats: str) -> Layout:
    """`layout`, where the files of `at` are members of an archive one that unpacks it; else as
    it is. Raises FormatError, UsageError.
    """
    ident = at.id if isinstance(at, LockedModel) else at.entry.id
    archive, expected = _archive(at)
    if archive is None:
        return layout
    if not isinstance(layout, Dir):
        raise UsageError(
            f"{clean(ident)} is unpacked, which the layout {layout.name} has no use for",
            hint="take layout out of its entry, or take extract out",
        )
    return Archived(layout, archive, partial(_judge, ident, formats), expected)


def _archive(at: LockedModel | Wanted) -> tuple[ModelFile | None, tuple[ModelFile, ...] | None]:
    """The archive that is fetched, and its members if they are known."""
    if isinstance(at, Wanted):
        return (at.selection.files[0] if at.entry.extracts else None), None
    if not at.archives:
        return None, None
    if len(at.archives) > 1 or len(at.members) != len(at.files):
        raise FormatError(
            f"{clean(at.id)} is locked to several archives, or to files in none",
            hint="make the lock again from its provision file",
        )
    return at.archives[0].file, at.files


def _judge(ident: str, formats: str, members: Sequence[ModelFile]) -> None:
    judge_formats(ident, members, formats)


def plan_of(
    selection: Selection, layout: Archived, *, replacing: bool, elsewhere: Elsewhere | None
) -> Plan:
    """The archive, if anything of it is missing, and its members as far as they are known.
    Writes nothing. Raises as `make_plan`.
    """
    layout.replacing = replacing
    snapshot = selection.snapshot
    if layout.expected is None:
        root = layout.root(snapshot)
        return Plan(snapshot, layout.name, root, (_bring(snapshot, layout),))
    members = tuple(file for file in selection.files if file != layout.archive)
    plan = make_plan(
        Selection(snapshot, members),
        layout.inner,
        held=held_bytes,
        replace=replacing,
        elsewhere=elsewhere,
    )
    if not plan.of(*MOVES):
        return plan
    steps = tuple(_from_archive(step, snapshot, layout) for step in plan.steps)
    return replace(plan, steps=(_bring(snapshot, layout), *steps))


def _bring(snapshot: Snapshot, layout: Archived) -> Step:
    place = layout.place_of(snapshot, layout.archive)
    held = held_bytes(place.part)
    action = Action.RESUME if held else Action.FETCH
    reason = "an earlier run left a part of it" if held else "it is fetched, and unpacked"
    return Step(layout.archive, action, place.target, place.blob, place.part, held, reason)


def _from_archive(step: Step, snapshot: Snapshot, layout: Archived) -> Step:
    """A file that is here stays; whatever else there is comes with the archive anyway."""
    if step.action in {Action.KEEP, Action.BLOCKED}:
        return step
    told = f"; {step.reason}" if step.action is Action.REPLACE else ""
    return replace(
        step,
        action=Action.LINK,
        held=0,
        reason=f"a member of {clean(layout.archive.path)}{told}",
        source=layout.source(snapshot),
        ways=("copy",),
    )


def locked_members(one: Wanted, layout: Layout) -> LockedModel:
    """The locked model whose archive `layout` has just unpacked. Raises IntegrityError when the
    archive is not the pinned one, FormatError when it never came.
    """
    if not isinstance(layout, Archived) or layout.archive_found is None:
        raise FormatError(
            f"{clean(one.entry.id)} was not unpacked, so that nobody knows what is in it",
            hint="run the same command again",
        )
    return unpacked(one, layout.archive_found, layout.unpacked)
