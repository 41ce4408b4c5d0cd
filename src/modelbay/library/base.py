"""What every layout gives: where files go, how they get there, what is there already."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modelbay.digest import Digest
from modelbay.plan import Step
from modelbay.snapshot import ModelFile, Snapshot


@dataclass(frozen=True, slots=True)
class Place:
    """Where one file goes. `target` is the reader's name, `blob` where the bytes lie."""

    target: Path
    blob: Path
    part: Path


class Layout(Protocol):
    name: str

    def root(self, snapshot: Snapshot) -> Path:
        """The folder a person knows the model by; shown first in every plan."""
        ...

    def place_of(self, snapshot: Snapshot, file: ModelFile) -> Place:
        """Pure: no disk is touched."""
        ...

    def prepare(self, snapshot: Snapshot) -> None:
        """Folders, refs and listings that must stand before the first byte. Idempotent."""
        ...

    def place(self, snapshot: Snapshot, step: Step, observed: tuple[Digest, ...]) -> None:
        """Brings the verified, fsynced `step.part` (FETCH, RESUME, REPLACE) or the present
        `step.blob` (LINK) under its final name, durably, and records it. Raises TargetTaken,
        DiskError."""
        ...

    def finish(self, snapshot: Snapshot) -> None:
        """After the last step: records, metadata. Idempotent."""
        ...
