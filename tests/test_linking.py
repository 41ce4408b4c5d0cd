"""Bytes that are on this machine are not fetched again: linked by the ladder, read first where
they are only said to be there, fetched where they are not what was said.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbay.bay import Bay
from modelbay.digest import Digest
from modelbay.files import mount_of, mounts
from modelbay.library.index import Index, IndexedFile, IndexedModel
from modelbay.plan import Action, Plan
from modelbay.queue import Report
from modelbay.serve import Generated, Hub, MemoryShelf

SMALL = b"weights of a small one"
LARGE = Generated(20 << 20, seed="linking")
REPO = "org/model"
MEMORY = Path("/dev/shm")


@pytest.fixture
def hub() -> Iterator[Hub]:
    shelf = MemoryShelf()
    shelf.add(REPO, {"config.json": b"{}", "model.bin": SMALL})
    shelf.add("org/large", {"large.bin": LARGE})
    shelf.add("org/lora", {"lora.bin": SMALL})
    with Hub(shelf) as hub:
        yield hub


def environment(hub: Hub, home: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_ENDPOINT": hub.endpoint,
        "MODELBAY_STATE_DIR": str(home / "state"),
        "MODELBAY_FOLDERS": "comfyui",
        "WORKSPACE": str(home / "workspace"),
        **more,
    }


def bay_in(hub: Hub, home: Path, **more: str) -> Bay:
    return Bay.open(environ=environment(hub, home, **more))


def planned(bay: Bay, repo: str, category: str | None = None, to: Path | None = None) -> Plan:
    ref = bay.parse(repo)
    return bay.plan(bay.select(bay.resolve(ref)), bay.layout(None, ref, to=to, category=category))


def carried(bay: Bay, plan: Plan) -> Report:
    run = bay.carry([plan])
    assert run.wait(60)
    report = run.report()
    assert not report.outcomes[0].failed, report.outcomes[0].failed[0].error
    return report


def brought(
    bay: Bay, repo: str, category: str | None = None, to: Path | None = None
) -> tuple[int, int]:
    """How many files were fetched, and how many linked."""
    (outcome,) = carried(bay, planned(bay, repo, category, to)).outcomes
    return outcome.fetched, outcome.linked


def contents_asked(hub: Hub) -> int:
    return len([request for request in hub.log if "/resolve/" in request.path]) + len(hub.cdn_log)


def index_file(home: Path) -> Path:
    (file,) = (home / "state").glob("*/library.db")
    return file


def claim(home: Path, path: Path, content: bytes) -> None:
    """As adopting does it: what the name says, and nothing read."""
    digest = Digest.sha256(hashlib.sha256(content).hexdigest())
    model = IndexedModel("hf://their/model", "", "dir", path.parent, "hf://their/model")
    with Index.open(index_file(home)) as index:
        index.note(model, [IndexedFile.seen(path, [digest])])


def shares_blocks(path: Path) -> bool:
    return mount_of(path.resolve(), mounts()).may_clone


def test_what_lies_in_the_hubs_cache_is_linked_into_an_application_without_a_request(
    hub: Hub, tmp_path: Path
):
    with bay_in(hub, tmp_path) as bay:
        assert brought(bay, REPO) == (2, 0)
    before = contents_asked(hub)
    with bay_in(hub, tmp_path) as bay:
        plan = planned(bay, REPO, "checkpoints")
        carried(bay, plan)
        again = planned(bay, REPO, "checkpoints")

    assert {step.action for step in plan.steps} == {Action.LINK}
    assert contents_asked(hub) == before
    placed = tmp_path / "workspace/ComfyUI/models/checkpoints/model/model.bin"
    assert placed.read_bytes() == SMALL
    assert not placed.is_symlink()
    if not shares_blocks(tmp_path):
        assert placed.stat().st_nlink == 2
    assert {step.action for step in again.steps} == {Action.KEEP}


def test_what_lies_in_an_application_is_linked_into_the_hubs_cache(hub: Hub, tmp_path: Path):
    with bay_in(hub, tmp_path) as bay:
        assert brought(bay, REPO, "checkpoints") == (2, 0)
        before = contents_asked(hub)

        assert brought(bay, REPO) == (0, 2)
    assert contents_asked(hub) == before
    (pointer,) = (tmp_path / "hf/hub").glob("models--*/snapshots/*/model.bin")
    assert pointer.read_bytes() == SMALL


def test_a_folder_that_an_application_writes_into_gets_a_file_of_its_own(hub: Hub, tmp_path: Path):
    with bay_in(hub, tmp_path, MODELBAY_FOLDERS="sdnext") as bay:
        brought(bay, "org/lora")

        assert brought(bay, "org/lora", "embeddings") == (0, 1)
    placed = tmp_path / "workspace/sdnext/models/embeddings/lora.bin"
    assert (placed.read_bytes(), placed.stat().st_nlink) == (SMALL, 1)


@pytest.mark.parametrize(("links", "names"), [("copy", 1), ("hardlink", 2)])
def test_the_setting_for_links_is_obeyed(hub: Hub, tmp_path: Path, links: str, names: int):
    with bay_in(hub, tmp_path, MODELBAY_LINKS=links) as bay:
        brought(bay, "org/lora")

        assert brought(bay, "org/lora", to=tmp_path / "to") == (0, 1)
    placed = tmp_path / "to/lora.bin"
    assert (placed.read_bytes(), placed.stat().st_nlink) == (SMALL, names)


def test_a_claimed_digest_that_is_true_is_read_and_linked(hub: Hub, tmp_path: Path):
    with bay_in(hub, tmp_path) as bay:
        brought(bay, "org/large")
    theirs = tmp_path / "theirs.bin"
    theirs.write_bytes(SMALL)
    claim(tmp_path, theirs, SMALL)
    before = contents_asked(hub)

    with bay_in(hub, tmp_path) as bay:
        plan = planned(bay, "org/lora", to=tmp_path / "to")
        carried(bay, plan)

    assert [step.source for step in plan.steps] == [theirs]
    assert "is read first" in plan.steps[0].reason
    assert (tmp_path / "to/lora.bin").read_bytes() == SMALL
    assert contents_asked(hub) == before


def test_a_claimed_digest_that_is_wrong_is_fetched_and_not_believed_again(hub: Hub, tmp_path: Path):
    with bay_in(hub, tmp_path) as bay:
        brought(bay, "org/large")
    theirs = tmp_path / "theirs.bin"
    theirs.write_bytes(b"x" * len(SMALL))
    claim(tmp_path, theirs, SMALL)

    with bay_in(hub, tmp_path) as bay:
        assert brought(bay, "org/lora", to=tmp_path / "to") == (1, 0)
    assert (tmp_path / "to/lora.bin").read_bytes() == SMALL
    assert theirs.read_bytes() == b"x" * len(SMALL)
    assert theirs.stat().st_nlink == 1
    with Index.open(index_file(tmp_path)) as index:
        found = index.at(theirs)
    assert found is not None
    assert found.digests == ()


def test_an_empty_file_named_by_a_digest_is_no_source(hub: Hub, tmp_path: Path):
    with bay_in(hub, tmp_path) as bay:
        brought(bay, "org/large")
    (tmp_path / "theirs").write_bytes(b"")
    claim(tmp_path, tmp_path / "theirs", SMALL)

    with bay_in(hub, tmp_path) as bay:
        plan = planned(bay, "org/lora", to=tmp_path / "to")

    assert [step.action for step in plan.steps] == [Action.FETCH]


@pytest.mark.parametrize("change", ["gone", "other bytes", "a folder", "unreadable link"])
def test_a_source_that_changes_after_the_plan_is_fetched_instead(
    hub: Hub, tmp_path: Path, change: str
):
    source = tmp_path / "from/lora.bin"
    with bay_in(hub, tmp_path) as bay:
        brought(bay, "org/lora", to=source.parent)
        plan = planned(bay, "org/lora", to=tmp_path / "to")
        assert [step.source for step in plan.steps] == [source]
        source.unlink()
        if change == "other bytes":
            source.write_bytes(b"x" * len(SMALL))
        elif change == "a folder":
            source.mkdir()
        elif change == "unreadable link":
            source.symlink_to(tmp_path / "nowhere")
        (outcome,) = carried(bay, plan).outcomes

    assert (outcome.fetched, outcome.linked) == (1, 0)
    assert (tmp_path / "to/lora.bin").read_bytes() == SMALL
    assert list((tmp_path / "to/.modelbay/parts").iterdir()) == []


def test_another_holder_is_tried_before_the_bytes_are_fetched(hub: Hub, tmp_path: Path):
    with bay_in(hub, tmp_path) as bay:
        brought(bay, "org/lora", to=tmp_path / "one")
        brought(bay, "org/lora", to=tmp_path / "two")
        plan = planned(bay, "org/lora", to=tmp_path / "to")
        source = plan.steps[0].source
        assert source is not None
        source.unlink()
        (outcome,) = carried(bay, plan).outcomes

    assert (outcome.fetched, outcome.linked) == (0, 1)


def test_a_part_of_an_earlier_run_is_kept_until_the_link_is_proven(hub: Hub, tmp_path: Path):
    with bay_in(hub, tmp_path) as bay:
        brought(bay, "org/lora", to=tmp_path / "one")
        source = tmp_path / "one/lora.bin"
        source.write_bytes(b"x" * len(SMALL))
        claim(tmp_path, source, SMALL)
        plan = planned(bay, "org/lora", to=tmp_path / "to")
        part = plan.steps[0].part
        part.parent.mkdir(parents=True)
        part.write_bytes(b"half of it")
        inode = part.stat().st_ino
        layout = bay.layout(None, bay.parse("org/lora"), to=tmp_path / "to")
        with pytest.raises(Exception, match="came out wrong"):
            layout.place(plan.snapshot, plan.steps[0], ())

    assert part.stat().st_ino == inode
    assert part.read_bytes() == b"half of it"
    assert [path.name for path in part.parent.iterdir()] == [part.name]


def test_what_was_read_once_is_not_read_again_elsewhere(hub: Hub, tmp_path: Path):
    """Its records are lost, and a byte of it is changed in a way that only reading would show."""
    with bay_in(hub, tmp_path) as bay:
        brought(bay, "org/lora", to=tmp_path / "to")
    placed = tmp_path / "to/lora.bin"
    status = placed.stat()
    (tmp_path / "to/.modelbay").rename(tmp_path / "lost")
    placed.write_bytes(SMALL[:-1] + b"!")
    os.utime(placed, ns=(status.st_atime_ns, status.st_mtime_ns))

    with bay_in(hub, tmp_path) as bay:
        plan = planned(bay, "org/lora", to=tmp_path / "to")

    assert [step.action for step in plan.steps] == [Action.KEEP]


def test_sums_of_large_files_are_kept(hub: Hub, tmp_path: Path):
    with bay_in(hub, tmp_path) as bay:
        brought(bay, "org/large", to=tmp_path / "to")
    with Index.open(index_file(tmp_path)) as index:
        sums = index.sums(tmp_path / "to/large.bin")
        found = index.at(tmp_path / "to/large.bin")

    assert found is not None
    assert len(sums) == 2
    assert sums[-1].hex() == next(one.hex for one in found.digests if one.algorithm == "sha256")


def test_a_lost_index_costs_nothing_that_has_to_be_fetched(hub: Hub, tmp_path: Path):
    with bay_in(hub, tmp_path) as bay:
        brought(bay, REPO)
        brought(bay, "org/lora", to=tmp_path / "anywhere")
        brought(bay, "org/large", "checkpoints")
    index_file(tmp_path).unlink()
    before = contents_asked(hub)

    with bay_in(hub, tmp_path) as bay:
        kept = {step.action for step in planned(bay, REPO).steps}
        assert brought(bay, REPO, "checkpoints") == (0, 2)
        assert brought(bay, "org/large") == (0, 1)
        assert brought(bay, "org/lora", to=tmp_path / "to") == (0, 1)
        models = [model.ref.partition("?")[0] for model in bay._session.index.models()]

    assert kept == {Action.KEEP}
    assert contents_asked(hub) == before
    assert set(models) == {f"hf://{name}" for name in (REPO, "org/large", "org/lora")}


def test_planning_makes_no_index(hub: Hub, tmp_path: Path):
    with bay_in(hub, tmp_path) as bay:
        planned(bay, REPO)

    assert list(tmp_path.iterdir()) == []


def test_a_state_folder_that_cannot_be_written_costs_one_word(hub: Hub, tmp_path: Path):
    (tmp_path / "state").write_bytes(b"a file")
    with bay_in(hub, tmp_path) as bay:
        run = bay.carry([planned(bay, REPO), planned(bay, "org/lora")])
        assert run.wait(60)
        (outcome, _) = run.report().outcomes
        said = [event.message for event in run.events() if event.kind == "warning"]

    assert (outcome.fetched, len(outcome.failed)) == (2, 0)
    assert len(said) == 1
    assert said[0].startswith("going on without the library's index")


def test_a_damaged_index_costs_one_word_and_is_made_anew(hub: Hub, tmp_path: Path):
    with bay_in(hub, tmp_path) as bay:
        brought(bay, REPO)
    file = index_file(tmp_path)
    file.write_bytes(b"not a database " * 999)
    with bay_in(hub, tmp_path) as bay:
        run = bay.carry([planned(bay, REPO, "checkpoints")])
        assert run.wait(60)
        (outcome,) = run.report().outcomes
        said = [event.message for event in run.events() if event.kind == "warning"]

    assert (outcome.fetched, outcome.linked) == (0, 2)
    assert len(said) == 1
    assert "library.db.broken-1" in said[0]
    assert file.with_name("library.db.broken-1").is_file()


def test_two_processes_that_link_the_same_file_into_one_folder_both_end_well(
    hub: Hub, tmp_path: Path
):
    with bay_in(hub, tmp_path) as bay:
        brought(bay, REPO)
    before = contents_asked(hub)
    get = [sys.executable, "-P", "-m", "modelbay", "get", REPO, "--category", "checkpoints"]
    pair = [
        subprocess.Popen([*get, "--progress", "none"], env=environment(hub, tmp_path))
        for _ in range(2)
    ]

    assert [child.wait(60) for child in pair] == [0, 0]
    assert contents_asked(hub) == before
    folder = tmp_path / "workspace/ComfyUI/models/checkpoints/model"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.bin"]


def test_bytes_on_another_file_system_are_copied_and_read(hub: Hub, tmp_path: Path):
    if not MEMORY.is_dir() or MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    there = MEMORY / f"modelbay-linking-{os.getpid()}"
    try:
        with bay_in(hub, tmp_path) as bay:
            brought(bay, "org/lora", to=there)

            assert brought(bay, "org/lora", to=tmp_path / "to") == (0, 1)
        assert (tmp_path / "to/lora.bin").read_bytes() == SMALL
    finally:
        subprocess.run(["rm", "-r", str(there)], check=True)
