"""How modelbay and its peers bear the same 21 faults: one table, one command.

    python -m bench.faults [--sizes 8,40] [--tools curl,aria2,...] [--only reset,html]

Each tool gets the same file from the same fault server (tests/faults) and is run again when
it fails, as a person would, three runs in all. `hf` and `modelbay` see the faults behind a
small Hub that tells the file's size and sha256; curl and aria2 see the bare address.

✓ the right file · R refused, nothing under the final name · B refused, wrong bytes left under
the final name · ✗ success reported with wrong bytes
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.faults import catalogue as make
from tests.faults.server import MIB, Content, Fault, FaultServer, honest, noise, other_version

from bench.small_hub import REPO, SmallHub

TOKEN = "canaryCANARYcanary0123456789"
RUNS = 3
SECONDS = 120
NAME = "model.bin"


@dataclass(frozen=True)
class Case:
    """One fault. `fault` is made anew for each tool, since faults count."""

    name: str
    fault: Callable[[Content], Fault]
    bare: bool = False
    """The server names no version of the file."""
    signed: bool = False
    """The file's address leads to one that lives for half the file."""
    elsewhere: bool = False
    """The file's address leads to another host."""


def _after(then: Callable[[Content], Fault], times: int = 1) -> Callable[[Content], Fault]:
    """A reset half-way, `times` times, and then."""
    return lambda content: make.first(
        times, make.reset(after=len(content.body) // 2), then(content)
    )


CASES = [
    Case("reset ×2", _after(lambda _: honest, 2)),
    Case("early FIN ×2", lambda c: make.first(2, make.early_fin(len(c.body) // 2))),
    Case("reset ×2, no validators", _after(lambda _: honest, 2), bare=True),
    Case("honest short 200", lambda c: make.short(len(c.body) * 3 // 4)),
    Case("Range ignored", _after(lambda _: make.range_ignored())),
    Case("bytes changed, new ETag", _after(lambda c: make.serves(other_version(c)))),
    Case("bytes changed, same ETag", _after(lambda c: make.serves(other_version(c, etag=c.etag)))),
    Case("wrong Content-Range", _after(lambda _: make.first(1, make.shifted_range()))),
    Case(
        "right Content-Range, wrong bytes",
        _after(lambda _: make.on_resume(make.first(1, make.wrong_bytes()))),
    ),
    Case("HTML 200", lambda _: make.page()),
    Case("503 ×3", lambda _: make.first(3, make.status(503))),
    Case("429 + Retry-After", lambda _: make.first(1, make.rate_limited("1"))),
    Case("gzip-encoded body", lambda _: make.gzip_body),
    Case("no length, cut", lambda c: make.without_length(upto=len(c.body) // 2)),
    Case("stall", lambda c: make.first(1, make.stall(len(c.body) // 2, seconds=40))),
    Case("bit flip", lambda c: make.wrong_bytes(offset=len(c.body) // 2 + 5)),
    Case("signed URL dies, 403", _after(lambda _: honest), signed=True),
    Case("redirect to other host", lambda _: honest, elsewhere=True),
    Case("redirect loop", lambda _: make.redirect_loop()),
    Case("416 on resume", _after(lambda _: make.on_resume(make.unsatisfiable))),
    Case("Content-Length too long", lambda _: make.longer_length(500)),
]


@dataclass
class Stand:
    """What one tool is given for one fault."""

    folder: Path
    content: Content
    url: str
    hub: str

    @property
    def final(self) -> Path:
        return self.folder / "out" / NAME

    def run(self, *command: str, **environment: str) -> int:
        base = {
            name: value
            for name, value in os.environ.items()
            if not name.lower().endswith("_proxy") and not name.startswith(("HF_", "MODELBAY_"))
        }
        home = {"HOME": str(self.folder), "XDG_CACHE_HOME": str(self.folder / "cache")}
        try:
            return subprocess.run(
                command,
                env={**base, **home, **environment},
                cwd=self.folder,
                capture_output=True,
                timeout=SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return 124


def curl(stand: Stand) -> int:
    header = f"Authorization: Bearer {TOKEN}"
    options = ["-fsSL", "--retry", "5", "-C", "-", "-H", header, "-o", str(stand.final)]
    return stand.run("curl", *options, stand.url)


def aria2(stand: Stand, *more: str) -> int:
    header = f"--header=Authorization: Bearer {TOKEN}"
    where = ["-d", str(stand.final.parent), "-o", NAME, "-c", "-x4", "-s4", "-k1M", "-q", header]
    return stand.run("aria2c", "--no-conf", *where, *more, stand.url)


def aria2_checksum(stand: Stand) -> int:
    return aria2(stand, f"--checksum=sha-256={stand.content.sha256.hex}")


def hf(stand: Stand) -> int:
    program = Path(sys.executable).with_name("hf")
    return stand.run(
        str(program), "download", REPO, NAME, "--local-dir", str(stand.final.parent),
        HF_ENDPOINT=stand.hub, HF_HUB_DISABLE_XET="1", HF_TOKEN=TOKEN,
        HF_HOME=str(stand.folder / "hf"), HF_HUB_DISABLE_TELEMETRY="1",
    )  # fmt: skip


def modelbay(stand: Stand) -> int:
    return stand.run(
        sys.executable, "-P", "-m", "modelbay", "get", f"hf://{REPO}/{NAME}",
        "--to", str(stand.final.parent),
        HF_ENDPOINT=stand.hub, HF_TOKEN=TOKEN, HF_HOME=str(stand.folder / "hf"),
        MODELBAY_STATE_DIR=str(stand.folder / "state"),
    )  # fmt: skip


def modelbay_url(stand: Stand) -> int:
    """The bare address, without size or hash known beforehand, as curl gets it."""
    host = "MODELBAY_TOKEN_127_0_0_1"
    return stand.run(
        sys.executable, "-P", "-m", "modelbay", "get", stand.url, "--to", str(stand.final.parent),
        MODELBAY_STATE_DIR=str(stand.folder / "state"), **{host: TOKEN},
    )  # fmt: skip


def engine(stand: Stand) -> int:
    """modelbay's engine without its command, told the size and the sha256."""
    return stand.run(
        sys.executable, "-P", str(Path(__file__).with_name("engine_get.py")),
        f"{stand.hub}/{REPO}/resolve/main/{NAME}", str(stand.final),
        str(len(stand.content.body)), stand.content.sha256.hex, TOKEN,
    )  # fmt: skip


TOOLS: dict[str, Callable[[Stand], int]] = {
    "curl": curl,
    "aria2": aria2,
    "aria2 --checksum": aria2_checksum,
    "hf": hf,
    "modelbay": modelbay,
    "modelbay URL": modelbay_url,
    "engine": engine,
}


@dataclass
class Cell:
    verdict: str
    runs: int
    code: int
    seconds: float
    leaks: int
    refetched: float = field(default=0.0)

    def __str__(self) -> str:
        words = [self.verdict]
        if self.verdict == "✓" and self.runs > 1:
            words.append(f"run {self.runs}")
        if self.verdict == "✓" and self.code:
            words.append(f"exit {self.code}")
        if self.verdict == "✓" and self.refetched >= 0.05:
            words.append(f"+{self.refetched:.0%}")
        if self.seconds >= 5:
            words.append(f"{self.seconds:.0f} s")
        if self.leaks:
            words.append(f"**token leaked ×{self.leaks}**")
        return " ".join(words)


def served(case: Case, content: Content, stack: ExitStack) -> tuple[FaultServer, FaultServer]:
    """The server behind the file's bare address, and the one that sends the bytes."""
    if case.signed:
        signed = make.SignedUrls(
            len(content.body) // 2, path="/signed.bin", serve=case.fault(content)
        )
        paths = {"/signed.bin": signed}
        server = stack.enter_context(FaultServer(content, make.at(paths, signed.redirect)))
        return server, server
    server = stack.enter_context(FaultServer(content, case.fault(content)))
    if not case.elsewhere:
        return server, server
    front = stack.enter_context(FaultServer(content, make.redirect(server.url())))
    return front, server


def judge(case: Case, tool: Callable[[Stand], int], size: int) -> Cell:
    content = Content(noise(size, seed=size))
    if case.bare:
        content = replace(content, etag=None, last_modified=None)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        front, server = served(case, content, stack)
        hub = stack.enter_context(SmallHub(content, NAME, front.url(f"/{NAME}")))
        stand = Stand(folder, content, front.url(f"/{NAME}"), hub.endpoint)
        stand.final.parent.mkdir()
        begun = time.monotonic()
        runs, code = 0, 1
        while code and runs < RUNS:
            runs += 1
            code = tool(stand)
        seconds = time.monotonic() - begun
        other = server if case.elsewhere else None
        leaks = sum(TOKEN in str(request.headers) for request in other.log) if other else 0
        extra = max(0.0, server.sent / size - 1)
        return Cell(verdict(stand, code), runs, code, seconds, leaks, extra)


def verdict(stand: Stand, code: int) -> str:
    if not stand.final.exists():
        return "✗" if code == 0 else "R"
    found = hashlib.sha256(stand.final.read_bytes()).hexdigest()
    if found == stand.content.sha256.hex:
        return "✓"
    return "✗" if code == 0 else "B"


def table(names: list[str], sizes: list[int], cases: Iterable[Case]) -> None:
    heads = [f"{name}, {size // MIB} MB" for name in names for size in sizes]
    print("| fault | " + " | ".join(heads) + " |")
    print("|---" * (len(heads) + 1) + "|")
    tallies = [[0, 0] for _ in heads]
    for case in cases:
        cells = [judge(case, TOOLS[name], size) for name in names for size in sizes]
        for tally, cell in zip(tallies, cells, strict=True):
            tally[0] += cell.verdict == "✗"
            tally[1] += cell.verdict == "B"
        print(f"| {case.name} | " + " | ".join(map(str, cells)) + " |", flush=True)
    for number, sentence in enumerate(["silent wrong file", "wrong bytes left behind"]):
        row = " | ".join(f"**{tally[number]}**" for tally in tallies)
        print(f"| **{sentence}** | {row} |")


def main() -> None:
    parser = argparse.ArgumentParser(description="The faults, and how each tool bears them.")
    parser.add_argument("--sizes", default="8,40", help="MiB, separated by commas")
    parser.add_argument("--tools", default="curl,aria2,aria2 --checksum,hf,modelbay")
    parser.add_argument("--only", default="", help="words of which a fault's name has one")
    chosen = parser.parse_args()
    sizes = [int(size) * MIB for size in chosen.sizes.split(",")]
    words = chosen.only.split(",")
    cases = [case for case in CASES if any(word in case.name for word in words)]
    table(chosen.tools.split(","), sizes, cases)


if __name__ == "__main__":
    main()
