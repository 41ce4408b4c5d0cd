"""A provision file, whole."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from modelbay.errors import UnsafeName, UsageError
from modelbay.library import folders
from modelbay.provision.entries import entries_of
from modelbay.provision.entry import Entry, Later, twin_key
from modelbay.provision.factories import Known, Sources
from modelbay.provision.reading import Written, meant
from modelbay.safepath import SafeRelPath
from modelbay.text import clean

_TOP: Final = ("folders", "license_allow", "sources", "categories", "models")
_ELSEWHERE: Final = ("workspace", "root", "endpoints")


@dataclass(frozen=True, slots=True)
class Provision:
    """A provision file, whole. Entries are in the order of their ids."""

    entries: tuple[Entry, ...]
    folders: str | None
    license_allow: tuple[str, ...] | None
    categories: Mapping[str, str]
    manifest_hash: str
    later: tuple[Later, ...] = ()
    later_where: str = ""
    """`file:line:column` of the first of `later`."""
    notes: tuple[str, ...] = ()
    """Sentences for the person: categories that nobody knows, what a lock cannot carry."""

    def refuse_later(self) -> None:
        """Raises UsageError naming every entry whose source is not in this version."""
        if not self.later:
            return
        several = [f"{clean(one.id)} ({one.source})" for one in self.later]
        verb = "ask for sources" if len(several) > 1 else "asks for a source"
        raise UsageError(
            f"{self.later_where}: {', '.join(several)} {verb} that this version does not have",
            hint="take those entries out, or put them into a file of their own",
        )


def read_provision(path: Path, known: Known) -> Provision:
    """The provision file at `path`. Raises FormatError with file, line and column for whatever
    cannot be understood, and DiskError.
    """
    return provision_of(Written.read(path), known)


def provision_of(written: Written, known: Known) -> Provision:
    """The provision file that `written` is. Raises as `read_provision`."""
    document = written.document
    _refuse_unknown(written)
    categories = _categories(written)
    found = list(entries_of(written, Sources.of(written, known)))
    later = sorted((e for e in found if isinstance(e, Later)), key=lambda one: one.id)
    entries = sorted((e for e in found if isinstance(e, Entry)), key=lambda entry: entry.id)
    _refuse_twins(written, [one.id for one in found])
    notes = [*_strange_categories(written, categories)]
    notes += [note for entry in entries for note in entry.notes]
    return Provision(
        tuple(entries),
        _folders(written),
        _licences(written),
        categories,
        manifest_hash(document),
        tuple(later),
        written.where("models", *later[0].id.split("/", 1)) if later else "",
        tuple(notes),
    )


def manifest_hash(document: Mapping[str, Any]) -> str:
    """The same for every way of writing the same document."""
    text = json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str
    )
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _refuse_unknown(written: Written) -> None:
    for name in written.document:
        if name in _ELSEWHERE:
            written.refuse(
                (name,),
                f"{name} does not belong into a provision file",
                "it is this machine's: put it on the command line or into the settings",
            )
        if name not in _TOP:
            written.refuse(
                (name,),
                f"nobody knows the key {clean(name, limit=80)!r}",
                meant(name, _TOP, "the keys of a provision file are " + ", ".join(_TOP)),
            )


def _folders(written: Written) -> str | None:
    name = written.document.get("folders")
    if name is None:
        return None
    if name not in folders.NAMES:
        written.refuse(
            ("folders",),
            f"folders is {clean(repr(name), limit=80)}, which is no application",
            meant(str(name), folders.NAMES, "write one of " + ", ".join(folders.NAMES)),
        )
    return str(name)


def _licences(written: Written) -> tuple[str, ...] | None:
    allow = written.document.get("license_allow")
    if allow is None:
        return None
    if not isinstance(allow, list) or not all(isinstance(one, str) for one in allow):
        written.refuse(
            ("license_allow",),
            "license_allow is not a list of SPDX ids",
            'write license_allow = ["apache-2.0", "mit"]',
        )
    return tuple(allow)


def _categories(written: Written) -> Mapping[str, str]:
    table = written.document.get("categories", {})
    if not isinstance(table, dict):
        written.refuse(
            ("categories",), "categories is not a table", 'write [categories], name = "folder"'
        )
    for name, folder in table.items():
        try:
            SafeRelPath.parse(folder if isinstance(folder, str) else "")
        except UnsafeName:
            written.refuse(
                ("categories", name),
                f"the category {clean(name, limit=80)} goes to {clean(repr(folder), limit=80)}, "
                "which is no folder below the models",
                'write it as "folder" or "folder/inside"',
            )
    return MappingProxyType(table)


def _refuse_twins(written: Written, idents: list[str]) -> None:
    """Raises FormatError when two ids are one after aliases and case folding."""
    seen: dict[str, str] = {}
    for ident in idents:
        same = twin_key(ident)
        if same in seen:
            here = ("models", *ident.split("/", 1))
            first = ("models", *seen[same].split("/", 1))
            written.refuse(
                here,
                f"{clean(ident)} is the same model name as {clean(seen[same])} "
                f"(line {written.line(*first)})",
                "give one of them another name",
            )
        seen[same] = ident


def _strange_categories(written: Written, more: Mapping[str, str]) -> Iterator[str]:
    for category in written.document["models"]:
        near = folders.near_category(category, list(more))
        if near is not None:
            yield (
                f"{written.where('models', category)}: nobody knows the category "
                f"{clean(category, limit=80)!r}, did you mean {near!r}? "
                "It gets a folder of its own name"
            )
