"""Locks: what was found, written so that the same lock is always the same bytes (formats.md §3)."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from modelbay import __version__
from modelbay.digest import Digest, find
from modelbay.errors import FormatError, ModelbayError
from modelbay.files import disk_errors
from modelbay.library import folders
from modelbay.provision.canonical import toml
from modelbay.provision.pins import Pin, read_pin
from modelbay.provision.reading import Written
from modelbay.refs import ModelRef
from modelbay.safepath import SafeRelPath, refuse_clashes
from modelbay.snapshot import GateState, Licence, ModelFile, Snapshot
from modelbay.text import clean

VERSION: Final = 1
_LARGEST: Final = 256 << 20
_GATES: Final = ("no", "auto", "manual")


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

    @property
    def size(self) -> int:
        return sum(file.size or 0 for file in self.files)

    @property
    def tree_hash(self) -> str:
        """sha256 over sorted `path NUL size NUL sha256 LF`."""
        rows = sorted((file.path, file.size or 0, _sha256(file)) for file in self.files)
        text = "".join(f"{path}\0{size}\0{sha}\n" for path, size, sha in rows)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    @property
    def pin(self) -> Pin | None:
        """The `hash` that was asked for. Raises FormatError."""
        text = self.original.get("hash")
        return None if text is None else read_pin(str(text))

    def check_pin(self) -> None:
        """Raises IntegrityError when these are not the bytes that were asked for: the one
        file's sha256, or the tree-hash of several.
        """
        pin = self.pin
        if pin is not None:
            only = self.files[0] if len(self.files) == 1 else None
            pin.check(self.id, f"sha256:{_sha256(only)}" if only else self.tree_hash)


@dataclass(frozen=True, slots=True)
class Lock:
    """A whole lock."""

    models: tuple[LockedModel, ...]
    license_allow: tuple[str, ...] | None = None
    manifest_hash: str | None = None
    """Of the provision file that it was made from."""


def _sha256(file: ModelFile) -> str:
    digest = find(file.digests, "sha256")
    if digest is None:
        raise FormatError(
            f"{clean(file.path)} has no sha256, without which a lock is no lock",
            hint="fetch it first, then lock it",
        )
    return digest.hex


def written(lock: Lock) -> bytes:
    """The canonical text: LF, sorted by id, then by path; no times, no paths, no secrets."""
    lines = [
        f"lock-version = {VERSION}",
        "revision = 0",
        f"created-by = {toml(f'modelbay {__version__}')}",
    ]
    if lock.manifest_hash is not None:
        lines.append(f"manifest-hash = {toml(lock.manifest_hash)}")
    if lock.license_allow is not None:
        lines.append(f"policy = {toml({'license_allow': lock.license_allow})}")
    for model in sorted(lock.models, key=lambda model: model.id):
        lines += ["", "[[model]]", *_model_lines(model, judged=lock.license_allow is not None)]
        for file in sorted(model.files, key=lambda file: file.path):
            lines += ["", "  [[model.file]]", *_file_lines(file, model.names.get(file.path))]
    return ("\n".join(lines) + "\n").encode()


def _model_lines(model: LockedModel, *, judged: bool) -> list[str]:
    spdx, raw = model.licence.spdx, model.licence.raw
    licence = {"spdx": spdx, "raw": raw, "verdict": "allow" if judged else None}
    place = model.place
    places = {
        "layout": place.layout,
        "folders": place.folders,
        "category": place.category,
        "ref": place.ref,
        "dir": place.dir,
    }
    return [
        f"id = {toml(model.id)}",
        f"tree-hash = {toml(model.tree_hash)}",
        f"size = {model.size}",
        *([f"license = {toml(_told(licence))}"] if _told(licence) else []),
        f"gated = {toml(model.gated)}",
        f"original = {toml({'source': model.source, **model.original})}",
        f"{model.source} = {toml(model.table)}",
        *([f"auth = {toml(model.auth)}"] if model.auth else []),
        f"place = {toml(_told(places))}",
    ]


def _told(table: Mapping[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in table.items() if value is not None}


def _file_lines(file: ModelFile, name: str | None) -> list[str]:
    hashes = {"sha256": _sha256(file)}
    git = find(file.digests, "git-sha1")
    if git is not None:
        hashes["git-sha1"] = git.hex
    return [
        f"  path = {toml(str(file.path))}",
        *([f"  name = {toml(str(name))}"] if name is not None else []),
        f"  size = {file.size}",
        f"  hashes = {toml(hashes)}",
        *(["  lfs = true"] if file.lfs else []),
    ]


def read_lock(path: Path) -> Lock:
    """A lock. Raises FormatError for everything that is not exactly one, DiskError."""
    with disk_errors(path):
        document = Written.read(path, largest=_LARGEST).document
    version = document.get("lock-version")
    if version != VERSION:
        raise FormatError(
            f"{clean(path)} is a lock of version {clean(version)}, this modelbay reads {VERSION}",
            hint="upgrade modelbay, or make the lock again with this one",
        )
    try:
        return Lock(
            tuple(_model(row) for row in document.get("model", [])),
            _policy(document.get("policy", {})),
            document.get("manifest-hash"),
        )
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise FormatError(
            f"{clean(path)} is not a whole lock: {clean(error)} is missing or of another type",
            hint="take it from version control again, or make it again from its provision file",
        ) from error
    except ModelbayError as error:
        raise FormatError(f"{clean(path)}: {error}", hint=error.hint) from error


def _policy(table: Mapping[str, Any]) -> tuple[str, ...] | None:
    allow = table.get("license_allow")
    if allow is None:
        return None
    return tuple(_text(name, "license_allow") for name in _listed(allow, "license_allow"))


def _listed(value: object, name: str) -> Sequence[object]:
    if not isinstance(value, list):
        raise TypeError(name)
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(name)
    return value


def _model(row: Mapping[str, Any]) -> LockedModel:
    original = dict(row["original"])
    source = _text(original.pop("source"), "original.source")
    rows = [(_file(file), file.get("name")) for file in row["file"]]
    names: dict[str, SafeRelPath] = {
        file.path: SafeRelPath.parse(name) for file, name in rows if name is not None
    }
    refuse_clashes(names.get(file.path, file.path) for file, _ in rows)
    refuse_clashes(file.path for file, _ in rows)
    if row.get("gated", "no") not in _GATES:
        raise TypeError("gated")
    model = LockedModel(
        _text(row["id"], "id"),
        source,
        original,
        {key: str(value) for key, value in row[source].items()},
        _place(row["place"]),
        tuple(file for file, _ in rows),
        names,
        _licence(row.get("license", {})),
        cast("GateState", row.get("gated", "no")),
        dict(row.get("auth", {})),
    )
    if (model.tree_hash, model.size) != (row["tree-hash"], row["size"]):
        raise FormatError(
            f"{clean(model.id)} was changed by hand: its files have another tree-hash or size",
            hint="take the lock from version control again",
        )
    return model


def _licence(table: Mapping[str, Any]) -> Licence:
    spdx, raw = table.get("spdx"), table.get("raw")
    return Licence(
        None if spdx is None else _text(spdx, "license.spdx"),
        None if raw is None else _text(raw, "license.raw"),
    )


def _place(table: Mapping[str, Any]) -> Place:
    """Raises FormatError for a folder that no application keeps models in."""
    given = {key: _text(value, f"place.{key}") for key, value in table.items()}
    place = Place(
        given["layout"],
        given.get("ref"),
        given.get("dir"),
        given.get("folders"),
        given.get("category"),
    )
    if place.layout == "folders":
        if not folders.application(given["folders"]).allows(given["dir"]):
            raise FormatError(
                f"{clean(given['dir'], limit=160)!r} is no folder of {place.folders}",
                hint="take the lock from version control again",
            )
    elif place.layout == "dir":
        folders.checked(given["dir"])
    elif place.layout != "hf-cache":
        raise FormatError(
            f"the layout {clean(place.layout, limit=80)!r} is not in this version",
            hint="upgrade modelbay",
        )
    return place


def _file(row: Mapping[str, Any]) -> ModelFile:
    hashes = row["hashes"]
    digests = [Digest.sha256(hashes["sha256"])]
    if "git-sha1" in hashes:
        digests.append(Digest("git-sha1", hashes["git-sha1"]))
    size = row["size"]
    if type(size) is not int or size < 0:
        raise TypeError("size")
    lfs = row.get("lfs") is True
    return ModelFile(SafeRelPath.parse(row["path"]), size, tuple(digests), lfs)


def snapshot_of(model: LockedModel, ref: ModelRef) -> Snapshot:
    """The snapshot that a locked model is: its source was not asked (`fresh` is False)."""
    revision = model.table.get("commit") or model.table.get("revision") or model.tree_hash[7:47]
    return Snapshot(
        ref,
        revision,
        model.files,
        model.table,
        licence=model.licence,
        gated=model.gated,
        fresh=False,
    )
