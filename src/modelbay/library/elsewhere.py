"""What the index knows of the rest of this machine, for the planner and the carrier.

Nothing here raises: a run without an index fetches what it could have linked, and says so once.
"""

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelbay.digest import Digest, disagreement
from modelbay.errors import ModelbayError
from modelbay.files import standing
from modelbay.library.base import Layout
from modelbay.library.trash import HOME
from modelbay.plan import Plan, Step
from modelbay.snapshot import ModelFile, Snapshot

if TYPE_CHECKING:
    from modelbay.library.index import Index, IndexedFile, IndexedHome, IndexedModel


@dataclass(frozen=True, slots=True)
class Holder:
    """A file with bytes that are wanted; `sure` when they were read, and not only claimed."""

    path: Path
    sure: bool


@dataclass(frozen=True, slots=True)
class InPlace:
    """What became of one step: its bytes lie where they should."""

    step: Step
    placed: bool
    """By this run."""
    observed: tuple[Digest, ...] = ()
    """Digests of the bytes, where they were fetched."""


class Elsewhere:
    """One for each session. `file` gives where the index lies, `homes` the standard places to
    look for records in when it has to be made.
    """

    def __init__(
        self, file: Callable[[], Path], homes: Callable[[], Iterable["IndexedHome"]]
    ) -> None:
        self._file = file
        self._homes = homes
        self._lock = threading.RLock()
        self._index: Index | None = None
        self._passing: Index | None = None
        self._out_of_use = False
        self._notes: list[str] = []
        self.closed: tuple[Path, ...] = ()
        """Folders that nothing is linked into: their names say where bytes came from."""

    def index(self) -> "Index":
        """The index, made from the records on disk where there is none. Raises DiskError,
        FormatError, UsageError.
        """
        from modelbay.library.index import Index
        from modelbay.library.index_homes import remembered

        with self._lock:
            if self._index is None:
                file = self._file()
                self._index = Index.open(file)
                self._notes += self._index.notes
                if self._index.fresh:
                    self._index.rebuild([*self._homes(), *remembered(file)])
            return self._index

    def holder(
        self, file: ModelFile, target: Path, *, besides: Collection[Path] = ()
    ) -> Holder | None:
        """The best file to make `target` from: on its file system, and read before, if there is
        such a one.
        """
        with self._quietly():
            index = self._readable()
            closed = any(target.is_relative_to(folder) for folder in self.closed)
            if index is None or not file.digests or closed:
                return None
            volume = standing(target.parent).stat().st_dev
            found = [
                (known.path.lstat().st_dev != volume, not _is_sure(known, file), known)
                for known in index.holders(file.digests)
                if known.path not in besides and _serves(known, file, target)
            ]
            if found:
                _, unsure, known = min(found, key=lambda one: one[:2])
                return Holder(known.path, not unsure)
        return None

    def known(self, path: Path) -> tuple[Digest, ...]:
        """The digests that were observed of `path`, if it is still as it was then."""
        with self._quietly():
            index = self._readable()
            found = index.at(path) if index is not None else None
            now = found.as_it_is() if found is not None else None
            if now is not None:
                return tuple(digest for digest in now.digests if digest.observed)
        return ()

    def doubt(self, path: Path) -> None:
        """`path` could not be used, or has other bytes than was said. One that is gone may
        be on a disk that was taken away, and stays known.
        """
        with self._quietly():
            index = self._writable()
            if index is not None and path.is_file():
                index.doubt(path)

    def keep_sums(self, path: Path, sums: Sequence[bytes]) -> None:
        """As `Index.keep_sums`; files of one piece have none worth keeping."""
        if len(sums) < 2:
            return
        with self._quietly():
            index = self._writable()
            if index is not None:
                index.keep_sums(path, sums)

    def note(
        self, plan: Plan, layout: Layout, lying: Iterable[InPlace], *, as_recorded: bool = False
    ) -> None:
        """`lying` are the files of `plan` that are in place now. With `as_recorded` nothing was
        learnt of them in this run: a model that is noted whole is not looked at again.
        """
        with self._quietly():
            index = self._writable()
            several = list(lying)
            if index is None or not several:
                return
            model = _model(plan)
            if as_recorded and index.holds(model) == len(several):
                return
            lying_at: dict[str, InPlace] = {one.step.file.path: one for one in several}
            places = ((name, bytes_of(one.step)) for name, one in lying_at.items())
            changed = index.unlike(model, places)
            if changed:
                told = (self._told(path, lying_at[name], plan, layout) for name, path in changed)
                index.note(model, [file for file in told if file is not None])
            self._note_home(index, plan, layout)

    def _told(self, path: Path, lying: InPlace, plan: Plan, layout: Layout) -> "IndexedFile | None":
        from modelbay.library.index import IndexedFile

        try:
            file = IndexedFile.seen(path, name=lying.step.file.path)
        except OSError:
            return None
        records = layout.records(plan.snapshot)
        digests = lying.observed or records.unchanged(file.path) or self.known(file.path)
        claimed = [digest for digest in lying.step.file.digests if digest not in digests]
        return replace(
            file,
            digests=(*digests, *(one for one in claimed if not disagreement((one,), digests))),
            placed=lying.placed or records.ours(file.path) is not None,
            verified=time.time() if lying.observed else None,
        )

    def _note_home(self, index: "Index", plan: Plan, layout: Layout) -> None:
        from modelbay.library.index_homes import holds_home, remember

        base = layout.records(plan.snapshot).base
        if holds_home(base) and all(home.base != base for home in index.homes()):
            index.note_home(base, layout.name, getattr(layout, "application", None))
            remember(self._file(), index.homes())

    def notes(self) -> Sequence[str]:
        """Sentences for the person since the last call."""
        with self._lock:
            told, self._notes = self._notes, []
        return told

    def close(self) -> None:
        with self._lock:
            for index in (self._index, self._passing):
                if index is not None:
                    index.close()
            self._index = self._passing = None

    def _readable(self) -> "Index | None":
        """Planning writes nothing: where no index lies yet, one is made for this process only."""
        with self._lock:
            if self._out_of_use:
                return None
            if self._index is not None or self._file().exists():
                return self.index()
            if self._passing is None:
                from modelbay.library.index import Index
                from modelbay.library.index_homes import remembered

                self._passing = Index.in_memory()
                self._passing.rebuild([*self._homes(), *remembered(self._file())])
            return self._passing

    def _writable(self) -> "Index | None":
        with self._lock:
            return None if self._out_of_use else self.index()

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        try:
            yield
        except ModelbayError as error:
            with self._lock:
                if not self._out_of_use:
                    self._notes.append(f"going on without the library's index: {error}")
                self._out_of_use = True
        except OSError:
            # A file that went away meanwhile is nobody's holder.
            pass


def _serves(known: "IndexedFile", file: ModelFile, target: Path) -> bool:
    right = file.size in {None, known.size} and disagreement(file.digests, known.digests) is None
    return right and known.path != target and HOME not in known.path.parts


def _is_sure(known: "IndexedFile", file: ModelFile) -> bool:
    return all(
        any(digest == wanted and digest.observed for digest in known.digests)
        for wanted in file.digests
    )


def bytes_of(step: Step) -> Path:
    """Where the bytes of a finished step lie."""
    if step.blob is not step.target and not os.path.lexists(step.blob):
        return step.target
    return step.blob


def _model(plan: Plan) -> "IndexedModel":
    from modelbay.library.index import IndexedModel

    snapshot: Snapshot = plan.snapshot
    bare = plan.model in {"", str(snapshot.ref)}
    return IndexedModel(
        ref=str(snapshot.ref),
        revision=snapshot.revision,
        layout=plan.layout,
        root=plan.root,
        model=str(snapshot.ref.at(None)) if bare else plan.model,
        licence=snapshot.licence.spdx or snapshot.licence.raw,
        source=snapshot.ref.source,
    )
