"""Death without warning: row 55. A child fetches, and is killed at seeded random instants."""

import hashlib
import itertools
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults import child
from tests.faults.server import MIB, Content, FaultServer, Request, noise

SIZE = 40 * MIB
LARGE = Content(noise(SIZE))
JOURNAL_SECONDS = 0.25
"""A quarter of what people get, so that a life may be as short and means the same."""
BANDWIDTH = 48 * MIB
BUFFERS = 4 * MIB
"""What the server's and the kernel's buffers may hold that the child never read."""


@dataclass
class Life:
    """One child from start to end."""

    killed: bool
    seconds: float
    """From its first request to its end; 0 when it made none."""
    requests: list[Request] = field(default_factory=list)
    published: bool = False
    """The final name stood there when it ended."""

    @property
    def lowest(self) -> int:
        return min(request.start for request in self.requests)


@dataclass
class Killer:
    folder: Path
    server: FaultServer
    seed: int
    lives: list[Life] = field(default_factory=list)
    finished: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.final = self.folder / "model.bin"

    def live(self, longest: float) -> Life:
        """Starts a child and kills it up to `longest` seconds after its first request."""
        before = len(self.server.log)
        process = self._start()
        ended = _wait_until(lambda: len(self.server.log) > before, process)
        begun = time.monotonic()
        if not ended:
            try:
                process.wait(timeout=self.random.uniform(0, longest))
                ended = True
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
        self.server.await_idle()
        requests = self.server.log[before:]
        seconds = time.monotonic() - begun if requests else 0.0
        life = Life(not ended, seconds, requests, self.final.exists())
        self.lives.append(life)
        assert not ended or process.returncode == 0
        if life.published:
            self._harvest()
        return life

    def _start(self) -> subprocess.Popen[bytes]:
        facts = [self.server.url(), self.folder, SIZE, LARGE.sha256.hex]
        command = [sys.executable, "-P", child.__file__, *facts, BANDWIDTH, JOURNAL_SECONDS]
        return subprocess.Popen(list(map(str, command)), cwd=self.folder)

    def _harvest(self) -> None:
        assert hashlib.sha256(self.final.read_bytes()).hexdigest() == LARGE.sha256.hex
        self.final.unlink()
        self.finished += 1

    def sentence(self) -> str:
        killed = sum(life.killed for life in self.lives)
        ranged = sum(1 for life in self.lives if life.requests and life.lowest > 0)
        return (
            f"{killed} kills, {self.finished} files whole, {ranged} lives began past byte 0, "
            f"{self.server.sent / SIZE / max(1, self.finished):.2f} bytes sent per byte kept"
        )


def _wait_until(condition, process: subprocess.Popen[bytes]) -> bool:
    """Waits for `condition`; True when the process ended first."""
    while not condition():
        try:
            process.wait(timeout=0.005)
        except subprocess.TimeoutExpired:
            continue
        return True
    return False


def assert_restarts_are_rare(lives: list[Life]) -> None:
    """After a life in which a journal was due for sure, the next one goes on past byte 0."""
    for life, following in itertools.pairwise(lives):
        due = life.seconds > 2 * JOURNAL_SECONDS and not life.published
        assert not (due and following.requests) or following.lowest > 0


@pytest.mark.parametrize("kills", [12, pytest.param(200, marks=pytest.mark.real)])
def test_a_killed_fetch_goes_on_and_no_final_is_ever_wrong(tmp_path: Path, kills: int):
    with FaultServer(LARGE) as server:
        killer = Killer(tmp_path, server, seed=kills)
        while sum(life.killed for life in killer.lives) < kills:
            killer.live(longest=0.7)
        killer.live(longest=60)

        print(killer.sentence())
        assert killer.finished
        assert_restarts_are_rare(killer.lives)
        wasted = server.sent - killer.finished * SIZE
        assert wasted <= kills * (BANDWIDTH * JOURNAL_SECONDS + BUFFERS)
        # A death inside `write_atomic` leaves its temporary, a few hundred bytes, unswept so far.
        left = [path.name for path in tmp_path.iterdir()]
        assert [name for name in left if not name.startswith(".model.journal.")] == []
