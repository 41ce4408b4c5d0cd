"""The cache of the Hub's own client, byte for byte as huggingface_hub 2.4 writes it.

Facts: protocols of the Hub's cache, observed with that client. Beyond it: a ref never
names a folder that is not there yet, nothing half-written ever lies where the client's
scanner looks, and every name is durable.
"""

import errno
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Final, Self

from modelbay import paths
from modelbay.digest import Digest, find
from modelbay.errors import UsageError
from modelbay.files import (
    disk_errors,
    folder_below,
    make_dir,
    point,
    sync_dir,
    taken_by,
    write_atomic,
)
from modelbay.library.base import Place, Standing
from modelbay.library.dir import stands_at
from modelbay.library.home import Home
from modelbay.library.recorded import Plain, unchanged
from modelbay.library.records import Records
from modelbay.plan import LADDER, Action, Step, Way
from modelbay.refs import decode
from modelbay.safepath import SafeRelPath
from modelbay.snapshot import ModelFile, Snapshot
from modelbay.text import clean

CACHEDIR_TAG: Final = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"
    b"# This file is a cache directory tag created by huggingface_hub.\n"
    b"# For information about cache directory tags, see:\n"
    b"#\thttps://bford.info/cachedir/\n"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_XET = re.compile(r"[0-9a-f]{64}")
_MOST_PLACES: Final = 20_000
_KINDS: Final = ("datasets", "spaces", "kernels")
_TRUE: Final = frozenset({"1", "ON", "YES", "TRUE"})


class HfCache:
    """The cache at `root`. Without `symlinks` files lie in `snapshots/` themselves, as
    HF_HUB_DISABLE_SYMLINKS=1 and file systems without links have it.
    """

    name = "hf-cache"

    def __init__(self, root: Path, *, symlinks: bool = True, ways: Sequence[Way] = LADDER) -> None:
        self.ways = ways
        self._cache = root.resolve()
        self._symlinks = symlinks
        self._homes: dict[Path, Home] = {}
        self._roots: dict[tuple[str, str], Path] = {}
        self._places: dict[tuple[Path, str, SafeRelPath, bool], Place] = {}
        self._new_links: set[Path] = set()

    @classmethod
    def of(cls, environ: Mapping[str, str], *, ways: Sequence[Way] = LADDER) -> Self:
        """The cache that the Hub's client would use in that environment."""
        disabled = environ.get("HF_HUB_DISABLE_SYMLINKS", "").upper() in _TRUE
        return cls(paths.hub_cache(environ), symlinks=not disabled, ways=ways)

    def root(self, snapshot: Snapshot) -> Path:
        """`models--org--name`, `datasets--…` or `spaces--…`. Raises UsageError for what is
        not a Hub repo.
        """
        key = snapshot.ref.name, snapshot.revision
        if key in self._roots:
            return self._roots[key]
        folder = repo_folder_name(snapshot.ref.name)
        if folder is None or not _COMMIT.fullmatch(snapshot.revision):
            raise UsageError(
                f"{snapshot.ref} cannot go into the Hub's cache, which holds Hub repos at a commit",
                hint="name a folder with --to",
            )
        return self._roots.setdefault(key, self._cache / folder)

    def place_of(self, snapshot: Snapshot, file: ModelFile) -> Place:
        key = self.root(snapshot), snapshot.revision, file.path, self._symlinks
        if key not in self._places:
            if len(self._places) >= _MOST_PLACES:
                self._places.clear()
            self._places[key] = self._found(snapshot, file)
        return self._places[key]

    def _found(self, snapshot: Snapshot, file: ModelFile) -> Place:
        target = self._snapshot_folder(snapshot) / file.path
        blob = self.root(snapshot) / "blobs" / etag_of(file) if self._symlinks else target
        return Place(target, blob, self._home(snapshot).part_of(snapshot, file, blob))

    def target_of(self, snapshot: Snapshot, file: ModelFile) -> str:
        return f"{self._snapshot_folder(snapshot)}/{file.path}"

    def look(self, snapshot: Snapshot, file: ModelFile) -> Standing:
        place = self.place_of(snapshot, file)
        blob = self.root(snapshot) / "blobs" / etag_of(file)
        with disk_errors(place.target):
            pointer = stands_at(self._cache, place.target)
            if pointer.path is not None or (pointer.taken and not pointer.link):
                return pointer
            if not blob.exists():
                return Standing()
            if not blob.is_file():
                return Standing(taken=str(taken_by(blob, "a file was to go there")))
            reached = pointer.link and place.target.resolve() == blob.resolve()
            return Standing(blob, reached=reached, named_by_content=_names_content(file))

    def as_recorded(self, snapshot: Snapshot, files: Sequence[ModelFile]) -> Mapping[str, Place]:
        home = self._home(snapshot)
        if not Plain(self._cache).leads_to(f"{home.base.name}/blobs"):
            return {}
        names = self._reached(snapshot, files) if self._symlinks else self._names(snapshot, files)
        found = unchanged(home.records, home.base, names)
        return {file.path: self.place_of(snapshot, file) for file in found}

    def _names(
        self, snapshot: Snapshot, files: Sequence[ModelFile]
    ) -> Iterator[tuple[str, ModelFile]]:
        """The readers' names below the repo's folder."""
        return ((f"snapshots/{snapshot.revision}/{file.path}", file) for file in files)

    def _reached(
        self, snapshot: Snapshot, files: Sequence[ModelFile]
    ) -> Iterator[tuple[str, ModelFile]]:
        """The blobs that readers' names lead to already."""
        root = self.root(snapshot)
        plain = Plain(root)
        for name, file in self._names(snapshot, files):
            blob = f"blobs/{etag_of(file)}"
            with suppress(OSError):
                # A Path for each would cost more than the call.
                if plain.leads_to(name) and os.readlink(f"{root}/{name}") == (  # noqa: PTH115
                    "../" * name.count("/") + blob
                ):
                    yield blob, file

    def records(self, snapshot: Snapshot) -> Records:
        return self._home(snapshot).records

    def prepare(self, snapshot: Snapshot) -> None:
        """In an order that the client's scanner accepts at every moment: snapshot folder,
        listing, ref.
        """
        folder, home = self.root(snapshot), self._home(snapshot)
        make_dir(self._cache)
        with disk_errors(folder):
            with folder_below(self._cache, self._below(self._snapshot_folder(snapshot)), make=True):
                home.prepare()
            with folder_below(self._cache, self._below(folder / "blobs"), make=True):
                sync_dir(folder)
            self._write_once(self._cache / "CACHEDIR.TAG", CACHEDIR_TAG, home)
            if snapshot.fresh:
                self._write_listing(snapshot, home)
            self._write_ref(snapshot, home)

    def _write_once(self, path: Path, content: bytes, home: Home) -> None:
        if not path.exists():
            write_atomic(path, content, via=home.folder)

    def _write_listing(self, snapshot: Snapshot, home: Home) -> None:
        path = self.root(snapshot) / "trees" / f"{snapshot.revision}.json"
        content = tree_listing(snapshot)
        if content is not None and not path.exists():
            path.parent.mkdir(exist_ok=True)
            write_atomic(path, content, mode=0o600, via=home.folder)

    def _write_ref(self, snapshot: Snapshot, home: Home) -> None:
        name = snapshot.ref.revision or "main"
        if _COMMIT.fullmatch(name):
            return
        path = self.root(snapshot) / "refs" / SafeRelPath.parse(name)
        commit = snapshot.revision.encode()
        with folder_below(self._cache, self._below(path.parent), make=True), suppress(OSError):
            if path.read_bytes() == commit:
                return
        write_atomic(path, commit, via=home.folder)

    @contextmanager
    def moving(
        self,
        snapshot: Snapshot,
        file: ModelFile,
        *,
        pause: Callable[[float], None],
        tell: Callable[[str], None],
    ) -> Iterator[bool]:
        """The lock that the Hub's client takes too; its file is never removed."""
        home, part = self._home(snapshot), self.place_of(snapshot, file).part
        lock = self._cache / ".locks" / self.root(snapshot).name / f"{etag_of(file)}.lock"
        with disk_errors(part):
            home.prepare()
            home.open_folder_of(part)
        with home.locked(lock, pause=pause, tell=tell) as waited:
            yield waited

    def place(
        self,
        snapshot: Snapshot,
        step: Step,
        observed: tuple[Digest, ...],
        *,
        tick: Callable[[int], None] | None = None,
    ) -> None:
        home = self._home(snapshot)
        with disk_errors(step.target):
            if step.action is not Action.LINK:
                self._publish(home, step, observed)
            elif step.source is not None and step.source != step.blob:
                observed = home.linked_in(step, observed, tick=tick)
                self._publish(home, step, observed)
            if step.blob != step.target:
                self._reach(home, step, observed)
            bytes_lie_in = step.blob if step.blob.exists() else step.target
            home.note(snapshot.revision, snapshot, step, bytes_lie_in, observed)

    def _publish(self, home: Home, step: Step, observed: tuple[Digest, ...]) -> None:
        """A blob's name is its content's, so that one that came meanwhile may be replaced."""
        replaces = step.action is Action.REPLACE
        if replaces and step.blob.exists():
            home.discard(step.blob, keep_name=True)
        over = replaces or step.blob != step.target
        home.publish(step.part, self._cache, step.blob, observed, over=over)

    def _reach(self, home: Home, step: Step, observed: tuple[Digest, ...]) -> None:
        """The reader's name for a blob: a relative link, or the file itself where the file
        system has no links.
        """
        if step.action is Action.REPLACE and step.target.is_file() and not step.target.is_symlink():
            home.discard(step.target, keep_name=False)
        *folders, name = self._below(step.target)
        text = os.path.relpath(step.blob, step.target.parent)
        with folder_below(self._cache, folders, make=True) as folder:
            try:
                point(folder, name, text, via=home.folder)
                self._new_links.add(step.target.parent)
            except FileExistsError:
                raise taken_by(step.target, "a link to the blob was to go there") from None
            except OSError as error:
                if not _no_links(error):
                    raise
                self._symlinks = False
                self._reach_without_links(home, step, observed)

    def _reach_without_links(self, home: Home, step: Step, observed: tuple[Digest, ...]) -> None:
        """A blob of ours moves; one that was there may serve other names, and is copied."""
        bytes_to_move = step.blob
        if step.action is Action.LINK:
            home.linked_in(replace(step, source=step.blob), observed)
            bytes_to_move = step.part
        home.publish(bytes_to_move, self._cache, step.target, observed, over=False)

    def finish(self, snapshot: Snapshot) -> None:
        """Links become durable together: one that a power cut takes is made again from its
        blob, which is durable since `place`.
        """
        home, folder = self._home(snapshot), self._snapshot_folder(snapshot)
        for changed in [path for path in tuple(self._new_links) if path.is_relative_to(folder)]:
            with disk_errors(changed):
                sync_dir(changed)
            self._new_links.discard(changed)
        home.finish(snapshot.revision, snapshot)

    def _home(self, snapshot: Snapshot) -> Home:
        folder = self.root(snapshot)
        return self._homes.get(folder) or self._homes.setdefault(folder, Home(folder))

    def _snapshot_folder(self, snapshot: Snapshot) -> Path:
        return self.root(snapshot) / "snapshots" / snapshot.revision

    def _below(self, path: Path) -> tuple[str, ...]:
        return path.relative_to(self._cache).parts


@lru_cache
def repo_folder_name(ref_name: str) -> str | None:
    kind, slash, repo = decode(ref_name).partition("/")
    if not slash or kind not in _KINDS:
        kind, repo = "models", decode(ref_name)
    if repo.count("/") > 1:
        return None
    return SafeRelPath.component("--".join([kind, *repo.split("/")]))


_component = lru_cache(maxsize=4096)(SafeRelPath.component)


def etag_of(file: ModelFile) -> str:
    """What the blob and its lock are named by: sha256 for LFS files, git's blob id for the
    others, or what the registry said. Raises UsageError when there is nothing of the kind.
    """
    content = file.sha256 if file.lfs else find(file.digests, "git-sha1") or file.sha256
    name = file.etag or (content.hex if content else None)
    if name is None:
        raise UsageError(
            f"{clean(file.path)} has neither a digest nor an ETag, by which the Hub's cache "
            "names its files",
            hint="name a folder with --to",
        )
    return _component(name)


def _names_content(file: ModelFile) -> bool:
    return etag_of(file) in {
        digest.hex for digest in file.digests if digest.algorithm in {"sha256", "git-sha1"}
    }


def _no_links(error: OSError) -> bool:
    return error.errno in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}


def tree_listing(snapshot: Snapshot) -> bytes | None:
    """`trees/<commit>.json` as the client writes it; None where a fact it needs is missing."""
    rows: dict[str, dict[str, str | int]] = {}
    for file in sorted(snapshot.files, key=lambda file: file.path):
        row = _tree_row(file)
        if row is None:
            return None
        rows[file.path] = row
    return json.dumps({"format_version": 1, "files": rows}, indent=1).encode()


def _tree_row(file: ModelFile) -> dict[str, str | int] | None:
    git = find(file.digests, "git-sha1")
    blob_id = file.extra.get("blob_id") if file.lfs else (git.hex if git else file.etag)
    if file.size is None or blob_id is None or (file.lfs and file.sha256 is None):
        return None
    row: dict[str, str | int] = {"size": file.size, "blob_id": blob_id}
    if file.lfs and file.sha256 is not None:
        row |= {"lfs_sha256": file.sha256.hex, "lfs_size": file.size}
    if "xet" in file.extra:
        if not _XET.fullmatch(file.extra["xet"]):
            return None
        row["xet_hash"] = file.extra["xet"]
    return row
