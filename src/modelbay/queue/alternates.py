"""Other addresses of the same bytes, asked in turn when a file's own source fails."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from modelbay.digest import find
from modelbay.errors import DiskError, Interrupted, ModelbayError, NetworkError, NotFound
from modelbay.http.redact import shown_url
from modelbay.location import Location
from modelbay.snapshot import ModelFile, Snapshot
from modelbay.transfer import Fetched, Order

At = Callable[[str], Location]


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
