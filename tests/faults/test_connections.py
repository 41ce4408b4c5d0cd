"""Connections that break, stall, crawl or talk nonsense: rows 1, 2, 4, 14, 15, 18, 19, 20, 27."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelbay.errors import ModelbayError, NetworkError
from modelbay.location import Http
from modelbay.transfer import Engine
from modelbay.transfer.order import Progress, Stop
from tests.faults import catalogue
from tests.faults.harness import CUT, LARGE, PIECE, SIZE, SMALL, Fetching, conditional, refetched
from tests.faults.server import Content, Fault, FaultServer, noise


@pytest.mark.parametrize(
    "broken", [catalogue.reset(after=CUT), catalogue.early_fin(after=CUT)], ids=["rst", "fin"]
)
def test_a_body_that_breaks_off_goes_on_where_it_broke(fetching: Fetching, broken: Fault):
    with FaultServer(LARGE, catalogue.first(3, broken)) as server:
        outcome = fetching.get(server)

        assert outcome.bytes == LARGE.body
        assert refetched(server) <= PIECE
        assert conditional(server)


def test_a_server_that_breaks_every_answer_is_worn_down_by_progress(fetching: Fetching):
    with FaultServer(LARGE, catalogue.reset(after=CUT)) as server:
        outcome = fetching.get(server)

        assert outcome.bytes == LARGE.body
        assert refetched(server) <= PIECE


def test_a_server_that_never_gives_a_byte_is_given_up_after_the_tries(fetching: Fetching):
    with FaultServer(LARGE, catalogue.reset(after=0)) as server:
        outcome = fetching.get(server)

        assert isinstance(outcome.failure, NetworkError)
        assert len(server.log) <= fetching.limits.tries + fetching.limits.connections


def test_what_a_failed_run_left_is_used_by_the_next(fetching: Fetching):
    half = SIZE // 2
    with FaultServer(LARGE, catalogue.after_bytes(half, catalogue.status(503))) as server:
        assert isinstance(fetching.get(server).failure, NetworkError)
        kept = server.sent
    with FaultServer(LARGE) as server:
        outcome = fetching.get(server)

        assert outcome.bytes == LARGE.body
        assert server.sent <= SIZE - kept + PIECE
        assert outcome.progress.resumed >= kept - PIECE


def test_a_part_without_its_journal_is_not_believed(fetching: Fetching):
    with FaultServer(LARGE) as server:
        url = server.url()
        order = fetching.order(lambda: Http(url), LARGE)
        order.part.write_bytes(noise(SIZE + PIECE, seed=5))

        assert fetching.run(order).bytes == LARGE.body


def test_a_whole_part_is_verified_and_not_fetched_again(fetching: Fetching):
    with FaultServer(LARGE) as server:
        url = server.url()
        order = fetching.order(lambda: Http(url), LARGE)
        fetching.engine.fetch(order, Progress(), Stop())
        before = server.sent
        outcome = fetching.run(order)

        assert outcome.bytes == LARGE.body
        assert server.sent - before <= 64 * 1024


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
def test_a_body_without_length_is_whole_when_its_hash_says_so(fetching: Fetching, version: str):
    with FaultServer(LARGE, catalogue.without_length(version=version)) as server:
        outcome = fetching.get(server, size=None)

        assert outcome.bytes == LARGE.body


def test_a_body_without_length_that_was_cut_is_not_believed(fetching: Fetching):
    cut = catalogue.without_length(upto=SIZE // 4 + 1)
    with FaultServer(LARGE, catalogue.first(2, cut)) as server:
        assert fetching.get(server).bytes == LARGE.body


@pytest.mark.parametrize("upto", [None, SIZE // 4 + 1])
def test_a_body_that_nothing_vouches_for_is_refused(fetching: Fetching, upto: int | None):
    with FaultServer(LARGE, catalogue.without_length(upto=upto)) as server:
        outcome = fetching.get(server, size=None, digests=())

        assert isinstance(outcome.failure, ModelbayError)


def test_a_storm_of_503_meets_one_visitor_and_not_eight(fetching: Fetching):
    workers, storm = 8, 1.0
    fetching.limits.tries = 40
    fetching.engine = Engine(fetching.client, fetching.limits)
    with FaultServer(SMALL, catalogue.during(storm, catalogue.status(503))) as server:
        with ThreadPoolExecutor(workers) as pool:
            names = [f"model-{number}.bin" for number in range(workers)]
            outcomes = list(pool.map(lambda name: fetching.get(server, SMALL, name=name), names))

        assert all(outcome.bytes == SMALL.body for outcome in outcomes)
        refused = [request for request in server.log if request.status == 503]
        # At the first instant each may have asked; then one at a time, 0.1 s apart.
        assert len(refused) <= workers + storm / 0.075 + 1


@pytest.mark.parametrize("status", [408, 500, 502, 504])
def test_passing_trouble_is_tried_again(fetching: Fetching, status: int):
    with FaultServer(LARGE, catalogue.first(1, catalogue.status(status))) as server:
        assert fetching.get(server).bytes == LARGE.body
        assert [request.status for request in server.log].count(status) == 1


@pytest.mark.parametrize(
    "sleepy",
    [
        pytest.param(catalogue.stall(after=CUT), id="stall"),
        pytest.param(catalogue.stall(after=0), id="stall-at-once"),
        pytest.param(catalogue.trickle(after=CUT), id="slowloris"),
        pytest.param(catalogue.slow_headers(), id="slow-headers"),
    ],
)
def test_a_silent_connection_is_cut_and_the_file_goes_on(fetching: Fetching, sleepy: Fault):
    begun = time.monotonic()
    with FaultServer(LARGE, catalogue.first(2, sleepy)) as server:
        outcome = fetching.get(server)

        assert outcome.bytes == LARGE.body
        assert refetched(server) <= PIECE
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param(catalogue.broken_chunks(after=0), id="chunks"),
        pytest.param(catalogue.header_flood(), id="flood"),
        pytest.param(catalogue.long_header(), id="long-header"),
    ],
)
class TestNonsense:
    def test_once_is_borne(self, fetching: Fetching, nonsense: Fault):
        with FaultServer(LARGE, catalogue.first(1, nonsense)) as server:
            assert fetching.get(server).bytes == LARGE.body

    def test_for_ever_is_a_network_error(self, fetching: Fetching, nonsense: Fault):
        content = Content(noise(SIZE), etag=None, last_modified=None)
        with FaultServer(content, nonsense) as server:
            assert isinstance(fetching.get(server).failure, NetworkError)
            assert len(server.log) <= fetching.limits.tries + fetching.limits.connections
