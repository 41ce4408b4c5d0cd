"""A damaged file mended by the engine: what is asked of the server, and what stands afterwards."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from modelbay.errors import UpstreamChanged, WrongBytes
from modelbay.location import Http
from modelbay.transfer import Damaged, journal
from modelbay.transfer.front import Hasher
from modelbay.transfer.limits import SUM_SIZE
from tests.faults.harness import QUICK, Fetching, Outcome
from tests.faults.server import MIB, Content, Exchange, FaultServer, noise, other_version

SIZE = 65 * MIB + 12_345
LARGE = Content(noise(SIZE, seed=7))
PIECES = 5


def sums_of(body: bytes) -> tuple[bytes, ...]:
    hasher = Hasher(set(), None)
    hasher.feed(memoryview(body))
    return hasher.sums()


SUMS = sums_of(LARGE.body)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(LARGE) as server:
        yield server


@dataclass
class Mending:
    """A copy of the large file, wrong at some places, and an engine that is to mend it."""

    folder: Path
    server: FaultServer

    def __post_init__(self) -> None:
        self.fetching = Fetching(self.folder, replace(QUICK, stall=5.0, first_byte=5.0))
        self.damaged = self.folder / "damaged.bin"
        self.damaged.write_bytes(LARGE.body)

    def flip(self, *places: int) -> None:
        with self.damaged.open("r+b") as file:
            for place in places:
                file.seek(place)
                file.write(bytes([LARGE.body[place] ^ 1]))

    def run(self, *, sums: tuple[bytes, ...] = SUMS) -> Outcome:
        """Mends it, and sees that the file in place is as it was."""
        before = self.damaged.read_bytes()
        url = self.server.url()
        order = self.fetching.order(lambda: Http(url), LARGE)
        order = replace(order, damaged=Damaged(self.damaged, sums))
        outcome = self.fetching.run(order)
        assert self.damaged.read_bytes() == before
        return outcome

    @property
    def part(self) -> Path:
        return self.folder / "parts/model.bin.part"


@pytest.fixture
def mending(tmp_path: Path, server: FaultServer) -> Iterator[Mending]:
    mending = Mending(tmp_path, server)
    yield mending
    mending.fetching.client.close()


def asked(server: FaultServer) -> Sequence[str | None]:
    return [request.header("range") for request in server.gets]


def piece(number: int) -> str:
    start = number * SUM_SIZE
    return f"bytes={start}-{min(start + SUM_SIZE, SIZE) - 1}"


def test_one_flipped_byte_costs_one_range_of_one_piece(mending: Mending) -> None:
    mending.flip(40 * MIB)

    outcome = mending.run()

    assert outcome.bytes == LARGE.body
    assert asked(mending.server) == [piece(2)]
    assert outcome.fetched is not None
    assert outcome.fetched.sums == SUMS


def test_every_bad_piece_is_found_in_one_pass(mending: Mending) -> None:
    mending.flip(0, 17 * MIB, SIZE - 1)

    outcome = mending.run()

    assert outcome.bytes == LARGE.body
    assert asked(mending.server) == [piece(0), piece(1), piece(4)]


def test_a_file_that_was_cut_short_keeps_what_it_has(mending: Mending) -> None:
    os.truncate(mending.damaged, 40 * MIB)

    outcome = mending.run()

    assert outcome.bytes == LARGE.body
    assert min(mending.server.starts) == 2 * SUM_SIZE
    assert mending.server.sent == SIZE - 2 * SUM_SIZE


def test_a_file_that_grew_loses_its_end_and_costs_nothing(mending: Mending) -> None:
    with mending.damaged.open("ab") as file:
        file.write(noise(MIB))

    outcome = mending.run()

    assert outcome.bytes == LARGE.body
    assert asked(mending.server) == []


def test_an_empty_file_comes_whole_over_several_connections(mending: Mending) -> None:
    os.truncate(mending.damaged, 0)

    outcome = mending.run()

    assert outcome.bytes == LARGE.body
    assert mending.server.sent == SIZE
    assert mending.server.connections > 1


def test_without_sums_it_comes_whole(mending: Mending) -> None:
    mending.flip(40 * MIB)

    outcome = mending.run(sums=())

    assert outcome.bytes == LARGE.body
    assert mending.server.sent == SIZE


def test_sums_of_another_file_are_not_believed(mending: Mending) -> None:
    mending.flip(40 * MIB)

    outcome = mending.run(sums=sums_of(noise(SIZE, seed=8)))

    assert outcome.bytes == LARGE.body
    assert mending.server.sent == SIZE


def test_a_server_without_ranges_sends_it_whole_and_the_person_hears_so(mending: Mending) -> None:
    def whole_only(exchange: Exchange) -> None:
        reply = exchange.reply()
        reply.headers.pop("Content-Range", None)
        reply.headers["Accept-Ranges"] = "none"
        exchange.deliver(replace(reply, status=200, body=memoryview(LARGE.body)))

    mending.flip(40 * MIB)
    mending.server.fault = whole_only

    outcome = mending.run()

    assert outcome.bytes == LARGE.body
    assert "no parts" in outcome.said


def test_a_server_with_other_bytes_is_refused_before_the_rest_is_fetched(mending: Mending) -> None:
    mending.flip(40 * MIB)
    mending.server.content = other_version(LARGE)

    error = mending.run().failure

    assert isinstance(error, WrongBytes)
    assert asked(mending.server) == [piece(2), piece(2)]


def test_a_server_with_a_file_of_another_size_is_refused(mending: Mending) -> None:
    mending.flip(40 * MIB)
    mending.server.content = Content(noise(SIZE + 1, seed=7))

    error = mending.run().failure

    assert isinstance(error, UpstreamChanged)
    assert len(mending.server.gets) == 1


def test_the_same_bytes_under_a_new_validator_do(mending: Mending) -> None:
    def renamed(exchange: Exchange) -> None:
        if len(exchange.server.gets) > 1:
            exchange.server.content = replace(LARGE, etag='"renamed"')
        exchange.deliver(exchange.reply())

    mending.flip(0, 40 * MIB)
    mending.server.fault = renamed

    outcome = mending.run()

    assert outcome.bytes == LARGE.body
    assert "validator changed" in outcome.said


def test_a_connection_that_breaks_off_goes_on_where_it_was(mending: Mending) -> None:
    def broken_once(exchange: Exchange) -> None:
        first = len(exchange.server.gets) == 1
        exchange.deliver(exchange.reply(), upto=MIB if first else None)
        if first:
            exchange.reset()

    mending.flip(40 * MIB)
    mending.server.fault = broken_once

    outcome = mending.run()

    assert outcome.bytes == LARGE.body
    end = 3 * SUM_SIZE - 1
    assert asked(mending.server) == [piece(2), f"bytes={2 * SUM_SIZE + MIB}-{end}"]


def test_pieces_that_an_earlier_run_mended_are_not_asked_for_again(mending: Mending) -> None:
    mending.flip(0, 40 * MIB)
    mending.part.parent.mkdir(exist_ok=True)
    mending.part.write_bytes(LARGE.body[: 20 * MIB])
    identity = str(LARGE.sha256)
    journal.write(mending.part, journal.Journal(SIZE, identity, ((0, SUM_SIZE),)))

    outcome = mending.run()

    assert outcome.bytes == LARGE.body
    assert asked(mending.server) == [piece(2)]


def test_a_part_that_is_damaged_itself_is_judged_like_the_file(mending: Mending) -> None:
    mending.flip(0)
    mending.part.parent.mkdir(exist_ok=True)
    shutil.copy(mending.damaged, mending.part)
    identity = str(LARGE.sha256)
    journal.write(mending.part, journal.Journal(SIZE, identity, ((0, SIZE),)))

    outcome = mending.run()

    assert outcome.bytes == LARGE.body
    assert asked(mending.server) == [piece(0)]
