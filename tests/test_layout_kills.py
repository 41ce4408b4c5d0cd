"""kill -9 at every system call that changes the disk: old or new, never between."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelbay.library.dir import Dir
from modelbay.library.hf_cache import HfCache
from tests.layouts import bring, tree

pytestmark = pytest.mark.real

CALLS = (
    *("rename", "renameat", "renameat2", "linkat", "symlinkat", "unlink"),
    *("mkdir", "mkdirat", "fsync", "pwrite64", "flock", "fchmod"),
)
HUB_CHILD = """
import sys
from pathlib import Path
from modelbay.library.hf_cache import HfCache
from tests.layouts import bring
bring({"sub/m.safetensors": b"weights"}, HfCache(Path(sys.argv[1])), revision="feature/x")
"""
DIR_CHILD = """
import sys
from pathlib import Path
from modelbay.library.dir import Dir
from tests.layouts import bring
bring({"sub/m.safetensors": b"newer!!", "n.txt": b"n"}, Dir(Path(sys.argv[1])), commit="d" * 40)
"""

LINK_CHILD = """
import sys
from dataclasses import replace
from pathlib import Path
from modelbay.library.dir import Dir
from modelbay.plan import Action
from tests.layouts import a_snapshot, never, plan_of
folder = Path(sys.argv[1])
snapshot, layout = a_snapshot({"sub/m.safetensors": b"weights"}), Dir(folder / "models")
(step,) = plan_of(snapshot, layout).steps
layout.prepare(snapshot)
if step.action is not Action.KEEP:
    with layout.moving(snapshot, step.file, pause=never, tell=never):
        linked = replace(step, action=Action.LINK, source=folder / "theirs")
        layout.place(snapshot, linked, ())
layout.finish(snapshot)
"""


def killed_at(child: str, folder: Path, call: str, number: int) -> bool:
    """Whether `child`, working in `folder`, came to its `number`th `call` and died there."""
    inject = f"inject={call}:signal=KILL:when={number}"
    done = subprocess.run(
        [
            *("strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject),
            *(sys.executable, "-P", "-B", "-c", child, str(folder)),
        ],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in {0, -9, 137}, done.stderr
    return done.returncode != 0


def ours_only(path: Path) -> bool:
    return ".modelbay" in path.parts


@pytest.mark.parametrize("call", CALLS)
def test_a_killed_run_leaves_a_hub_cache_that_is_sound_and_goes_on(tmp_path: Path, call: str):
    from huggingface_hub import scan_cache_dir

    files = {"sub/m.safetensors": b"weights"}
    bring(files, HfCache(tmp_path / "whole"), revision="feature/x")
    whole = tree(tmp_path / "whole", without=ours_only)
    number = 1
    while killed_at(HUB_CHILD, tmp_path / f"{number}", call, number):
        cache = tmp_path / f"{number}"
        if cache.exists():
            warned = [str(warning) for warning in scan_cache_dir(cache).warnings]
            finals = list((cache / "models--org--model/snapshots").rglob("m.safetensors"))
            assert all(final.read_bytes() == b"weights" for final in finals)
            assert all("Snapshots dir doesn't exist" in warning for warning in warned)
        bring(files, HfCache(cache), revision="feature/x")
        assert tree(cache, without=ours_only) == whole
        number += 1
    print(f"{number - 1} kills at {call}")


@pytest.mark.parametrize("call", [*CALLS, "link"])
def test_a_killed_link_leaves_a_whole_file_or_none_and_its_source_as_it_was(
    tmp_path: Path, call: str
):
    number = 1
    while True:
        folder = tmp_path / f"{number}"
        folder.mkdir()
        (folder / "theirs").write_bytes(b"weights")
        killed = killed_at(LINK_CHILD, folder, call, number)
        final = folder / "models/sub/m.safetensors"
        assert not final.exists() or final.read_bytes() == b"weights"
        again = [sys.executable, "-P", "-B", "-c", LINK_CHILD, str(folder)]
        subprocess.run(again, env={"PYTHONPATH": str(Path(__file__).parents[1])}, check=True)
        assert final.read_bytes() == (folder / "theirs").read_bytes() == b"weights"
        assert [*(folder / "models/.modelbay/parts").glob("*part")] == []
        if not killed:
            break
        number += 1
    print(f"{number - 1} kills at {call}")


@pytest.mark.parametrize("call", CALLS)
def test_a_killed_replacement_leaves_the_old_file_or_the_new_one(tmp_path: Path, call: str):
    files = {"sub/m.safetensors": b"newer!!", "n.txt": b"n"}
    number = 1
    while True:
        folder = tmp_path / f"{number}"
        bring({"sub/m.safetensors": b"weights"}, Dir(folder))
        killed = killed_at(DIR_CHILD, folder, call, number)
        found = (folder / "sub/m.safetensors").read_bytes()
        assert found == b"newer!!" or (killed and found == b"weights")
        assert not (folder / "n.txt").exists() or (folder / "n.txt").read_bytes() == b"n"
        if not killed:
            break
        bring(files, Dir(folder), commit="d" * 40)
        assert (folder / "sub/m.safetensors").read_bytes() == b"newer!!"
        number += 1
    print(f"{number - 1} kills at {call}")


def said_under_strace(tmp_path: Path, fault: str, child: str = HUB_CHILD) -> str:
    """What `child` says while every call named in `fault` fails as it tells."""
    done = subprocess.run(
        [
            *("strace", "-f", "-o", "/dev/null", "-e", f"trace={fault.partition(':')[0]}"),
            *("-e", f"inject={fault}"),
            *(sys.executable, "-P", "-B", "-c", child, str(tmp_path / "out")),
        ],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LOCK_CHILD = """
import sys
from pathlib import Path
from modelbay.library.hf_cache import HfCache
from tests.layouts import a_snapshot
layout, snapshot = HfCache(Path(sys.argv[1])), a_snapshot({"a": b"1", "b": b"2"})
for file in snapshot.files:
    with layout.moving(snapshot, file, pause=print, tell=print) as waited:
        print(file.path, waited)
"""


def test_where_nothing_can_be_locked_it_is_said_once_and_work_goes_on(tmp_path: Path):
    lines = said_under_strace(tmp_path, "flock:error=ENOLCK", LOCK_CHILD).splitlines()

    assert lines[0].startswith("going on without locks (")
    assert lines[1:] == ["a False", "b False"]


def test_a_file_system_without_links_gets_the_file_itself(tmp_path: Path):
    said_under_strace(tmp_path, "symlink,symlinkat:error=EPERM")

    snapshot = tmp_path / "out/models--org--model/snapshots" / ("c" * 40)
    assert (snapshot / "sub/m.safetensors").read_bytes() == b"weights"
    assert not (snapshot / "sub/m.safetensors").is_symlink()
    assert list((tmp_path / "out/models--org--model/blobs").iterdir()) == []


@pytest.mark.parametrize("fault", ["linkat:error=EPERM", "renameat2:error=EINVAL"])
def test_a_file_system_without_a_call_that_we_like_gets_its_files_all_the_same(
    tmp_path: Path, fault: str
):
    bring({"sub/m.safetensors": b"weights"}, Dir(tmp_path / "out"))

    said_under_strace(tmp_path, fault, DIR_CHILD)

    assert (tmp_path / "out/sub/m.safetensors").read_bytes() == b"newer!!"
    (old,) = (tmp_path / "out/.modelbay/trash").rglob("m.safetensors")
    assert old.read_bytes() == b"weights"


def under_a_mount(mount: str, child: str, folder: Path) -> str:
    """What `child` says with `mount` in force, in a mount namespace of its own."""
    done = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-c", f'{mount} && exec "$0" -P -c "$1" "$2"'),
            *(sys.executable, child, str(folder)),
        ],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


KEEP_CHILD = """
import sys
from pathlib import Path
from modelbay.library.dir import Dir
from tests.layouts import a_snapshot, actions, plan_of
layout, snapshot = Dir(Path(sys.argv[1])), a_snapshot({"a": b"1"})
print(actions(plan_of(snapshot, layout)))
layout.finish(snapshot)
"""


def test_what_lies_on_a_read_only_file_system_is_kept_without_a_word(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"1")
    mount = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,ro,bind {tmp_path}"

    assert under_a_mount(mount, KEEP_CHILD, tmp_path) == "{'a': 'keep'}\n"


def test_a_mount_that_looks_like_the_same_file_system_gets_a_proven_copy(tmp_path: Path):
    (tmp_path / "out/sub").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    mount = f"mount --bind {tmp_path}/elsewhere {tmp_path}/out/sub"

    under_a_mount(mount, DIR_CHILD, tmp_path / "out")

    assert (tmp_path / "elsewhere/m.safetensors").read_bytes() == b"newer!!"
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["m.safetensors"]
