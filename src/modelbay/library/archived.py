"""A layout for the files of an archive: one file is fetched, and what is in it is placed.

The archive gathers where any part does. It is unpacked beside that, judged whole, and only
then given its names: a folder of its own appears by one rename.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from modelbay.digest import Digest
from modelbay.errors import IntegrityError, ServerTrouble, TargetTaken, WrongBytes
from modelbay.files import disk_errors, folder_below, make_dir, publish_new, taken_by
from modelbay.library.base import Place, Standing
from modelbay.library.dir import Dir
from modelbay.library.home import NAME, journal_of, part_key, record_name
from modelbay.library.records import Records
from modelbay.library.unpack import unpack
from modelbay.plan import Action, Step, Way
from modelbay.snapshot import ARCHIVE, ModelFile, Snapshot
from modelbay.text import clean

_BESIDE: Final = "unpacked"
Judge = Callable[[Sequence[ModelFile]], None]
"""Raises PolicyError for files that may not be here."""


@dataclass
class Archived:
    """Implements `Layout` for `archive` and its members, which go to `inner`.

    `expected` are the members that a lock knows; None where nobody has unpacked it yet.
    """

    inner: Dir
    archive: ModelFile
    judge: Judge
    expected: tuple[ModelFile, ...] | None = None
    replacing: bool = False
    """Files that are not ours go to the trash instead of staying in the way."""
    unpacked: tuple[ModelFile, ...] = ()
    """The members, once they were unpacked."""
    archive_found: ModelFile | None = None
    """The archive then, with the size and the digests that were observed of it."""

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def ways(self) -> Sequence[Way]:
        return self.inner.ways

    @property
    def application(self) -> str | None:
        return getattr(self.inner, "application", None)

    def root(self, snapshot: Snapshot) -> Path:
        return self.inner.root(snapshot)

    def place_of(self, snapshot: Snapshot, file: ModelFile) -> Place:
        return self.inner.place_of(snapshot, file)

    def target_of(self, snapshot: Snapshot, file: ModelFile) -> str:
        return self.inner.target_of(snapshot, file)

    def look(self, snapshot: Snapshot, file: ModelFile) -> Standing:
        return Standing() if file == self.archive else self.inner.look(snapshot, file)

    def as_recorded(self, snapshot: Snapshot, files: Sequence[ModelFile]) -> Mapping[str, Place]:
        return self.inner.as_recorded(snapshot, [file for file in files if file != self.archive])

    def records(self, snapshot: Snapshot) -> Records:
        return self.inner.records(snapshot)

    def prepare(self, snapshot: Snapshot) -> None:
        self.inner.prepare(snapshot)

    def finish(self, snapshot: Snapshot) -> None:
        self.inner.finish(self._of_archive(snapshot))

    def _of_archive(self, snapshot: Snapshot) -> Snapshot:
        """For the record, which tells whoever reads it later that no member can be fetched by
        itself.
        """
        return replace(snapshot, table={**snapshot.table, ARCHIVE: str(self.archive.path)})

    def moving(
        self,
        snapshot: Snapshot,
        file: ModelFile,
        *,
        pause: Callable[[float], None],
        tell: Callable[[str], None],
    ) -> AbstractContextManager[bool]:
        return self.inner.moving(snapshot, file, pause=pause, tell=tell)

    def place(
        self,
        snapshot: Snapshot,
        step: Step,
        observed: tuple[Digest, ...],
        *,
        tick: Callable[[int], None] | None = None,
    ) -> None:
        """Of the archive: unpacks it and places what is in it. Of a member: sees that it came
        with its archive. Raises as `unpack`, and WrongBytes for members unlike those of the lock.
        """
        if step.file == self.archive:
            with disk_errors(step.part):
                self._open(snapshot, step, observed)
        elif step.source != self.source(snapshot):
            self.inner.place(snapshot, step, observed, tick=tick)
        else:
            with disk_errors(step.target):
                self._see(snapshot, step)

    def source(self, snapshot: Snapshot) -> Path:
        """What a LINK of a member that comes with the archive is said to be made from."""
        return self.inner.place_of(snapshot, self.archive).blob

    def _open(self, snapshot: Snapshot, step: Step, observed: tuple[Digest, ...]) -> None:
        fresh = self.records(snapshot).base / NAME / _BESIDE / part_key(snapshot, step.file)
        # What a kill left; whoever unpacks this archive holds its lock.
        shutil.rmtree(fresh, ignore_errors=True)
        make_dir(fresh)
        size = step.part.stat().st_size
        try:
            files = unpack(step.part, step.file.path, fresh)
            self.judge(files)
            self._compare(files)
            self._install(snapshot, fresh, files)
        except IntegrityError:
            journal_of(step.part).unlink(missing_ok=True)
            step.part.unlink()
            raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        self.unpacked = files
        digests = observed or step.file.digests
        journal_of(step.part).unlink(missing_ok=True)
        step.part.unlink()
        self.archive_found = replace(step.file, size=size, digests=digests)

    def _compare(self, files: Sequence[ModelFile]) -> None:
        """Raises WrongBytes unless they are the members that the lock knows."""
        if self.expected is None:
            return
        found = {file.path: file for file in files}
        for file in self.expected:
            other = found.get(file.path)
            if other is None or (other.size, other.sha256) != (file.size, file.sha256):
                is_ = "is not in it" if other is None else f"is {other.sha256} in it"
                raise WrongBytes(
                    f"{clean(self.archive.path)} is not what the lock says: {clean(file.path)} "
                    f"{is_}, {file.sha256} was expected",
                    hint="make the lock again from its provision file",
                )

    def _install(self, snapshot: Snapshot, fresh: Path, files: Sequence[ModelFile]) -> None:
        if self.expected is not None:
            wanted = {file.path for file in self.expected}
            files = [file for file in files if file.path in wanted]
        if self._as_a_whole(snapshot, fresh, files):
            return
        verdicts = [(file, self._verdict(snapshot, file)) for file in files]
        if self.expected is None:
            for file, verdict in verdicts:
                if verdict == "taken":
                    raise self._taken(snapshot, file)
        for file, verdict in verdicts:
            if verdict in {"new", "over"}:
                action = Action.FETCH if verdict == "new" else Action.REPLACE
                target = self.inner.place_of(snapshot, file).target
                reason = f"it came with {clean(self.archive.path)}"
                part = fresh / file.path
                step = Step(file, action, target, target, part, reason=reason)
                self.inner.place(self._of_archive(snapshot), step, file.digests)

    def _as_a_whole(self, snapshot: Snapshot, fresh: Path, files: Sequence[ModelFile]) -> bool:
        """Whether the fresh folder became the model's own, which was not there."""
        records, target = self.records(snapshot), self.root(snapshot)
        everything = sum(1 for path in fresh.rglob("*") if path.is_file()) == len(files)
        if not everything or target == records.base or not target.is_relative_to(records.base):
            return False
        *above, name = target.relative_to(records.base).parts
        try:
            with folder_below(records.base, above, make=True) as folder:
                publish_new(fresh, folder, name)
        except OSError:
            # It is there, or on another file system: one by one, then.
            return False
        for file in files:
            path = self.inner.place_of(snapshot, file).target
            noted = self._of_archive(snapshot)
            records.add(record_name(snapshot), noted, file.path, path, file.digests)
        return True

    def _verdict(
        self, snapshot: Snapshot, file: ModelFile
    ) -> Literal["new", "same", "over", "taken"]:
        standing = self.inner.look(snapshot, file)
        if standing.taken:
            return "taken"
        if standing.path is None:
            return "new"
        records = self.records(snapshot)
        observed = records.observe(standing.path, ("sha256",))
        if file.sha256 in observed:
            return "same"
        ours = records.ours(standing.path) is not None or records.put_there(standing.path, observed)
        return "over" if ours or self.replacing else "taken"

    def _see(self, snapshot: Snapshot, step: Step) -> None:
        verdict = self._verdict(snapshot, step.file)
        if verdict == "taken":
            raise self._taken(snapshot, step.file)
        if verdict != "same":
            raise ServerTrouble(
                f"{clean(step.file.path)} is missing: {clean(self.archive.path)} did not come",
                hint="run the same command again once that is solved",
            )

    def _taken(self, snapshot: Snapshot, file: ModelFile) -> TargetTaken:
        target = self.inner.place_of(snapshot, file).target
        return taken_by(target, f"a member of {clean(self.archive.path)} was to go there")
