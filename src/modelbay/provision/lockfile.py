"""A lock, as values: what was asked for, what it became, and every file's digest."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from modelbay import __version__
from modelbay.digest import Digest, find
from modelbay.errors import FormatError
from modelbay.provision.pins import Pin, read_pin
from modelbay.refs import ModelRef
from modelbay.safepath import SafeRelPath
from modelbay.snapshot import ARCHIVE, GateState, Licence, ModelFile, Snapshot
from modelbay.text import clean

VERSION: Final = 1
"""Breaking: a lock of another one is not read."""
REVISION: Final = 0
"""Additive: of a newer one, the keys that nobody here knows are kept."""
CREATED_BY: Final = f"modelbay {__version__}"
TABLES: Final = (
    *("huggingface", "civitai", "ollama", "mlflow", "s3"),
    *("git", "url", "gdrive", "mock"),
)
"""The tables of which a model has exactly one."""
_REVISIONS: Final = (("commit",), ("revision",), ("version-id", "file-id"), ("manifest-digest",))
FILE_FACTS: Final = ("file-id", "resource-key")
"""What only a file's own source reads again, where its table cannot say it for every file."""
_TABLE_OF: Final = {"git-lfs": "git", "git-xet": "git", "oci": "ollama"}


def table_of(source: str) -> str:
    """The name of the table that a lock keeps for `source`."""
    return _TABLE_OF.get(source, source)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model goes on any machine: a layout, and what it needs to know.

    `folders` is the application, `dir` the folder as the category was mapped to it.
    """

    layout: str
    ref: str | None = None
    dir: str | None = None
    folders: str | None = None
    category: str | None = None


@dataclass(frozen=True, slots=True)
class LockedArchive:
    """What was fetched where the model's files are members of it."""

    file: ModelFile
    more: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LockedModel:
    """One model: what was asked for, what it became, and every file's digest."""

    id: str
    source: str
    original: Mapping[str, object]
    table: Mapping[str, str]
    place: Place
    files: tuple[ModelFile, ...]
    names: Mapping[str, SafeRelPath] = field(default_factory=dict)
    """Names inside the layout's folder, of files that have another one there."""
    licence: Licence = field(default_factory=Licence)
    gated: GateState = "no"
    auth: Mapping[str, object] = field(default_factory=dict)
    archives: tuple[LockedArchive, ...] = ()
    members: Mapping[str, str] = field(default_factory=dict)
    """Which archive a file is a member of, by its path."""
    more: Mapping[str, object] = field(default_factory=dict)
    """Keys of a newer revision, kept as they are."""
    more_of: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """The same of files, by their paths."""

    @property
    def size(self) -> int:
        return sum(file.size or 0 for file in self.files)

    @property
    def tree_hash(self) -> str:
        """sha256 over sorted `path NUL size NUL sha256 LF`."""
        rows = sorted((file.path, file.size or 0, sha256_of(file)) for file in self.files)
        text = "".join([f"{path}\0{size}\0{sha}\n" for path, size, sha in rows])
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    @property
    def pin(self) -> Pin | None:
        """The `hash` that was asked for. Raises FormatError."""
        text = self.original.get("hash")
        return None if text is None else read_pin(str(text))

    @property
    def printed_hash(self) -> str:
        """What `hash` may say of it: the sha256 of the one file that is fetched, or the
        tree-hash of several.
        """
        if len(self.archives) == 1:
            return f"sha256:{sha256_of(self.archives[0].file)}"
        return f"sha256:{sha256_of(self.files[0])}" if len(self.files) == 1 else self.tree_hash

    def check_pin(self) -> None:
        """Raises IntegrityError when these are not the bytes that were asked for."""
        pin = self.pin
        if pin is not None:
            pin.check(self.id, self.printed_hash)


@dataclass(frozen=True, slots=True)
class Lock:
    """A whole lock. Models are in the order of their ids."""

    models: tuple[LockedModel, ...]
    license_allow: tuple[str, ...] | None = None
    manifest_hash: str | None = None
    """Of the provision file that it was made from."""
    revision: int = REVISION
    created_by: str = CREATED_BY
    more: Mapping[str, object] = field(default_factory=dict)
    """Keys of a newer revision, kept as they are."""


def sha256_of(file: ModelFile) -> str:
    """Its sha256 in hex. Raises FormatError where nobody has read it yet."""
    digest: Digest | None = find(file.digests, "sha256")
    if digest is None:
        raise FormatError(
            f"{clean(file.path)} has no sha256, without which a lock is no lock",
            hint="fetch it first, then lock it",
        )
    return digest.hex


def _revision_in(table: Mapping[str, str]) -> str | None:
    """The revision that a source's table names, as the source itself writes it."""
    for keys in _REVISIONS:
        if all(key in table for key in keys):
            return "+".join(table[key] for key in keys)
    return None


def snapshot_of(model: LockedModel, ref: ModelRef) -> Snapshot:
    """The snapshot that a locked model is: its source was not asked (`fresh` is False)."""
    revision = _revision_in(model.table) or model.tree_hash[7:47]
    table = dict(model.table)
    if model.archives:
        table[ARCHIVE] = str(model.archives[0].file.path)
    return Snapshot(
        ref,
        revision,
        model.files,
        table,
        licence=model.licence,
        gated=model.gated,
        fresh=False,
    )
