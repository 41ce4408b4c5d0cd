"""`modelbay provision` and its log; files from addresses; headers that no lock may hold."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbay.output.exits import LARGEST_LOG
from modelbay.output.log import Log
from modelbay.serve import Account, Hub, MemoryShelf
from modelbay.text import Secret
from tests.faults.catalogue import status
from tests.faults.server import Content, Exchange, FaultServer, honest
from tests.layouts import tree
from tests.syncing import Machine

BODY = b"weights" * 1000
TOKEN = "hf_of_this_test"
ONE = '[models.lora.one]\nsource = "huggingface"\nrepo = "org/one"\nfile = "one.bin"\n'
GONE = '[models.lora.gone]\nsource = "huggingface"\nrepo = "org/gone"\n'
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO   |WARNING|ERROR  ) [a-z-]+: .+")


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    shelf = MemoryShelf()
    shelf.add("org/one", {"one.bin": BODY})
    with Hub(shelf, redirect=False, tokens={Secret(TOKEN): Account("ada", frozenset())}) as hub:
        yield hub


@pytest.fixture
def machine(hub: Hub, tmp_path: Path) -> Machine:
    return Machine(hub, tmp_path / "one", {"HF_TOKEN": TOKEN})


@pytest.fixture
def served() -> Iterator[FaultServer]:
    with FaultServer(Content(ONE.encode())) as server:
        yield server


def logged(machine: Machine) -> str:
    return (machine.workspace / "logs/provision.log").read_text()


def test_every_event_of_provisioning_is_a_line_of_its_log(machine: Machine):
    said = machine.run("provision", machine.write("a.toml", ONE + GONE))

    lines = logged(machine).splitlines()
    assert said.code == 8
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    for words in (
        "INFO    started: provisioning from ",
        "INFO    plan: + lora/one: ",
        "INFO    placed: one.bin: ",
        "ERROR   failed: failed: lora/gone (model-not-found, exit 8)",
        "INFO    done: Synced 1 of 2 models",
    ):
        assert any(words in line for line in lines), words


def test_what_keeps_provisioning_from_starting_is_logged_too(machine: Machine):
    said = machine.run("provision", machine.write("a.toml", "[models.lora]\none = 3\n"))

    assert said.code == 2
    assert "ERROR   error: error: " in logged(machine)


def test_a_secret_of_the_environment_is_in_no_log(machine: Machine):
    asked = machine.write("a.toml", ONE.replace("org/one", f"org/{TOKEN}"))

    said = machine.run("provision", asked)

    assert (said.code, TOKEN in logged(machine)) == (8, False)
    assert "org/***" in logged(machine)


def test_provision_says_what_to_name_where_nothing_is(machine: Machine):
    said = machine.run("provision")

    assert said.code == 2
    assert "$PROVISION_URL is not set" in said.err


def test_what_provision_url_names_is_carried_out_without_a_terminal_and_its_plan_logged(
    machine: Machine, served: FaultServer
):
    machine.more["PROVISION_URL"] = served.url("/models.toml")

    said = machine.run("provision", "--allow-http")

    assert said.code == 0, said.err
    assert machine.files()["sdnext/models/Lora/one.bin"] == BODY
    assert "untrusted: note: " in logged(machine)
    assert "plan: + lora/one: " in logged(machine)


def test_a_dry_run_of_provision_writes_nothing(machine: Machine):
    asked = machine.write("a.toml", ONE)
    before = tree(machine.home)

    said = machine.run("provision", asked, "--dry-run")

    assert said.code == 0, said.err
    assert tree(machine.home) == before


@pytest.mark.parametrize("command", ["sync", "provision"])
def test_a_file_from_an_address_is_not_carried_out_where_nobody_can_be_asked(
    machine: Machine, served: FaultServer, command: str
):
    said = machine.run(command, served.url("/models.toml"), "--allow-http")

    assert said.code == 2
    assert "is not trusted, and there is nobody to ask" in said.err
    assert "+ lora/one: 1 file" in said.err
    assert not (machine.workspace / "sdnext").exists()


def test_the_lock_of_an_address_lies_below_the_workspace_and_is_used_again(
    machine: Machine, served: FaultServer
):
    words = ("sync", served.url("/models.toml"), "--allow-http", "--yes")
    first = machine.run(*words)
    (lock,) = (machine.workspace / ".modelbay/locks").iterdir()
    content = lock.read_bytes()

    second = machine.run(*words)

    assert (first.code, second.code) == (0, 0)
    assert f"as {lock}" in first.err
    assert lock.name.startswith("models-")
    assert lock.read_bytes() == content
    assert ": 1 kept in " in second.last


def test_the_digest_that_is_printed_makes_the_file_trusted(machine: Machine, served: FaultServer):
    words = ("sync", served.url("/models.toml"), "--allow-http")
    refused = machine.run(*words)
    found = re.search(r"--trust (sha256:[0-9a-f]{64})", refused.err)
    assert found is not None

    said = machine.run(*words, "--trust", found[1])

    assert said.code == 0, said.err
    assert machine.files()["sdnext/models/Lora/one.bin"] == BODY


def with_header(exchange: Exchange) -> None:
    """Serves nobody who does not know the secret."""
    known = exchange.request.header("authorization") == "Bearer s3cret"
    (honest if known else status(401))(exchange)


SECRET = """
[models.lora.one]
source = "url"
url = "{}"
headers = {{ Authorization = "Bearer s3cret" }}
"""


@pytest.fixture
def locked(machine: Machine) -> Iterator[Path]:
    """A lock beside its provision file, whose header it does not have, and an empty workspace."""
    with FaultServer(Content(BODY), with_header) as server:
        asked = machine.write("a.toml", SECRET.format(server.url("/one.bin")))
        said = machine.run("sync", asked)
        assert said.code == 0, said.err
        shutil.rmtree(machine.workspace)
        lock = machine.home / "a.lock.toml"
        assert "s3cret" not in lock.read_text()
        yield lock


def test_a_lock_takes_secret_headers_from_the_provision_file_beside_it(
    machine: Machine, locked: Path
):
    said = machine.run("sync", locked)

    assert said.code == 0, said.err
    assert machine.files() == {"sdnext/models/Lora/one.bin": BODY}


def test_a_lock_that_lies_alone_has_no_secret_headers(machine: Machine, locked: Path):
    (machine.home / "a.toml").unlink()

    said = machine.run("sync", locked)

    assert said.code == 3
    assert machine.files() == {}


def test_a_provision_file_that_changed_since_gives_the_lock_no_headers_and_it_is_said(
    machine: Machine, locked: Path
):
    asked = machine.home / "a.toml"
    asked.write_text(asked.read_text() + ONE.replace(".one]", ".two]"))

    said = machine.run("sync", locked)

    assert said.code == 3
    assert (
        "has changed since it was locked, so its headers and token files are not used" in said.err
    )


def test_a_provision_file_whose_lock_is_kept_still_sends_its_secret_headers(
    machine: Machine, locked: Path
):
    said = machine.run("sync", machine.home / "a.toml")

    assert said.code == 0, said.err
    assert machine.files() == {"sdnext/models/Lora/one.bin": BODY}


def test_a_log_begins_anew_at_a_mebibyte_and_keeps_the_three_before(tmp_path: Path):
    log = Log(tmp_path / "logs/a.log", {})
    for number in range(6):
        log.write("note", *[f"run {number} " + "x" * 4000] * (LARGEST_LOG // 4000))

    names = sorted(path.name for path in log.path.parent.iterdir())
    assert names == ["a.log", "a.log.1", "a.log.2", "a.log.3"]
    assert "run 5 " in log.path.read_text()
    assert "run 2 " in Path(f"{log.path}.3").read_text()


def test_a_log_that_cannot_be_written_stops_nothing_and_is_said(machine: Machine):
    machine.workspace.mkdir()
    (machine.workspace / "logs").write_text("a file where a folder should be")

    said = machine.run("provision", machine.write("a.toml", ONE))

    assert said.code == 0, said.err
    assert "the log could not be written: " in said.last


def test_what_happens_while_a_sync_runs_is_in_the_log_of_this_host(machine: Machine):
    machine.run("sync", machine.write("a.toml", ONE))

    (log,) = (machine.home / "state").rglob("modelbay.log")
    assert "INFO    placed: one.bin: one.bin is in place, verified" in log.read_text()


@pytest.mark.real
def test_the_lock_of_a_file_on_a_read_only_disk_lies_below_the_workspace(machine: Machine):
    folder = machine.home / "read-only"
    folder.mkdir()
    (folder / "a.toml").write_text(ONE)
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)

        said = machine.run("sync", folder / "a.toml")
    finally:
        subprocess.run(["umount", folder], check=True)

    (lock,) = (machine.workspace / ".modelbay/locks").iterdir()
    assert said.code == 0, said.err
    assert f"as {lock}" in said.err
