"""`modelbay demo`: the main job against a Hub inside this process. No network, no account."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import click

from modelbay.output.face import Face
from modelbay.output.follow import follow, watch_for
from modelbay.output.plans import plan_lines, total_line
from modelbay.output.protocols import Report
from modelbay.output.results import code_of, failures_of, last_line, say_failures
from modelbay.plan import Action

PROVISION: Final = """\
# Two models: one made up on the spot, one from the Hub inside the demo.
[models.demo.made-up]
source = "mock"
org = "demo"
model = "made-up"
layout = "dir"

[models.llm.large]
source = "huggingface"
repo = "demo/{model}"
revision = "main"
layout = "hf-cache"
"""
_LARGE, _SMALL = "large-llm", "sharded-llm"
_ROOM_FOR_LARGE = 4 << 30
_SLOW_SECONDS = 3
"""The run that is killed would take that long, so that it is killed in the middle."""
_PATIENCE = 60.0
_EPILOG: Final = """\b
Examples:
  modelbay demo
  modelbay demo --keep ./demo
"""


@click.command(name="demo", epilog=_EPILOG)
@click.option("--headless", is_flag=True, help="Show it as lines; the only way for now.")
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Work in DIR and leave everything there.",
)
@click.option("--carry", type=click.Path(path_type=Path), hidden=True)
@click.pass_obj
def command(face: Face, /, *, headless: bool, keep: Path | None, carry: Path | None) -> int:  # noqa: ARG001
    """Lock two models, sync them, be killed in the middle, resume, verify.

    Everything happens against a small Hub inside this process and in a folder of its own.
    """
    if carry is not None:
        return _carry(face.environ, carry)
    from modelbay.serve import Hub, demo_shelf

    with _folder(keep) as folder, Hub(demo_shelf()) as hub:
        return _show(face, folder, hub.endpoint)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="modelbay-demo-") as name:
        yield Path(name)


def _environ(before: Mapping[str, str], folder: Path, endpoint: str) -> dict[str, str]:
    """The demo's own world: none of the user's tokens, caches or settings."""
    kept = {key: before[key] for key in ("PATH", "HOME", "LANG", "TERM", "TMPDIR") if key in before}
    return {
        **kept,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder / "huggingface"),
        "WORKSPACE": str(folder / "workspace"),
        "MODELBAY_STATE_DIR": str(folder / "state"),
        "MODELBAY_CONFIG": str(folder / "config.toml"),
    }


def _show(face: Face, folder: Path, endpoint: str) -> int:
    from modelbay.bay import Bay

    words = face.words
    environ = _environ(face.environ, folder, endpoint)
    asked, lock = folder / "demo.toml", folder / "demo.lock.toml"
    model = _LARGE if shutil.disk_usage(folder).free > _ROOM_FOR_LARGE else _SMALL
    asked.write_text(PROVISION.format(model=model))
    face.say(f"a Hub of our own answers at {endpoint}; everything lies in {folder}", "")
    with Bay.open(environ=environ) as bay:
        bay.lock(asked, lock)
        face.say(f"locked: {asked.name} became {lock.name}", "")
        size = sum(plan.size for plan in bay.plans_of(lock))
        held = _killed_in_the_middle(environ, folder, lock, enough=size // 4)
        face.say(f"killed: a sync was killed (SIGKILL) with {words.size(held)} on disk", "")
        plans = bay.plans_of(lock)
        for plan in plans:
            face.say(*plan_lines(plan, words))
        face.say(total_line(plans, words))
        report = follow(bay.carry(plans), watch_for(face, "auto"))
        if not any(outcome.failed for outcome in report.outcomes):
            began = time.monotonic()
            checked = bay.verify(plans)
            seconds = time.monotonic() - began
            resumed = sum(step.held for plan in plans for step in plan.of(Action.RESUME))
            face.say(
                f"resumed: {words.size(resumed)} were not fetched twice",
                f"verified: {words.size(checked)} read again in {seconds:.1f} s, all as locked",
            )
    return _end(face, report)


def _end(face: Face, report: Report) -> int:
    failures = failures_of(report, face.environ)
    say_failures(face, failures)
    face.say(last_line("Synced", report, face.words))
    return code_of(report, failures)


def _killed_in_the_middle(
    environ: Mapping[str, str], folder: Path, lock: Path, *, enough: int
) -> int:
    """Runs a sync in a child and kills it with `enough` bytes journaled; the bytes it left."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "modelbay", "demo", "--carry", str(lock)],
        cwd=folder,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + _PATIENCE
    try:
        while child.poll() is None and time.monotonic() < deadline:
            if _held(folder) >= enough:
                break
            with suppress(subprocess.TimeoutExpired):
                child.wait(0.02)
    finally:
        child.kill()
        child.wait()
    return _held(folder)


def _held(folder: Path) -> int:
    from modelbay.transfer import held_bytes

    return sum(held_bytes(part) for part in folder.rglob(".modelbay/parts/*.part"))


def _carry(environ: Mapping[str, str], lock: Path) -> int:
    """The child's part of the demo: the same sync, slowed down."""
    from modelbay.bay import Bay

    with Bay.open(environ=environ) as bay:
        plans = bay.plans_of(lock)
        bay.set_bandwidth(sum(plan.bytes_to_fetch for plan in plans) / _SLOW_SECONDS)
        run = bay.carry(plans)
        while not run.wait(1.0):
            pass
        return 70 if any(outcome.failed for outcome in run.report().outcomes) else 0
