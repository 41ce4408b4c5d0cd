"""Small snapshots, and a run of a plan with local bytes in place of the engine."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from modelbay.digest import Digest
from modelbay.files import hash_file
from modelbay.library.base import Layout
from modelbay.plan import MOVES, Action, Plan, Step
from modelbay.planner import make_plan
from modelbay.refs import ModelRef
from modelbay.safepath import SafeRelPath
from modelbay.selection import select
from modelbay.snapshot import ModelFile, Snapshot

COMMIT = "c" * 40


def sha256(content: bytes) -> Digest:
    return Digest.sha256(hashlib.sha256(content).hexdigest())


def git_sha1(content: bytes) -> Digest:
    return Digest("git-sha1", hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest())


def a_file(path: str, content: bytes, *, lfs: bool = False) -> ModelFile:
    """As the Hub tells it: sha256 for LFS files, git's blob id for the others."""
    digest = sha256(content) if lfs else git_sha1(content)
    extra = {"blob_id": git_sha1(b"pointer to " + content).hex} if lfs else {}
    return ModelFile(SafeRelPath.parse(path), len(content), (digest,), lfs, digest.hex, extra)


def a_snapshot(
    contents: Mapping[str, bytes],
    *,
    name: str = "org/model",
    revision: str | None = None,
    commit: str = COMMIT,
    fresh: bool = True,
) -> Snapshot:
    files = tuple(
        a_file(path, content, lfs=path.endswith(".safetensors"))
        for path, content in contents.items()
    )
    ref = ModelRef("huggingface", "hf", name, revision)
    return Snapshot(ref, commit, files, table={"repo": name, "commit": commit}, fresh=fresh)


def held(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def plan_of(snapshot: Snapshot, layout: Layout, *, replace: bool = False) -> Plan:
    return make_plan(select(snapshot), layout, held=held, replace=replace)


def actions(plan: Plan) -> dict[str, str]:
    return {step.file.path: step.action.value for step in plan.steps}


def carry_out(plan: Plan, layout: Layout, contents: Mapping[str, bytes]) -> None:
    """Everything that the plan says, links after what they need."""
    layout.prepare(plan.snapshot)
    for step in sorted(plan.steps, key=lambda step: step.action is Action.LINK):
        carry_out_step(plan.snapshot, step, layout, contents)
    layout.finish(plan.snapshot)


def carry_out_step(
    snapshot: Snapshot, step: Step, layout: Layout, contents: Mapping[str, bytes]
) -> None:
    if step.action in MOVES:
        with layout.moving(snapshot, step.file, pause=never, tell=never):
            step.part.write_bytes(contents[step.file.path])
            layout.place(snapshot, step, hash_file(step.part))
    elif step.action is Action.LINK:
        layout.place(snapshot, step, ())


def bring(contents: Mapping[str, bytes], layout: Layout, **facts: str) -> Plan:
    """Plans and carries out `contents` as one snapshot, and gives the plan."""
    snapshot = a_snapshot(contents, **facts)  # type: ignore[arg-type]
    plan = plan_of(snapshot, layout)
    carry_out(plan, layout, contents)
    return plan


def never(_: object) -> None:
    raise AssertionError("nobody else is here to wait for")


def tree(root: Path, *, without: Callable[[Path], bool] = lambda _: False) -> dict[str, str]:
    """Every name below `root` with its kind, mode and content or link text."""
    found = {}
    for path in sorted(root.rglob("*")):
        if without(path):
            continue
        mode = f"{path.lstat().st_mode & 0o7777:04o}"
        if path.is_symlink():
            shown = f"link {path.readlink()}"
        elif path.is_dir():
            shown = f"folder {mode}"
        else:
            shown = f"file {mode} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        found[path.relative_to(root).as_posix()] = shown
    return found
