"""The plain folder: what goes where, and what is never touched."""

import json
import os
import stat
from pathlib import Path

import pytest

from modelbay.errors import TargetTaken, WrongBytes
from modelbay.files import hash_file
from modelbay.library.dir import Dir
from modelbay.plan import Action
from modelbay.safepath import SafeRelPath
from tests.layouts import (
    a_snapshot,
    actions,
    bring,
    carry_out,
    carry_out_step,
    never,
    plan_of,
    sha256,
    tree,
)

FILES = {"config.json": b"{}", "sub/model.safetensors": b"weights", "sub/empty.txt": b""}


def ours(path: Path) -> bool:
    return ".modelbay" in path.parts


def test_files_lie_at_their_paths_with_ordinary_modes(tmp_path: Path):
    before = os.umask(0o027)
    try:
        bring(FILES, Dir(tmp_path / "models"))
    finally:
        os.umask(before)

    found = {p: p.read_bytes() for p in (tmp_path / "models").rglob("*") if p.is_file()}
    expected = {tmp_path / "models" / path: content for path, content in FILES.items()}
    assert {p: c for p, c in found.items() if not ours(p)} == expected
    assert {stat.S_IMODE(path.stat().st_mode) for path in expected} == {0o640}


def test_what_modelbay_keeps_for_itself_is_private_and_holds_no_part_afterwards(tmp_path: Path):
    bring(FILES, Dir(tmp_path))

    assert stat.S_IMODE((tmp_path / ".modelbay").stat().st_mode) == 0o700
    assert list((tmp_path / ".modelbay/parts").iterdir()) == []


def test_the_record_tells_what_came_from_where(tmp_path: Path):
    bring(FILES, Dir(tmp_path), revision="main")

    (record,) = (tmp_path / ".modelbay/meta").iterdir()
    document = json.loads(record.read_bytes())
    assert document["ref"] == "hf://org/model@main"
    assert document["revision"] == "c" * 40
    assert document["from"] == {"repo": "org/model", "commit": "c" * 40}
    rows = {row["path"]: row for row in document["files"]}
    assert set(rows) == set(FILES)
    assert rows["sub/model.safetensors"]["sha256"] == sha256(b"weights").hex
    assert rows["sub/model.safetensors"]["size"] == 7
    status = (tmp_path / "sub/model.safetensors").stat()
    assert rows["sub/model.safetensors"]["mtime_ns"] == status.st_mtime_ns


def test_a_name_of_its_own_takes_the_place_of_the_path(tmp_path: Path):
    names = {"sub/model.safetensors": SafeRelPath.parse("Lora/mine.safetensors")}

    bring(FILES, Dir(tmp_path, names=names))

    assert (tmp_path / "Lora/mine.safetensors").read_bytes() == b"weights"
    assert not (tmp_path / "sub/model.safetensors").exists()


def test_a_root_that_is_a_link_is_where_it_leads(tmp_path: Path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "models").symlink_to("disk")

    bring(FILES, Dir(tmp_path / "models"))

    assert (tmp_path / "disk/config.json").read_bytes() == b"{}"


def test_a_planted_link_to_a_folder_blocks_what_would_go_through_it(tmp_path: Path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "models/sub").symlink_to(tmp_path / "outside")
    layout = Dir(tmp_path / "models")

    plan = bring(FILES, layout)

    blocked = {str(step.file.path): step.reason for step in plan.of(Action.BLOCKED)}
    assert set(blocked) == {"sub/model.safetensors", "sub/empty.txt"}
    assert "models/sub is a link to" in blocked["sub/empty.txt"]
    assert list((tmp_path / "outside").iterdir()) == []
    assert (tmp_path / "models/config.json").exists()


def test_a_planted_link_at_the_name_itself_blocks_it(tmp_path: Path):
    (tmp_path / "canary").write_bytes(b"canary")
    (tmp_path / "models").mkdir()
    (tmp_path / "models/config.json").symlink_to(tmp_path / "canary")

    plan = bring(FILES, Dir(tmp_path / "models"))

    assert actions(plan)["config.json"] == "blocked"
    assert (tmp_path / "canary").read_bytes() == b"canary"
    assert (tmp_path / "models/config.json").is_symlink()


@pytest.mark.parametrize("planted", ["sub", "sub/model.safetensors"])
def test_a_link_planted_after_the_plan_was_made_is_refused(tmp_path: Path, planted: str):
    (tmp_path / "outside").mkdir()
    layout = Dir(tmp_path / "models")
    snapshot = a_snapshot(FILES)
    layout.prepare(snapshot)
    (step,) = (s for s in plan_of(snapshot, layout).steps if s.file.lfs)
    link = tmp_path / "models" / planted
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "outside")

    with pytest.raises(TargetTaken, match=f"{planted} is a link to"):
        carry_out_step(snapshot, step, layout, FILES)

    assert list((tmp_path / "outside").iterdir()) == []


def test_a_private_folder_that_is_a_planted_link_is_refused(tmp_path: Path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "models/.modelbay").symlink_to(tmp_path / "outside")

    with pytest.raises(TargetTaken, match=r"\.modelbay is a link"):
        Dir(tmp_path / "models").prepare(a_snapshot(FILES))

    assert list((tmp_path / "outside").iterdir()) == []


def test_a_file_that_came_while_ours_was_fetched_stays(tmp_path: Path):
    layout = Dir(tmp_path)
    snapshot = a_snapshot(FILES)
    layout.prepare(snapshot)
    (step,) = (s for s in plan_of(snapshot, layout).steps if s.file.path == "config.json")
    (tmp_path / "config.json").write_bytes(b"theirs")

    with pytest.raises(TargetTaken, match=r"config\.json is a file that modelbay did not put"):
        carry_out_step(snapshot, step, layout, FILES)

    assert (tmp_path / "config.json").read_bytes() == b"theirs"
    assert step.part.read_bytes() == b"{}"


def test_a_newer_revision_replaces_ours_and_the_old_one_goes_to_the_trash(tmp_path: Path):
    bring(FILES, Dir(tmp_path))

    plan = bring({**FILES, "config.json": b"{1}"}, Dir(tmp_path), commit="d" * 40)

    assert actions(plan)["config.json"] == "replace"
    assert (tmp_path / "config.json").read_bytes() == b"{1}"
    (old,) = (tmp_path / ".modelbay/trash").rglob("config.json")
    assert old.read_bytes() == b"{}"


def test_a_file_that_is_not_ours_is_replaced_when_asked_and_kept_in_the_trash(tmp_path: Path):
    (tmp_path / "config.json").write_bytes(b"theirs")
    layout = Dir(tmp_path)
    plan = plan_of(a_snapshot(FILES), layout, replace=True)

    carry_out(plan, layout, FILES)

    assert (tmp_path / "config.json").read_bytes() == b"{}"
    (old,) = (tmp_path / ".modelbay/trash").rglob("config.json")
    assert old.read_bytes() == b"theirs"


def test_the_same_bytes_twice_are_fetched_once(tmp_path: Path):
    files = {"a.safetensors": b"weights", "b.safetensors": b"weights"}

    plan = bring(files, Dir(tmp_path))

    assert actions(plan) == {"a.safetensors": "fetch", "b.safetensors": "link"}
    assert (tmp_path / "b.safetensors").read_bytes() == b"weights"


def test_bytes_that_another_model_brought_are_linked(tmp_path: Path):
    bring({"old.safetensors": b"weights"}, Dir(tmp_path), name="org/one")

    plan = bring({"new.safetensors": b"weights"}, Dir(tmp_path), name="org/two")

    assert actions(plan) == {"new.safetensors": "link"}
    assert (tmp_path / "new.safetensors").read_bytes() == b"weights"


def test_a_link_whose_source_changed_since_the_plan_places_nothing(tmp_path: Path):
    bring({"old.safetensors": b"weights"}, Dir(tmp_path), name="org/one")
    layout = Dir(tmp_path)
    files = {"new.safetensors": b"weights"}
    snapshot = a_snapshot(files, name="org/two")
    plan = plan_of(snapshot, layout)
    (tmp_path / "old.safetensors").write_bytes(b"changed")

    with pytest.raises(WrongBytes):
        carry_out(plan, layout, files)

    assert not (tmp_path / "new.safetensors").exists()


def test_a_part_of_a_folder_on_another_file_system_lies_beside_its_target(tmp_path: Path):
    layout = Dir(Path("/dev"))
    snapshot = a_snapshot({"shm/model.safetensors": b"weights"})
    if Path("/dev/shm").stat().st_dev == Path("/dev").stat().st_dev:
        pytest.skip("no file system below another one here")

    place = layout.place_of(snapshot, snapshot.files[0])

    assert place.part == Path("/dev/shm/.model.safetensors.modelbay-part")


def test_parts_are_named_by_content_where_it_is_known(tmp_path: Path):
    layout = Dir(tmp_path)
    snapshot = a_snapshot(FILES)
    parts = {str(file.path): layout.place_of(snapshot, file).part.name for file in snapshot.files}
    other = a_snapshot(FILES, name="org/other")
    others = {str(file.path): layout.place_of(other, file).part.name for file in other.files}

    assert parts["sub/model.safetensors"] == f"{sha256(b'weights').hex}.part"
    assert others["sub/model.safetensors"] == parts["sub/model.safetensors"]
    assert others["config.json"] != parts["config.json"]
    assert len(parts["config.json"]) == 64 + len(".part")


def test_deleting_the_private_folder_loses_no_model(tmp_path: Path):
    bring(FILES, Dir(tmp_path))
    models = tree(tmp_path, without=ours)
    for path in sorted((tmp_path / ".modelbay").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (tmp_path / ".modelbay").rmdir()

    plan = bring(FILES, Dir(tmp_path))

    assert set(actions(plan).values()) == {"keep"}
    assert tree(tmp_path, without=ours) == models


def test_the_journal_goes_with_its_part(tmp_path: Path):
    layout = Dir(tmp_path)
    snapshot = a_snapshot({"config.json": b"{}"})
    layout.prepare(snapshot)
    (step,) = plan_of(snapshot, layout).steps
    step.part.write_bytes(b"{}")
    step.part.with_suffix(".journal").write_bytes(b"journal")

    layout.place(snapshot, step, hash_file(step.part))

    assert list((tmp_path / ".modelbay/parts").iterdir()) == []


def test_only_one_moves_a_file_and_leaves_no_lock_file(tmp_path: Path):
    layout = Dir(tmp_path)
    snapshot = a_snapshot(FILES)
    file = snapshot.files[0]

    class StoppedError(Exception):
        pass

    def stop(_: float) -> None:
        raise StoppedError

    heard: list[str] = []
    with (
        layout.moving(snapshot, file, pause=never, tell=never),
        pytest.raises(StoppedError),
        Dir(tmp_path).moving(snapshot, file, pause=stop, tell=heard.append),
    ):
        pass

    assert f"(process {os.getpid()})" in heard[0]
    assert list((tmp_path / ".modelbay/parts").iterdir()) == []
