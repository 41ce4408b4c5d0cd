"""A source that somebody else wrote: models in folders of one file server.

It is installed as a package of its own, and uses what modelbay documents for sources.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from modelbay.digest import Digest
from modelbay.errors import FormatError, ModelNotFound, UsageError
from modelbay.location import Local, Location, Other
from modelbay.refs import ModelRef, RawRef
from modelbay.safepath import SafeRelPath
from modelbay.snapshot import Hit, ModelFile, Query, Snapshot
from modelbay.sources.base import Means, Option


class Shelf:
    """`shelf:///folder`. A file called `NAME.ref` says that NAME is another source's."""

    name = "shelf"
    schemes = ("shelf",)
    options: tuple[Option, ...] = (Option("folder", "where the model lies", required=True),)

    def __init__(self, means: Means) -> None:
        self._means = means

    def read_ref(self, raw: RawRef) -> ModelRef:
        return ModelRef(self.name, "shelf", quote(unquote(raw.body)))

    def recognise(self, text: str) -> ModelRef | None:
        return None

    def ref_of(self, keys: dict[str, object]) -> ModelRef:
        folder = keys.get("folder")
        if not isinstance(folder, str) or not folder.startswith("/"):
            raise UsageError(f"folder is {folder!r}", hint='write folder = "/srv/models/name"')
        return ModelRef(self.name, "shelf", quote(folder))

    def keys_of(self, ref: ModelRef) -> dict[str, object]:
        return {"folder": unquote(ref.name)}

    def ref_in(self, table: Mapping[str, str], asked: ModelRef) -> ModelRef:
        if "folder" not in table:
            raise FormatError(f"{asked} is locked to no folder", hint="make the lock again")
        return self.ref_of({"folder": table["folder"]})

    def search(self, query: Query) -> Iterator[Hit]:
        yield Hit(ModelRef(self.name, "shelf", f"/found/{quote(query.text)}"), query.text)

    def resolve(self, ref: ModelRef) -> Snapshot:
        folder = Path(unquote(ref.name))
        if not folder.is_dir():
            raise ModelNotFound(f"{folder} is not there", hint="mount the file server")
        files = tuple(_file(path, folder) for path in sorted(folder.iterdir()))
        return Snapshot(ref, "today", files, {"folder": str(folder)})

    def locate(self, snapshot: Snapshot, file: ModelFile) -> Location:
        path = Path(snapshot.table["folder"]) / file.path
        other = path.with_name(f"{path.name}.ref")
        if other.exists():
            scheme, _, name = other.read_text().strip().partition("://")
            return Other(ModelRef("mock", scheme, name, path=path.name))
        return Local(path)


def _file(path: Path, folder: Path) -> ModelFile:
    if path.suffix == ".ref":
        return ModelFile(SafeRelPath.parse(path.stem))
    digest = Digest.sha256(hashlib.sha256(path.read_bytes()).hexdigest())
    name = SafeRelPath.parse(path.relative_to(folder).as_posix())
    return ModelFile(name, path.stat().st_size, (digest,))
