"""Ollama's own store: blobs named by their sha256, and a manifest that names them.

Facts: protocols-rest A3. Its daemon lists what has a manifest, and when it starts it deletes
every other blob, so the manifest comes last, when all that it names is there. Parts and records
lie in `.modelbay` beside `blobs/`, where it does not look.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from modelbay.digest import Digest
from modelbay.errors import DiskError, ModelbayError, UsageError
from modelbay.files import disk_errors
from modelbay.library.base import Place, Standing
from modelbay.library.dir import Dir, refuse_other_than_file
from modelbay.library.home import record_name
from modelbay.library.recorded import unchanged
from modelbay.plan import LADDER, Action, Step, Way
from modelbay.refs import ModelRef
from modelbay.safepath import SafeRelPath
from modelbay.selection import Selection
from modelbay.snapshot import ModelFile, Snapshot
from modelbay.text import clean
from modelbay.wire.oci_manifest import MANIFEST_NAME, Manifest, read_manifest

PARTS: Final = (
    re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}"),
    re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}"),
    re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
    re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
)
"""Host, namespace, model, tag, as Ollama allows them (protocols-rest A1)."""


class OllamaStore(Dir):
    """The store at `root`, for every model that goes there."""

    name = "ollama"

    def __init__(self, root: Path, *, ways: Sequence[Way] = LADDER) -> None:
        super().__init__(root, ways=ways)
        self._pending: dict[str, tuple[Step, tuple[Digest, ...]]] = {}
        """Manifests that wait for their blobs, by ref."""

    def check(self, selection: Selection) -> None:
        """Raises UsageError for what Ollama could not use: a part of a model, or none of its."""
        names = {file.path for file in selection.files}
        ref = selection.snapshot.ref
        manifest_name(ref)
        if MANIFEST_NAME not in names or len(names) != len(selection.snapshot.files):
            raise UsageError(
                f"Ollama's store holds whole models with their manifest, and {len(names)} of the "
                f"{len(selection.snapshot.files)} files of {ref} were chosen",
                hint="name a folder with --to, or choose all files",
            )
        if not any(name.startswith("model") for name in names):
            raise UsageError(
                f"{ref} has no layer that Ollama could run", hint="name a folder with --to"
            )

    def place_of(self, snapshot: Snapshot, file: ModelFile) -> Place:
        target = self._root / _name(snapshot, file)
        return Place(target, target, self._home.part_of(snapshot, file, target))

    def target_of(self, snapshot: Snapshot, file: ModelFile) -> str:
        return f"{self._root}/{_name(snapshot, file)}"

    def as_recorded(self, snapshot: Snapshot, files: Sequence[ModelFile]) -> Mapping[str, Place]:
        names = ((_name(snapshot, file), file) for file in files)
        found = unchanged(self._home.records, self._root, names)
        return {file.path: self.place_of(snapshot, file) for file in found}

    def look(self, snapshot: Snapshot, file: ModelFile) -> Standing:
        """Other bytes under a blob's name are damage; under a manifest's, somebody's model."""
        standing = super().look(snapshot, file)
        return replace(standing, named_by_content=file.path != MANIFEST_NAME)

    def place(
        self,
        snapshot: Snapshot,
        step: Step,
        observed: tuple[Digest, ...],
        *,
        tick: Callable[[int], None] | None = None,
    ) -> None:
        with disk_errors(step.target):
            if step.action is Action.LINK and step.source in {None, step.blob}:
                self._home.note(record_name(snapshot), snapshot, step, step.blob, observed)
                return
            if step.file.path != MANIFEST_NAME:
                super().place(snapshot, step, observed, tick=tick)
                return
            if step.action is Action.LINK:
                observed = self._home.linked_in(step, observed, tick=tick)
            self._pending[str(snapshot.ref)] = step, observed

    def finish(self, snapshot: Snapshot) -> None:
        """Publishes the manifest when everything that it names is there. Raises DiskError when
        something is not: nothing lists the model then, and running again goes on.
        """
        try:
            pending = self._pending.pop(str(snapshot.ref), None)
            if pending is not None:
                self._publish_manifest(snapshot, *pending)
        finally:
            super().finish(snapshot)

    def _publish_manifest(
        self, snapshot: Snapshot, step: Step, observed: tuple[Digest, ...]
    ) -> None:
        with disk_errors(step.part):
            manifest = read_manifest(step.part.read_bytes(), f"the manifest of {snapshot.ref}")
        self._refuse_holes(snapshot, manifest)
        replaces = step.action is Action.REPLACE
        with disk_errors(step.target):
            if replaces:
                refuse_other_than_file(self._root, step.target)
                why = f"replaced: {step.reason}"
                self._home.discard(step.target, keep_name=True, ref=str(snapshot.ref), why=why)
            self._home.publish(step.part, self._root, step.target, observed, over=replaces)
            self._home.note(record_name(snapshot), snapshot, step, step.target, observed)

    def _refuse_holes(self, snapshot: Snapshot, manifest: Manifest) -> None:
        for layer in manifest.layers:
            path = self._root / blob_name(layer.digest)
            try:
                size = path.lstat().st_size
            except OSError:
                size = -1
            if size != layer.size:
                raise DiskError(
                    f"{snapshot.ref} is not listed by Ollama yet: its {clean(layer.name)} is not "
                    f"in {clean(self._root / 'blobs')}",
                    hint="run the same command again; Ollama's daemon deletes blobs without a "
                    "manifest when it starts",
                )


def manifest_name(ref: ModelRef) -> str:
    """Where the manifest of `ref` lies below the store. Raises UsageError for a name that
    Ollama has not.
    """
    host, _, rest = ref.name.partition("/")
    repo, _, tag = rest.rpartition(":")
    words = (host, *repo.split("/"), tag)
    fits = len(words) == len(PARTS) and all(
        pattern.fullmatch(word) for pattern, word in zip(PARTS, words, strict=True)
    )
    if ref.source != "ollama" or not fits:
        raise UsageError(
            f"{ref} cannot go into Ollama's store, which holds models called "
            "host/namespace/model:tag",
            hint="name a folder with --to",
        )
    return f"manifests/{'/'.join(words)}"


def stored_name(file: str) -> SafeRelPath:
    """A name below a root as records have it: in Ollama's store a host keeps the colon before
    its port. Raises UnsafeName.
    """
    found = SafeRelPath.parse(file.replace(":", "_", 1) if file.startswith("manifests/") else file)
    return SafeRelPath(file) if file.startswith("manifests/") else found


def blob_name(digest: Digest) -> str:
    return f"blobs/sha256-{digest.hex}"


def _name(snapshot: Snapshot, file: ModelFile) -> str:
    if file.path == MANIFEST_NAME:
        return manifest_name(snapshot.ref)
    if file.sha256 is None:
        raise UsageError(
            f"{clean(file.path)} has no sha256, by which Ollama's store names its files",
            hint="name a folder with --to",
        )
    return blob_name(file.sha256)


def manifest_at(path: Path) -> Manifest | None:
    """The manifest that lies there; None where it cannot be read as one."""
    try:
        return read_manifest(path.read_bytes(), clean(path))
    except (OSError, ModelbayError):
        return None
