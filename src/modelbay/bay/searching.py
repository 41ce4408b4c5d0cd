"""One question to several sources: who answers first is heard first."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from modelbay.errors import ModelbayError, NoSearch
from modelbay.snapshot import Hit, Query
from modelbay.sources.base import Source

Found = Hit | ModelbayError


def search(sources: Sequence[Source], query: Query, *, named: bool) -> Iterator[Found]:
    """Hits, and a source's error as one more result; where the sources were not `named`, one
    that has no search is silent. A source that is down holds up no other.
    """
    if len(sources) == 1:
        yield from _told(sources[0], query, named=named)
        return
    with ThreadPoolExecutor(max(1, len(sources)), thread_name_prefix="modelbay-search") as pool:
        asked = [pool.submit(_all, source, query, named=named) for source in sources]
        try:
            for answer in as_completed(asked):
                yield from answer.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _all(source: Source, query: Query, *, named: bool) -> list[Found]:
    return list(_told(source, query, named=named))


def _told(source: Source, query: Query, *, named: bool) -> Iterator[Found]:
    try:
        yield from source.search(query)
    except NoSearch as error:
        if named:
            yield error
    except ModelbayError as error:
        yield error
