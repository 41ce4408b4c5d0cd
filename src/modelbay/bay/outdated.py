"""`outdated`: whether the sources have something newer than what is here, or in a lock."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

from modelbay.bay.session import Session
from modelbay.digest import Digest, find
from modelbay.errors import ModelbayError, NetworkError
from modelbay.provision import read_lock, snapshot_of
from modelbay.refs import ModelRef
from modelbay.snapshot import ModelFile, Snapshot

_ASKED_AT_ONCE: Final = 8
_COMMIT_LENGTH: Final = 40


@dataclass(frozen=True, slots=True)
class Held:
    """What is here, or in a lock, at one revision. `files` by their path in the snapshot."""

    name: str
    ref: ModelRef
    revision: str
    files: Mapping[str, tuple[int | None, tuple[Digest, ...]]]

    @property
    def pinned(self) -> bool:
        """Its ref is a commit, which never changes."""
        revision = self.ref.revision or ""
        return len(revision) == _COMMIT_LENGTH and revision == self.revision


@dataclass(frozen=True, slots=True)
class Newer:
    """What its source says about one model. `newer` is None while nothing is newer.

    `changed` are files that differ, `size` the bytes of them to fetch, None where unknown.
    """

    held: Held
    newer: str | None = None
    changed: tuple[str, ...] = ()
    size: int | None = 0
    error: ModelbayError | None = None


def outdated(session: Session, text: str | None, lock: Path | None = None) -> Iterator[Newer]:
    """A row for each model, in order, as the answers come; several sources are asked at once,
    and one that is down is a row too. Raises FormatError for the lock.
    """
    every = list(_locked(session, lock) if lock is not None else _indexed(session, text))
    wanted = [one for one in every if not one.pinned]
    hosts = _Hosts(session)
    with ThreadPoolExecutor(_ASKED_AT_ONCE, thread_name_prefix="modelbay-ask") as pool:
        try:
            yield from pool.map(hosts.ask, wanted)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _indexed(session: Session, text: str | None) -> Iterator[Held]:
    seen: set[tuple[str, str]] = set()
    for model in session.index.models(text):
        if "://" not in model.ref or (model.ref, model.revision) in seen:
            continue
        seen.add((model.ref, model.revision))
        try:
            ref = session.parse(model.ref)
        except ModelbayError:
            continue
        files = {file.name: (file.size, file.digests) for file in session.index.files_of(model)}
        yield Held(model.model if model.named else model.ref, ref, model.revision, files)


def _locked(session: Session, lock: Path) -> Sequence[Held]:
    found = []
    for model in read_lock(lock).models:
        ref = session.sources.ref_of(model.source, model.original)
        headers = cast("dict[str, str]", model.original.get("headers", {}))
        session.sources.bind(ref, model.auth, headers)
        files = {str(file.path): (file.size, file.digests) for file in model.files}
        found.append(Held(model.id, ref, snapshot_of(model, ref).revision, files))
    return found


class _Hosts:
    """Each host is asked by one visitor until it answered once: where it is down, the others
    need not find out for themselves, one long wait after another.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._gates: dict[str, threading.Lock] = {}
        self._answered: set[str] = set()
        self._down: dict[str, NetworkError] = {}

    def ask(self, held: Held) -> Newer:
        host = urlsplit(held.ref.address or "").netloc or held.ref.source
        with self._lock:
            gate = self._gates.setdefault(host, threading.Lock())
        if host not in self._answered:
            with gate:
                if host in self._down:
                    return Newer(held, error=self._down[host])
                if host not in self._answered:
                    return self._first(host, held)
        return _compared(self._session, held)

    def _first(self, host: str, held: Held) -> Newer:
        found = _compared(self._session, held)
        if isinstance(found.error, NetworkError):
            self._down[host] = found.error
        else:
            self._answered.add(host)
        return found


def _compared(session: Session, held: Held) -> Newer:
    try:
        snapshot = session.sources.resolve(held.ref)
    except ModelbayError as error:
        return Newer(held, error=error)
    if snapshot.revision == held.revision:
        return Newer(held)
    changed = [file for file in _counterparts(held, snapshot) if _differs(held, file)]
    sizes = [file.size for file in changed]
    size = None if None in sizes else sum(size or 0 for size in sizes)
    return Newer(held, snapshot.revision, tuple(file.path for file in changed), size)


def _counterparts(held: Held, snapshot: Snapshot) -> Iterator[ModelFile]:
    """The files of the newer snapshot that stand for what is here; new ones only where all of
    the old one is here.
    """
    yield from (file for file in snapshot.files if file.path in held.files)


def _differs(held: Held, file: ModelFile) -> bool:
    size, digests = held.files[file.path]
    if file.size is not None and size is not None and file.size != size:
        return True
    for claimed in file.digests:
        known = find(digests, claimed.algorithm)
        if known is not None:
            return known != claimed
    return True
