"""Other addresses of the same bytes, asked in turn when a file's own source fails."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from modelbay.digest import find
from modelbay.errors import DiskError, Interrupted, ModelbayError, NetworkError, NotFound
from modelbay.http.redact import shown_url
from modelbay.location import Location
from modelbay.snapshot import ModelFile, Snapshot
from modelbay.transfer import Fetched, Order

At = Callable[[str], Location]
_MIRROR_TRIES: Final = 1


def fetched(
    fetch: Callable[[Order], Fetched],
    order: Order,
    urls: Sequence[str],
    at: At | None,
    tell: Callable[[str], None],
) -> Fetched:
    """What `fetch` gives for `order`, from the first of its own source and `urls` that has the
    bytes. Only a sha256 can tell that they are the same. Raises what its own source failed
    with; a refused credential is no reason to ask somebody else.
    """
    try:
        return fetch(order)
    except (NotFound, NetworkError) as error:
        if at is None or not urls or find(order.digests, "sha256") is None:
            raise
        first = error
    for url in urls:
        tell(f"{first}; now asking {shown_url(url)}")
        try:
            return fetch(replace(order, locate=partial(at, url), validator=None))
        except (Interrupted, DiskError):
            raise
        except ModelbayError as error:
            tell(f"{shown_url(url)} does not have it either: {error}")
    raise first


@dataclass
class Mirrors:
    """Other endpoints that are asked before a file's own source."""

    of: Callable[[Snapshot, ModelFile], Sequence[tuple[str, Callable[[], Location]]]]
    """The mirrors that may have a file, by their names."""
    _silent: set[str] = field(default_factory=set)
    """Those that could not be reached: each is tried once in a run."""

    def fetched(
        self,
        fetch: Callable[[Order], Fetched],
        order: Order,
        snapshot: Snapshot,
        file: ModelFile,
        tell: Callable[[str], None],
    ) -> Fetched | None:
        """What `fetch` gives for `order` from the first mirror that has those bytes; None where
        none has, or no sha256 could tell. Raises Interrupted, DiskError.
        """
        if find(order.digests, "sha256") is None:
            return None
        for name, locate in self.of(snapshot, file):
            if name in self._silent:
                continue
            try:
                return fetch(replace(order, locate=locate, validator=None, tries=_MIRROR_TRIES))
            except (Interrupted, DiskError):
                raise
            except ModelbayError as error:
                if isinstance(error, NetworkError):
                    self._silent.add(name)
                tell(f"the mirror {shown_url(name)} does not have it: {error}")
        return None


def pass_gate(
    locate: Callable[[Snapshot, ModelFile], Location], snapshot: Snapshot, file: ModelFile
) -> None:
    """Raises what keeps everybody out. A source that cannot be asked shuts no gate where
    alternates may have the bytes.
    """
    try:
        locate(snapshot, file)
    except (NotFound, NetworkError):
        if not file.urls:
            raise
