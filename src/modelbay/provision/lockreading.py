"""Locks read: whatever is not exactly one is refused at its line (formats.md §3)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from modelbay.digest import Digest
from modelbay.errors import FormatError
from modelbay.files import disk_errors
from modelbay.provision.entry import twin_key
from modelbay.provision.lockfile import REVISION, VERSION, Lock
from modelbay.provision.lockmodel import model_in
from modelbay.provision.lockrow import AGAIN, Row
from modelbay.provision.reading import Written, decoded
from modelbay.safepath import SafeRelPath
from modelbay.text import clean

LARGEST: Final = 256 << 20
_CONFLICT = re.compile(r"(?m)^(<{7}|={7}|>{7}|\|{7})(?: |$)")


def read_lock(path: Path) -> Lock:
    """The lock at `path`. Raises FormatError with file, line and column, DiskError."""
    return parse_lock(decoded(raw_lock(path), path), path)


def raw_lock(path: Path) -> bytes:
    """Its bytes. Raises FormatError for one that is too large, DiskError."""
    with disk_errors(path), path.open("rb") as file:
        raw = file.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise FormatError(
            f"{clean(path)}:1:1: it is larger than {LARGEST >> 20} MiB, a lock was expected",
            hint="name the right file",
        )
    return raw


def parse_lock(text: str, name: Path | str) -> Lock:
    """The lock `text`, which is called `name` in sentences. Raises FormatError."""
    return lock_in(document_of(text, name))


def document_of(text: str, name: Path | str) -> Written:
    """`text` as TOML. Raises FormatError that says what a lock suffers most from."""
    conflict = _CONFLICT.search(text)
    if conflict is not None:
        line = text.count("\n", 0, conflict.start()) + 1
        raise FormatError(
            f"{clean(name)}:{line}:1: a mark of a merge that was not finished was found",
            hint="take one side of it, or make the lock again from its provision file",
        )
    try:
        return Written.parse(text, name)
    except FormatError as error:
        raise FormatError(str(error), hint=AGAIN) from error


def lock_in(written: Written) -> Lock:
    """The lock that a TOML document is. Raises FormatError."""
    top = Row(written, (), written.document)
    _check_version(top, written.document.get("lock-version"))
    revision = top.whole("revision") if top.has("revision") else REVISION
    created_by = top.text("created-by")
    manifest_hash = top.maybe_text("manifest-hash")
    if manifest_hash is not None:
        with top.reading("manifest-hash"):
            Digest.parse(manifest_hash)
    policy = top.table("policy", needed=False)
    allow = policy.texts("license_allow") if policy.has("license_allow") else None
    models = [model_in(ident, row) for ident, row in _models(top)]
    return Lock(
        tuple(sorted(models, key=lambda model: model.id)),
        allow,
        manifest_hash,
        max(revision, REVISION),
        created_by,
        top.rest(policy=policy),
    )


def _check_version(top: Row, version: object) -> None:
    if version is None:
        top.complain((), "it is no lock: it has no lock-version", "name the right file")
    if type(version) is not int or version != VERSION:
        top.complain(
            ("lock-version",),
            f"it is a lock of version {clean(version, limit=80)}, this modelbay reads {VERSION}",
            "upgrade modelbay, or make the lock again with this one",
        )
    top.whole("lock-version")


def _models(top: Row) -> Iterator[tuple[str, Row]]:
    """Raises FormatError when two ids are one after aliases and case folding."""
    seen: dict[str, str] = {}
    for row in top.rows("model"):
        ident = row.text("id")
        row.name(ident)
        with row.reading("id"):
            category, _, name = ident.partition("/")
            SafeRelPath.component(category)
            SafeRelPath.component(name)
        twin = twin_key(ident)
        if twin in seen:
            row.refuse("id", f"is the same name as the model {clean(seen[twin], limit=200)}")
        seen[twin] = ident
        yield ident, row
