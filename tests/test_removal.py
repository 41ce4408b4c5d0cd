"""Removing models: what goes, what stays and why, what it frees, and what the Hub's client sees."""

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir

from modelbay.files import locked
from modelbay.library.dir import Dir
from modelbay.library.hf_cache import HfCache
from modelbay.library.hub_removal import of_revision, revisions
from modelbay.library.records import records_in
from modelbay.library.removal import Removal, carry_out, recorded
from modelbay.library.trash import Trash
from modelbay.plan import Action
from modelbay.refs import ModelRef
from modelbay.serve import Hub, MemoryShelf
from tests.layouts import bring, never, tree
from tests.test_hub_parity import client, environment, said

REF = ModelRef("huggingface", "hf", "org/model")
FILES = {"config.json": b"{}", "sub/m.safetensors": b"weights" * 2000}
REPO = "models--org--model"
OTHER = "d" * 40


def removal_in(folder: Path, *, needed: str = "") -> Removal:
    """Removing what the record of org/model says lies below `folder`; another model has the
    file called `needed`.
    """
    (record,) = records_in(folder)
    return recorded(
        folder,
        record,
        REF,
        layout="dir",
        needed=lambda path: "hf://org/other" if path.name == needed else "",
    )


def stays(removal: Removal) -> dict[str, str]:
    return {str(step.file.path): step.reason for step in removal.plan.of(Action.BLOCKED)}


def goes(removal: Removal) -> list[str]:
    return [step.file.path for step in removal.plan.of(Action.REMOVE)]


def test_our_files_go_to_the_trash_and_come_back_as_ours(tmp_path: Path):
    bring(FILES, Dir(tmp_path))
    (tmp_path / "notes.txt").write_text("mine")
    before = tree(tmp_path, without=lambda path: ".modelbay" in path.parts)

    carry_out(removal_in(tmp_path), Trash(tmp_path))
    left = [path.name for path in tmp_path.iterdir()]
    trash = Trash(tmp_path)
    (bundle,) = trash.bundles()
    trash.restore(bundle)

    assert sorted(left) == [".modelbay", "notes.txt"]
    assert bundle.refs == ("hf://org/model",)
    assert tree(tmp_path, without=lambda path: ".modelbay" in path.parts) == before
    assert goes(removal_in(tmp_path)) == ["config.json", "sub/m.safetensors"]


def test_a_file_that_changed_since_stays_and_is_named(tmp_path: Path):
    bring(FILES, Dir(tmp_path))
    (tmp_path / "config.json").write_text('{"edited": true}')

    removal = removal_in(tmp_path)
    carry_out(removal, Trash(tmp_path))

    assert stays(removal) == {"config.json": "it changed since modelbay put it there"}
    assert (tmp_path / "config.json").read_text() == '{"edited": true}'
    assert not (tmp_path / "sub").exists()


def test_a_link_in_the_place_of_a_folder_is_not_followed(tmp_path: Path):
    folder, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    bring(FILES, Dir(folder))
    (folder / "sub").rename(elsewhere)
    (folder / "sub").symlink_to(elsewhere)

    removal = removal_in(folder)
    carry_out(removal, Trash(folder))

    assert "is a link to" in stays(removal)["sub/m.safetensors"]
    assert (elsewhere / "m.safetensors").exists()


def test_a_record_that_names_a_path_outside_removes_nothing_there(tmp_path: Path):
    folder = tmp_path / "models"
    bring({"config.json": b"{}"}, Dir(folder))
    outside = tmp_path / "precious.json"
    (folder / "config.json").rename(outside)
    (meta,) = (folder / ".modelbay/meta").glob("*.json")
    meta.write_text(meta.read_text().replace('"file": "config', '"file": "../precious'))

    removal = removal_in(folder)

    assert removal.moves == ()


def test_a_file_that_another_model_needs_stays(tmp_path: Path):
    bring(FILES, Dir(tmp_path))

    removal = removal_in(tmp_path, needed="config.json")

    assert stays(removal) == {"config.json": "hf://org/other needs it too"}


def test_a_file_whose_lock_is_held_stays(tmp_path: Path):
    bring({"m.safetensors": b"weights"}, Dir(tmp_path))
    removal = removal_in(tmp_path)

    with locked(removal.moves[0].locks[0], pause=never, tell=never):
        removed = carry_out(removal, Trash(tmp_path))

    assert f"(process {os.getpid()})" in removed.busy[0].reason
    assert (tmp_path / "m.safetensors").read_bytes() == b"weights"


def test_it_frees_only_blocks_that_have_no_other_name(tmp_path: Path):
    bring(FILES, Dir(tmp_path / "models"))
    os.link(tmp_path / "models/sub/m.safetensors", tmp_path / "elsewhere")

    usage = removal_in(tmp_path / "models").usage

    assert usage.kept_elsewhere >= 14_000
    assert usage.freed < 14_000


@dataclass
class Stand:
    hub: Hub
    cache: Path

    @property
    def repo(self) -> Path:
        return self.cache / REPO

    def seen(self) -> tuple[list[str], list[str]]:
        """The warnings and the repos that the real client sees."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = scan_cache_dir(self.cache)
        return [str(one) for one in found.warnings], [one.repo_id for one in found.repos]


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """A cache that the real client made: two revisions that share one blob."""
    shelf = MemoryShelf()
    shelf.add("org/model", FILES)
    shelf.add("org/model", {**FILES, "config.json": b'{"newer": 1}'}, branch="feature/x")
    with Hub(shelf) as hub:
        cache = tmp_path / "hub"
        script = (
            "snapshot_download('org/model'); snapshot_download('org/model', revision='feature/x')"
        )
        said(client(script, env=environment(hub, cache)))
        yield Stand(hub, cache)


def revision_removal(stand: Stand, asked: str, path: str | None = None) -> Removal:
    (revision,) = (one for one in revisions(stand.repo) if one.is_named(asked))
    return of_revision(revision, REF, path=path)


def test_a_revision_of_the_clients_own_goes_without_what_another_one_needs(stand: Stand):
    removal = revision_removal(stand, "feature/x")
    carry_out(removal, Trash(stand.repo))

    (left,) = revisions(stand.repo)
    shown = said(client("print(snapshot_download('org/model', local_files_only=True))",
                        env=environment(None, stand.cache)))  # fmt: skip
    assert stand.seen() == ([], ["org/model"])
    assert shown == str(left.folder)
    assert (left.folder / "sub/m.safetensors").read_bytes() == FILES["sub/m.safetensors"]
    assert len(list((stand.repo / "blobs").iterdir())) == 2
    reasons = {str(step.file.path): step.reason for step in removal.plan.steps}
    assert reasons["sub/m.safetensors"].startswith("its bytes stay: revision")


def test_a_removed_revision_comes_back_as_the_client_left_it(stand: Stand):
    before = tree(stand.cache, without=lambda path: ".modelbay" in path.parts)
    for asked in ("feature/x", "main"):
        carry_out(revision_removal(stand, asked), Trash(stand.repo))
    emptied = {path.name for path in stand.repo.iterdir()}
    list_of_blobs = list((stand.repo / "blobs").iterdir())

    trash = Trash(stand.repo)
    for bundle in reversed(trash.bundles()):
        trash.restore(bundle)

    assert {".modelbay", "snapshots"} <= emptied
    assert list_of_blobs == []
    assert tree(stand.cache, without=lambda path: ".modelbay" in path.parts) == before


def test_one_file_of_a_revision_goes_and_its_ref_stays(stand: Stand):
    removal = revision_removal(stand, "main", path="config.json")
    carry_out(removal, Trash(stand.repo))

    (main,) = (one for one in revisions(stand.repo) if "main" in one.refs)
    assert [path.name for path in main.folder.iterdir()] == ["sub"]
    assert stand.seen()[0] == []


def test_a_file_of_the_users_own_in_a_snapshot_keeps_its_revision(stand: Stand):
    (main,) = (one for one in revisions(stand.repo) if "main" in one.refs)
    (main.folder / "mine.txt").write_text("mine")

    removal = revision_removal(stand, "main")
    carry_out(removal, Trash(stand.repo))

    assert list(stays(removal)) == ["mine.txt"]
    assert (main.folder / "mine.txt").read_text() == "mine"
    assert stand.seen()[0] == []


def test_nothing_goes_while_the_client_fetches_into_the_repo(stand: Stand):
    lock = next((stand.cache / ".locks" / REPO).glob("*.lock"))

    with locked(lock, pause=never, tell=never):
        removal = revision_removal(stand, "main")

    assert removal.moves == ()
    assert all("in use by" in reason for reason in stays(removal).values())


def test_a_blob_that_is_linked_while_it_goes_comes_back(stand: Stand):
    removal = revision_removal(stand, "feature/x")
    (config,) = (step for step in removal.plan.steps if step.file.path == "config.json")
    (main,) = (one for one in revisions(stand.repo) if "main" in one.refs)
    (main.folder / "again.json").symlink_to(f"../../blobs/{config.blob.name}")

    removed = carry_out(removal, Trash(stand.repo))

    assert config.blob not in removed.gone
    assert (main.folder / "again.json").read_bytes() == b'{"newer": 1}'
    assert stand.seen()[0] == []


def test_a_cache_without_links_loses_the_files_of_the_revision(tmp_path: Path):
    layout = HfCache(tmp_path, symlinks=False)
    bring(FILES, layout)
    (revision,) = revisions(tmp_path / REPO)

    removal = of_revision(revision, REF)
    carry_out(removal, Trash(tmp_path / REPO))

    assert goes(removal) == ["config.json", "sub/m.safetensors"]
    assert not revision.folder.exists()


CHILD = """
import os, signal, sys
from pathlib import Path
from modelbay.library.hub_removal import of_revision, revisions
from modelbay.library.removal import carry_out
from modelbay.library.trash import Trash
from modelbay.refs import ModelRef
repo, left = Path(sys.argv[1]), int(sys.argv[2])
removals = [of_revision(one, ModelRef("huggingface", "hf", "org/model")) for one in revisions(repo)]
def tick(event, _):
    global left
    if event in ("os.rename", "os.rmdir", "os.remove", "os.mkdir", "open"):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(tick)
for removal in removals[:1]:
    carry_out(removal, Trash(repo))
"""


def test_a_kill_at_any_step_leaves_a_cache_that_the_client_reads_without_a_warning(stand: Stand):
    seen, ended = 0, False
    for number in range(1, 200, 3):
        command = [sys.executable, "-P", "-c", CHILD, str(stand.repo), str(number)]
        done = subprocess.run(command, check=False, timeout=30, capture_output=True)
        warned, repos = stand.seen()
        assert (warned, repos) == ([], ["org/model"])
        seen += done.returncode == -signal.SIGKILL
        trash = Trash(stand.repo)
        for bundle in reversed(trash.bundles()):
            trash.restore(bundle)
        ended = done.returncode == 0
        if ended:
            break
    assert ended
    assert seen >= 10
    assert len(revisions(stand.repo)) == 2


DIR_CHILD = """
import os, signal, sys
from pathlib import Path
from modelbay.library.removal import carry_out
from modelbay.library.trash import Trash
from tests.test_removal import removal_in
base, left = Path(sys.argv[1]), int(sys.argv[2])
removal = removal_in(base)
def tick(event, _):
    global left
    if event in ("os.rename", "os.rmdir", "os.remove", "os.mkdir", "open"):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(tick)
carry_out(removal, Trash(base))
"""


def test_a_kill_at_any_step_leaves_every_file_in_place_or_in_the_trash(tmp_path: Path):
    files = {"a.bin": b"a", "sub/b.bin": b"b", "sub/deep/c.bin": b"c"}
    killed, ended = 0, False
    for number in range(1, 200, 4):
        base = tmp_path / str(number)
        bring(files, Dir(base))
        command = [sys.executable, "-P", "-c", DIR_CHILD, str(base), str(number)]
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        done = subprocess.run(command, check=False, timeout=30, env=environ)
        trash = Trash(base)
        there = [path for path in files if (base / path).exists()]
        trashed = [file.path for bundle in trash.bundles() for file in bundle.files]
        for bundle in reversed(trash.bundles()):
            trash.restore(bundle)

        assert sorted(there + trashed) == sorted(files)
        assert {path: (base / path).read_bytes() for path in files} == files
        assert sorted(goes(removal_in(base))) == sorted(files)
        killed += done.returncode == -signal.SIGKILL
        ended = done.returncode == 0
        if ended:
            break
    assert ended
    assert killed >= 8
