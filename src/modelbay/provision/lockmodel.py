"""One model of a lock, read."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final, cast

from modelbay.digest import Algorithm, Digest
from modelbay.errors import FormatError, ModelbayError, RefError, UnsafeName
from modelbay.library import folders
from modelbay.provision.lockfile import (
    FILE_FACTS,
    TABLES,
    LockedArchive,
    LockedModel,
    Place,
    table_of,
)
from modelbay.provision.lockrow import Row, shown
from modelbay.refs import check_address
from modelbay.safepath import SafeRelPath, refuse_clashes
from modelbay.snapshot import GateState, Licence, ModelFile
from modelbay.text import clean

_GATES: Final = ("no", "auto", "manual")
_VERDICTS: Final = ("allow", "deny")
_AUTH: Final = ("token_env", "header_env", "keyring")
_HASHES: Final[tuple[Algorithm, ...]] = ("git-sha1", "sha1", "blake3", "md5", "sha512")


def model_in(ident: str, row: Row) -> LockedModel:
    """The model that `row` is, its id taken out already. Raises FormatError."""
    tree_hash, size = row.text("tree-hash"), row.whole("size")
    licence, original, place = (
        row.table("license", needed=False),
        row.table("original"),
        row.table("place"),
    )
    source = original.text("source")
    table = _table(row, source)
    gated = row.text("gated") if row.has("gated") else "no"
    if gated not in _GATES:
        row.refuse(
            "gated", f"is {clean(gated, limit=80)!r}, one of {', '.join(_GATES)} was expected"
        )
    archives = tuple(_archive(one) for one in row.rows("archive"))
    files = _Files.of(row.rows("file"), {archive.file.path for archive in archives})
    files.check(row)
    model = LockedModel(
        ident,
        source,
        original.rest(),
        table,
        _place(place, row),
        tuple(sorted(files.files, key=lambda file: file.path)),
        files.names,
        _licence(licence),
        cast("GateState", gated),
        _auth(row),
        tuple(sorted(archives, key=lambda archive: archive.file.path)),
        files.members,
        row.rest(license=licence, place=place),
        files.more,
    )
    _check_whole(row, model, tree_hash, size)
    return model


def _check_whole(row: Row, model: LockedModel, tree_hash: str, size: int) -> None:
    with row.reading("original"):
        _ = model.pin
    found = model.tree_hash
    if tree_hash != found:
        row.refuse("tree-hash", f"is {clean(tree_hash, limit=80)}, that of its files is {found}")
    if size != model.size:
        row.refuse("size", f"is {size}, that of its files is {model.size}")


def _table(row: Row, source: str) -> Mapping[str, str]:
    """The one table that says what the model became."""
    wanted = table_of(source)
    there = [name for name in dict.fromkeys((*TABLES, wanted)) if row.has(name)]
    if there != [wanted]:
        found = " and ".join(there) or "none"
        row.refuse(
            there[-1] if there else None,
            f"{'is' if there else 'has'} {found}, exactly one table {clean(wanted, limit=80)} "
            "was expected",
        )
    table = row.table(wanted)
    values = table.rest()
    for key, value in values.items():
        if not isinstance(value, str) and type(value) is not int:
            table.refuse(key, "is no text")
    return {key: str(value) for key, value in values.items()}


def _licence(row: Row) -> Licence:
    found = Licence(row.maybe_text("spdx"), row.maybe_text("raw"))
    verdict = row.maybe_text("verdict")
    if verdict not in {None, *_VERDICTS}:
        row.refuse("verdict", f"is {clean(verdict, limit=80)!r}, allow or deny was expected")
    return found


def _auth(row: Row) -> Mapping[str, object]:
    """Names of variables and of keyring entries. A path or a value is refused."""
    table = row.table("auth", needed=False)
    values = table.rest()
    for key, value in values.items():
        named: Iterable[object] = value.values() if isinstance(value, dict) else [value]
        if key not in _AUTH or not all(isinstance(one, str) for one in named):
            table.refuse(
                key, "is nothing that a lock may say", "write token_env, header_env or keyring"
            )
    return values


def _place(row: Row, model: Row) -> Place:
    """Raises FormatError for a folder that no application keeps models in."""
    place = Place(
        row.text("layout"),
        row.maybe_text("ref"),
        row.maybe_text("dir"),
        row.maybe_text("folders"),
        row.maybe_text("category"),
    )
    with model.reading("place"):
        if place.layout == "folders":
            allowed = folders.application(place.folders or "").allows(place.dir or "")
            if not allowed:
                row.refuse(
                    "dir", f"is {clean(place.dir, limit=160)!r}, no folder of {place.folders}"
                )
        elif place.layout == "dir":
            folders.checked(place.dir or "")
        elif place.layout not in {"hf-cache", "ollama"}:
            row.refuse(
                "layout",
                f"is {clean(place.layout, limit=80)!r}, which is not in this version",
                "upgrade modelbay",
            )
    return place


class _Files:
    """The files of one model, and what a lock says of some of them."""

    def __init__(self) -> None:
        self.files: list[ModelFile] = []
        self.names: dict[str, SafeRelPath] = {}
        self.members: dict[str, str] = {}
        self.more: dict[str, Mapping[str, object]] = {}

    @classmethod
    def of(cls, rows: Iterable[Row], archives: Collection[str]) -> "_Files":
        self = cls()
        for row in rows:
            self._take(row, archives)
        return self

    def _take(self, row: Row, archives: Collection[str]) -> None:
        lfs = row.flag("lfs")
        file, more = _file(row, lfs=lfs)
        if row.has("name"):
            name = row.text("name")
            with row.reading("name"):
                self.names[file.path] = SafeRelPath.parse(name)
        if row.has("from"):
            archive = self.members[file.path] = row.text("from")
            if archive not in archives:
                row.refuse("from", f"is {clean(archive, limit=160)!r}, none of its archives")
        if rest := {**more, **row.rest()}:
            self.more[file.path] = rest
        self.files.append(file)

    def check(self, row: Row) -> None:
        """Raises FormatError for names that are one."""
        with row.reading("file"):
            refuse_clashes(file.path for file in self.files)
            if self.names:
                refuse_clashes(self.names.get(file.path, file.path) for file in self.files)


def _archive(row: Row) -> LockedArchive:
    file, more = _file(row, lfs=False)
    return LockedArchive(file, {**more, **row.rest()})


def _file(row: Row, *, lfs: bool) -> tuple[ModelFile, Mapping[str, object]]:
    """What was fetched, and the hashes of a newer revision. A lock may have ten thousand of
    these, so nothing here is done twice.
    """
    path, size, urls = row.text("path"), row.whole("size"), row.texts("urls")
    hashes = row.mapping("hashes")
    try:
        name = SafeRelPath.parse(path)
        digests: tuple[Digest, ...] = (Digest.sha256(_hex(hashes.pop("sha256", None))),)
        if hashes:
            others = (Digest(one, _hex(hashes.pop(one))) for one in _HASHES if one in hashes)
            digests = (*digests, *others)
        for url in urls:
            check_address(url)
    except ModelbayError as error:
        key = {UnsafeName: "path", RefError: "urls"}.get(type(error), "hashes")
        row.fail(key, error)
    more = {"hashes": hashes} if hashes else {}
    extra = {key: row.text(key) for key in FILE_FACTS if row.has(key)}
    return ModelFile(name, size, digests, lfs, extra=extra, urls=urls), more


def _hex(value: object) -> str:
    """Raises FormatError."""
    if not isinstance(value, str):
        raise FormatError(f"a sha256 was expected, and there is {shown(value)}")
    return value
