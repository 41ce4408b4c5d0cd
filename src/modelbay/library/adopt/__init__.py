"""What other programs left on this machine: read, told, never moved, hashed or written to."""

from collections.abc import Callable, Collection, Iterator

from modelbay.library.adopt.folders import PATH, read_folders
from modelbay.library.adopt.found import FoundFile, FoundModel, Look, Place, PlaceKind
from modelbay.library.adopt.hub import read_cache
from modelbay.library.adopt.ollama import read_store
from modelbay.library.adopt.places import given_places, standard_places

__all__ = [
    "PATH",
    "FoundFile",
    "FoundModel",
    "Look",
    "Place",
    "PlaceKind",
    "given_places",
    "look_through",
    "read",
    "standard_places",
]


def read(place: Place, look: Look) -> Iterator[FoundModel]:
    """Every model in `place`, as it is found. Raises what `look.tick` raises, nothing else."""
    if place.kind == "hf-cache":
        return read_cache(str(place.root), look)
    if place.kind == "ollama":
        return read_store(str(place.root), look)
    return read_folders(place, look)


def look_through(place: Place, others: Collection[Place], tick: Callable[[int], None]) -> Look:
    """A look at `place` that leaves out those of the `others` that lie in it."""
    inside = {str(other.root) for other in others if other.root != place.root}
    return Look(tick, frozenset(inside))
