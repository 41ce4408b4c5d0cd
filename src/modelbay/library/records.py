"""What is known of files in place: the fetch metadata in `.modelbay/meta/<id>.json`.

A file whose size and modification time are those of a record has the digests that were
observed then; any other file is hashed before anything relies on it. Losing the records
costs hashing, and that files of ours are no longer known as ours; never a model.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from modelbay.digest import Algorithm, Digest, find
from modelbay.errors import FormatError
from modelbay.files import hash_file, make_dir, write_atomic
from modelbay.snapshot import Snapshot

FORMAT: Final = 1
_WRITE_EVERY = 1.0
_WRITE_SHARE = 20
_Entry = tuple[str, str]
"""The record a fact stands in, and the file's name in its snapshot."""
_READ_ONLY: Final[_Entry] = ("", "")
"""A file that was read and belongs to no record yet."""
_LONGEST_RECORD = 64 << 20


@dataclass(frozen=True, slots=True)
class Known:
    """One file as it was when its bytes were read. Sizes in bytes, time in ns.

    `file` is relative to the folder that holds `.modelbay`; `path` is its name in the
    snapshot. `placed` tells ours from what others put there and we only read.
    """

    file: str
    path: str
    size: int
    mtime_ns: int
    digests: tuple[Digest, ...]
    placed: bool
    revision: str

    def matches(self, status: os.stat_result) -> bool:
        return (self.size, self.mtime_ns) == (status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Record:
    """One `meta/<name>.json`: files that came from `ref`, which was `revision` the last time.

    `when` is the time of that in ISO 8601, `table` what its source calls it.
    """

    name: str
    ref: str
    revision: str
    when: str
    table: Mapping[str, str]
    files: tuple[Known, ...]
    source: str = ""
    licence: str | None = None


class Records:
    """The records of one `.modelbay` folder. Thread-safe; reads the disk at first use."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "meta"
        self._base = home.parent
        self._lock = threading.RLock()
        self._known: dict[str, dict[_Entry, Known]] | None = None
        self._holders: dict[Digest, dict[str, Known]] | None = None
        self._placed: dict[str, dict[tuple[str, str], Known]] = {}
        self._read: dict[str, Known] = {}
        self._superseded: dict[str, set[tuple[str, str]]] = {}
        self._write_next = float("-inf")

    @property
    def base(self) -> Path:
        """The folder that holds the `.modelbay` folder."""
        return self._base

    def observe(
        self,
        path: Path,
        algorithms: Iterable[Algorithm],
        *,
        tick: Callable[[int], None] | None = None,
    ) -> tuple[Digest, ...]:
        """Observed digests of `path`: from the records while it is unchanged, else by
        reading it. Raises DiskError, and what `tick` raises.
        """
        wanted = tuple(algorithms)
        file, status = self._file(path), path.stat()
        for known in self._of(file):
            if known.matches(status) and all(find(known.digests, name) for name in wanted):
                return known.digests
        digests = hash_file(path, wanted, tick=tick, follow=True)
        self._saw(file, status, digests)
        return digests

    def unchanged(self, path: Path) -> tuple[Digest, ...]:
        """The digests observed of `path` if it is still as it was then, else none."""
        if not path.is_relative_to(self._base):
            return ()
        status = path.stat()
        matching = (known for known in self._of(self._file(path)) if known.matches(status))
        return next((known.digests for known in matching if known.digests), ())

    def vouch(self, file: str, status: os.stat_result, digests: tuple[Digest, ...]) -> bool:
        """Whether `file`, relative to the base, was read as it is now and had all `digests`."""
        with self._lock:
            for known in self._all().get(file, {}).values():
                # Most files have the same digests in the same order.
                same = digests == known.digests or set(digests).issubset(known.digests)
                if same and known.matches(status):
                    return True
        return False

    def trust(self, path: Path, digests: tuple[Digest, ...]) -> None:
        """Takes `digests` as observed of `path` as it is now: somebody else read its bytes."""
        status = path.stat()
        self._saw(self._file(path), status, digests)

    def _saw(self, file: str, status: os.stat_result, digests: tuple[Digest, ...]) -> None:
        seen = Known(
            file, "", status.st_size, status.st_mtime_ns, digests, placed=False, revision=""
        )
        with self._lock:
            self._learn(_READ_ONLY, seen)
            self._read[file] = seen

    def ours(self, path: Path) -> Known | None:
        """The record of `path` if modelbay put it there and it has not changed since."""
        status = path.lstat()
        for known in self._of(self._file(path)):
            if known.placed and known.matches(status):
                return known
        return None

    def ever_put(self, path: Path) -> bool:
        """Whether a record says that modelbay put a file at `path`, whatever it is now."""
        return any(known.placed for known in self._of(self._file(path)))

    def put_there(self, path: Path, digests: tuple[Digest, ...]) -> bool:
        """Whether modelbay once put a file of that content at `path`."""
        return any(
            known.placed and find(known.digests, digest.algorithm) == digest
            for known in self._of(self._file(path))
            for digest in digests
        )

    def same_content(self, wanted: tuple[Digest, ...]) -> Path | None:
        """An unchanged file here whose observed digest is one of `wanted`, or None."""
        with self._lock:
            by_content = self._by_content()
            holders = [by_content.get(digest, {}).values() for digest in wanted]
        for known in (known for several in holders for known in several):
            path = self._base / known.file
            if path.is_file() and not path.is_symlink() and known.matches(path.stat()):
                return path
        return None

    def add(
        self, record: str, snapshot: Snapshot, name: str, path: Path, digests: tuple[Digest, ...]
    ) -> None:
        """Notes that `path`, just placed, is `name` of `snapshot`; on disk within a second, or
        within twenty times what writing takes.
        """
        status = path.stat()
        file = self._file(path)
        known = Known(
            file,
            name,
            status.st_size,
            status.st_mtime_ns,
            digests,
            placed=True,
            revision=snapshot.revision,
        )
        with self._lock:
            self._supersede(record, known)
            self._learn((record, name), known)
            self._placed.setdefault(record, {})[file, name] = known
            if time.monotonic() >= self._write_next:
                began = time.monotonic()
                self.write(record, snapshot, durable=False)
                now = time.monotonic()
                # A long record costs more to write, and is written the less often for it.
                self._write_next = now + max(_WRITE_EVERY, _WRITE_SHARE * (now - began))

    @property
    def has_read(self) -> bool:
        """Whether files were read of which no record says so yet."""
        return bool(self._read)

    def has_news(self, record: str, snapshot: Snapshot) -> bool:
        """Whether `write` would say what the disk does not say yet."""
        with self._lock:
            return bool(self._placed.get(record) or self._confirmed(snapshot))

    def write(self, record: str, snapshot: Snapshot, *, durable: bool = True) -> None:
        """Adds what this process learnt to the record of `snapshot`. Raises DiskError, OSError."""
        with self._lock:
            path = self._folder / f"{record}.json"
            rows = {(known.file, known.path): known for known in _read(path)}
            rows |= self._placed.get(record, {})
            confirmed = self._confirmed(snapshot)
            recorded = {file for file, _ in rows}
            rows |= {(seen.file, ""): seen for seen in confirmed if seen.file not in recorded}
            renewed = {seen.file: seen for seen in confirmed if seen.file in recorded}
            for key, known in rows.items():
                rows[key] = _renewed(known, renewed.get(known.file))
            make_dir(self._folder)
            write_atomic(path, _document(_head(snapshot), rows.values()), durable=durable)
            if durable:
                self._write_superseded()
                self._placed.pop(record, None)
                for seen in confirmed:
                    self._read.pop(seen.file, None)

    def _supersede(self, record: str, placed: Known) -> None:
        """Other records had other bytes where `placed` is now: those are no longer there."""
        rows = self._all().get(placed.file, {})
        for entry, known in list(rows.items()):
            other, name = entry
            if other not in {record, ""} and not set(known.digests) & set(placed.digests):
                del rows[entry]
                self._placed.get(other, {}).pop((placed.file, name), None)
                self._superseded.setdefault(other, set()).add((placed.file, name))

    def _write_superseded(self) -> None:
        for other, gone in self._superseded.items():
            path = self._folder / f"{other}.json"
            found = read_record(path)
            if found is not None:
                left = tuple(row for row in found.files if (row.file, row.path) not in gone)
                write_record(path, replace(found, files=left))
        self._superseded.clear()

    def _confirmed(self, snapshot: Snapshot) -> list[Known]:
        """Files that were read in this run and hold what `snapshot` wants."""
        wanted = {digest for file in snapshot.files for digest in file.digests}
        return [seen for seen in self._read.values() if wanted.intersection(seen.digests)]

    def _of(self, file: str) -> list[Known]:
        with self._lock:
            return list(self._all().get(file, {}).values())

    def _all(self) -> dict[str, dict[_Entry, Known]]:
        if self._known is None:
            self._known = {}
            for path in sorted(self._folder.glob("*.json")):
                record = path.stem
                for known in _read(path):
                    self._known.setdefault(known.file, {})[record, known.path] = known
        return self._known

    def _by_content(self) -> dict[Digest, dict[str, Known]]:
        """Made when it is first asked for: a run that keeps everything does not."""
        if self._holders is None:
            self._holders = {}
            for known in (one for rows in self._all().values() for one in rows.values()):
                self._hold(self._holders, known)
        return self._holders

    def _learn(self, entry: _Entry, known: Known) -> None:
        self._all().setdefault(known.file, {})[entry] = known
        if self._holders is not None:
            self._hold(self._holders, known)

    @staticmethod
    def _hold(holders: dict[Digest, dict[str, Known]], known: Known) -> None:
        for digest in known.digests:
            holders.setdefault(digest, {})[known.file] = known

    def _file(self, path: Path) -> str:
        return path.relative_to(self._base).as_posix()


def _renewed(known: Known, seen: Known | None) -> Known:
    """`known` with the time of `seen` where the same content was only touched."""
    if seen is None or not set(known.digests) & set(seen.digests):
        return known
    return replace(known, size=seen.size, mtime_ns=seen.mtime_ns)


def _head(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "ref": str(snapshot.ref),
        "revision": snapshot.revision,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "from": dict(snapshot.table),
        "source": snapshot.ref.source,
        "licence": snapshot.licence.spdx or snapshot.licence.raw,
    }


def _document(head: dict[str, Any], rows: Iterable[Known]) -> bytes:
    """JSON with a file to a line."""
    files = ",\n".join(
        json.dumps(
            {
                "path": known.path,
                "file": known.file,
                "size": known.size,
                "mtime_ns": known.mtime_ns,
                "placed": known.placed,
                "revision": known.revision,
                **{digest.algorithm: digest.hex for digest in known.digests},
            }
        )
        for known in sorted(rows, key=lambda known: (known.file, known.path))
    )
    return f'{json.dumps(head)[:-1]}, "files": [\n{files}\n]}}\n'.encode()


def read_record(path: Path) -> Record | None:
    """The record at `path`; None where it is absent or not what it should be."""
    try:
        if path.stat().st_size > _LONGEST_RECORD:
            return None
        document = json.loads(path.read_bytes())
        if document["format"] != FORMAT:
            return None
        rows = tuple(_row(row) for row in document["files"])
        ref, revision, when = (str(document.get(key, "")) for key in ("ref", "revision", "when"))
        table = {str(key): str(value) for key, value in dict(document.get("from", {})).items()}
        source, licence = str(document.get("source", "")), document.get("licence")
        licence = licence if isinstance(licence, str) else None
        return Record(path.stem, ref, revision, when, table, rows, source, licence)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, FormatError):
        return None


def records_in(base: Path) -> Iterator[Record]:
    """The records of the `.modelbay` folder in `base`, by name."""
    for path in sorted((base / ".modelbay" / "meta").glob("*.json")):
        found = read_record(path)
        if found is not None:
            yield found


def write_record(path: Path, record: Record) -> None:
    """`record` as the file `path`, durably; without files there is none. Raises OSError."""
    if not record.files:
        path.unlink(missing_ok=True)
        return
    head = {
        "format": FORMAT,
        "ref": record.ref,
        "revision": record.revision,
        "when": record.when,
        "from": dict(record.table),
        "source": record.source,
        "licence": record.licence,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, _document(head, record.files))


def _read(path: Path) -> tuple[Known, ...]:
    """The rows of one record; none where it is absent or not what it should be."""
    found = read_record(path)
    return found.files if found is not None else ()


_ALGORITHMS: Final[tuple[Algorithm, ...]] = (
    "sha256",
    "git-sha1",
    "sha1",
    "blake3",
    "md5",
    "sha512",
)


def _row(row: dict[str, Any]) -> Known:
    digests = tuple(Digest(name, row[name], observed=True) for name in _ALGORITHMS if name in row)
    size, mtime_ns = int(row["size"]), int(row["mtime_ns"])
    placed = row["placed"] is True
    return Known(
        str(row["file"]), str(row["path"]), size, mtime_ns, digests, placed, str(row["revision"])
    )
