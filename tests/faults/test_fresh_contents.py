"""What nothing vouches for, and plans beside each other: more of what a second reader broke."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbay.digest import Digest
from modelbay.errors import NetworkError, UpstreamChanged, WrongBytes
from modelbay.library.dir import Dir
from modelbay.location import Http, Location, Stream
from modelbay.planner import make_plan
from modelbay.queue import Carrier, MemoryRows
from modelbay.safepath import SafeRelPath
from modelbay.selection import select
from modelbay.snapshot import ModelFile, Snapshot
from modelbay.transfer import held_bytes
from tests import fakes
from tests.faults import catalogue
from tests.faults.harness import SMALL, Fetching
from tests.faults.server import MIB, Content, FaultServer
from tests.faults.test_fresh_eyes import within


def test_a_source_that_does_not_answer_holds_up_its_own_plan_only(
    fetching: Fetching, tmp_path: Path
):
    answers = threading.Event()
    file = ModelFile(SafeRelPath.parse("model.bin"), len(SMALL.body), (SMALL.sha256,))
    many = [ModelFile(SafeRelPath.parse(f"{number}.txt"), len(SMALL.body)) for number in range(40)]
    with FaultServer(SMALL) as server:

        def locate(snapshot: Snapshot, _file: ModelFile) -> Location:
            if snapshot.ref.name == "org/silent":
                answers.wait(20)
            return Http(server.url())

        plans = []
        for name, files in (("org/silent", many), ("org/well", [file])):
            layout = Dir(tmp_path / name)
            selection = select(fakes.snapshot(name, files))
            plans.append((make_plan(selection, layout, held=held_bytes), layout))
        run = Carrier(fetching.engine, MemoryRows(), locate).start(plans)
        well = run.rows[-1]
        for _ in range(50):
            if well.ending or run.wait(0.1):
                break
        ending = well.ending
        answers.set()
        assert run.wait(10)

    assert ending == "done"
    assert {row.ending for row in run.rows} == {"done"}


class TestContents:
    def test_a_git_digest_is_checked_where_no_size_is_known(self, fetching: Fetching):
        content = Content(b"{}" * 100)
        wrong = Digest("git-sha1", "a" * 40)
        fault = catalogue.without_length()
        with FaultServer(content, fault) as server:
            outcome = fetching.get(server, content, size=None, digests=(wrong,))

        assert isinstance(outcome.failure, WrongBytes)

    @pytest.mark.parametrize("chunk", [b"one", b"two"])
    def test_a_stream_that_nothing_names_is_not_continued(self, fetching: Fetching, chunk: bytes):
        def breaking(_offset: int) -> Iterator[bytes]:
            yield b"one" * 1000
            raise NetworkError("it broke", hint="again")

        def whole(offset: int) -> Iterator[bytes]:
            yield (chunk * 2000)[offset:]

        content = Content(chunk * 2000)
        known = fetching.order(lambda: Stream(breaking), content, digests=())
        assert fetching.run(known).error
        outcome = fetching.run(fetching.order(lambda: Stream(whole), content, digests=()))

        assert outcome.bytes == content.body

    def test_a_stream_that_does_not_end_is_cut_at_its_size(self, fetching: Fetching):
        def endless(_offset: int) -> Iterator[bytes]:
            while True:
                yield bytes(MIB)

        order = fetching.order(lambda: Stream(endless), SMALL)
        outcome = within(5, lambda: fetching.run(order))

        assert isinstance(outcome.failure, UpstreamChanged)
