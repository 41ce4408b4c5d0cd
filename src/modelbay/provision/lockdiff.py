"""What became another one between two locks."""

from collections.abc import Iterator
from dataclasses import dataclass

from modelbay.provision.lockfile import Lock, LockedModel
from modelbay.provision.lockwriting import written


@dataclass(frozen=True, slots=True)
class Change:
    """One model that is not in both locks, or not the same in them."""

    id: str
    before: LockedModel | None
    after: LockedModel | None


def changes(before: Lock | None, after: Lock) -> Iterator[Change]:
    """In the order of their ids."""
    was = {model.id: model for model in before.models} if before is not None else {}
    now = {model.id: model for model in after.models}
    for ident in sorted({*was, *now}):
        old, new = was.get(ident), now.get(ident)
        if old is None or new is None or written(Lock((old,))) != written(Lock((new,))):
            yield Change(ident, old, new)
