"""A source of somebody else's, in a package of its own that pip installs."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.syncing import Machine, Said

PACKAGE = Path(__file__).parent / "third_party" / "modelbay_shelf"
ABOUT = "modelbay_shelf-1.0.dist-info"
WHEEL = {
    "modelbay_shelf/__init__.py": (PACKAGE / "__init__.py").read_text(),
    f"{ABOUT}/METADATA": "Metadata-Version: 2.1\nName: modelbay-shelf\nVersion: 1.0\n",
    f"{ABOUT}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{ABOUT}/entry_points.txt": "[modelbay.sources]\nshelf = modelbay_shelf:Shelf\n",
    f"{ABOUT}/RECORD": "",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip put it."""
    folder = tmp_path_factory.mktemp("third")
    wheel = folder / "modelbay_shelf-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in WHEEL.items():
            archive.writestr(name, text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    quiet = ["--disable-pip-version-check", "--no-warn-script-location"]
    subprocess.run([*pip, *quiet, "--target", folder / "site", wheel], check=True)
    return folder / "site"


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """The folder of a model on the file server."""
    folder = tmp_path / "srv" / "my model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "model.bin").write_bytes(b"weights" * 999)
    return folder


def ran(machine: Machine, site: Path, *words: str | Path) -> Said:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "modelbay", *map(str, words)],
        env={**machine.environ, "PYTHONPATH": f"{site}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def test_its_refs_are_fetched_like_any_others(installed, server, tmp_path):
    own = Machine(None, tmp_path / "own")
    ref = f"shelf://{str(server).replace(' ', '%20')}"

    said = ran(own, installed, "get", ref, "--to", tmp_path / "here", "--yes")

    assert said.code == 0, said.err
    assert (tmp_path / "here/model.bin").read_bytes() == b"weights" * 999


def test_its_entries_are_locked_and_synced_on_another_machine(installed, server, tmp_path):
    own, other = Machine(None, tmp_path / "own"), Machine(None, tmp_path / "other")
    text = f'[models.llm.own]\nsource = "shelf"\nfolder = "{server}"\n'

    locked = ran(own, installed, "lock", own.write("m.toml", text))
    said = ran(other, installed, "sync", own.home / "m.lock.toml")

    assert locked.code == 0, locked.err
    assert said.code == 0, said.err
    assert "shelf" in (own.home / "m.lock.toml").read_text()
    assert sorted(other.files().values()) == [b"weights" * 999, b"{}"]
    assert ran(other, installed, "verify").code == 0


def test_a_factory_makes_entries_of_it(installed, server, tmp_path):
    own = Machine(None, tmp_path / "own")
    text = f'[sources.mine]\ntype = "shelf"\n[models.llm]\nx = "mine:{server}"\n'

    said = ran(own, installed, "sync", own.write("m.toml", text))

    assert said.code == 0, said.err
    assert len(own.files()) == 2


def test_what_it_passes_on_comes_from_the_other_source(installed, server, tmp_path):
    (server / "tokenizer.json.ref").write_text("mock://org/model")

    said = ran(
        Machine(None, tmp_path / "own"),
        installed,
        *("get", f"shelf://{str(server).replace(' ', '%20')}", "--to", tmp_path / "here", "--yes"),
    )

    assert said.code == 0, said.err
    assert (tmp_path / "here/tokenizer.json").stat().st_size == 4096


def test_its_search_and_its_errors_are_told(installed, tmp_path):
    own = Machine(None, tmp_path / "own")

    found = ran(own, installed, "search", "tiny", "--source", "shelf", "--json")
    gone = ran(own, installed, "get", "shelf:///nowhere", "--to", tmp_path / "x")

    assert "shelf:///found/tiny" in found.out, found.err
    assert (gone.code, "mount the file server" in gone.err) == (8, True), gone.err


def test_one_that_is_broken_stops_none_of_the_others(installed, tmp_path):
    site = tmp_path / "site"
    about = site / "broken-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[modelbay.sources]\nbroken = no_such_module:Source\n")
    own = Machine(None, tmp_path / "own")

    said = ran(own, site, "get", "mock://org/model", "--to", tmp_path / "here", "--yes")
    unknown = ran(own, site, "show", "broken://x")

    assert said.code == 0, said.err
    assert (unknown.code, "could not be loaded" in unknown.err) == (2, True), unknown.err
