"""What a plan says of a disk: kept, fetched, resumed, linked, replaced, left alone; and room."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelbay.digest import Digest
from modelbay.errors import Interrupted, NoSpace
from modelbay.library.base import Layout
from modelbay.library.dir import Dir
from modelbay.library.hf_cache import HfCache
from modelbay.plan import Action, Plan, Step
from modelbay.planner import check_space, check_writable, make_plan, plan_file, space_needed
from modelbay.refs import ModelRef
from modelbay.safepath import SafeRelPath
from modelbay.selection import select
from modelbay.snapshot import ModelFile, Snapshot
from tests.layouts import (
    COMMIT,
    a_snapshot,
    actions,
    bring,
    carry_out,
    held,
    plan_of,
    sha256,
    tree,
)

FILES = {"config.json": b"{}", "model.safetensors": b"weights"}


def reason_for(plan: Plan, path: str) -> str:
    return next(step.reason for step in plan.steps if step.file.path == path)


def test_an_empty_folder_lacks_everything(tmp_path: Path):
    plan = plan_of(a_snapshot(FILES), Dir(tmp_path / "models"))

    assert actions(plan) == {"config.json": "fetch", "model.safetensors": "fetch"}
    assert plan.root == tmp_path / "models"
    assert plan.bytes_to_fetch == 9
    assert plan.layout == "dir"


def test_planning_writes_nothing(tmp_path: Path):
    (tmp_path / "config.json").write_bytes(b"{}")
    before = tree(tmp_path)

    plan_of(a_snapshot(FILES), Dir(tmp_path))
    plan_of(a_snapshot(FILES), HfCache(tmp_path / "hub"))

    assert tree(tmp_path) == before


def test_a_part_of_an_earlier_run_is_resumed(tmp_path: Path):
    layout = Dir(tmp_path)
    snapshot = a_snapshot(FILES)
    layout.prepare(snapshot)
    layout.place_of(snapshot, snapshot.files[1]).part.write_bytes(b"weig")

    plan = plan_of(snapshot, layout)

    (step,) = plan.of(Action.RESUME)
    assert (step.file.path, step.held) == ("model.safetensors", 4)
    assert plan.bytes_to_fetch == 2 + 3


def test_the_right_bytes_are_kept_whoever_put_them_there(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")

    plan = plan_of(a_snapshot(FILES), Dir(tmp_path))

    assert actions(plan) == {"config.json": "fetch", "model.safetensors": "keep"}


def test_other_bytes_that_are_not_ours_are_left_and_the_way_out_is_named(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"w3ights")
    (tmp_path / "config.json").write_bytes(b"longer than ours")

    plan = plan_of(a_snapshot(FILES), Dir(tmp_path))

    assert actions(plan) == {"config.json": "blocked", "model.safetensors": "blocked"}
    assert "16 bytes instead of 2" in reason_for(plan, "config.json")
    assert str(sha256(b"w3ights")) in reason_for(plan, "model.safetensors")
    assert "--replace" in reason_for(plan, "model.safetensors")


def test_a_file_of_ours_that_somebody_changed_is_theirs_now(tmp_path: Path):
    bring(FILES, Dir(tmp_path))
    (tmp_path / "config.json").write_bytes(b"{'theirs': 1}")

    plan = plan_of(a_snapshot({**FILES, "config.json": b"{1}"}, commit="d" * 40), Dir(tmp_path))

    assert actions(plan)["config.json"] == "blocked"


def test_a_file_of_ours_that_was_only_touched_is_ours_still(tmp_path: Path):
    bring(FILES, Dir(tmp_path))
    os.utime(tmp_path / "model.safetensors", ns=(1, 1))

    newer = a_snapshot({**FILES, "model.safetensors": b"newer"}, commit="d" * 40)

    assert actions(plan_of(newer, Dir(tmp_path)))["model.safetensors"] == "replace"
    assert actions(plan_of(a_snapshot(FILES), Dir(tmp_path)))["model.safetensors"] == "keep"


def test_changed_bytes_of_the_same_size_and_another_time_are_noticed(tmp_path: Path):
    bring(FILES, Dir(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"w3ights")
    os.utime(tmp_path / "model.safetensors", ns=(1, 1))

    plan = plan_of(a_snapshot(FILES), Dir(tmp_path))

    assert actions(plan)["model.safetensors"] == "blocked"


def test_what_a_record_knows_is_not_hashed_again(tmp_path: Path):
    bring(FILES, Dir(tmp_path))

    def hashed(_: int) -> None:
        raise AssertionError("it was read again")

    plan = make_plan(select(a_snapshot(FILES)), Dir(tmp_path), held=held, tick=hashed)

    assert set(actions(plan).values()) == {"keep"}


def test_what_others_put_there_is_hashed_once_and_then_known(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    bring(FILES, Dir(tmp_path))

    def hashed(_: int) -> None:
        raise AssertionError("it was read again")

    plan = make_plan(select(a_snapshot(FILES)), Dir(tmp_path), held=held, tick=hashed)

    assert set(actions(plan).values()) == {"keep"}


def test_what_others_put_there_does_not_become_ours_by_being_known(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    bring(FILES, Dir(tmp_path))

    newer = a_snapshot({**FILES, "model.safetensors": b"newer"}, commit="d" * 40)

    assert actions(plan_of(newer, Dir(tmp_path)))["model.safetensors"] == "blocked"


@pytest.mark.parametrize(
    "written",
    [b"", b"{", b"[]", b'{"format": 2, "files": []}', b'{"format": 1, "files": [{"size": "x"}]}'],
)
def test_records_that_cannot_be_read_cost_only_the_hashing(tmp_path: Path, written: bytes):
    bring(FILES, Dir(tmp_path))
    (record,) = (tmp_path / ".modelbay/meta").iterdir()
    record.write_bytes(written)

    assert set(actions(plan_of(a_snapshot(FILES), Dir(tmp_path))).values()) == {"keep"}


def test_hashing_can_be_stopped(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")

    def stop(_: int) -> None:
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        make_plan(select(a_snapshot(FILES)), Dir(tmp_path), held=held, tick=stop)


def without_digest(revision: str) -> Snapshot:
    file = ModelFile(SafeRelPath.parse("model.bin"), 7)
    ref = ModelRef("url", "https", "example.org/model.bin")
    return Snapshot(ref, revision, (file,))


def test_without_a_digest_ours_is_kept_while_the_source_says_the_same(tmp_path: Path):
    layout = Dir(tmp_path)
    plan = plan_of(without_digest("etag-1"), layout)
    carry_out(plan, layout, {"model.bin": b"weights"})

    same = plan_of(without_digest("etag-1"), Dir(tmp_path))
    moved = plan_of(without_digest("etag-2"), Dir(tmp_path))

    assert actions(same) == {"model.bin": "keep"}
    assert actions(moved) == {"model.bin": "replace"}


def test_without_a_digest_a_strangers_file_is_left(tmp_path: Path):
    (tmp_path / "model.bin").write_bytes(b"weights")

    plan = plan_of(without_digest("etag-1"), Dir(tmp_path))

    assert actions(plan) == {"model.bin": "blocked"}
    assert "nobody told a digest" in reason_for(plan, "model.bin")


def test_one_file_can_be_planned_again_after_waiting_for_another_program(tmp_path: Path):
    layout = Dir(tmp_path)
    snapshot = a_snapshot(FILES)
    before = plan_file(snapshot, snapshot.files[1], layout, held=held)
    bring(FILES, Dir(tmp_path))

    after = plan_file(snapshot, snapshot.files[1], layout, held=held)

    assert (before.action, after.action) == (Action.FETCH, Action.KEEP)


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["a", "b/c", "b/d.safetensors", "e.safetensors"]), st.binary()),
    st.sets(st.sampled_from(["a", "b/c", "b/d.safetensors"])),
    st.booleans(),
)
def test_a_plan_carried_out_leaves_nothing_to_do(
    contents: dict[str, bytes], there: set[str], in_cache: bool
):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)

        def layout() -> Layout:
            return HfCache(root) if in_cache else Dir(root)

        bring({path: contents[path] for path in there & contents.keys()}, layout())
        bring(contents, layout(), commit="d" * 40)
        again = plan_of(a_snapshot(contents, commit="d" * 40), layout())

    assert set(actions(again).values()) <= {"keep"}


def a_plan_of(size: int, root: Path, *, action: Action = Action.FETCH) -> Plan:
    digest = (Digest.sha256("a" * 64),)
    file = ModelFile(SafeRelPath.parse("model.safetensors"), size, digest, lfs=True)
    snapshot = Snapshot(ModelRef("mock", "mock", "org/model"), COMMIT, (file,))
    part = root / ".modelbay/parts/a.part"
    target = root / "model.safetensors"
    return Plan(snapshot, "dir", root, (Step(file, action, target, target, part),))


def test_a_plan_that_does_not_fit_is_refused_with_both_numbers(tmp_path: Path):
    with pytest.raises(NoSpace) as caught:
        check_space([a_plan_of(10**18, tmp_path)])

    assert "needs 1.0 EB for this and has" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "free" in caught.value.hint


def test_a_plan_that_fits_alone_is_refused_together_with_others(tmp_path: Path):
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    half = a_plan_of(free // 2, tmp_path / "one")

    check_space([half])
    with pytest.raises(NoSpace):
        check_space([half, a_plan_of(free // 2, tmp_path / "two")])


def test_the_reserve_is_not_used_up(tmp_path: Path):
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    plan = a_plan_of(free - (1 << 30), tmp_path)

    check_space([plan], reserve=lambda _: 0)
    with pytest.raises(NoSpace, match="stay in reserve"):
        check_space([plan], reserve=lambda total: total // 2)


def test_blocks_that_a_part_has_already_are_not_asked_for_again(tmp_path: Path):
    plan = a_plan_of(1 << 20, tmp_path)
    part = plan.steps[0].part
    part.parent.mkdir(parents=True)
    with part.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, 1 << 20)

    (need,) = space_needed([plan])

    assert need.bytes == 0


def test_a_disk_that_is_full_still_keeps_what_is_there(tmp_path: Path):
    check_space([a_plan_of(10**18, tmp_path, action=Action.KEEP)])

    assert space_needed([a_plan_of(10**18, tmp_path, action=Action.KEEP)]) == ()


def test_a_folder_that_can_be_written_to_passes(tmp_path: Path):
    check_writable([a_plan_of(1, tmp_path / "not/there/yet")])

    assert list(tmp_path.iterdir()) == []


CHILD = """
import sys
from pathlib import Path
from modelbay.errors import ModelbayError
from modelbay.planner import check_space, check_writable
from tests.test_planner import a_plan_of
try:
    globals()[sys.argv[1]]([a_plan_of(int(sys.argv[3]), Path(sys.argv[2]))])
except ModelbayError as error:
    print(error.code, error)
"""


def under_a_mount(mount: str, check: str, root: Path, size: int) -> str:
    """What `check` says with `mount` in force, in a mount namespace of its own."""
    command = f'{mount} && exec "$0" -P -c "$1" "$2" "$3" "$4"'
    done = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-c", command),
            *(sys.executable, CHILD, check, str(root), str(size)),
        ],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.real
def test_a_read_only_file_system_is_found_before_the_first_byte(tmp_path: Path):
    mount = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,ro,bind {tmp_path}"

    assert under_a_mount(mount, "check_writable", tmp_path / "models", 1).startswith(
        f"not-writable {tmp_path} is not writable"
    )


@pytest.mark.real
def test_a_small_file_system_is_found_too_small_before_the_first_byte(tmp_path: Path):
    mount = f"mount -t tmpfs -o size=16m none {tmp_path}"

    fits = under_a_mount(mount, "check_space", tmp_path, 8_000_000)
    does_not = under_a_mount(mount, "check_space", tmp_path, 17_000_000)

    assert fits == ""
    assert does_not == (
        f"no-space {tmp_path} needs 17.0 MB for this and has 16.8 MB free, "
        "of which 167.8 kB stay in reserve"
    )


@pytest.mark.real
def test_a_file_system_without_room_for_names_is_found(tmp_path: Path):
    mount = f"mount -t tmpfs -o size=16m,nr_inodes=1 none {tmp_path}"

    assert "has room for 0 (inodes, not bytes)" in under_a_mount(
        mount, "check_space", tmp_path, 100
    )
