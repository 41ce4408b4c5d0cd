"""Lengths and ranges that lie: rows 3, 5, 6, 8, 11, 12."""

import pytest

from modelbay.errors import IntegrityError, NetworkError
from tests.faults import catalogue
from tests.faults.harness import CUT, LARGE, PIECE, SIZE, Fetching, refetched
from tests.faults.server import Content, FaultServer, honest, noise

UNNAMED = Content(noise(SIZE), etag=None, last_modified=None)
WEAK = Content(noise(SIZE), etag='W/"loose"', last_modified=None)


def test_a_file_shorter_than_promised_is_refused_before_it_is_fetched(fetching: Fetching):
    with FaultServer(LARGE, catalogue.short(SIZE * 3 // 4)) as server:
        assert isinstance(fetching.get(server).failure, IntegrityError)
        assert server.sent <= PIECE


def test_a_shorter_file_without_ranges_is_refused(fetching: Fetching):
    whole = Content(LARGE.body[: SIZE * 3 // 4])
    with FaultServer(whole, catalogue.range_ignored()) as server:
        assert isinstance(fetching.get(server, LARGE).failure, IntegrityError)


def test_a_length_that_is_too_long_costs_connections_and_no_bytes(fetching: Fetching):
    with FaultServer(LARGE, catalogue.longer_length(500)) as server:
        outcome = fetching.get(server)

        assert outcome.bytes == LARGE.body
        assert refetched(server) <= PIECE


def test_a_total_that_is_too_long_is_refused_at_once(fetching: Fetching):
    with FaultServer(LARGE, catalogue.longer_total(500)) as server:
        assert isinstance(fetching.get(server).failure, IntegrityError)
        assert server.sent <= PIECE


def test_a_length_that_is_too_long_without_ranges_is_refused(fetching: Fetching):
    with FaultServer(LARGE, catalogue.longer_length(500, ranges=False)) as server:
        failure = fetching.get(server).failure

        assert isinstance(failure, NetworkError | IntegrityError)
        assert server.sent <= 3 * SIZE


@pytest.mark.parametrize("by", [1000, PIECE, -1])
def test_a_206_that_starts_elsewhere_is_dropped_and_asked_again(fetching: Fetching, by: int):
    fault = catalogue.on_resume(catalogue.first(2, catalogue.shifted_range(by)))
    with FaultServer(LARGE, fault) as server:
        assert fetching.get(server).bytes == LARGE.body


def test_a_server_whose_206_always_starts_elsewhere_is_given_up(fetching: Fetching):
    with FaultServer(LARGE, catalogue.on_resume(catalogue.shifted_range(1000))) as server:
        outcome = fetching.get(server)

        assert isinstance(outcome.failure, NetworkError)
        assert len(server.log) <= 2 * fetching.limits.tries * fetching.limits.connections


def test_a_server_without_ranges_is_read_from_start_to_end(fetching: Fetching):
    with FaultServer(LARGE, catalogue.range_ignored()) as server:
        outcome = fetching.get(server)

        assert outcome.bytes == LARGE.body
        assert refetched(server) <= PIECE


def test_a_200_to_a_range_restarts_at_0_and_says_so(fetching: Fetching):
    broken = catalogue.first(2, catalogue.range_ignored(after=SIZE // 3), catalogue.range_ignored())
    with FaultServer(LARGE, catalogue.first(1, catalogue.reset(after=CUT), broken)) as server:
        outcome = fetching.get(server)

        assert outcome.bytes == LARGE.body
        assert refetched(server) <= CUT + 2 * (SIZE // 3) + PIECE
        assert "start" in outcome.said


@pytest.mark.parametrize("content", [UNNAMED, WEAK], ids=["none", "weak"])
class TestWithoutStrongValidator:
    def test_a_part_is_continued_because_its_hash_is_known(
        self, fetching: Fetching, content: Content
    ):
        with FaultServer(content, catalogue.first(3, catalogue.reset(after=CUT))) as server:
            outcome = fetching.get(server, content)

            assert outcome.bytes == content.body
            assert refetched(server) <= PIECE
            conditions = {request.header("if-range") for request in server.log}
            assert conditions == {None}

    def test_the_next_run_uses_what_the_failed_one_left(self, fetching: Fetching, content: Content):
        dies = catalogue.after_bytes(SIZE // 2, catalogue.status(503))
        with FaultServer(content, dies) as server:
            assert isinstance(fetching.get(server, content).failure, NetworkError)
        with FaultServer(content) as server:
            outcome = fetching.get(server, content)

            assert outcome.bytes == content.body
            assert server.sent <= SIZE // 2 + PIECE

    def test_without_a_hash_nothing_is_joined_over_a_break(
        self, fetching: Fetching, content: Content
    ):
        changed = Content(noise(SIZE, seed=9), content.etag, content.last_modified)
        broken = catalogue.first(1, catalogue.reset(after=SIZE // 3), catalogue.serves(changed))
        with FaultServer(content, catalogue.first(1, honest, broken)) as server:
            outcome = fetching.get(server, content, digests=())

            assert outcome.bytes in {content.body, changed.body}


def test_a_server_that_answers_416_to_everything_is_given_up(fetching: Fetching):
    with FaultServer(LARGE, catalogue.unsatisfiable) as server:
        assert isinstance(fetching.get(server).failure, NetworkError | IntegrityError)
        assert len(server.log) <= 2 * fetching.limits.tries


@pytest.mark.parametrize("times", [1, 2])
def test_a_416_for_a_range_that_exists_restarts_at_0(fetching: Fetching, times: int):
    refusing = catalogue.on_resume(catalogue.first(times, catalogue.unsatisfiable))
    fault = catalogue.first(1, catalogue.reset(after=CUT), refusing)
    with FaultServer(LARGE, fault) as server:
        assert fetching.get(server).bytes == LARGE.body
        assert refetched(server) <= SIZE


def test_a_server_that_refuses_every_later_range_is_read_in_one_go(fetching: Fetching):
    with FaultServer(LARGE, catalogue.on_resume(catalogue.unsatisfiable)) as server:
        assert fetching.get(server).bytes == LARGE.body
        assert refetched(server) <= SIZE
