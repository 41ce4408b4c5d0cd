"""Models of the library, written down: as entries, as locked models, as sums."""

import os
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from modelbay.bay import locking
from modelbay.bay.session import Session
from modelbay.config.editing import rendered, shown, with_table, with_value
from modelbay.digest import find
from modelbay.errors import UsageError
from modelbay.library.folders import Application, application
from modelbay.library.index import IndexedFile, IndexedModel
from modelbay.library.records import Record, records_in
from modelbay.provision import Lock, LockedModel, read_provision, written
from modelbay.provision.describing import (
    Described,
    Lying,
    category_of,
    dir_below,
    file_keys,
    keys_of_place,
    labelled,
)
from modelbay.provision.entry import Entry
from modelbay.provision.making import locked, wanted
from modelbay.refs import ModelRef
from modelbay.safepath import SafeRelPath
from modelbay.snapshot import Licence, ModelFile, Snapshot
from modelbay.sources.base import Source
from modelbay.text import clean


@dataclass(slots=True)
class There:
    """One model of the library in one place, with those of its files that are there."""

    model: IndexedModel
    files: dict[str, IndexedFile]
    ident: str = ""
    """The id that it got among the entries."""


@dataclass(slots=True)
class Held(There):
    """One whose source this version knows, so that an entry can ask for it."""

    ref: ModelRef = field(kw_only=True)
    unpacked: bool = field(default=False, kw_only=True)
    """Its files are members of an archive, which is what can be asked for."""

    @property
    def lying(self) -> Lying:
        places = {name: file.path for name, file in self.files.items()}
        ident = self.model.model if self.model.named else None
        return Lying(self.ref.name, self.model.layout, self.model.root, places, ident)


def describe(session: Session, held: Sequence[Held], *, pinned: bool) -> Described:
    """An entry for each of `held`, which get their ids; `pinned` to the revision that is here.
    Raises UsageError where they lie in the folders of two applications.
    """
    found = Described(folders=_application_of(session, held))
    for one in held:
        keys = _keys(session, one, pinned=pinned)
        category, name = labelled(one.lying)
        if one.model.layout == "folders":
            app = application(found.folders or "")
            models, more = session.models_root(app).resolve(), session.settings.categories
            category, name, needed = category_of(one.lying, models, app, more)
            found.categories.update(needed)
        elif one.model.layout == "dir" and dir_below(one.model.root, session.workspace) is None:
            found.notes.append(
                f"{clean(one.model.ref)} lies in {clean(one.model.root)}, outside the workspace: "
                f"from this file it will go to {clean(keys['dir'])} below it"
            )
        one.ident = found.add(one.lying.ident or f"{category}/{name}", keys)
    return found


def _keys(session: Session, held: Held, *, pinned: bool) -> dict[str, object]:
    source: Source = session.sources.get(held.ref.source)
    ref = held.ref.at(held.model.revision) if pinned else held.ref
    keys: dict[str, object] = {"source": held.ref.source, **source.keys_of(ref)}
    if {"file", "files"} <= {option.name for option in source.options}:
        keys |= file_keys(held.files)
    keys |= keys_of_place(held.lying, session.workspace)
    if held.unpacked:
        keys.pop("filename", None)
        return {**keys, "extract": True}
    only = next(iter(held.files.values())) if len(held.files) == 1 else None
    digest = find(only.digests, "sha256") if only is not None else None
    unpinned = pinned and source.ref_of(dict(keys)).revision is None
    if unpinned and digest is not None and digest.observed:
        keys["hash"] = str(digest)
    return keys


def _application_of(session: Session, held: Iterable[Held]) -> str | None:
    homes = session.index.homes()
    found: dict[str, Held] = {}
    for one in held:
        if one.model.layout == "folders":
            bases = [home for home in homes if one.model.root.is_relative_to(home.base)]
            known = max(bases, key=lambda home: len(home.base.parts), default=None)
            name = known.application if known is not None else None
            found.setdefault(name or session.settings.folders, one)
    if len(found) > 1:
        places = " and ".join(f"{clean(o.model.ref)} ({name})" for name, o in found.items())
        raise UsageError(
            f"a provision file is for one application, and models lie for several: {places}",
            hint="name the models of one of them: `modelbay export FILE REF...`",
        )
    return next(iter(found), None)


def provision_text(described: Described) -> str:
    """A provision file of its own."""
    blocks = []
    if described.folders is not None:
        blocks.append(f"folders = {rendered(described.folders)}\n")
    if described.categories:
        blocks.append(_block(("categories",), described.categories))
    for ident, keys in sorted(described.entries.items()):
        blocks.append(_block(("models", *ident.split("/", 1)), keys))
    return "\n".join(blocks)


def _block(keys: tuple[str, ...], table: Mapping[str, object]) -> str:
    lines = [f"{shown((key,))} = {rendered(value)}" for key, value in table.items()]
    return "\n".join([f"[{shown(keys)}]", *lines]) + "\n"


_CHOOSING = ("file", "files", "include", "exclude", "variant")


def merged(text: str, file: Path, described: Described) -> str:
    """The provision file `text` with what it lacks of `described`. How a person chose files
    of an entry that is there stays. Raises UsageError where the two cannot be one.
    """
    document = tomllib.loads(text)
    _refuse_other(document, file, described)
    if described.folders is not None and "folders" not in document:
        text = with_value(text, ("folders",), described.folders)
    for word, folder in described.categories.items():
        text = with_value(text, ("categories", word), folder)
    for ident, keys in sorted(described.entries.items()):
        category, name = ident.split("/", 1)
        at = ("models", category, name)
        there = document.get("models", {}).get(category, {}).get(name)
        if there is None:
            text = with_table(text, at, keys)
        elif isinstance(there, dict) and there.get("source", keys["source"]) == keys["source"]:
            chosen = any(key in there for key in _CHOOSING)
            for key, value in keys.items():
                if there.get(key) != value and not (chosen and key in _CHOOSING):
                    text = with_value(text, (*at, key), value)
    return text


def _refuse_other(document: Mapping[str, object], file: Path, described: Described) -> None:
    if "lock-version" in document:
        raise UsageError(
            f"{clean(file)} is a lock, a provision file was expected",
            hint="`modelbay export --lock --replace FILE` writes a lock anew",
        )
    named = document.get("folders", described.folders)
    if described.folders is not None and named != described.folders:
        raise UsageError(
            f"{clean(file)} is for {clean(named)}, and these models lie for {described.folders}",
            hint="name another file, or the models of one application",
        )


def lock_text(session: Session, held: Sequence[Held], described: Described) -> bytes:
    """A lock of `held`, whose files were all read. Raises FormatError, NetworkError where a
    source has to be asked.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "export.toml"
        asked.write_text(provision_text(described))
        provision = read_provision(asked, locking.known(session))
    entries = {entry.id: entry for entry in provision.entries}
    app = application(provision.folders or session.settings.folders)
    records = Tables()
    models = [
        _locked(session, one, entries[one.ident], app, provision.categories, records)
        for one in held
    ]
    return written(Lock(tuple(models)))


def _locked(
    session: Session,
    held: Held,
    entry: Entry,
    app: Application,
    categories: Mapping[str, str],
    records: "Tables",
) -> LockedModel:
    in_cache = held.model.layout == "hf-cache"
    listed = tuple(
        ModelFile(
            SafeRelPath.parse(name),
            file.size,
            file.digests,
            lfs=in_cache and find(file.digests, "git-sha1") is None,
        )
        for name, file in sorted(held.files.items())
    )
    table = records.of(held)
    if table is None:
        snapshot = session.sources.resolve(held.ref.at(held.model.revision))
        snapshot = replace(snapshot, ref=held.ref, files=listed)
    else:
        licence = Licence(held.model.licence)
        revision = held.model.revision
        snapshot = Snapshot(held.ref, revision, listed, table, licence=licence, fresh=False)
    more = {**session.settings.categories, **categories}
    return locked(wanted(entry, snapshot, path=None, application=app, categories=more), {})


class Tables:
    """What records tell that a lock writes under the source's name."""

    def __init__(self) -> None:
        self._records: dict[Path, list[Record]] = {}

    def of(self, held: Held) -> Mapping[str, str] | None:
        """None where modelbay did not put the model there."""
        path = next(iter(held.files.values())).path
        for base in path.parents:
            if not (base / ".modelbay" / "meta").is_dir():
                continue
            if base not in self._records:
                self._records[base] = list(records_in(base))
            for record in self._records[base]:
                if record.ref == held.model.ref and record.table:
                    return _at(record, held.model.revision)
            return None
        return None


def _at(record: Record, revision: str) -> Mapping[str, str]:
    """Its table at another revision that the record has files of."""
    same = record.revision
    return {key: revision if value == same else value for key, value in record.table.items()}


def sums_of(held: Iterable[There], folder: Path) -> Iterator[bytes]:
    """Lines as coreutils' sha256sum writes them, paths from `folder` where they lie below it.
    A name with a backslash or a line break is escaped, and its line begins with a backslash.
    """
    base = folder.resolve()
    paths = {file.path: file for one in held for file in one.files.values()}
    for path in sorted(paths):
        digest = find(paths[path].digests, "sha256")
        if digest is None:
            continue
        near = path.relative_to(base) if path.is_relative_to(base) else path
        name = os.fsencode(near)
        escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
        mark = b"\\" if escaped != name else b""
        yield mark + digest.hex.encode() + b"  " + escaped + b"\n"
