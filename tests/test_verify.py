"""`modelbay verify`, from the command line: what is read, what is found, what is mended."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from modelbay.bay import Bay
from modelbay.cli import run
from modelbay.digest import Digest
from modelbay.library.index_rows import IndexedFile, IndexedModel
from modelbay.serve import Generated, Hub, MemoryShelf
from modelbay.transfer.limits import SUM_SIZE
from tests.faults.server import Content, FaultServer, noise, other_version
from tests.getting import whole

MIB = 1 << 20
LARGE = Generated(65 * MIB + 99, seed="verify")
SMALL = {f"small/{number:03}.bin": f"file {number}".encode() * 40 for number in range(200)}


@pytest.fixture(scope="module")
def body() -> bytes:
    return whole(LARGE)


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    shelf = MemoryShelf()
    shelf.add("org/model", {"config.json": b'{"a": 1}', "model.bin": LARGE})
    shelf.add("org/small", SMALL)
    with Hub(shelf) as hub:
        yield hub


@dataclass
class Library:
    """A person's machine: commands, and the folder that models go to."""

    hub: Hub
    home: Path
    folder: Path = field(init=False)
    offline: bool = False

    def __post_init__(self) -> None:
        self.folder = self.home / "models"

    @property
    def environ(self) -> Mapping[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "HOME": str(self.home),
            "HF_HOME": str(self.home / "hf"),
            "HF_ENDPOINT": self.hub.endpoint,
            "MODELBAY_STATE_DIR": str(self.home / "state"),
            "WORKSPACE": str(self.home / "workspace"),
            "HF_HUB_OFFLINE": str(int(self.offline)),
        }

    def run(self, *argv: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        code = run(argv, environ=self.environ, out=out, err=err)
        return code, out.getvalue(), err.getvalue()

    def get(self, ref: str = "org/model", *, to: str | None = "models") -> None:
        place = ["--to", str(self.home / to)] if to else []
        code, _, err = self.run("get", ref, *place, "--progress", "none")
        assert code == 0, err
        self.hub.cdn_log.clear()

    def verify(self, *argv: str) -> tuple[int, str, str]:
        return self.run("verify", *argv, "--progress", "none")

    @property
    def model(self) -> Path:
        return self.folder / "model.bin"

    @property
    def ranges(self) -> list[str]:
        """What was asked of the files' server since the model was got."""
        return [request.headers.get("range", "") for request in self.hub.cdn_log]

    def trashed(self, name: str = "model.bin") -> list[Path]:
        return sorted(self.home.glob(f"**/.modelbay/trash/*/**/{name}"))


@pytest.fixture
def library(hub: Hub, tmp_path: Path) -> Library:
    return Library(hub, tmp_path)


def flip(path: Path, *places: int, quietly: bool = True) -> None:
    """Other bits at `places`; `quietly` as a bad sector does it, the time unchanged."""
    before = path.stat()
    with path.open("r+b") as file:
        for place in places:
            file.seek(place)
            byte = file.read(1)
            file.seek(place)
            file.write(bytes([byte[0] ^ 1]))
    if quietly:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def piece(number: int) -> str:
    start = number * SUM_SIZE
    return f"bytes={start}-{min(start + SUM_SIZE, LARGE.size) - 1}"


def test_a_library_that_is_as_it_should_be_exits_0_and_says_what_was_read(library: Library) -> None:
    library.get()

    code, out, err = library.verify()

    assert (code, out) == (0, "")
    assert err.splitlines()[-1].startswith("Verified 1 model, 2 files, 68.2 MB in ")
    assert err.endswith(": all as they should be\n")


@pytest.mark.parametrize("quietly", [True, False])
def test_a_flipped_byte_is_named_with_the_command_that_mends_it(
    library: Library, quietly: bool
) -> None:
    library.get()
    flip(library.model, 40 * MIB, quietly=quietly)

    code, out, err = library.verify()

    assert (code, out) == (5, f"damaged\t{library.model}\n")
    assert f"{library.model} is damaged: expected sha256:" in err
    assert "--repair`" in err
    assert err.endswith(": 1 damaged\n")
    assert library.verify()[0] == 5


@pytest.mark.parametrize("quietly", [True, False])
def test_repair_fetches_one_piece_and_keeps_the_damaged_file_in_the_trash(
    library: Library, body: bytes, quietly: bool
) -> None:
    library.get()
    flip(library.model, 40 * MIB, quietly=quietly)
    damaged = library.model.read_bytes()

    code, _, err = library.verify("--repair")

    assert code == 0, err
    assert library.ranges == [piece(2)]
    assert library.model.read_bytes() == body
    assert [path.read_bytes() == damaged for path in library.trashed()] == [True]
    assert err.endswith("Repaired 1 file: 16.8 MB of 68.2 MB fetched again\n")
    assert library.verify()[0] == 0


def test_in_the_hubs_cache_the_blob_is_mended_and_its_links_stay(
    library: Library, body: bytes
) -> None:
    library.get(to=None)
    name = next(library.home.glob("hf/hub/models--*/snapshots/*/model.bin"))
    link = name.readlink()
    flip(name, 0, LARGE.size - 1)

    code, _, err = library.verify("org/model", "--repair")

    assert code == 0, err
    assert library.ranges == [piece(0), piece(4)]
    assert name.readlink() == link
    assert name.read_bytes() == body
    assert (name.parents[2] / "refs/main").read_text() == name.parent.name


def test_a_blob_that_was_cut_short_gets_the_rest(library: Library, body: bytes) -> None:
    library.get(to=None)
    name = next(library.home.glob("hf/hub/models--*/snapshots/*/model.bin"))
    os.truncate(name, 40 * MIB)

    assert library.verify()[0] == 5
    code, _, err = library.verify("--repair")

    assert code == 0, err
    assert name.read_bytes() == body
    starts = [int(text.removeprefix("bytes=").partition("-")[0]) for text in library.ranges]
    assert min(starts) == 2 * SUM_SIZE


def test_a_file_of_ours_with_something_behind_it_is_mended_without_a_byte(
    library: Library, body: bytes
) -> None:
    library.get()
    with library.model.open("ab") as file:
        file.write(b"grown")

    code, _, err = library.verify("--repair")

    assert code == 0, err
    assert library.model.read_bytes() == body
    assert library.ranges == []


def test_a_file_that_somebody_wrote_anew_is_told_as_changed_and_left(library: Library) -> None:
    library.get()
    config = library.folder / "config.json"
    config.write_text("mine, and longer")

    code, out, err = library.verify("--repair")

    assert (code, out) == (9, f"changed\t{config}\n")
    assert "--replace" in err
    assert config.read_text() == "mine, and longer"


def test_a_file_that_is_gone_exits_8(library: Library) -> None:
    library.get()
    library.model.unlink()

    code, out, err = library.verify()

    assert (code, out) == (8, f"missing\t{library.model}\n")
    assert "` brings it again" in err


def test_a_name_in_the_cache_that_leads_nowhere_is_found(library: Library) -> None:
    library.get(to=None)
    name = next(library.home.glob("hf/hub/models--*/snapshots/*/model.bin"))
    name.unlink()

    code, out, err = library.verify()

    assert code == 8
    assert out.startswith("unreached\t")
    assert "does not lead to" in err


def test_a_damaged_file_is_not_kept_by_the_next_get(library: Library, body: bytes) -> None:
    library.get(to=None)
    name = next(library.home.glob("hf/hub/models--*/snapshots/*/model.bin"))
    flip(name, 40 * MIB)
    library.verify()

    library.get(to=None)

    assert name.read_bytes() == body


def test_hard_linked_twins_are_mended_with_one_fetch(library: Library, body: bytes) -> None:
    library.get(to="models")
    library.get(to="others")
    twin = library.home / "others/model.bin"
    status = twin.stat()
    twin.unlink()
    twin.hardlink_to(library.model)
    os.utime(twin, ns=(status.st_atime_ns, status.st_mtime_ns))
    flip(library.model, 17 * MIB)

    _, _, found = library.verify()
    code, _, err = library.verify("--repair")

    assert f"the same bytes are also {twin}" in found or f"also {library.model}" in found
    assert code == 0, err
    assert library.ranges == [piece(1)]
    assert library.model.read_bytes() == twin.read_bytes() == body


def adopted(library: Library, path: Path, *digests: Digest) -> None:
    """`path` is in the index as a file of another program."""
    with Bay.open(environ=library.environ) as bay:
        model = IndexedModel("https://x/model.bin", "1", "dir", path.parent, "theirs", None, "url")
        bay._session.index.note(model, [IndexedFile.seen(path, digests, name="model.bin")])


def test_a_name_of_another_program_is_told_and_left(library: Library, body: bytes) -> None:
    library.get()
    theirs = library.home / "theirs/model.bin"
    theirs.parent.mkdir()
    theirs.hardlink_to(library.model)
    adopted(library, theirs)
    flip(library.model, 17 * MIB)
    unknown = library.home / "unknown"
    unknown.hardlink_to(theirs)
    damaged = theirs.read_bytes()

    _, _, found = library.verify()
    code, _, err = library.verify("--repair")

    assert f"the same bytes are also {theirs}; 1 more of its names" in found
    assert code == 0, err
    assert library.model.read_bytes() == body
    assert theirs.read_bytes() == damaged


def test_a_damaged_file_of_another_program_is_named_and_not_repaired(library: Library) -> None:
    theirs = library.home / "theirs/model.bin"
    theirs.parent.mkdir()
    theirs.write_bytes(b"damaged")
    adopted(library, theirs, Digest.sha256(hashlib.sha256(b"as it was").hexdigest()))

    code, out, err = library.verify("--repair")

    assert (code, out) == (5, f"damaged\t{theirs}\n")
    assert "modelbay did not put it there" in err
    assert library.verify()[0] == 5
    assert theirs.read_bytes() == b"damaged"


def test_a_claimed_digest_that_holds_is_observed_from_then_on(library: Library) -> None:
    theirs = library.home / "theirs/model.bin"
    theirs.parent.mkdir()
    theirs.write_bytes(b"whole")
    claim = Digest.sha256(hashlib.sha256(b"whole").hexdigest())
    adopted(library, theirs, claim)

    assert library.verify()[0] == 0

    with Bay.open(environ=library.environ) as bay:
        known = bay._session.index.at(theirs)
        assert known is not None
        assert [(digest, digest.observed) for digest in known.digests] == [(claim, True)]
        assert known.verified is not None
        assert not known.placed


def test_two_hundred_small_files_are_read_and_the_bad_one_is_named(library: Library) -> None:
    library.get("org/small")
    bad = library.folder / "small/117.bin"
    flip(bad, 3)

    code, out, err = library.verify()
    repaired, _, _ = library.verify("--repair")

    assert (code, out) == (5, f"damaged\t{bad}\n")
    assert "200 files" in err
    assert repaired == 0
    assert bad.read_bytes() == SMALL["small/117.bin"]


def test_wrong_bytes_from_the_server_replace_nothing(library: Library) -> None:
    content = Content(noise(33 * MIB, seed=3))
    with FaultServer(content) as server:
        library.get(server.url("/model.bin"))
        path = library.folder / "model.bin"
        flip(path, 20 * MIB)
        damaged = path.read_bytes()
        server.content = other_version(content)

        code, out, err = library.verify("--repair")

    assert (code, out) == (5, f"damaged\t{path}\n")
    assert "other bytes on its server" in err
    assert path.read_bytes() == damaged
    assert library.trashed("model.bin") == []


def test_a_lock_says_what_to_read(library: Library, body: bytes) -> None:
    asked, lock = library.home / "a.toml", library.home / "a.lock.toml"
    asked.write_text('[models.llm.one]\nsource = "huggingface"\nrepo = "org/model"\n')
    with Bay.open(environ=library.environ) as bay:
        bay.lock(asked, lock)
        run = bay.carry(bay.plans_of(lock))
        assert run.wait(60)
    path = next(library.home.glob("workspace/**/llm/**/model.bin"))
    library.hub.cdn_log.clear()
    assert library.verify(str(lock))[0] == 0
    flip(path, 40 * MIB, quietly=False)

    code, out, _ = library.verify(str(lock))
    repaired, _, err = library.verify(str(lock), "--repair")

    assert (code, out) == (5, f"damaged\t{path}\n")
    assert repaired == 0, err
    assert library.ranges == [piece(2)]
    assert path.read_bytes() == body


def test_json_names_everything_in_one_document(library: Library) -> None:
    library.get()
    flip(library.model, 1)

    code, out, _ = library.verify("--repair", "--json")

    document = json.loads(out)
    assert code == document["exit"] == 0
    assert (document["models"], document["files"]) == (1, 2)
    assert [finding["kind"] for finding in document["findings"]] == ["damaged"]
    assert document["repaired"] == [str(library.model)]
    assert document["fetched"] == SUM_SIZE


def test_a_damaged_file_is_found_though_the_index_was_lost(library: Library) -> None:
    library.get()
    flip(library.model, 1, quietly=False)
    for path in (library.home / "state").glob("library.db*"):
        path.unlink()

    code, out, _ = library.verify()

    assert (code, out) == (5, f"damaged\t{library.model}\n")


def test_without_a_network_the_damage_stays_and_its_exit_code(library: Library) -> None:
    library.get()
    flip(library.model, 20 * MIB)
    damaged = library.model.read_bytes()
    library.offline = True

    code, out, _ = library.verify("--repair", "--json")

    assert code == 5
    assert [row["error"]["code"] for row in json.loads(out)["failed"]] == ["unreachable"]
    assert library.model.read_bytes() == damaged
    assert library.trashed() == []


def test_a_blob_of_two_revisions_is_doubted_in_both_records(tmp_path: Path) -> None:
    shelf = MemoryShelf()
    shelf.add("org/two", {"config.json": b"1", "model.bin": LARGE})
    with Hub(shelf) as hub:
        library = Library(hub, tmp_path)
        library.get("org/two", to=None)
        shelf.add("org/two", {"config.json": b"2", "model.bin": LARGE})
        library.get("org/two", to=None)
        names = sorted(tmp_path.glob("hf/hub/models--*/snapshots/*/model.bin"))
        flip(names[0], 1)

        code, out, _ = library.verify()

    records = tmp_path.glob("hf/hub/models--*/.modelbay/meta/*.json")
    rows = [row for record in records for row in json.loads(record.read_bytes())["files"]]
    assert len(names) == 2
    assert (code, out.count("\n")) == (5, 1)
    assert [row["mtime_ns"] for row in rows if row["size"] == LARGE.size] == [0, 0]


def test_what_is_not_in_the_library_exits_8(library: Library) -> None:
    assert library.verify("org/other")[0] == 8
    assert library.verify("absent.lock.toml")[0] == 8


def test_a_stop_ends_the_reading_within_two_seconds(library: Library) -> None:
    library.get()
    with Bay.open(environ=library.environ) as bay:
        work = bay.verification().work.start()
        began = time.monotonic()

        work.stop()

        assert work.wait(0)
        assert time.monotonic() - began < 2


def test_a_kill_in_the_middle_of_a_repair_leaves_the_old_file_and_loses_no_piece(
    library: Library, body: bytes
) -> None:
    library.get()
    flip(library.model, 0, 20 * MIB, 40 * MIB, 60 * MIB)
    damaged = hashlib.sha256(library.model.read_bytes()).digest()
    journal = library.folder / f".modelbay/parts/{hashlib.sha256(body).hexdigest()}.journal"
    verify = [sys.executable, "-P", "-B", "-m", "modelbay", "verify", "--repair"]
    environ = {**library.environ, "MODELBAY_BANDWIDTH": "12M"}
    with subprocess.Popen(verify, env=environ, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 30
        while not journal.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    asked = set(library.ranges)
    assert hashlib.sha256(library.model.read_bytes()).digest() == damaged
    library.hub.cdn_log.clear()

    code, _, err = library.verify("--repair")

    assert code == 0, err
    assert library.model.read_bytes() == body
    assert piece(0) in asked
    assert piece(0) not in library.ranges
