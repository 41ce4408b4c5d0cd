"""A plain folder: every file at its path in the snapshot, or under a name of its own."""

import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from modelbay.digest import Digest
from modelbay.errors import TargetTaken
from modelbay.files import disk_errors, folder_below, make_dir, taken_by
from modelbay.library.base import Place, Standing
from modelbay.library.home import Home, part_key, record_name
from modelbay.library.recorded import unchanged
from modelbay.library.records import Records
from modelbay.plan import LADDER, Action, Step, Way
from modelbay.safepath import SafeRelPath
from modelbay.snapshot import ModelFile, Snapshot


class Dir:
    """The folder `root`, which may be a link and is resolved once.

    `names` gives files another path below the root than they have in the snapshot, `home`
    is that of the root where several layouts share it; `ways` are those of its LINK steps.
    """

    name = "dir"

    def __init__(
        self,
        root: Path,
        *,
        names: Mapping[str, SafeRelPath] | None = None,
        home: Home | None = None,
        ways: Sequence[Way] = LADDER,
    ) -> None:
        self.ways = ways
        self._root = root.resolve()
        self._names = names or {}
        self._home = home or Home(self._root)

    def root(self, snapshot: Snapshot) -> Path:  # noqa: ARG002 - the same for every snapshot
        return self._root

    def place_of(self, snapshot: Snapshot, file: ModelFile) -> Place:
        target = self._root / self._name_of(file)
        return Place(target, target, self._home.part_of(snapshot, file, target))

    def target_of(self, snapshot: Snapshot, file: ModelFile) -> str:  # noqa: ARG002 - as above
        return f"{self._root}/{self._name_of(file)}"

    def _name_of(self, file: ModelFile) -> str:
        """Below the root, slashes between the folders."""
        return self._names.get(file.path, file.path)

    def as_recorded(
        self,
        snapshot: Snapshot,  # noqa: ARG002 - as above
        files: Sequence[ModelFile],
    ) -> Mapping[str, Place]:
        names = ((self._name_of(file), file) for file in files)
        found = unchanged(self._home.records, self._root, names)
        return {file.path: self._lying(file) for file in found}

    def _lying(self, file: ModelFile) -> Place:
        """Where a file is that no part will become."""
        target = self._root / self._name_of(file)
        return Place(target, target, self._home.parts)

    def look(self, snapshot: Snapshot, file: ModelFile) -> Standing:
        target = self.place_of(snapshot, file).target
        with disk_errors(target):
            return stands_at(self._root, target)

    def records(self, snapshot: Snapshot) -> Records:  # noqa: ARG002 - as above
        return self._home.records

    def prepare(self, snapshot: Snapshot) -> None:  # noqa: ARG002 - as above
        make_dir(self._root)
        self._home.prepare()

    @contextmanager
    def moving(
        self,
        snapshot: Snapshot,
        file: ModelFile,
        *,
        pause: Callable[[float], None],
        tell: Callable[[str], None],
    ) -> Iterator[bool]:
        part = self.place_of(snapshot, file).part
        with disk_errors(part):
            self._home.prepare()
            self._home.open_folder_of(part)
        lock = self._home.parts / f"{part_key(snapshot, file)}.lock"
        with self._home.locked(lock, pause=pause, tell=tell, remove=True) as waited:
            yield waited

    def place(
        self,
        snapshot: Snapshot,
        step: Step,
        observed: tuple[Digest, ...],
        *,
        tick: Callable[[int], None] | None = None,
    ) -> None:
        with disk_errors(step.target):
            if step.action is Action.LINK and step.source is not None:
                observed = self._home.linked_in(step, observed, tick=tick)
            replaces = step.action is Action.REPLACE
            if replaces:
                refuse_other_than_file(self._root, step.target)
                self._home.discard(
                    step.target,
                    keep_name=True,
                    ref=str(snapshot.ref),
                    why=f"replaced: {step.reason}",
                )
            self._home.publish(step.part, self._root, step.target, observed, over=replaces)
            self._home.note(record_name(snapshot), snapshot, step, step.target, observed)

    def finish(self, snapshot: Snapshot) -> None:
        self._home.finish(record_name(snapshot), snapshot)


def stands_at(root: Path, target: Path) -> Standing:
    """What stands at `target`, links neither followed on the way nor at the end."""
    *folders, _ = target.relative_to(root).parts
    try:
        with folder_below(root, folders):
            status = target.lstat()
    except FileNotFoundError:
        return Standing()
    except TargetTaken as in_the_way:
        return Standing(taken=str(in_the_way))
    if not stat.S_ISREG(status.st_mode):
        refusal = taken_by(target, "a file was to go there")
        return Standing(taken=str(refusal), link=stat.S_ISLNK(status.st_mode))
    return Standing(target)


def refuse_other_than_file(root: Path, target: Path) -> None:
    """Raises TargetTaken when a link or a folder has come to stand at `target`."""
    standing = stands_at(root, target)
    if standing.taken:
        raise taken_by(target, "a file was to go there")
