"""Sources describe: search, resolve, locate. They move no bytes and do not know each other.

Found by entry point, the bundled ones through the same door as anyone else's; their names
are listed without importing any of them.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from modelbay.errors import UsageError
from modelbay.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelbay.sources.base import Means, Source

GROUP = "modelbay.sources"


def names() -> tuple[str, ...]:
    """The installed sources, sorted. Imports none of them."""
    return tuple(sorted(_entries()))


def load(name: str) -> Callable[[Means], Source]:
    """What makes that source from its `Means`. Raises UsageError."""
    entry = _entry(name)
    try:
        made: Callable[[Means], Source] = entry.load()
    except Exception as error:  # somebody else's code, which may fail in any way
        package = entry.dist.name if entry.dist is not None else "its package"
        raise UsageError(
            f"the source {clean(name)} could not be loaded: {clean(error, limit=300)}",
            hint=f"install {package} again, or remove it",
        ) from error
    return made


def all_sources(means: Callable[[str], Means]) -> dict[str, Source]:
    """Every installed source, by name; `means` is asked with each name."""
    return {name: load(name)(means(name)) for name in names()}


@cache
def _entries() -> dict[str, EntryPoint]:
    """Looked for once: every installed package is asked."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _entry(name: str) -> EntryPoint:
    found = _entries().get(name)
    if found is None:
        raise UsageError(
            f"no source is called {clean(name)!r}",
            hint="the installed sources are " + ", ".join(names()),
        )
    return found
