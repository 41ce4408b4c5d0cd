"""`make bench`: modelbay beside its peers, in one run, in turn, over TLS on loopback.

run.py [--only large|small|memory|startup|library|contract]... [--rounds N] [--size MIB] [--files N]
       [--disk DIR] [--shm DIR] [--peers-only] [--json FILE]
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import races
from contract import unchanged
from library import growth
from measure import BenchFailed, Cost, in_turn, middle, run_once
from peers import Peers, beside_python, find_peers
from report import Figure, costs_as_json, print_costs, print_figures
from server import EIGHT, MIB, serving
from startup import needless_modules, starts

PARTS = ("startup", "library", "contract", "large", "small", "memory")
STARTS = 10
OUT = Path(__file__).parent / "out"


class Bench:
    """One run: what takes part, what was measured, what came of it."""

    def __init__(self, options: argparse.Namespace, peers: Peers) -> None:
        self.options = options
        self.peers = peers
        self.modelbay = None if options.peers_only else str(options.modelbay.absolute())
        self.costs: dict[str, dict[str, list[Cost]]] = {}
        self.figures: list[Figure] = []

    def startup(self, home: Path) -> float:
        """The CPU seconds of `modelbay --version`, which the large race subtracts."""
        cpu = starts(self.modelbay, home, STARTS)
        self.figures.append(Figure("CPU of python -c pass", cpu["python -c pass"], "s"))
        if not self.modelbay:
            return 0.0
        version = cpu["modelbay --version"]
        self.figures.append(Figure("CPU of modelbay --version", version, "s", 0.15))
        self.figures.append(Figure("CPU of modelbay --help", cpu["modelbay --help"], "s"))
        if "startup" in self.options.only:
            needless = needless_modules(home)
            print(f"needless modules in --help: {', '.join(needless) or 'none'}")
            self.figures.append(Figure("needless modules in --help", len(needless), "", 0))
        return version

    def large(self, field: races.Field, medium: str, start: float) -> None:
        costs = self._race(f"{self.options.size} MiB, {medium}", races.large(field))
        if not self.modelbay:
            return
        ours, aria2 = middle(costs[races.MODELBAY]), middle(costs[races.ARIA2])
        curl = middle(costs[races.CURL_OPENSSL])
        self.figures += [
            Figure(f"large, {medium}: wall ÷ aria2", ours.wall / aria2.wall, "×", 0.75, 0.6),
            Figure(f"large, {medium}: wall ÷ (curl, openssl)", ours.wall / curl.wall, "×", 1.05, 0.9),
            Figure(f"large, {medium}: CPU beyond start ÷ aria2",
                   (ours.cpu - start) / aria2.cpu, "×", 1.3, 1.0),
        ]  # fmt: skip

    def small(self, field: races.Field, medium: str, *, hopped: bool) -> None:
        way = "small, 307 each" if hopped else "small"
        title = f"{self.options.files} files of 4 KiB{', 307 each' if hopped else ''}, {medium}"
        costs = self._race(title, races.small(field, hopped=hopped))
        if not self.modelbay:
            return
        ours, theirs = (middle(runs).wall for runs in costs.values())
        bounds = () if hopped else (0.4, 0.25)
        self.figures.append(Figure(f"{way}, {medium}: wall ÷ hf", ours / theirs, "×", *bounds))
        if not hopped:
            self._count_syncs(field, medium)

    def memory(self, field: races.Field, medium: str) -> None:
        if not self.modelbay:
            return
        needed = EIGHT * self.options.size * MIB * 1.1
        if shutil.disk_usage(field.medium).free < needed:
            print(f"\nmemory, {medium}: left out, it needs {needed / 1e9:.0f} GB of room")
            return
        racer = races.eight(field)
        cost = run_once(racer)
        shutil.rmtree(racer.base)
        title = f"{EIGHT} × {self.options.size} MiB at once, {medium}"
        self.costs[title] = {racer.name: [cost]}
        print_costs(title, self.costs[title])
        self.figures.append(Figure(f"memory, {medium}: peak of eight", cost.peak / 1e6, "MB", 150))

    def _race(self, title: str, racers: list[races.Contestant]) -> dict[str, list[Cost]]:
        print(f"\n{title}")
        costs = in_turn(racers, self.options.rounds, lambda line: print(line, flush=True))
        self.costs[title] = costs
        print_costs(title, costs)
        return costs

    def _count_syncs(self, field: races.Field, medium: str) -> None:
        """An extra, untimed run under strace: is each file really asked onto the disk?"""
        strace = shutil.which("strace")
        if strace is None:
            print(f"small, {medium}: fsyncs not counted, there is no strace")
            return
        racer = races.small(field, hopped=False)[0]
        counted = field.medium / "syncs"
        trace = [strace, "-f", "-qq", "-o", str(counted), "-e", "trace=fsync,fdatasync,syncfs,sync"]
        run_once(races.wrapped(racer, trace))
        shutil.rmtree(racer.base)
        with counted.open() as lines:
            syncs = sum("resumed" not in line and "sync" in line for line in lines)
        counted.unlink()
        print(
            f"small, {medium}: {syncs} fsync, fdatasync and syncfs calls for {self.options.files} files"
        )


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        bench = Bench(options, find_peers())
        facts = _facts(bench)
    except BenchFailed as failed:
        return _say_failed(failed)
    code = 0
    try:
        with _media(options) as media, tempfile.TemporaryDirectory(dir=options.shm) as served:
            _run_parts(bench, media, Path(served))
    except BenchFailed as failed:
        code = _say_failed(failed)
    print_figures(bench.figures)
    if options.json:
        _write_json(options.json, bench, facts)
    return code


def _say_failed(failed: BenchFailed) -> int:
    print(f"bench: {failed}", file=sys.stderr)
    return 70


def _run_parts(bench: Bench, media: dict[str, Path], served: Path) -> None:
    only, options = bench.options.only, bench.options
    first = next(iter(media.values()))
    start = bench.startup(first) if {"startup", "large"} & only else 0.0
    if "library" in only and bench.modelbay:
        bench.figures += growth(sys.executable, first)
    if "contract" in only and bench.modelbay:
        bench.figures += unchanged(sys.executable, bench.modelbay, first)
    if only <= {"startup", "library", "contract"}:
        return
    with serving(bench.peers, served, mebibytes=options.size, small_files=options.files) as server:
        for medium, folder in media.items():
            field = races.Field(bench.peers, bench.modelbay, server, folder)
            if "large" in only:
                bench.large(field, medium, start)
            if "small" in only:
                bench.small(field, medium, hopped=False)
                if folder is first:
                    bench.small(field, medium, hopped=True)
            if "memory" in only:
                bench.memory(field, medium)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="modelbay beside its peers, over TLS on loopback")
    parser.add_argument("--only", action="append", choices=PARTS, help="may be given several times")
    parser.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="after one discarded round (5)"
    )
    parser.add_argument(
        "--size", type=int, default=1024, metavar="MIB", help="of a large file (1024)"
    )
    parser.add_argument("--files", type=int, default=2000, metavar="N", help="small ones (2000)")
    parser.add_argument(
        "--shm", type=Path, default=Path("/dev/shm"), metavar="DIR", help="a folder in memory"
    )
    parser.add_argument(
        "--disk", type=Path, default=OUT, metavar="DIR", help="a folder on a disk (bench/out)"
    )
    parser.add_argument(
        "--modelbay",
        type=Path,
        default=beside_python("modelbay"),
        metavar="PROGRAM",
        help="another than that beside this Python",
    )
    parser.add_argument("--peers-only", action="store_true", help="without modelbay")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every run and every figure")
    options = parser.parse_args()
    options.only = frozenset(options.only or PARTS)
    if min(options.rounds, options.size, options.files) < 1:
        parser.error("--rounds, --size and --files begin at 1")
    return options


@contextlib.contextmanager
def _media(options: argparse.Namespace) -> Iterator[dict[str, Path]]:
    """A folder of our own in memory and on disk, both gone afterwards."""
    options.disk.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="modelbay-bench-", dir=options.shm) as shm,
        tempfile.TemporaryDirectory(prefix="modelbay-bench-", dir=options.disk) as disk,
    ):
        yield {str(options.shm): Path(shm), "disk": Path(disk)}


def _facts(bench: Bench) -> dict[str, Any]:
    """What a reader must know of the machine, printed before anything is measured."""
    load = os.getloadavg()[0]
    facts: dict[str, Any] = {
        "python": sys.version.split()[0],
        "cores": os.cpu_count(),
        "load": round(load, 2),
        "disk": _file_system(bench.options.disk),
        "peers": bench.peers.versions(),
    }
    peers = ", ".join(f"{name} {version}" for name, version in facts["peers"].items())
    print(f"{peers}; Python {facts['python']}; {facts['cores']} cores; disk is {facts['disk']}")
    if load > 0.3:
        print(f"the machine is busy (load {load:.1f}): the ratios are good for little", flush=True)
    return facts


def _file_system(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    asked = subprocess.run(
        ["df", "--output=fstype", str(folder)], capture_output=True, text=True, check=False
    )
    return asked.stdout.split()[-1] if asked.returncode == 0 else "unknown"


def _write_json(target: Path, bench: Bench, facts: dict[str, Any]) -> None:
    document = {
        "facts": facts,
        "rounds": bench.options.rounds,
        "figures": [figure.as_json() for figure in bench.figures],
        "runs": {title: costs_as_json(costs) for title, costs in bench.costs.items()},
    }
    target.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
