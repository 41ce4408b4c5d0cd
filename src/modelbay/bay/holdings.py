"""`ls` and `du`: what the library holds, and what it takes of every disk."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from modelbay.bay.roots import base_of, homes
from modelbay.bay.session import Session
from modelbay.files import Usage, below, mount_of, mounts, room, usage
from modelbay.library.home import NAME
from modelbay.library.index import IndexedFile, IndexedModel


@dataclass(frozen=True, slots=True)
class Holding:
    """One model of the library. `verified` is when the file that was read longest ago was
    read, in unix seconds; None when one of them never was.
    """

    model: IndexedModel
    verified: float | None
    ours: int
    """How many of its files modelbay put there."""


@dataclass(frozen=True, slots=True)
class ModelUse:
    """What one model takes. `usage.real` leaves out what was counted with another before."""

    model: IndexedModel
    usage: Usage


@dataclass(slots=True)
class PlaceUse:
    """What lies below one place. Bytes; `trash`, `parts` and `quarantine` are ours too."""

    place: Path
    models: list[ModelUse] = field(default_factory=list)
    trash: int = 0
    parts: int = 0
    quarantine: int = 0

    @property
    def apparent(self) -> int:
        return sum(one.usage.apparent for one in self.models)

    @property
    def real(self) -> int:
        return sum(one.usage.real for one in self.models)

    @property
    def files(self) -> int:
        return sum(one.usage.names for one in self.models)


@dataclass(frozen=True, slots=True)
class VolumeUse:
    """One file system, and how much of it the library takes. Bytes."""

    point: Path
    total: int
    free: int
    library: int


@dataclass(frozen=True, slots=True)
class DiskUse:
    places: tuple[PlaceUse, ...]
    volumes: tuple[VolumeUse, ...]
    detached: tuple[IndexedModel, ...]
    """Models on disks that are not here: nobody can look what they take."""


def holdings(
    session: Session, text: str | None, *, source: str | None = None, layout: str | None = None
) -> Iterator[Holding]:
    """Models whose ref or id has `text` in it, by ref, as they come."""
    for model in session.index.models(text):
        if source in {None, model.source} and layout in {None, model.layout}:
            yield _holding(session, model)


def _holding(session: Session, model: IndexedModel) -> Holding:
    oldest: float | None = None
    ours, never = 0, False
    for file in session.index.files_of(model):
        ours += file.placed
        if file.verified is None:
            never = True
        elif oldest is None or file.verified < oldest:
            oldest = file.verified
    return Holding(model, None if never else oldest, ours)


def files_of(session: Session, model: IndexedModel) -> Iterator[IndexedFile]:
    return session.index.files_of(model)


def disk_use(session: Session) -> DiskUse:
    """By place and model, the bytes of each inode counted once. Looks at every file."""
    seen: set[tuple[int, int]] = set()
    places: dict[Path, PlaceUse] = {}
    detached = []
    for model in session.index.models():
        if not model.attached:
            detached.append(model)
            continue
        place = _place(model)
        found = usage((file.path for file in session.index.files_of(model)), seen)
        places.setdefault(place, PlaceUse(place)).models.append(ModelUse(model, found))
    for home in homes(session):
        place = home.base.parent if home.layout == "hf-cache" else home.base
        use = places.setdefault(place, PlaceUse(place))
        use.trash += _real(home.base / NAME / "trash", seen)
        use.parts += _real(home.base / NAME / "parts", seen)
        use.quarantine += _real(home.base / NAME / "quarantine", seen)
    told = tuple(use for _, use in sorted(places.items()) if use.models or use.trash or use.parts)
    return DiskUse(told, tuple(_volumes(told)), tuple(detached))


def _place(model: IndexedModel) -> Path:
    if model.layout == "hf-cache":
        return model.root.parent
    return base_of(model.root) or model.root


def _real(folder: Path, seen: set[tuple[int, int]]) -> int:
    return usage(below(folder), seen).real


def _volumes(places: tuple[PlaceUse, ...]) -> Iterator[VolumeUse]:
    among = mounts()
    taken: dict[Path, int] = {}
    for use in places:
        if use.place.exists():
            point = mount_of(Path(os.path.realpath(use.place)), among).point
            size = use.real + use.trash + use.parts + use.quarantine
            taken[point] = taken.get(point, 0) + size
    for point, size in sorted(taken.items()):
        has = room(point)
        yield VolumeUse(point, has.total, has.free, size)
