"""Removing revisions from the Hub's cache so that its own client reads it at every moment.

Refs go first, then the links of the snapshot, each before its blob, and a blob only when no
link of another revision, ours or the client's, leads to it. Facts: huggingface_hub 2.4.
"""

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from modelbay.digest import Digest
from modelbay.errors import UnsafeName
from modelbay.files import below, disk_errors, usage
from modelbay.library.home import NAME
from modelbay.library.records import Record, read_record
from modelbay.library.removal import Move, Removal, holder, names_revision, notes_for
from modelbay.library.trash import Trash
from modelbay.plan import Action, Plan, Step
from modelbay.refs import ModelRef
from modelbay.safepath import SafeRelPath
from modelbay.snapshot import ModelFile, Snapshot
from modelbay.text import clean

_BY_LENGTH = {64: "sha256", 40: "git-sha1"}


@dataclass(frozen=True, slots=True)
class Revision:
    """One snapshot folder: its commit and the refs that lead to it, as files."""

    repo: Path
    commit: str
    refs: Mapping[str, Path]

    @property
    def folder(self) -> Path:
        return self.repo / "snapshots" / self.commit

    def is_named(self, asked: str) -> bool:
        return asked in self.refs or names_revision(asked, self.commit, None)


def revisions(repo: Path) -> list[Revision]:
    """The revisions in the cache's folder `repo`, by commit; none where it is no such folder."""
    leading: dict[str, dict[str, Path]] = {}
    refs = repo / "refs"
    for path in below(refs):
        with suppress(OSError, UnicodeDecodeError):
            name = path.relative_to(refs).as_posix()
            leading.setdefault(path.read_text("ascii").strip(), {})[name] = path
    with suppress(OSError):
        return [
            Revision(repo, folder.name, leading.get(folder.name, {}))
            for folder in sorted((repo / "snapshots").iterdir())
            if folder.is_dir() and not folder.is_symlink()
        ]
    return []


def blob_of(name: Path) -> Path | None:
    """The blob that a link in a snapshot leads to, one step far; None for what is no link into
    `blobs/`.
    """
    if not name.is_symlink():
        return None
    blob = Path(os.path.normpath(name.parent / name.readlink()))
    repo = next((one.parent for one in name.parents if one.name == "snapshots"), None)
    return blob if repo is not None and blob.parent == repo / "blobs" else None


def of_revision(
    revision: Revision,
    ref: ModelRef,
    *,
    path: str | None = None,
    before: Collection[Path] = frozenset(),
) -> Removal:
    """Removing `revision`, or the file `path` of it. `ref` is what the repo is called, `before`
    are names that go first, and so need no blob any more.
    """
    repo, record = revision.repo, read_record(_meta(revision))
    busy = in_use(repo)
    names = sorted(_names(revision, path))
    groups = _groups(names)
    elsewhere = _elsewhere(repo, {*names, *before})
    moves: list[Move] = []
    stay: list[Step] = []
    for blob, links in groups.items():
        shared = elsewhere.get(blob)
        steps = [_link_step(revision, link, blob, shared) for link in links]
        if busy or not _same_disk(repo, blob):
            stay += [_stays(step, busy or "it lies on another file system") for step in steps]
            continue
        going = tuple(links) if shared or not blob.exists() else (*links, blob)
        moves.append(Move(going, (_lock(repo, blob),), tuple(steps), ours=False))
    for name in names:
        if blob_of(name) is None:
            _plain(revision, record, name, busy, moves, stay)
    whole = path is None and not stay
    if whole:
        moves = _around(revision, moves)
    return _removal(revision, ref, record, moves, stay, whole=whole)


def _removal(
    revision: Revision,
    ref: ModelRef,
    record: Record | None,
    moves: Sequence[Move],
    stay: Sequence[Step],
    *,
    whole: bool,
) -> Removal:
    going = [step for move in moves for step in move.steps]
    steps = tuple(sorted([*going, *stay], key=lambda step: step.file.path))
    snapshot = Snapshot(
        ref.at(_shown(revision)), revision.commit, tuple(step.file for step in steps), fresh=False
    )
    return Removal(
        Plan(snapshot, "hf-cache", revision.repo, steps, str(ref)),
        revision.repo,
        tuple(moves),
        usage(path for move in moves for path in move.paths),
        (*(notes_for(revision.repo) if moves else ()), *_shared_store(moves)),
        _leaving(record, going, whole=whole),
        tuple(_folders(revision)),
        lambda trash, gone: _bring_back(revision.repo, trash, gone),
    )


def _shown(revision: Revision) -> str:
    return min(revision.refs, key=lambda name: (name != "main", name), default=revision.commit)


def _meta(revision: Revision) -> Path:
    return revision.repo / NAME / "meta" / f"{revision.commit}.json"


def _names(revision: Revision, path: str | None) -> Iterator[Path]:
    for name in below(revision.folder):
        if path in {None, name.relative_to(revision.folder).as_posix()}:
            yield name


def _groups(names: Sequence[Path]) -> dict[Path, list[Path]]:
    """Links by the blob they lead to."""
    found: dict[Path, list[Path]] = {}
    for name in names:
        blob = blob_of(name)
        if blob is not None:
            found.setdefault(blob, []).append(name)
    return found


def _elsewhere(repo: Path, besides: set[Path]) -> dict[Path, Path]:
    """Blobs that links not in `besides` lead to, with one of those links."""
    found: dict[Path, Path] = {}
    for link in below(repo / "snapshots"):
        blob = blob_of(link) if link not in besides else None
        if blob is not None:
            found.setdefault(blob, link)
    return found


def _link_step(revision: Revision, link: Path, blob: Path, shared: Path | None) -> Step:
    reason = ""
    if shared is not None:
        other = shared.relative_to(revision.repo / "snapshots").parts[0]
        same = other == revision.commit
        reason = f"its bytes stay: {'another name' if same else f'revision {other[:12]}'} has them"
    size = blob.stat().st_size if blob.exists() else 0
    return Step(_file(revision, link, size, blob.name), Action.REMOVE, link, blob, blob, 0, reason)


def _file(revision: Revision, name: Path, size: int, digest: str) -> ModelFile:
    path = name.relative_to(revision.folder).as_posix()
    algorithm = _BY_LENGTH.get(len(digest))
    claimed: tuple[Digest, ...] = ()
    if algorithm is not None and not digest.strip("0123456789abcdef"):
        claimed = (Digest(algorithm, digest),)  # type: ignore[arg-type]
    with suppress(UnsafeName):
        return ModelFile(SafeRelPath.parse(path), size, claimed)
    # The client's own rules for names are laxer, and this one is only shown.
    return ModelFile(SafeRelPath(clean(path)), size, claimed)


def _plain(
    revision: Revision,
    record: Record | None,
    name: Path,
    busy: str,
    moves: list[Move],
    stay: list[Step],
) -> None:
    """A file, or a link that leads elsewhere, in the snapshot itself."""
    status = name.lstat()
    step = Step(_file(revision, name, status.st_size, ""), Action.REMOVE, name, name, name)
    why = busy
    if name.is_symlink():
        why = why or "it is a link that neither modelbay nor the Hub's client makes"
    elif not _brought(revision, record, name):
        why = why or "neither modelbay nor the Hub's client put it there"
    if why:
        stay.append(_stays(step, why))
    else:
        moves.append(Move((name,), (), (step,)))


def _brought(revision: Revision, record: Record | None, name: Path) -> bool:
    """Whether a record of ours, or the client's listing, knows the file as it is."""
    status = name.lstat()
    own = name.relative_to(revision.repo).as_posix()
    rows = record.files if record is not None else ()
    if any(row.placed and row.file == own and row.matches(status) for row in rows):
        return True
    with suppress(OSError, ValueError, KeyError, TypeError):
        listing = json.loads((revision.repo / "trees" / f"{revision.commit}.json").read_bytes())
        path = name.relative_to(revision.folder).as_posix()
        return bool(listing["files"][path]["size"] == status.st_size)
    return False


def _stays(step: Step, why: str) -> Step:
    return replace(step, action=Action.BLOCKED, reason=why)


def _around(revision: Revision, moves: list[Move]) -> list[Move]:
    """Refs before everything; what was noted about the revision before its last blob, so that
    the blobs of a restored one are the first to stand.
    """
    noted = [revision.repo / "trees" / f"{revision.commit}.json"]
    noted += below(revision.repo / ".no_exist" / revision.commit)
    refs = Move(tuple(revision.refs.values()))
    return [refs, Move(tuple(path for path in noted if path.exists())), *moves]


def _folders(revision: Revision) -> Iterator[Path]:
    """What is taken away when empty, the deepest first. `snapshots` itself always stays."""
    for top in (revision.folder, revision.repo / ".no_exist" / revision.commit):
        yield from (Path(place) for place, _, _ in os.walk(top, topdown=False))
    refs = revision.repo / "refs"
    for path in revision.refs.values():
        yield from (parent for parent in path.parents if refs in parent.parents)


def _leaving(record: Record | None, going: Sequence[Step], *, whole: bool) -> Record | None:
    if record is None or whole:
        return record
    paths = {step.file.path for step in going}
    return replace(record, files=tuple(row for row in record.files if row.path in paths))


def _lock(repo: Path, blob: Path) -> Path:
    return repo.parent / ".locks" / repo.name / f"{blob.name}.lock"


def in_use(repo: Path) -> str:
    """Who is fetching into the repo now, in words; empty when nobody is."""
    with suppress(OSError):
        for lock in sorted((repo.parent / ".locks" / repo.name).glob("*.lock")):
            found = holder(lock)
            if found is not None:
                return f"in use by {found.replace('the same file', 'into this model')}"
    return ""


def _same_disk(repo: Path, blob: Path) -> bool:
    try:
        return blob.lstat().st_dev == repo.lstat().st_dev
    except FileNotFoundError:
        return True


def _shared_store(moves: Sequence[Move]) -> tuple[str, ...]:
    links = sum(
        path.is_symlink() and path.parent.name == "blobs" for move in moves for path in move.paths
    )
    if not links:
        return ()
    return (f"the bytes of {links} of its files stay in the cache's shared store",)


def _bring_back(repo: Path, trash: Trash, gone: Sequence[Path]) -> frozenset[Path]:
    """Blobs that somebody linked while they were about to go come back at once."""
    moved = {path for path in gone if path.parent == repo / "blobs"}
    back: set[Path] = set()
    if moved:
        wanted = {blob_of(link) for link in below(repo / "snapshots")}
        for blob in sorted(moved & {one for one in wanted if one is not None}):
            with suppress(FileExistsError):
                trash.give_back(blob)
            back.add(blob)
    return frozenset(back)


def take_away_empty(repo: Path) -> bool:
    """Takes the folder of a repo away when nothing but our own notes is left in it. It leaves
    the cache in one rename, so that no client ever sees half of it. Raises DiskError.
    """
    if not _is_empty(repo) or in_use(repo):
        return False
    going = repo.parent / ".locks" / repo.name / f".going-{os.getpid()}"
    with disk_errors(repo):
        going.parent.mkdir(parents=True, exist_ok=True)
        repo.rename(going)
        if not _is_empty(going) and not repo.exists():
            going.rename(repo)
            return False
        shutil.rmtree(going)
    return True


def _is_empty(repo: Path) -> bool:
    """Whether a repo that we removed from has no revision, blob, ref, part or trash left."""
    home = repo / NAME
    kept = ("snapshots", "refs", "blobs", f"{NAME}/parts", f"{NAME}/trash", f"{NAME}/meta")
    known = {"snapshots", "refs", "blobs", "trees", ".no_exist", NAME}
    try:
        named = all(path.name in known for path in repo.iterdir())
    except OSError:
        return False
    return named and home.is_dir() and not any(True for one in kept for _ in _left_in(repo / one))


def _left_in(folder: Path) -> Iterator[Path]:
    yield from below(folder)
    if folder.name == "snapshots":
        yield from (path for path in folder.glob("*") if path.is_dir())
