"""What every layout gives: where files go, how they get there, what is there already."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modelbay.digest import Digest
from modelbay.library.records import Records
from modelbay.plan import Step, Way
from modelbay.snapshot import ModelFile, Snapshot


@dataclass(frozen=True, slots=True)
class Place:
    """Where one file goes. `target` is the reader's name, `blob` where the bytes lie."""

    target: Path
    blob: Path
    part: Path


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands where a file should go; nothing does when `path` is None.

    `taken` says why nothing of ours may go there, whatever the bytes are.
    """

    path: Path | None = None
    """Where the bytes lie."""
    reached: bool = True
    """The reader's name already leads to them."""
    named_by_content: bool = False
    """The name is a digest of the content, so that other bytes under it are damage."""
    taken: str = ""
    link: bool = False
    """The reader's name is a link."""


class Layout(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def ways(self) -> Sequence[Way]:
        """How a LINK into it may be made."""
        ...

    def root(self, snapshot: Snapshot) -> Path:
        """The folder a person knows the model by; shown first in every plan."""
        ...

    def place_of(self, snapshot: Snapshot, file: ModelFile) -> Place:
        """Looks which file system the names are on, and writes nothing."""
        ...

    def target_of(self, snapshot: Snapshot, file: ModelFile) -> str:
        """The reader's name as text. Looks at nothing."""
        ...

    def look(self, snapshot: Snapshot, file: ModelFile) -> Standing:
        """What stands there now; reads names only. Raises DiskError."""
        ...

    def as_recorded(self, snapshot: Snapshot, files: Sequence[ModelFile]) -> Mapping[str, Place]:
        """Those of `files`, by path, that lie in place unchanged since their bytes were read
        and had every digest that they should. Cheap; says nothing of the others.
        """
        ...

    def records(self, snapshot: Snapshot) -> Records:
        """What is known of files in the folder that `snapshot` goes to."""
        ...

    def moving(
        self,
        snapshot: Snapshot,
        file: ModelFile,
        *,
        pause: Callable[[float], None],
        tell: Callable[[str], None],
    ) -> AbstractContextManager[bool]:
        """Held while the bytes of one file move, so that two programs do not fetch them both.

        Gives whether another held it meanwhile: plan the file again then. `pause` sleeps that
        many seconds, or raises to stop waiting; `tell` hears for whom it waits.
        """
        ...

    def prepare(self, snapshot: Snapshot) -> None:
        """Folders, refs and listings that must stand before the first byte. Idempotent."""
        ...

    def place(
        self,
        snapshot: Snapshot,
        step: Step,
        observed: tuple[Digest, ...],
        *,
        tick: Callable[[int], None] | None = None,
    ) -> None:
        """Brings the verified, fsynced `step.part` (FETCH, RESUME, REPLACE) or the present
        `step.blob` (LINK) under its final name, durably, and records it. `observed` of a LINK
        are the digests of its source, where its bytes were read before; `tick` hears the bytes
        of every read that it takes, and stops it by raising. Raises TargetTaken, WrongBytes
        when a source has other bytes than the wanted ones, DiskError.
        """
        ...

    def finish(self, snapshot: Snapshot) -> None:
        """After the last step: what was placed and read is on record, durably. Idempotent.
        Raises DiskError.
        """
        ...
