"""What a disk still lacks of a selection: steps with reasons, and whether there is room.

The planner looks and hashes; it writes nothing, so that a dry run and a real one see the
same plan.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelbay.digest import Algorithm, Digest, disagreement, find
from modelbay.errors import NoSpace, NotWritable, UsageError
from modelbay.files import disk_errors, may_write, mount_of, mounts, room, standing
from modelbay.library.base import Layout, Place, Standing
from modelbay.library.elsewhere import Elsewhere, Holder
from modelbay.library.records import Records
from modelbay.plan import MOVES, Action, Plan, Step
from modelbay.selection import Selection
from modelbay.snapshot import ModelFile, Snapshot
from modelbay.text import clean

Held = Callable[[Path], int]
"""How many bytes of a part can be used, 0 when there is none."""
Tick = Callable[[int], None]
"""Hears the bytes of every read while files are hashed; raises to stop."""


Reserve = Callable[[int], int]
"""Of a file system's size in bytes, how many stay free."""


def one_percent(total: int) -> int:
    return total // 100


def make_plan(
    selection: Selection,
    layout: Layout,
    *,
    held: Held,
    tick: Tick | None = None,
    replace: bool = False,
    elsewhere: Elsewhere | None = None,
    first: dict[Digest, Step] | None = None,
) -> Plan:
    """Steps in the order of the selection. LINK steps may need the bytes of an earlier step,
    also of an earlier plan that was made with the same `first`.

    `replace` takes files that are not ours as REPLACE instead of BLOCKED. Files in place
    are hashed unless a record or `elsewhere` knows them. Raises DiskError, UsageError, and
    what `tick` raises.
    """
    steps: list[Step] = []
    first = {} if first is None else first
    snapshot, lying = selection.snapshot, layout.as_recorded(selection.snapshot, selection.files)
    for file in selection.files:
        if file.path in lying:
            steps.append(_step(file, lying[file.path], Action.KEEP, "it is here"))
            continue
        step = plan_file(
            snapshot, file, layout, held=held, tick=tick, replace=replace, elsewhere=elsewhere
        )
        step = _shared(step, first, layout)
        steps.append(step)
    return Plan(selection.snapshot, layout.name, layout.root(selection.snapshot), tuple(steps))


def plan_file(
    snapshot: Snapshot,
    file: ModelFile,
    layout: Layout,
    *,
    held: Held,
    tick: Tick | None = None,
    replace: bool = False,
    elsewhere: Elsewhere | None = None,
    besides: Collection[Path] | None = (),
) -> Step:
    """One file's step, as the disk is now. No LINK is made from `besides`, which have other
    bytes than they should; None: from nothing at all. Raises as `make_plan`.
    """
    place = layout.place_of(snapshot, file)
    standing = layout.look(snapshot, file)
    if standing.taken:
        return _step(file, place, Action.BLOCKED, standing.taken)
    if standing.path is None:
        source = _source(snapshot, file, layout, place, elsewhere, besides)
        if source is not None:
            return Step(
                *(file, Action.LINK, place.target, place.blob, place.part),
                reason=_shares(source),
                source=source.path,
                ways=layout.ways,
            )
        return _bring(file, place, held)
    there = _There(place, standing, standing.path)
    if elsewhere is not None:
        _learn(layout.records(snapshot), there.path, elsewhere)
    return _judge(snapshot, file, layout, there, tick=tick, replace=replace)


@dataclass(frozen=True, slots=True)
class _There:
    place: Place
    standing: Standing
    path: Path


def _source(
    snapshot: Snapshot,
    file: ModelFile,
    layout: Layout,
    place: Place,
    elsewhere: Elsewhere | None,
    besides: Collection[Path] | None,
) -> Holder | None:
    """Bytes that are on this machine: in the layout's own folder, else anywhere."""
    if besides is None:
        return None
    own = layout.records(snapshot).same_content(file.digests)
    if own is not None and own not in besides:
        return Holder(own, sure=True)
    if elsewhere is None:
        return None
    return elsewhere.holder(file, place.blob, besides=besides)


def _shares(source: Holder) -> str:
    shown = clean(source.path)
    if source.sure:
        return f"the same bytes are in {shown}"
    return f"{shown} is said to have the same bytes, and is read first"


def _learn(records: Records, path: Path, elsewhere: Elsewhere) -> None:
    """What was read of a file in place before it belonged to this folder is not read again."""
    with disk_errors(path):
        if not records.unchanged(path) and (known := elsewhere.known(path)):
            records.trust(path, known)


def _bring(file: ModelFile, place: Place, held: Held) -> Step:
    usable = held(place.part)
    if usable:
        reason = "an earlier run left a part of it"
        return Step(
            file, Action.RESUME, place.target, place.blob, place.part, held=usable, reason=reason
        )
    return _step(file, place, Action.FETCH, "it is not here yet")


def _judge(
    snapshot: Snapshot,
    file: ModelFile,
    layout: Layout,
    there: _There,
    *,
    tick: Tick | None,
    replace: bool,
) -> Step:
    wrong = _difference(snapshot, file, layout, there, tick)
    if wrong is None:
        if there.standing.reached:
            return _step(file, there.place, Action.KEEP, "it is here")
        reason = "its bytes are here, under the name of their content"
        return _step(file, there.place, Action.LINK, reason, there.path)
    if there.standing.named_by_content:
        return _step(file, there.place, Action.REPLACE, f"damaged: {wrong}")
    if _is_ours(snapshot, layout, there.path, tick):
        return _step(file, there.place, Action.REPLACE, f"an older one of ours: {wrong}")
    if replace:
        return _step(file, there.place, Action.REPLACE, f"as asked, a file not ours: {wrong}")
    return _step(
        file,
        there.place,
        Action.BLOCKED,
        f"{clean(there.path)} is a file that modelbay did not put there: {wrong}; "
        "use --replace, or give it another name",
    )


def _difference(
    snapshot: Snapshot, file: ModelFile, layout: Layout, there: _There, tick: Tick | None
) -> str | None:
    """What about the file in place is not as wanted, in words; None when nothing is."""
    with disk_errors(there.path):
        size = there.path.stat().st_size
    if file.size is not None and size != file.size:
        return f"{size} bytes instead of {file.size}"
    records = layout.records(snapshot)
    if not file.digests:
        ours = records.ours(there.path)
        if ours is not None and ours.revision == snapshot.revision:
            return None
        if there.path == there.place.blob != there.place.target:
            return None
        return "nobody told a digest to compare it with"
    observed = records.observe(there.path, _wanted(file), tick=tick)
    wrong = disagreement(file.digests, observed)
    return f"{wrong[1]} instead of {wrong[0]}" if wrong else None


def _wanted(file: ModelFile) -> list[Algorithm]:
    claimed: list[Algorithm] = [digest.algorithm for digest in file.digests]
    return claimed if "sha256" in claimed else ["sha256", *claimed]


def _is_ours(snapshot: Snapshot, layout: Layout, path: Path, tick: Tick | None) -> bool:
    records = layout.records(snapshot)
    if records.ours(path) is not None:
        return True
    if not records.ever_put(path):
        return False
    return records.put_there(path, records.observe(path, ("sha256",), tick=tick))


def _step(
    file: ModelFile, place: Place, action: Action, reason: str, source: Path | None = None
) -> Step:
    return Step(file, action, place.target, place.blob, place.part, reason=reason, source=source)


def _shared(step: Step, first: dict[Digest, Step], layout: Layout) -> Step:
    """`step`, or a LINK to an earlier one that brings the same bytes."""
    digest = step.file.sha256 or find(step.file.digests, "git-sha1")
    if digest is None or step.action not in MOVES:
        return step
    earlier = first.setdefault(digest, step)
    if earlier.target == step.target or step.action is Action.REPLACE:
        return step
    reason = f"the same bytes as {clean(earlier.file.path)}"
    return Step(
        step.file,
        Action.LINK,
        step.target,
        step.blob,
        step.part,
        reason=reason,
        source=earlier.blob,
        ways=layout.ways,
    )


@dataclass(frozen=True, slots=True)
class Need:
    """What plans need of one file system. Bytes; `reserve` is left alone."""

    path: Path
    bytes: int
    files: int
    free: int
    reserve: int

    @property
    def fits(self) -> bool:
        return self.bytes + self.reserve <= self.free or not self.bytes


def space_needed(plans: Sequence[Plan], *, reserve: Reserve = one_percent) -> tuple[Need, ...]:
    """Per file system: bytes still to be written, as far as sizes are known, and free ones.

    Blocks that parts already have are not counted again; a LINK counts where it must cross
    file systems. `reserve` gives, of the size of the whole file system, the bytes to leave free.
    """
    needs: dict[int, tuple[Path, int, int]] = {}
    for step in _writing(plans):
        folder = standing(step.part.parent)
        volume = folder.stat().st_dev
        path, size, files = needs.get(volume, (folder, 0, 0))
        needs[volume] = (path, size + _bytes_to_write(step, volume), files + 1)
    return tuple(_need(*need, reserve=reserve) for need in needs.values())


def check_space(plans: Sequence[Plan], *, reserve: Reserve = one_percent) -> None:
    """Raises NoSpace, with both numbers, before the first byte of a queue is fetched."""
    for need in space_needed(plans, reserve=reserve):
        if not need.fits:
            raise NoSpace(
                f"{clean(need.path)} needs {_shown(need.bytes)} for this and has "
                f"{_shown(need.free)} free, of which {_shown(need.reserve)} stay in reserve",
                hint=f"free {_shown(need.bytes + need.reserve - need.free)} there, or choose "
                "another folder with --to",
            )
        names = room(need.path).names
        if names is not None and names < need.files:
            raise NoSpace(
                f"{clean(need.path)} needs {need.files} more files for this and has room for "
                f"{names} (inodes, not bytes)",
                hint="delete small files there (`df -i`), or choose another folder with --to",
            )


def check_targets(plans: Sequence[Plan]) -> None:
    """Raises UsageError when two of `plans` want one name for files that are not known to be
    the same.
    """
    wanted: dict[Path, tuple[Plan, Step]] = {}
    for plan in plans:
        for step in plan.steps:
            other, first = wanted.setdefault(step.target, (plan, step))
            same = _same_origin(other, plan) or _same_bytes(first.file, step.file)
            if other is not plan and not same:
                raise UsageError(
                    f"{clean(step.target)} is wanted by {other.snapshot.ref} and by "
                    f"{plan.snapshot.ref}, whose files differ",
                    hint="give each model a folder of its own: run `modelbay get` once for each, "
                    "with another --to",
                )


def _same_origin(one: Plan, other: Plan) -> bool:
    here, there = one.snapshot, other.snapshot
    return (here.ref.name, here.revision) == (there.ref.name, there.revision)


def _same_bytes(one: ModelFile, other: ModelFile) -> bool:
    shared = any(digest in other.digests for digest in one.digests)
    return shared and disagreement(one.digests, other.digests) is None


def check_writable(plans: Sequence[Plan]) -> None:
    """Raises NotWritable for the first folder that steps cannot write to. Writes nothing."""
    for step in _writing(plans):
        for name in {step.part, step.blob, step.target}:
            folder = standing(name.parent)
            if not may_write(folder):
                raise NotWritable(
                    f"{clean(folder)} is not writable: {clean(step.file.path)} was to go there",
                    hint="choose another folder with --to, or make this one writable",
                )


def _writing(plans: Sequence[Plan]) -> Iterable[Step]:
    for plan in plans:
        yield from plan.of(*MOVES, Action.LINK)


def _bytes_to_write(step: Step, volume: int) -> int:
    size = step.file.size or 0
    if step.action is not Action.LINK:
        try:
            return max(0, size - step.part.lstat().st_blocks * 512)
        except OSError:
            return size
    if step.source is None or step.source == step.blob:
        return 0
    source = standing(step.source)
    if source.stat().st_dev != volume:
        return size
    if "hard link" in step.ways:
        return 0
    shares = "reflink" in step.ways and mount_of(source.resolve(), mounts()).may_clone
    return 0 if shares else size


def _need(path: Path, size: int, files: int, *, reserve: Reserve) -> Need:
    has = room(path)
    return Need(path, size, files, has.free, reserve(has.total))


def _shown(size: int) -> str:
    from humanize import naturalsize

    return naturalsize(size).replace("Bytes", "B").replace("Byte", "B")
