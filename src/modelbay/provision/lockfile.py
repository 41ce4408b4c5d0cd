"""Locks: what was found, written so that the same lock is always the same bytes (formats.md §3)."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelbay import __version__
from modelbay.digest import Digest, find
from modelbay.errors import FormatError, ModelbayError
from modelbay.files import disk_errors
from modelbay.provision.entries import parsed
from modelbay.refs import ModelRef
from modelbay.safepath import SafeRelPath, refuse_clashes
from modelbay.snapshot import ModelFile, Snapshot
from modelbay.text import clean

VERSION: Final = 1
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model goes on any machine: a layout, and what it needs to know."""

    layout: str
    ref: str | None = None
    dir: str | None = None


@dataclass(frozen=True, slots=True)
class LockedModel:
    """One model: what was asked for, what it became, and every file's digest."""

    id: str
    source: str
    original: Mapping[str, object]
    table: Mapping[str, str]
    place: Place
    files: tuple[ModelFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size or 0 for file in self.files)

    @property
    def tree_hash(self) -> str:
        """sha256 over sorted `path NUL size NUL sha256 LF`."""
        rows = sorted((file.path, file.size or 0, _sha256(file)) for file in self.files)
        text = "".join(f"{path}\0{size}\0{sha}\n" for path, size, sha in rows)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _sha256(file: ModelFile) -> str:
    digest = find(file.digests, "sha256")
    if digest is None:
        raise FormatError(
            f"{clean(file.path)} has no sha256, without which a lock is no lock",
            hint="fetch it first: `modelbay lock` does so by itself",
        )
    return digest.hex


def written(models: Iterable[LockedModel]) -> bytes:
    """The canonical text: LF, sorted by id, then by path; no times, no paths, no secrets."""
    lines = [
        f"lock-version = {VERSION}",
        "revision = 0",
        f"created-by = {_value(f'modelbay {__version__}')}",
    ]
    for model in sorted(models, key=lambda model: model.id):
        lines += ["", "[[model]]", *_model_lines(model)]
        for file in sorted(model.files, key=lambda file: file.path):
            lines += ["", "  [[model.file]]", *_file_lines(file)]
    return ("\n".join(lines) + "\n").encode()


def _model_lines(model: LockedModel) -> list[str]:
    place = {"layout": model.place.layout, "ref": model.place.ref, "dir": model.place.dir}
    return [
        f"id = {_value(model.id)}",
        f"tree-hash = {_value(model.tree_hash)}",
        f"size = {model.size}",
        f"original = {_value({'source': model.source, **model.original})}",
        f"{model.source} = {_value(model.table)}",
        f"place = {_value({key: value for key, value in place.items() if value is not None})}",
    ]


def _file_lines(file: ModelFile) -> list[str]:
    hashes = {"sha256": _sha256(file)}
    git = find(file.digests, "git-sha1")
    if git is not None:
        hashes["git-sha1"] = git.hex
    lines = [
        f"  path = {_value(str(file.path))}",
        f"  size = {file.size}",
        f"  hashes = {_value(hashes)}",
    ]
    return [*lines, "  lfs = true"] if file.lfs else lines


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            return '"' + "".join(_escaped(c) for c in value) + '"'
        case Mapping():
            pairs = [f"{_key(key)} = {_value(value[key])}" for key in value]
            return "{ " + ", ".join(pairs) + " }" if pairs else "{}"
        case Sequence():
            return "[" + ", ".join(_value(one) for one in value) + "]"
    raise TypeError(f"a lock holds no {type(value).__name__}")


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return f"\\u{ord(character):04X}" if ord(character) < 32 or character == "\x7f" else character


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _value(key)


def read_lock(path: Path) -> tuple[LockedModel, ...]:
    """The models of a lock. Raises FormatError for everything that is not exactly one."""
    with disk_errors(path):
        document = parsed(path.read_bytes(), path)
    version = document.get("lock-version")
    if version != VERSION:
        raise FormatError(
            f"{clean(path)} is a lock of version {clean(version)}, this modelbay reads {VERSION}",
            hint="upgrade modelbay, or make the lock again with this one",
        )
    try:
        return tuple(_model(row) for row in document.get("model", []))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise FormatError(
            f"{clean(path)} is not a whole lock: {clean(error)} is missing or of another type",
            hint="take it from version control again, or make it again with `modelbay lock`",
        ) from error
    except ModelbayError as error:
        raise FormatError(f"{clean(path)}: {error}", hint=error.hint) from error


def _model(row: Mapping[str, Any]) -> LockedModel:
    original = dict(row["original"])
    source = original.pop("source")
    files = tuple(_file(file) for file in row["file"])
    refuse_clashes(file.path for file in files)
    place = row["place"]
    model = LockedModel(
        row["id"],
        source,
        original,
        {key: str(value) for key, value in row[source].items()},
        Place(place["layout"], place.get("ref"), place.get("dir")),
        files,
    )
    if (model.tree_hash, model.size) != (row["tree-hash"], row["size"]):
        raise FormatError(
            f"{clean(model.id)} was changed by hand: its files have another tree-hash or size",
            hint="take the lock from version control again",
        )
    return model


def _file(row: Mapping[str, Any]) -> ModelFile:
    hashes = row["hashes"]
    digests = [Digest.sha256(hashes["sha256"])]
    if "git-sha1" in hashes:
        digests.append(Digest("git-sha1", hashes["git-sha1"]))
    size = row["size"]
    if not isinstance(size, int) or size < 0:
        raise TypeError("size")
    lfs = row.get("lfs") is True
    return ModelFile(SafeRelPath.parse(row["path"]), size, tuple(digests), lfs)


def snapshot_of(model: LockedModel, ref: ModelRef) -> Snapshot:
    """The snapshot that a locked model is: its source was not asked (`fresh` is False)."""
    revision = model.table.get("commit") or model.table.get("revision") or model.tree_hash[7:47]
    return Snapshot(ref, revision, model.files, model.table, fresh=False)
