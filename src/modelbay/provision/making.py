"""From an entry and what its source answered to a locked model: choosing, placing, judging."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from modelbay.digest import Digest
from modelbay.errors import Gated, UsageError, WrongBytes
from modelbay.library import folders
from modelbay.plan import Plan
from modelbay.provision.entry import Entry
from modelbay.provision.lockfile import LockedModel, Place
from modelbay.provision.pins import NIX
from modelbay.safepath import SafeRelPath
from modelbay.selection import Selection, select
from modelbay.snapshot import ModelFile, Snapshot
from modelbay.text import clean


@dataclass(frozen=True, slots=True)
class Wanted:
    """An entry, resolved: which files, and where they go."""

    entry: Entry
    selection: Selection
    place: Place
    names: Mapping[str, SafeRelPath]
    unknown: frozenset[str]
    """Files that the source told no sha256 of, or no size."""

    @property
    def snapshot(self) -> Snapshot:
        return self.selection.snapshot


def wanted(
    entry: Entry,
    snapshot: Snapshot,
    *,
    path: str | None,
    application: folders.Application,
    categories: Mapping[str, str],
) -> Wanted:
    """Raises FileNotFound with the near names, UsageError, IntegrityError when the source's
    digest is not the pinned one.
    """
    selection = _pinned(entry, _chosen(entry, snapshot, path))
    place, names = _placed(entry, selection, application, categories)
    known = {file.path: file for file in snapshot.files}
    unknown = (
        file.path
        for file in selection.files
        if known[file.path].sha256 is None or file.size is None
    )
    return Wanted(entry, selection, place, names, frozenset(unknown))


def _chosen(entry: Entry, snapshot: Snapshot, path: str | None) -> Selection:
    """Files that are listed are meant exactly; globs and the variant choose among them."""
    keys = entry.keys
    listed = [*keys.get("files", ()), *([keys["file"]] if "file" in keys else [])]
    listed += [path] if path is not None else []
    part = snapshot
    if listed:
        named = {file.path for name in listed for file in select(snapshot, path=name).files}
        part = replace(snapshot, files=tuple(f for f in snapshot.files if f.path in named))
    chosen = select(
        part,
        include=keys.get("include", ()),
        exclude=keys.get("exclude", ()),
        variant=keys.get("variant"),
    )
    return Selection(snapshot, chosen.files)


def _pinned(entry: Entry, selection: Selection) -> Selection:
    """With the pin of a single file as its digest, so that no other bytes are published."""
    if entry.pin is None or len(selection.files) != 1:
        return selection
    (file,) = selection.files
    if file.sha256 is not None:
        entry.pin.check(entry.id, str(file.sha256))
        return selection
    return replace(selection, files=(replace(file, digests=(entry.pin.digest, *file.digests)),))


def _placed(
    entry: Entry,
    selection: Selection,
    application: folders.Application,
    categories: Mapping[str, str],
) -> tuple[Place, Mapping[str, SafeRelPath]]:
    snapshot = selection.snapshot
    if entry.layout == "hf-cache":
        return Place("hf-cache", ref=snapshot.ref.revision or "main"), {}
    if entry.layout == "dir":
        named = entry.filename is not None
        at = folders.mapped(entry.dir or "", entry.id, selection.files, entry.filename, own=False)
        return Place("dir", dir=at.folder), at.names if named else {}
    at = folders.mapped(
        application.folder(entry.category, snapshot.ref.name, categories),
        entry.name,
        selection.files,
        entry.filename,
        own=not application.by_publisher,
    )
    place = Place("folders", dir=at.folder, folders=application.name, category=entry.category)
    return place, at.names


def check_gate(one: Wanted, has_token: Callable[[Snapshot, ModelFile], None]) -> None:
    """Raises Gated where the entry denies a gate that there is, and what `has_token` raises
    where it says that there is one.
    """
    asked, snapshot = one.entry.keys.get("gated"), one.snapshot
    if asked is False and snapshot.gated != "no":
        raise Gated(
            f"{clean(one.entry.id)} is gated, and its entry says gated = false",
            hint=f"accept its terms at {clean(snapshot.page or snapshot.ref)}, "
            "then write gated = true",
        )
    if asked and one.selection.files:
        has_token(snapshot, one.selection.files[0])


def refuse_one_target(plans: Iterable[Plan]) -> None:
    """Raises UsageError when files of two models that are not known to be the same would be
    one file on some file system.
    """
    seen: dict[str, tuple[str, ModelFile]] = {}
    for plan in (plan for plan in plans if plan.layout != "hf-cache"):
        for step in plan.steps:
            folded = str(step.target).casefold()
            other, file = seen.setdefault(folded, (plan.model, step.file))
            if other != plan.model and not (file.sha256 and file.sha256 == step.file.sha256):
                raise UsageError(
                    f"{clean(other)} and {clean(plan.model)} would both be {clean(step.target)}",
                    hint='give one of them another filename = "…", or another category',
                )


def locked(one: Wanted, observed: Mapping[str, tuple[int, tuple[Digest, ...]]]) -> LockedModel:
    """The model as a lock holds it; `observed` are size and digests of files that were read.
    Raises IntegrityError when they are not the pinned ones.
    """
    files = []
    for file in one.selection.files:
        size, digests = observed.get(file.path, (file.size, file.digests))
        files.append(replace(file, size=size, digests=digests))
    snapshot = one.snapshot
    model = LockedModel(
        one.entry.id,
        one.entry.source,
        one.entry.original,
        snapshot.table,
        one.place,
        tuple(files),
        one.names,
        snapshot.licence,
        snapshot.gated,
        one.entry.lockable_auth,
    )
    model.check_pin()
    return model


def unlike_pin(one: Wanted, error: WrongBytes) -> WrongBytes:
    """`error`, when the bytes that came are not those of the entry's `hash`."""
    pin = one.entry.pin
    if pin is None or len(one.selection.files) != 1:
        return error
    note = f"{NIX}; " if pin.sri else ""
    return WrongBytes(
        f"{clean(one.entry.id)} is not what its hash says: {error}",
        hint=note + "correct the hash if these are the bytes that you want",
    )
