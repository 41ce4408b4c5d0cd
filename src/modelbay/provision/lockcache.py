"""Large locks, parsed before: reading TOML takes a second for ten thousand files.

What is kept is the document, not the values: every check of a lock is made again.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from modelbay import files
from modelbay.provision.lockfile import Lock
from modelbay.provision.lockreading import document_of, lock_in
from modelbay.provision.reading import Written, decoded

SMALLEST: Final = 64 << 10
"""Bytes of a lock that is worth it."""
MOST: Final = 16
_SCHEMA: Final = "1"


def cached(raw: bytes, name: Path | str, folder: Path) -> Lock:
    """The lock whose bytes are `raw`, its parsed form kept in `folder`, which is ours alone. A
    cache that is broken or cannot be written is done without. Raises FormatError.
    """
    text = decoded(raw, name)
    if len(raw) < SMALLEST:
        return lock_in(document_of(text, name))
    kept = folder / f"{hashlib.sha256(raw).hexdigest()}.v{_SCHEMA}.json"
    document = _kept(kept)
    if document is not None:
        return lock_in(Written(name, text, document))
    written = document_of(text, name)
    lock = lock_in(written)
    with suppress(OSError, RecursionError):
        _keep(kept, written.document)
    return lock


def _kept(path: Path) -> dict[str, Any] | None:
    try:
        if not files.is_private(path.parent):
            return None
        mark, _, text = path.read_bytes().partition(b"\n")
        if mark != _mark(text):
            return None
        document = json.loads(text)
        path.touch()
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _keep(path: Path, document: dict[str, Any]) -> None:
    try:
        text = json.dumps(document, separators=(",", ":")).encode()
    except TypeError:
        # A newer revision may hold dates, which JSON has none of.
        return
    folder = path.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not files.is_private(folder):
        return
    files.write_atomic(path, _mark(text) + b"\n" + text, mode=0o600, durable=False)
    _drop_oldest(folder)


def _drop_oldest(folder: Path) -> None:
    found = sorted(folder.glob("*.json"), key=lambda one: one.lstat().st_mtime)
    for path in [*found[:-MOST], *folder.glob(".*.tmp")]:
        with suppress(OSError):
            path.unlink()


def _mark(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()
