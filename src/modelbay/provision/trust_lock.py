"""What a lock that is not trusted may not say, besides what no provision file may.

A lock answers in place of the sources: it could give one model's name to another's bytes. So
its licences are no proof, each model has one source and goes where its category says, and its
alternates are that source's own.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from modelbay.config.position import tables
from modelbay.errors import FormatError, ModelbayError, UnsafeName
from modelbay.library import folders
from modelbay.provision.lockfile import TABLES, table_of
from modelbay.provision.reading import Written
from modelbay.provision.trust import CACHES, Checked, Trusting, refuse_unprintable
from modelbay.safepath import SafeRelPath
from modelbay.text import clean

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_HOMES: Final = ("endpoint", "url", "tracking-uri", "host")
_AGAIN: Final = "take the lock from version control again, or make it again"


def check_lock(written: Written, trusting: Trusting) -> None:
    """Raises PolicyError, with file and line, for what only a trusted lock may say, and
    FormatError for what none may.
    """
    refuse_unprintable(written)
    rows = written.document.get("model", [])
    lines = [line for line, keys in tables(written.text) if keys == ("model",)]
    for number, row in enumerate(rows if isinstance(rows, list) else []):
        line = lines[number] if number < len(lines) else 1
        shown = clean(str(row.get("id") if isinstance(row, dict) else row), limit=160)
        one = Checked(written, (), line, trusting, shown)
        if not isinstance(row, dict):
            one.spoil((), "is no table", _AGAIN)
        _check_model(one, row)


def _check_model(one: Checked, row: Mapping[str, Any]) -> None:
    if one.trusting.judges_licences:
        one.refuse(
            (),
            "has its licence from the lock alone, and your settings have license_allow",
            "sync its provision file instead: the source is asked then",
        )
    original, place = _table(one, row, "original"), _table(one, row, "place")
    source = str(original.get("source"))
    table = _table(one, row, table_of(source))
    others = sorted({*TABLES} & row.keys() - {table_of(source)})
    if others:
        one.spoil((), f"has two sources, {clean(source, limit=80)} and {others[0]}", _AGAIN)
    for asked in (row, original, table):
        one.check_credentials(asked)
        one.check_addresses(asked)
    commit = table.get("commit")
    if commit is not None and not _COMMIT.fullmatch(str(commit)):
        one.spoil((), f"is locked to the commit {clean(commit, limit=80)!r}", _AGAIN)
    home = next((str(table[key]) for key in _HOMES if key in table), "")
    one.check_cache(place.get("layout"), source, home)
    if place.get("layout") == "ollama":
        one.refuse(
            (),
            "says what a tag of Ollama's registry stands for, and goes into Ollama's store",
            "sync its provision file instead: the registry is asked then",
        )
    _check_place(one, row, original, place)
    _check_files(one, row, home or one.trusting.origin(source))


def _table(one: Checked, row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = row.get(name)
    if not isinstance(found, dict):
        one.spoil((), f"has no {clean(name, limit=80)}", _AGAIN)
    return found


def _check_place(
    one: Checked, row: Mapping[str, Any], original: Mapping[str, Any], place: Mapping[str, Any]
) -> None:
    """Raises unless the model lies where its id's category does, in that folder or in one of its
    own name below it.
    """
    category, _, name = str(row.get("id")).partition("/")
    try:
        SafeRelPath.component(category)
        SafeRelPath.component(name)
    except UnsafeName:
        one.spoil((), "has an id that is no category and name", _AGAIN)
    if place.get("layout") in CACHES:
        return
    one.check_category(category)
    one.check_category(str(place.get("category")))
    try:
        application = folders.application(str(place.get("folders")))
        repo = str(original.get("repo", ""))
        mapped = application.folder(category, repo, one.trusting.categories)
    except ModelbayError as error:
        raise FormatError(f"{one.where()}: {error}", hint=error.hint) from error
    if place.get("dir") not in {mapped, f"{mapped}/{name}"}:
        one.refuse(
            (),
            f"goes to {clean(place.get('dir'), limit=160)!r}, and its category to {mapped!r}",
            "sync its provision file instead, which maps the category on this machine",
        )


def _check_files(one: Checked, row: Mapping[str, Any], home: str) -> None:
    rows = row.get("file")
    if not isinstance(rows, list) or not all(isinstance(file, dict) for file in rows):
        one.spoil((), "has no files", _AGAIN)
    for file in [*rows, *row.get("archive", [])]:
        hashes = file.get("hashes") if isinstance(file, dict) else None
        sha256 = hashes.get("sha256") if isinstance(hashes, dict) else None
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            shown = clean(file.get("path") if isinstance(file, dict) else file, limit=160)
            one.spoil((), f"has no sha256 for {shown}, without which nothing is fetched", _AGAIN)
        one.check_alternates(file.get("urls"), home)
