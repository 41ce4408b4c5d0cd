"""`urls`: other addresses of the same bytes, asked when a file's own source fails."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbay.provision import read_lock
from modelbay.serve import Hub, MemoryShelf
from tests.faults.server import Content, Exchange, FaultServer
from tests.syncing import Machine, Said

BODY = b"\x08\0\0\0\0\0\0\0{}      some bytes of a model"
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    shelf = MemoryShelf()
    shelf.add("org/one", {"model.safetensors": BODY, "sub/é.safetensors": BODY + b"!"})
    with Hub(shelf) as hub:
        yield Machine(hub, tmp_path / "home")


@pytest.fixture
def mirror() -> Iterator[FaultServer]:
    with FaultServer(Content(BODY)) as server:
        yield server


def lock_of(machine: Machine, *urls: str, more: str = 'file = "model.safetensors"\n') -> Path:
    listed = ", ".join(f'"{url}"' for url in urls)
    entry = f'[models.llm.one]\nsource = "huggingface"\nrepo = "org/one"\n{more}urls = [{listed}]\n'
    said = machine.run("lock", machine.write("a.toml", entry))
    assert said.code == 0, said.err
    return machine.home / "a.lock.toml"


def synced_without_hub(machine: Machine, lock: Path) -> Said:
    """The Hub answers that it has no such model."""
    with Hub(MemoryShelf()) as empty:
        text = lock.read_text().replace(str(machine.hub and machine.hub.endpoint), empty.endpoint)
        lock.write_text(text)
        machine.more["HF_ENDPOINT"] = empty.endpoint
        return machine.run("sync", lock, "--yes")


def test_alternates_are_written_with_each_file_and_kept_in_their_order(machine: Machine):
    lock = lock_of(machine, "https://a.example/x", "https://b.example/")
    text = lock.read_text()

    assert '  urls = ["https://a.example/x", "https://b.example/model.safetensors"]' in text
    assert read_lock(lock).models[0].files[0].urls == (
        "https://a.example/x",
        "https://b.example/model.safetensors",
    )


def test_a_folder_stands_for_every_file_below_it(machine: Machine):
    lock = lock_of(machine, "https://b.example/m/", more="")

    assert [file.urls for file in read_lock(lock).models[0].files] == [
        ("https://b.example/m/model.safetensors",),
        ("https://b.example/m/sub/%C3%A9.safetensors",),
    ]


def test_what_its_source_no_longer_has_comes_from_an_alternate(
    machine: Machine, mirror: FaultServer
):
    said = synced_without_hub(machine, lock_of(machine, mirror.url()))

    assert said.code == 0, said.err
    assert machine.files()["sdnext/models/llm/model.safetensors"] == BODY
    assert mirror.gets


def test_alternates_are_not_asked_while_the_source_has_the_bytes(
    machine: Machine, mirror: FaultServer
):
    lock = lock_of(machine, mirror.url())

    assert machine.run("sync", lock, "--yes").code == 0
    assert not mirror.log


def test_wrong_bytes_of_an_alternate_are_not_published_and_the_next_one_is_asked(
    machine: Machine, mirror: FaultServer
):
    with FaultServer(Content(BODY[::-1])) as liar:
        said = synced_without_hub(machine, lock_of(machine, liar.url(), mirror.url()))

        assert said.code == 0, said.err
        assert liar.log
    assert machine.files()["sdnext/models/llm/model.safetensors"] == BODY


def test_where_nobody_has_the_bytes_the_failure_is_that_of_the_source(machine: Machine):
    with FaultServer(Content(BODY[::-1])) as liar:
        said = synced_without_hub(machine, lock_of(machine, liar.url()))

    assert said.code == 8
    assert not machine.files()


def refuse(exchange: Exchange) -> None:
    exchange.send_head(401, {"Content-Length": "0"})


def test_a_refused_credential_is_no_reason_to_ask_somebody_else(
    machine: Machine, mirror: FaultServer
):
    with FaultServer(Content(BODY), refuse) as closed:
        entry = (
            f'[models.llm.one]\nurl = "{closed.url()}"\nhash = "sha256:{SHA}"\n'
            f'urls = ["{mirror.url()}"]\n'
        )
        said = machine.run("lock", machine.write("a.toml", entry))

    assert said.code == 3
    assert not mirror.log


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://user:pw@a.example/x", "user name or password"),
        ("https://a.example/x?token=1", "credential"),
        ("file:///etc/passwd", "no web address"),
    ],
)
def test_an_alternate_that_no_lock_may_carry_is_refused_at_its_line(
    machine: Machine, url: str, why: str
):
    path = machine.write("a.toml", f'[models.vae.x]\nsource = "mock"\nurls = ["{url}"]\n')
    said = machine.run("lock", path)

    assert said.code == 2
    assert f"{path}:3:1: " in said.err
    assert why in said.err


def test_one_address_for_several_files_is_refused(machine: Machine):
    entry = '[models.vae.x]\nsource = "mock"\nurls = ["https://a.example/x"]\n'
    said = machine.run("lock", machine.write("a.toml", entry))

    assert said.code == 2
    assert "which end in /" in said.err
