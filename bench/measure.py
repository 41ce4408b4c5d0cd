"""What a program costs: wall time, CPU and peak memory, as the kernel accounts for it."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

MOST_SECONDS = 900


class BenchFailed(Exception):
    """A program failed, or gave the wrong bytes: there is nothing to compare."""


@dataclass(frozen=True, slots=True)
class Cost:
    wall: float
    """Seconds from start to the end of the process."""
    cpu: float
    """User and system seconds, of the process and the children it waited for."""
    peak: int
    """The largest resident set of any one of them, in bytes."""

    def __add__(self, later: "Cost") -> "Cost":
        """One after the other."""
        return Cost(self.wall + later.wall, self.cpu + later.cpu, max(self.peak, later.peak))


@dataclass(frozen=True, slots=True)
class Contestant:
    name: str
    commands: Sequence[Sequence[str]]
    """Run one after the other; their costs add up."""
    env: Mapping[str, str]
    base: Path
    """Emptied before each run. Everything the contestant writes lies in here."""
    files: Mapping[str, str]
    """Files that stand in `base` before the run, such as its settings: name to text."""
    check: Callable[[], None]
    """Untimed, after each run. Raises BenchFailed when the result is not what was asked for."""

    @property
    def log(self) -> Path:
        return self.base / "bench.log"


def run(argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> Cost:
    """The cost of one program. Raises BenchFailed with its last lines when it fails."""
    with log.open("ab") as out:
        start = time.monotonic()
        child = subprocess.Popen(
            argv,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        watchdog = threading.Timer(MOST_SECONDS, os.killpg, (child.pid, signal.SIGKILL))
        watchdog.start()
        try:
            _, status, used = os.wait4(child.pid, 0)
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise
        finally:
            watchdog.cancel()
        wall = time.monotonic() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        said = log.read_text("utf-8", "replace").splitlines()[-12:]
        raise BenchFailed(f"{' '.join(argv)} ended with {child.returncode}:\n" + "\n".join(said))
    kib = 1 if os.uname().sysname == "Darwin" else 1024
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * kib)


def run_once(contestant: Contestant) -> Cost:
    """One run from an empty folder, with nobody's unwritten pages in its way."""
    shutil.rmtree(contestant.base, ignore_errors=True)
    contestant.base.mkdir(parents=True)
    for name, text in contestant.files.items():
        (contestant.base / name).write_text(text)
    os.sync()
    costs = [
        run(argv, contestant.env, contestant.base, contestant.log) for argv in contestant.commands
    ]
    contestant.check()
    return sum(costs[1:], costs[0])


def in_turn(
    contestants: Sequence[Contestant], rounds: int, say: Callable[[str], None]
) -> dict[str, list[Cost]]:
    """A B C, A B C, …: whatever slows the machine meets all of them. The first round is discarded.

    A contestant's folder is removed as soon as its run is over, so that all of them find the
    same room and the same caches.
    """
    costs: dict[str, list[Cost]] = {each.name: [] for each in contestants}
    for number in range(rounds + 1):
        for each in contestants:
            cost = run_once(each)
            shutil.rmtree(each.base)
            mark = "discarded" if number == 0 else f"{number} of {rounds}"
            say(f"  {each.name:<28} {cost.wall:7.2f} s  {cost.cpu:6.2f} s of CPU  ({mark})")
            if number:
                costs[each.name].append(cost)
    return costs


def middle(costs: Sequence[Cost]) -> Cost:
    """The median of each figure for itself; of memory, the highest that was seen."""
    return Cost(
        median(each.wall for each in costs),
        median(each.cpu for each in costs),
        max(each.peak for each in costs),
    )
