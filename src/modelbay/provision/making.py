"""From an entry and what its source answered to a locked model: choosing, placing, judging."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from modelbay.digest import Digest, disagreement
from modelbay.errors import Gated, UpstreamChanged, UsageError, WrongBytes
from modelbay.library import folders
from modelbay.provision.entry import Entry
from modelbay.provision.lockfile import LockedArchive, LockedModel, Place
from modelbay.provision.pins import NIX
from modelbay.refs import ModelRef
from modelbay.safepath import SafeRelPath
from modelbay.selection import Selection, select
from modelbay.snapshot import GateState, ModelFile, Snapshot
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
    if entry.extracts and len(selection.files) != 1:
        raise UsageError(
            f"{clean(entry.id)} unpacks an archive, and is {len(selection.files)} files",
            hint='choose the archive with file = "…", or take extract out',
        )
    place, names = placed(entry, selection.files, snapshot.ref, application, categories)
    known = {file.path: file for file in snapshot.files}
    selection = replace(selection, files=with_alternates(entry, selection.files))
    unknown = (
        file.path
        for file in selection.files
        if entry.extracts or known[file.path].sha256 is None or file.size is None
    )
    return Wanted(entry, selection, place, names, frozenset(unknown))


def misplaced(entry: Entry, snapshot: Snapshot) -> Snapshot:
    """`snapshot` with a note, where its source tells another category than `entry` does."""
    if entry.layout != "folders" or snapshot.category is None:
        return snapshot
    if folders.canonical(entry.category) == folders.canonical(snapshot.category):
        return snapshot
    note = f"its source says that it belongs to {snapshot.category}, not {clean(entry.category)}"
    return replace(snapshot, notes=(*snapshot.notes, note))


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


def placed(
    entry: Entry,
    chosen: Sequence[ModelFile],
    ref: ModelRef,
    application: folders.Application,
    categories: Mapping[str, str],
) -> tuple[Place, Mapping[str, SafeRelPath]]:
    """Where `chosen` go, and the names of those that have another one there. Raises
    UsageError.
    """
    if entry.layout == "hf-cache":
        return Place("hf-cache", ref=ref.revision or "main"), {}
    if entry.layout == "ollama":
        return Place("ollama"), {}
    if entry.extracts:
        return _place_of_members(entry, ref, application, categories), {}
    if entry.layout == "dir":
        named = entry.filename is not None
        at = folders.mapped(entry.dir or "", entry.id, chosen, entry.filename, own=False)
        return Place("dir", dir=at.folder), at.names if named else {}
    at = folders.mapped(
        application.folder(entry.category, ref.name, categories),
        entry.name,
        chosen,
        entry.filename,
        own=not application.by_publisher,
    )
    place = Place("folders", dir=at.folder, folders=application.name, category=entry.category)
    return place, at.names


def _place_of_members(
    entry: Entry,
    ref: ModelRef,
    application: folders.Application,
    categories: Mapping[str, str],
) -> Place:
    """A folder of its own, however many they turn out to be."""
    if entry.layout == "dir":
        return Place("dir", dir=entry.dir)
    folder = application.folder(entry.category, ref.name, categories)
    own = folder if application.by_publisher else f"{folder}/{entry.name}"
    return Place("folders", dir=own, folders=application.name, category=entry.category)


def with_alternates(entry: Entry, chosen: Sequence[ModelFile]) -> tuple[ModelFile, ...]:
    """`chosen` with the entry's `urls`: the file's own addresses, or folders (they end in `/`)
    that hold the files under their paths. Raises UsageError.
    """
    urls: tuple[str, ...] = tuple(entry.keys.get("urls", ()))
    if len(chosen) > 1 and not all(url.endswith("/") for url in urls):
        raise UsageError(
            f"{clean(entry.id)} is {len(chosen)} files, and one of its urls names a single one",
            hint="write addresses of folders, which end in /",
        )
    return tuple(
        replace(file, urls=tuple(u + quote(file.path) if u.endswith("/") else u for u in urls))
        for file in chosen
    )


def check_gate(one: Wanted, has_token: Callable[[Snapshot, ModelFile], None]) -> None:
    """Raises Gated where the entry denies a gate that there is, and what `has_token` raises
    where it says that there is one.
    """
    snapshot = one.snapshot
    refuse_denied_gate(one.entry, snapshot.gated, snapshot.page or str(snapshot.ref))
    if one.entry.keys.get("gated") and one.selection.files:
        has_token(snapshot, one.selection.files[0])


def refuse_denied_gate(entry: Entry, gated: GateState, page: str) -> None:
    """Raises Gated with the `page` to accept on where `entry` denies a gate that there is."""
    if entry.keys.get("gated") is False and gated != "no":
        raise Gated(
            f"{clean(entry.id)} is gated, and its entry says gated = false",
            hint=f"accept its terms at {clean(page)}, then write gated = true",
        )


def refuse_one_target(targets: Iterable[tuple[str, str, ModelFile]]) -> None:
    """Raises UsageError when files of two models that are not known to be the same would be
    one file on some file system. `targets` are id, path and file.
    """
    seen: dict[str, tuple[str, ModelFile]] = {}
    for model, target, file in targets:
        other, first = seen.setdefault(target.casefold(), (model, file))
        if other != model and not (first.sha256 and first.sha256 == file.sha256):
            raise UsageError(
                f"{clean(other)} and {clean(model)} would both be {clean(target)}",
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


def unpacked(one: Wanted, archive: ModelFile, members: Sequence[ModelFile]) -> LockedModel:
    """The model whose files are `members` of the `archive` that was read. Raises
    IntegrityError when that is not the pinned one.
    """
    whole = locked(one, {archive.path: (archive.size or 0, archive.digests)})
    return replace(
        whole,
        files=tuple(members),
        archives=tuple(LockedArchive(file) for file in whole.files),
        members={file.path: archive.path for file in members},
    )


def check_unchanged(one: Wanted, before: LockedModel) -> None:
    """Raises UpstreamChanged when the source tells another digest for a file of the very
    revision that is locked already.
    """
    if one.snapshot.table != before.table or "commit" not in before.table:
        return
    known = {file.path: file for file in before.files}
    for file in one.selection.files:
        held = known.get(file.path)
        differing = disagreement(held.digests, file.digests) if held is not None else None
        if differing is not None:
            raise UpstreamChanged(
                f"{clean(one.entry.id)}: {clean(file.path)} is locked as {differing[0]}, and its "
                f"source now says {differing[1]} for the same revision",
                hint="a commit never changes: ask its publisher, and keep the lock as it is",
            )


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
