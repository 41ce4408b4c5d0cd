"""What becomes of parts: wrong bytes are put aside, links are not written through, and nobody
writes to one that is sealed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelbay import files
from modelbay.errors import DiskError, WrongBytes
from modelbay.transfer import Limits, journal
from modelbay.transfer.bucket import Bucket
from modelbay.transfer.effort import Effort
from modelbay.transfer.front import Buffers
from modelbay.transfer.journal import Journal
from modelbay.transfer.order import Order, Progress, Stop
from modelbay.transfer.pieces import PieceMap
from modelbay.transfer.ranged import Ranged
from tests.faults import catalogue
from tests.faults.harness import SMALL, Fetching
from tests.faults.server import MIB, Content, Exchange, FaultServer, noise, other_version

LARGE = Content(noise(5 * MIB, seed=9))


@pytest.fixture
def fetching(tmp_path: Path) -> Iterator[Fetching]:
    made = Fetching(tmp_path)
    yield made
    made.client.close()


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_wrong_bytes_lie_in_quarantine_until_the_right_ones_came(
    fetching: Fetching, content: Content
):
    kept = fetching.folder / "quarantine/model.bin.part"
    with FaultServer(content, catalogue.wrong_bytes(offset=MIB)) as server:
        assert isinstance(fetching.get(server, content).failure, WrongBytes)

    wrong = kept.read_bytes()
    assert (len(wrong), wrong == content.body) == (len(content.body), False)
    assert list((fetching.folder / "parts").iterdir()) == []
    with FaultServer(content) as server:
        assert fetching.get(server, content).bytes == content.body
    assert not kept.exists()


def test_a_server_that_takes_no_notice_of_if_range_gives_no_joined_file(fetching: Fetching):
    newer = other_version(LARGE)

    def careless(exchange: Exchange) -> None:
        request = exchange.request
        request.headers = tuple(pair for pair in request.headers if pair[0] != "if-range")
        exchange.deliver(exchange.reply(newer if exchange.server.sent > MIB else LARGE))

    with FaultServer(LARGE, careless) as server:
        outcome = fetching.get(server, LARGE, digests=())

    assert outcome.bytes == newer.body


def test_a_range_that_starts_elsewhere_is_not_used_where_no_hash_would_tell(fetching: Fetching):
    fault = catalogue.on_resume(catalogue.first(2, catalogue.shifted_range(1000)))
    with FaultServer(LARGE, fault) as server:
        assert fetching.get(server, LARGE, digests=()).bytes == LARGE.body


def test_a_part_that_is_a_planted_link_is_not_written_through(fetching: Fetching):
    canary, part = fetching.folder / "canary", fetching.folder / "parts/model.bin.part"
    canary.write_bytes(b"canary")
    part.parent.mkdir()
    part.symlink_to(canary)
    journal.write(part, Journal(len(LARGE.body), str(LARGE.sha256), ((0, 4),), LARGE.etag))

    with FaultServer(LARGE) as server:
        assert isinstance(fetching.get(server, LARGE).failure, DiskError)

    assert canary.read_bytes() == b"canary"


def test_a_connection_that_is_late_writes_nothing_to_a_sealed_part(tmp_path: Path):
    part = tmp_path / "model.part"
    descriptor = files.open_part(part)
    order = Order("model", 4, (), part, locate=lambda: pytest.fail("nobody asks"))
    nobody: Any = None
    limits = Limits()
    run = Ranged(
        remote=nobody, order=order, progress=Progress(), stop=Stop(), limits=limits,
        bucket=Bucket(None), buffers=Buffers(1), tries=nobody, effort=Effort(),
        descriptor=descriptor, pieces=PieceMap(4, 4), identity="",
    )  # fmt: skip

    before = run._write(memoryview(b"good"), 0)
    run._seal()
    after = run._write(memoryview(b"late"), 0)

    files.close(descriptor)
    assert (before, after, part.read_bytes()) == (True, False, b"good")
