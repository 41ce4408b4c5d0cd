"""Models made up on the spot, the same on every machine: for tests, demos and dry runs."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from modelbay.digest import Digest
from modelbay.errors import (
    FileNotFound,
    FormatError,
    NoSearch,
    RefError,
    RevisionNotFound,
    UsageError,
)
from modelbay.location import OpenAt, Stream
from modelbay.refs import ModelRef, RawRef, checked_part, checked_path, split
from modelbay.safepath import SafeRelPath, refuse_clashes
from modelbay.snapshot import Hit, Licence, ModelFile, Query, Snapshot
from modelbay.sources.base import Means, Option
from modelbay.text import clean

_BLOCK = 1 << 20
_LARGEST_CLAIMED = 256 << 20
"""Bytes up to which a digest is claimed: beyond, naming a model would take seconds."""
_DEFAULT_SIZES: Final = {"config.json": 512, "tokenizer.json": 4096, "model.safetensors": 65536}
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,96}")
_CONTENT = re.compile(r"random:(\d{1,14}):([A-Za-z0-9_.-]{1,64})")
_HEADER_ROOM = 128


@dataclass(frozen=True, slots=True)
class _Made:
    """What decides every byte of one file."""

    seed: str
    path: str
    size: int


class Mock:
    """Implements `Source`: `mock://org/model[@sha][?files=a,b][&content=random:SIZE:SEED]`.

    With `files` alone those files are empty; with neither there are three small ones.
    """

    name = "mock"
    schemes = ("mock",)
    options: tuple[Option, ...] = (
        Option("org", "the first half of the name"),
        Option("model", "the second half of the name"),
        Option("files", "names of the files", type="list"),
        Option("commit_sha", "the revision it pretends to be"),
        Option("content", "random:SIZE:SEED fills every file"),
    )

    def __init__(self, means: Means) -> None:
        self._means = means

    def read_ref(self, raw: RawRef) -> ModelRef:
        parts = raw.body.split("/")
        model, at, revision = parts[1].partition("@") if len(parts) > 1 else ("", "", "")
        if not (_NAME.fullmatch(parts[0]) and _NAME.fullmatch(model)):
            raise RefError(
                f"{clean(raw.text, limit=200)!r} names no mock model",
                hint="write it as mock://org/model",
            )
        return ModelRef(
            source=self.name,
            scheme="mock",
            name=f"{parts[0]}/{model}",
            revision=checked_part(revision, "revision", raw.text) if at else None,
            path=checked_path(parts[2:], raw.text),
            options=_checked_options(raw),
        )

    def recognise(self, text: str) -> ModelRef | None:  # noqa: ARG002
        return None

    def ref_of(self, keys: dict[str, object]) -> ModelRef:
        files = keys.get("files")
        if files is not None and not isinstance(files, list):
            raise UsageError(
                f"files of a mock is {clean(files, limit=100)!r}",
                hint='write files = ["config.json"]',
            )
        options = [("files", ",".join(map(str, files)))] if files else []
        if keys.get("content") is not None:
            options.append(("content", str(keys["content"])))
        org, model = str(keys.get("org", "test-org")), str(keys.get("model", "test-model"))
        _check_keys(org, model, files or [])
        body = f"{org}/{model}"
        raw = RawRef("mock", slashes=True, body=body, options=tuple(options), text=body)
        sha = keys.get("commit_sha")
        return self.read_ref(raw).at(None if sha is None else str(sha))

    def keys_of(self, ref: ModelRef) -> dict[str, object]:
        org, _, model = ref.name.partition("/")
        told = {"org": org, "model": model, "commit_sha": ref.revision}
        keys: dict[str, object] = {key: value for key, value in told.items() if value is not None}
        if files := ref.option("files"):
            keys["files"] = files.split(",")
        return keys | {key: value for key, value in ref.options if key == "content"}

    def ref_in(self, table: Mapping[str, str], asked: ModelRef) -> ModelRef:
        raw = split(table.get("ref", str(asked)))
        if raw is None or raw.scheme not in self.schemes:
            raise FormatError(
                f"{asked} is locked to {clean(table.get('ref'), limit=200)!r}, which is no mock",
                hint="make the lock again from its provision file",
            )
        return self.read_ref(raw).at(asked.revision)

    def search(self, query: Query) -> Iterator[Hit]:
        raise NoSearch(
            f"mock models cannot be searched for {clean(query.text, limit=100)!r}",
            hint="name one: mock://org/model",
        )

    def resolve(self, ref: ModelRef) -> Snapshot:
        commit = hashlib.sha1(str(ref.at(None)).encode(), usedforsecurity=False).hexdigest()
        if ref.revision is not None and re.fullmatch(r"[0-9A-Za-z]{6,64}", ref.revision):
            commit = ref.revision
        elif ref.revision not in {None, "main"}:
            raise RevisionNotFound(
                f"{ref.at(None)} has no revision {clean(ref.revision, limit=100)!r}",
                hint="write 40 hexadecimal digits, or leave the revision out",
            )
        files = tuple(_file(made) for made in _files(ref))
        refuse_clashes(file.path for file in files)
        return Snapshot(
            ref=ref,
            revision=commit,
            files=tuple(sorted(files, key=lambda file: file.path)),
            table={"ref": str(ref.at(None)), "commit": commit},
            licence=Licence("MIT", "mit"),
        )

    def locate(self, snapshot: Snapshot, file: ModelFile) -> Stream:
        for made in _files(snapshot.ref):
            if made.path == file.path:
                return Stream(_opener(made))
        raise FileNotFound(
            f"{snapshot.ref} makes no file {clean(file.path)!r}",
            hint=f"see its files with `modelbay show {snapshot.ref}`",
        )


def _check_keys(org: str, model: str, files: list[object]) -> None:
    """Raises UsageError for what its ref could not say."""
    for key, value in (("org", org), ("model", model)):
        if not _NAME.fullmatch(value):
            raise UsageError(
                f"{key} of a mock is {clean(value, limit=100)!r}, one plain name was expected",
                hint="write letters, digits, . _ and -",
            )
    for name in files:
        if "," in str(name):
            raise UsageError(
                f"a mock is to make the file {clean(name, limit=100)!r}, and a comma parts names",
                hint="leave the comma out",
            )


def _checked_options(raw: RawRef) -> tuple[tuple[str, str], ...]:
    for key, value in raw.options:
        if key not in {"files", "content"} or (key == "content" and not _CONTENT.fullmatch(value)):
            raise RefError(
                f"{clean(raw.text, limit=200)!r} has {clean(key)}={clean(value, limit=100)!r}",
                hint="write ?files=a.json,b.json and &content=random:SIZE:SEED, SIZE in bytes",
            )
    return tuple(sorted(raw.options))


def _files(ref: ModelRef) -> list[_Made]:
    named, content = ref.option("files"), ref.option("content")
    names = named.split(",") if named else list(_DEFAULT_SIZES)
    if content is not None and (asked := _CONTENT.fullmatch(content)):
        return [_Made(asked[2], name, int(asked[1])) for name in names]
    if named:
        return [_Made("", name, 0) for name in names]
    return [_Made(ref.name, name, size) for name, size in _DEFAULT_SIZES.items()]


def _file(made: _Made) -> ModelFile:
    claimed = made.size <= _LARGEST_CLAIMED
    return ModelFile(
        path=SafeRelPath.parse(made.path),
        size=made.size,
        digests=(_sha256(made),) if claimed else (),
    )


@lru_cache(maxsize=256)
def _sha256(made: _Made) -> Digest:
    whole = hashlib.sha256()
    for block in _opener(made)(0):
        whole.update(block)
    return Digest.sha256(whole.hexdigest())


def _opener(made: _Made) -> OpenAt:
    head = _head(made)

    def read(offset: int) -> Iterator[bytes]:
        while offset < made.size:
            number, start = divmod(offset, _BLOCK)
            block = _block(made, number)[start : made.size - number * _BLOCK]
            if offset < len(head):
                block = head[offset:] + block[len(head) - offset :]
            yield block
            offset += len(block)

    return read


def _block(made: _Made, number: int) -> bytes:
    if made.path.endswith(".json"):
        return b" " * _BLOCK
    seed = f"{made.seed}\0{made.path}\0{number}".encode()
    return hashlib.shake_128(seed).digest(_BLOCK)


def _head(made: _Made) -> bytes:
    """What the first bytes of such a file must be, so that it passes inspection."""
    if made.path.endswith(".safetensors"):
        head = _safetensors_head(made.size)
    elif made.path.endswith(".gguf"):
        head = b"GGUF" + (3).to_bytes(4, "little") + bytes(16)
    elif made.path.endswith(".json"):
        head = json.dumps({"mock": made.path, "seed": made.seed}).encode()
        head = head if len(head) <= made.size else b"{}"
    else:
        head = b""
    return head if len(head) <= made.size else b""


def _safetensors_head(size: int) -> bytes:
    """A header for one tensor of bytes that fills the file, padded to its fixed room."""
    length = max(0, size - 8 - _HEADER_ROOM)
    tensor = {"dtype": "U8", "shape": [length], "data_offsets": [0, length]}
    text = json.dumps({"weight": tensor}).encode().ljust(_HEADER_ROOM)
    return len(text).to_bytes(8, "little") + text
