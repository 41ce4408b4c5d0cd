"""`sync --mirror`: another endpoint of the Hub is asked first, and digests decide."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelbay.serve import Hub, MemoryShelf
from tests.faults.server import Content, FaultServer
from tests.syncing import Machine

FILES = {"config.json": b"{}", "model.bin": random.Random(1).randbytes(100_000)}
ASKED = 'folders = "plain"\n[models.llm.one]\nsource = "huggingface"\nrepo = "org/one"\n'
MADE = '[models.vae.made]\nsource = "mock"\nfiles = ["empty.bin"]\n'
TOKEN = "hf_for_the_hub_alone"
PLACED = {f"models/llm/one/{name}": body for name, body in FILES.items()}


@dataclass
class Stand:
    """A lock of `org/one` at `hub`, for a machine that has nothing."""

    hub: Hub
    machine: Machine
    lock: Path

    def asked(self) -> list[str]:
        """The files that the Hub itself was asked for since the lock was made."""
        return [request.path for request in list(self.hub.log)[self.before :]]

    def __post_init__(self) -> None:
        self.before = len(self.hub.log)


def shelf() -> MemoryShelf:
    shelf = MemoryShelf()
    shelf.add("org/one", FILES)
    return shelf


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with Hub(shelf(), redirect=False) as hub:
        maker = Machine(hub, tmp_path / "maker")
        said = maker.run("sync", maker.write("a.toml", ASKED + MADE))
        assert said.code == 0, said.err
        machine = Machine(hub, tmp_path / "one")
        yield Stand(hub, machine, machine.write("a.lock.toml", _lock(maker)))


def _lock(maker: Machine) -> str:
    return (maker.home / "a.lock.toml").read_text()


def test_a_mirror_that_has_everything_is_the_only_one_asked(stand: Stand):
    with Hub(shelf(), prefix="/hub", redirect=False) as mirror:
        said = stand.machine.run("sync", stand.lock, "--mirror", mirror.endpoint)

        assert len(mirror.log) == len(FILES)

    assert said.code == 0, said.err
    assert stand.asked() == []
    assert stand.machine.files().items() >= PLACED.items()


def test_what_a_mirror_does_not_have_comes_from_the_source(stand: Stand):
    with Hub(MemoryShelf(), redirect=False) as mirror:
        said = stand.machine.run("sync", stand.lock, "--mirror", mirror.endpoint)

        assert len(mirror.log) == len(FILES)

    assert said.code == 0, said.err
    assert len(stand.asked()) == len(FILES)
    assert stand.machine.files().items() >= PLACED.items()


def test_a_mirror_with_other_bytes_is_not_believed_and_gets_no_token(stand: Stand):
    stand.machine.more["HF_TOKEN"] = TOKEN
    with (
        FaultServer(Content(b"x" * 100_000)) as mirror,
        Hub(shelf(), prefix="/right", redirect=False) as right,
    ):
        mirrors = ("--mirror", mirror.url(""), "--mirror", right.endpoint)
        said = stand.machine.run("sync", stand.lock, *mirrors)
        secrets = [secret for request in mirror.log for secret in request.secrets]

        assert len(right.log) == len(FILES)

    assert said.code == 0, said.err
    assert mirror.log
    assert secrets == []
    assert stand.machine.files().items() >= PLACED.items()


def test_a_mirror_that_is_down_is_passed_by(stand: Stand):
    with FaultServer(Content(b"")) as gone:
        nobody = gone.url("")

    said = stand.machine.run("sync", stand.lock, "--mirror", nobody)

    assert said.code == 0, said.err
    assert stand.machine.files().items() >= PLACED.items()


def test_models_whose_source_has_no_mirrors_are_named(stand: Stand):
    with Hub(shelf(), redirect=False) as mirror:
        said = stand.machine.run("sync", stand.lock, "--dry-run", "--mirror", mirror.endpoint)

    assert said.code == 0, said.err
    assert "note: models of mock have no mirrors" in said.err


def test_mirrors_of_the_settings_are_asked_too(stand: Stand):
    with Hub(shelf(), redirect=False) as mirror:
        settings = stand.machine.write("config.toml", f'mirrors = ["{mirror.endpoint}"]\n')
        stand.machine.more["MODELBAY_CONFIG"] = str(settings)

        said = stand.machine.run("sync", stand.lock)

        assert len(mirror.log) == len(FILES)

    assert said.code == 0, said.err
    assert stand.asked() == []


def test_a_mirror_that_is_no_address_is_refused_before_anything_is_asked(stand: Stand):
    said = stand.machine.run("sync", stand.lock, "--mirror", "models.example")

    assert said.code == 2
    assert "the mirror 'models.example' is no address" in said.err
    assert stand.machine.files() == {}
