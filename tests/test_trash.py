"""The trash: what went is listed, comes back under its old name, and is deleted for good."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelbay.errors import TargetTaken
from modelbay.library.dir import Dir
from modelbay.library.trash import Bundle, Trash
from tests.layouts import bring, tree

OLD, NEW = b"weights", b"newer!!"


def replaced(folder: Path) -> Bundle:
    """The bundle of one file that a newer revision replaced."""
    bring({"m.safetensors": OLD}, Dir(folder))
    bring({"m.safetensors": NEW}, Dir(folder), commit="d" * 40)
    (bundle,) = Trash(folder).bundles()
    return bundle


def put(folder: Path, *names: str, ref: str = "hf://org/model") -> Trash:
    trash = Trash(folder)
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {path.name}")
    trash.announce(paths, ref=ref, why="removed")
    for path in paths:
        trash.put(path)
    return trash


def test_a_bundle_says_what_went_from_where_why_and_when(tmp_path: Path):
    before = time.time()

    bundle = replaced(tmp_path)

    (file,) = bundle.files
    assert (file.path, file.size, file.ref) == ("m.safetensors", 7, "hf://org/model")
    assert file.why.startswith("replaced: an older one of ours")
    assert before - 1 <= file.when <= time.time()
    assert bundle.folder.parent == tmp_path / ".modelbay/trash"


def test_the_line_stands_before_the_file_moves(tmp_path: Path):
    trash = Trash(tmp_path)
    (tmp_path / "m.bin").write_bytes(OLD)

    trash.announce([tmp_path / "m.bin"], why="removed")

    (listed,) = (tmp_path / ".modelbay/trash").glob("*.jsonl")
    assert json.loads(listed.read_text())["path"] == "m.bin"
    assert (tmp_path / "m.bin").read_bytes() == OLD
    assert trash.bundles() == []


def test_what_went_comes_back_as_it_was(tmp_path: Path):
    (tmp_path / "keep.txt").write_text("stays")
    trash = put(tmp_path, "a.bin", "sub/deeper/b.bin")
    (bundle,) = trash.bundles()

    back = trash.restore(bundle)

    assert sorted(path.name for path in back) == ["a.bin", "b.bin"]
    assert (tmp_path / "sub/deeper/b.bin").read_text() == "content of b.bin"
    assert trash.bundles() == []
    assert list((tmp_path / ".modelbay/trash").iterdir()) == []


def test_a_name_that_is_taken_again_is_refused_before_anything_moves(tmp_path: Path):
    trash = put(tmp_path, "a.bin", "b.bin")
    (tmp_path / "a.bin").write_text("somebody else's")
    before = tree(tmp_path)
    (bundle,) = trash.bundles()

    with pytest.raises(TargetTaken, match=r"a\.bin is there again"):
        trash.restore(bundle)

    assert tree(tmp_path) == before


def test_one_model_of_a_bundle_comes_back_alone(tmp_path: Path):
    trash = Trash(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        trash.put(tmp_path / name, ref=f"hf://org/{name}")
    (bundle,) = trash.bundles()

    trash.restore(bundle, [file for file in bundle.files if file.ref == "hf://org/a"])

    assert (tmp_path / "a").read_text() == "a"
    (left,) = trash.bundles()
    assert left.refs == ("hf://org/b",)


def test_a_bundle_without_a_list_is_read_from_its_files(tmp_path: Path):
    old = tmp_path / ".modelbay/trash/2026-01-02-1/sub/m.bin"
    old.parent.mkdir(parents=True)
    old.write_bytes(OLD)
    trash = Trash(tmp_path)

    (bundle,) = trash.bundles()
    trash.restore(bundle)

    assert [file.path for file in bundle.files] == ["sub/m.bin"]
    assert (tmp_path / "sub/m.bin").read_bytes() == OLD


def test_a_list_with_a_line_cut_off_is_read_as_far_as_it_goes(tmp_path: Path):
    trash = put(tmp_path, "a.bin", "b.bin")
    (listed,) = (tmp_path / ".modelbay/trash").glob("*.jsonl")
    listed.write_bytes(listed.read_bytes()[:-20])

    (bundle,) = trash.bundles()

    assert [(file.path, file.ref) for file in bundle.files] == [
        ("a.bin", "hf://org/model"),
        ("b.bin", ""),
    ]


def test_the_same_name_twice_in_one_run_is_kept_twice(tmp_path: Path):
    trash = Trash(tmp_path)
    for content in ("first", "second"):
        (tmp_path / "m.bin").write_text(content)
        trash.put(tmp_path / "m.bin")

    kept = [(one.folder / "m.bin").read_text() for one in trash.bundles()]

    assert sorted(kept) == ["first", "second"]


def test_emptying_frees_blocks_but_none_that_another_name_leads_to(tmp_path: Path):
    trash = put(tmp_path, "alone.bin", "shared.bin")
    (bundle,) = trash.bundles()
    (bundle.folder / "alone.bin").write_bytes(bytes(100_000))
    os.link(bundle.folder / "shared.bin", tmp_path / "other name")

    usage = bundle.usage()
    freed = trash.empty(bundle)

    assert usage.freed == freed >= 100_000
    assert usage.kept_elsewhere > 0
    assert (tmp_path / "other name").exists()
    assert trash.bundles() == []


def test_only_what_is_older_than_its_days_expires(tmp_path: Path):
    trash = put(tmp_path, "a.bin")
    put(tmp_path, "b.bin")
    first, second = trash.bundles()
    old = first.folder.with_name("2026-01-02-1")
    first.folder.rename(old)
    lines = first.folder.with_name(f"{first.name}.jsonl").read_text()
    old.with_name(f"{old.name}.jsonl").write_text(lines.replace(str(first.when), "1767312000.5"))
    first.folder.with_name(f"{first.name}.jsonl").unlink()

    expired = trash.expire(14)

    assert expired == 1
    assert [one.name for one in trash.bundles()] == [second.name]


def test_a_bundle_that_a_kill_left_empty_is_swept_after_an_hour(tmp_path: Path):
    trash = tmp_path / ".modelbay/trash"
    for name in ("2026-01-02-1", "2026-01-02-2"):
        (trash / name / ".modelbay/meta").mkdir(parents=True)
    os.utime(trash / "2026-01-02-1", (0, 0))

    Trash(tmp_path).sweep()

    assert [path.name for path in trash.iterdir()] == ["2026-01-02-2"]


CHILD = """
import sys
from pathlib import Path
from modelbay.library.trash import Trash
folder = Path(sys.argv[1])
trash = Trash(folder)
sys.addaudithook(lambda event, _: event == sys.argv[3] and tick())
left = int(sys.argv[4])
def tick():
    global left
    left -= 1
    if not left:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
(bundle,) = trash.bundles()
getattr(trash, sys.argv[2])(bundle)
"""


@pytest.mark.parametrize("act", ["restore", "empty"])
@pytest.mark.parametrize("event", ["os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "open"])
def test_a_kill_loses_no_file_that_was_to_come_back_and_leaves_no_half_bundle(
    tmp_path: Path, act: str, event: str
):
    for number in (1, 2, 3):
        folder = tmp_path / str(number)
        put(folder, "a.bin", "sub/b.bin")
        command = [sys.executable, "-P", "-c", CHILD, str(folder), act, event, str(number)]
        subprocess.run(command, check=False, timeout=30)
        left = [file.path for one in Trash(folder).bundles() for file in one.files]
        there = [name for name in ("a.bin", "sub/b.bin") if (folder / name).exists()]

        if act == "restore":
            assert sorted(left + there) == ["a.bin", "sub/b.bin"]
        else:
            assert left in ([], ["a.bin", "sub/b.bin"])
            Trash(folder).sweep()
            kept = {path.suffix for path in (folder / ".modelbay/trash").iterdir()}
            assert kept == ({"", ".jsonl"} if left else set())
