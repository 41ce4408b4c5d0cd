"""In which order a fetch reaches the disk, by its system calls; a disk that is full; SIGTERM."""

import json
import random
import re
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelbay.transfer.journal import path_of
from modelbay.transfer.pieces import merged
from tests.getting import MIB, NAME, Getting, getting

pytestmark = pytest.mark.real

SIZE = 20 * MIB
CALLS = "pwrite64,fsync,fdatasync,rename,renameat2,unlink,unlinkat"
_CALL = re.compile(r"(\d+) +(\w+)\((.*)")
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)")
_SPANS = re.compile(r'spans[\\"]+:(\[\[[\d,\[\]]*\]\])')


@dataclass(frozen=True)
class Call:
    """One system call: between which lines of the trace it was under way, and what it said."""

    began: int
    ended: int
    name: str
    text: str

    @property
    def file(self) -> str:
        """The path behind the first descriptor."""
        return self.text.partition("<")[2].partition(">")[0]

    @property
    def span(self) -> tuple[int, int]:
        """What a pwrite64 wrote."""
        found = re.search(r", (\d+), (\d+)\) += (\d+)$", self.text)
        assert found is not None, self.text[-80:]
        return int(found[2]), int(found[2]) + int(found[3])


def calls_in(trace: Path) -> list[Call]:
    """The calls that succeeded, by their end."""
    under_way: dict[str, tuple[int, str, str]] = {}
    calls: list[Call] = []
    for number, line in enumerate(trace.read_text(errors="replace").splitlines()):
        if resumed := _RESUMED.fullmatch(line):
            began, name, text = under_way.pop(resumed[1])
            calls.append(Call(began, number, name, text + resumed[3]))
        elif call := _CALL.fullmatch(line):
            if call[3].endswith("<unfinished ...>"):
                start = call[3].removesuffix("<unfinished ...>").rstrip()
                under_way[call[1]] = (number, call[2], start)
            else:
                calls.append(Call(number, number, call[2], call[3]))
    return [call for call in calls if re.search(r"\) += \d+$", call.text)]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Getting, list[Call]]]:
    folder = tmp_path_factory.mktemp("traced")
    with getting(folder / "models", folder, size=SIZE) as get:
        strace = ("strace", "-f", "-y", "-s", "4096", "-o", str(folder / "trace"))
        code, said = get.run(*strace, "-e", f"trace={CALLS}", bandwidth="8MB/s")
        assert code == 0, said
        yield get, calls_in(folder / "trace")


def writes(calls: Sequence[Call], path: Path) -> list[Call]:
    return [call for call in calls if call.name == "pwrite64" and call.file == str(path)]


def syncs(calls: Sequence[Call], path: Path) -> list[Call]:
    names = {"fsync", "fdatasync"}
    return [call for call in calls if call.name in names and call.file == str(path)]


def publication(calls: Sequence[Call], name: str) -> Call:
    (found,) = (c for c in calls if c.name.startswith("rename") and f'"{name}"' in c.text)
    return found


def test_no_journal_claims_a_byte_that_was_not_synced_before(traced):
    get, calls = traced
    temporary = get.part.parent / f".{path_of(get.part).name}.new.tmp"
    journals = writes(calls, temporary)

    for written in journals:
        before = [sync for sync in syncs(calls, get.part) if sync.ended < written.began]
        assert before, "a journal without a sync of its data"
        durable = [
            write.span for write in writes(calls, get.part) if write.ended < before[-1].began
        ]
        spans = _SPANS.search(written.text)
        assert spans is not None
        claimed = [(start, end) for start, end in json.loads(spans[1])]
        assert merged([*durable, *claimed]) == merged(durable)
    print(f"{len(journals)} journals")
    assert len(journals) >= 2


def test_a_journal_is_synced_before_it_takes_its_name(traced):
    get, calls = traced
    temporary = get.part.parent / f".{path_of(get.part).name}.new.tmp"
    renames = [c for c in calls if c.name == "rename" and f'"{temporary}"' in c.text]

    for rename in renames:
        write = [w for w in writes(calls, temporary) if w.ended < rename.began][-1]
        assert [s for s in syncs(calls, temporary) if write.ended < s.began < rename.began]
    assert len(renames) >= 2


def test_a_file_gets_its_name_after_all_of_it_was_synced_and_is_never_written_again(traced):
    get, calls = traced
    renamed = publication(calls, NAME)
    last = max(write.ended for write in writes(calls, get.part))

    assert last < renamed.began
    final_syncs = [s for s in syncs(calls, get.part) if last < s.began < renamed.began]
    assert any(sync.name == "fsync" for sync in final_syncs)


def test_a_small_file_is_synced_before_it_gets_its_name(traced):
    _, calls = traced
    renamed = publication(calls, "config.json")
    found = re.search(r'"([^"]+\.part)"', renamed.text)
    assert found is not None
    (written,) = writes(calls, Path(found[1]))

    assert [s for s in syncs(calls, Path(found[1])) if written.ended < s.began < renamed.began]


@pytest.mark.parametrize("name", [NAME, "config.json"])
def test_a_name_is_durable_before_what_it_was_made_from_is_forgotten(traced, name: str):
    get, calls = traced
    renamed = publication(calls, name)
    durable = [s for s in syncs(calls, get.folder) if s.began > renamed.ended]

    assert durable
    if name == NAME:
        (forgotten,) = (
            c for c in calls
            if c.name.startswith("unlink") and f'"{path_of(get.part)}"' in c.text
        )  # fmt: skip
        assert durable[0].ended < forgotten.began


def test_each_byte_is_written_once(traced):
    get, calls = traced
    spans = [write.span for write in writes(calls, get.part)]

    assert merged(spans) == [(0, SIZE)]
    assert sum(end - start for start, end in spans) == SIZE


def under_strace(target: Path, fault: str) -> tuple[str, ...]:
    call = fault.partition(":")[0]
    injected = ("-e", f"trace={call}", "-e", f"inject={fault}", "-P", str(target))
    return ("strace", "-f", "-o", "/dev/null", *injected)


def a_run_that_left_a_journal(get: Getting) -> tuple[tuple[int, int], ...]:
    """Stops a run once its first journal is there; what it holds."""
    with get.start(bandwidth="8MB/s") as process:
        deadline = time.monotonic() + 20
        while not path_of(get.part).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=10)
    held = get.held()
    assert held, said
    return held


@pytest.mark.parametrize(
    "fault",
    [
        *("pwrite64:error=ENOSPC:when=1+", "pwrite64:error=EIO:when=3+"),
        *("fdatasync:error=EIO:when=1", "fsync:error=EIO:when=1"),
    ],
)
def test_a_disk_that_takes_no_more_of_the_part_keeps_what_is_there(tmp_path: Path, fault: str):
    with getting(tmp_path / "models", tmp_path, size=SIZE) as get:
        before = a_run_that_left_a_journal(get)

        code, said = get.run(*under_strace(get.part, fault), bandwidth="4MB/s")

        assert code == 7, said
        assert "Traceback" not in said
        assert ("is full (No space left on device)" in said) == ("ENOSPC" in fault)
        assert not get.final.exists()
        assert merged([*get.held(), *before]) == list(get.held())
        if "fdatasync" in fault:
            # Linux forgets the pages it could not write: a second, successful call proves nothing.
            assert get.held() == before
        get.resumes()


@pytest.mark.parametrize(
    "fault",
    [
        *("pwrite64:error=ENOSPC:when=1", "pwrite64:retval=7:when=1"),
        *("fsync:error=ENOSPC:when=1+", "rename:error=ENOSPC:when=1+"),
    ],
)
def test_a_disk_that_takes_no_journal_keeps_the_old_one(tmp_path: Path, fault: str):
    with getting(tmp_path / "models", tmp_path, size=SIZE) as get:
        before = a_run_that_left_a_journal(get)
        temporary = get.part.parent / f".{path_of(get.part).name}.new.tmp"

        code, said = get.run(*under_strace(temporary, fault), bandwidth="4MB/s")

        assert "Traceback" not in said
        if "retval" in fault:
            assert code == 0, said
            assert get.final.read_bytes() == get.body
            return
        assert code == 7, said
        assert not get.final.exists()
        assert merged([*get.held(), *before]) == list(get.held())
        assert list(get.part.parent.glob(".*.tmp")) == []
        get.resumes()


def test_a_run_that_is_asked_to_end_does_so_within_two_seconds_and_loses_nothing(tmp_path: Path):
    rng, took, held = random.Random(62), [], 0
    with getting(tmp_path / "models", tmp_path, size=64 * MIB) as get:
        for _ in range(20):
            before = len(get.hub.cdn_log)
            with get.start(bandwidth="2MB/s") as process:
                while len(get.hub.cdn_log) == before:
                    assert process.poll() is None
                    time.sleep(0.005)
                time.sleep(rng.uniform(0, 1.2))
                asked = time.monotonic()
                process.send_signal(signal.SIGTERM)
                _, said = process.communicate(timeout=10)
                took.append(time.monotonic() - asked)
            assert process.returncode == 128 + signal.SIGTERM, said
            now = sum(end - start for start, end in get.held())
            assert now >= held
            held = now
        assert held
        get.resumes()
    print(f"20 stops, the longest {max(took):.2f} s")
    assert max(took) < 2
