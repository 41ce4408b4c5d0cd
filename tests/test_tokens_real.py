"""Tokens in the real Secret Service: gnome-keyring on a D-Bus session of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelbay.serve import Hub, demo_shelf
from modelbay.serve.access import Account
from modelbay.text import Secret

PROGRAMS = ("dbus-daemon", "gnome-keyring-daemon", "secret-tool")
MISSING = [program for program in PROGRAMS if shutil.which(program) is None]
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        bool(MISSING), reason=f"missing: {', '.join(MISSING)}; see .ci/install-real"
    ),
]

TOKEN = "hf_KeptByTheRealSecretService"
OTHER = "hf_TheOtherOneInTheRealService"
LOCK = """
import contextlib, secretstorage
with contextlib.closing(secretstorage.dbus_init()) as bus:
    secretstorage.Collection(bus).lock()
"""


@dataclass
class Desktop:
    """A login with its own bus, as an environment for children."""

    environ: dict[str, str]

    def run(self, *argv: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            argv, env=self.environ, input=stdin, capture_output=True, text=True, check=False
        )

    def modelbay(self, *words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        return self.run(sys.executable, "-P", "-m", "modelbay", *words, stdin=stdin)

    def lock(self) -> None:
        assert self.run(sys.executable, "-c", LOCK).returncode == 0

    def lookup(self, service: str, name: str) -> str:
        return self.run("secret-tool", "lookup", "service", service, "username", name).stdout


@contextmanager
def started(argv: Sequence[str], environ: dict[str, str], stdin: str = "") -> Iterator[str]:
    """A daemon that says its address first, ended by its pid."""
    daemon = subprocess.Popen(
        argv, env=environ, text=True, bufsize=1,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert daemon.stdin is not None
    assert daemon.stdout is not None
    with daemon.stdin, daemon.stdout:
        daemon.stdin.write(stdin)
        daemon.stdin.close()
        try:
            yield daemon.stdout.readline().strip()
        finally:
            daemon.terminate()
            daemon.wait(10)


@contextmanager
def session(folder: Path, more: dict[str, str]) -> Iterator[dict[str, str]]:
    """A D-Bus session with no keyring unlocked."""
    (folder / "run").mkdir(mode=0o700, parents=True)
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder / "run"),
        **more,
    }
    bus = ["dbus-daemon", "--session", "--nofork", "--print-address"]
    with started(bus, environ) as address:
        yield environ | {"DBUS_SESSION_BUS_ADDRESS": address}


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    people = {Secret(TOKEN): Account("ada", frozenset({"*"}))}
    with Hub(demo_shelf(), tokens=people) as served:
        yield served


@pytest.fixture
def desktop(hub: Hub, tmp_path: Path) -> Iterator[Desktop]:
    """One whose keyring was unlocked at login."""
    with session(tmp_path / "ada", {"HF_ENDPOINT": hub.endpoint}) as environ:
        daemon = ["gnome-keyring-daemon", "--unlock", "--components=secrets", "--foreground"]
        with started(daemon, environ, stdin="password-of-the-login"):
            yield Desktop(environ)


def service_of(hub: Hub) -> str:
    return f"modelbay:huggingface:{hub.endpoint.removeprefix('http://')}"


def test_what_is_stored_is_there_for_other_programs_and_for_a_gated_model(
    desktop: Desktop, hub: Hub, tmp_path: Path
):
    stored = desktop.modelbay("token", "set", "huggingface", stdin=TOKEN)
    desktop.modelbay("token", "set", "huggingface/work", stdin=OTHER)

    whose = desktop.modelbay("token", "test", "huggingface")
    got = desktop.modelbay("get", "demo/gated-llm", "--to", str(tmp_path / "models"))

    assert stored.returncode == 0, stored.stderr
    assert "Secret Service" in stored.stderr
    assert desktop.lookup(service_of(hub), "default") == TOKEN
    assert desktop.lookup(service_of(hub), "work") == OTHER
    assert "it is of ada" in whose.stdout
    assert got.returncode == 0, got.stderr
    for said in (stored, whose, got):
        assert TOKEN not in said.stdout + said.stderr


def test_what_other_programs_stored_is_found(desktop: Desktop, hub: Hub):
    names = ["service", service_of(hub), "username", "default"]
    desktop.run("secret-tool", "store", "--label", "mine", *names, stdin=TOKEN)

    whose = desktop.modelbay("token", "test", "huggingface")

    assert "it is of ada" in whose.stdout, whose.stderr


def test_what_is_taken_away_is_gone(desktop: Desktop, hub: Hub):
    desktop.modelbay("token", "set", "huggingface", stdin=TOKEN)

    gone = desktop.modelbay("token", "rm", "huggingface")

    assert gone.returncode == 0, gone.stderr
    assert desktop.lookup(service_of(hub), "default") == ""
    assert desktop.modelbay("token", "rm", "huggingface").returncode == 8


def test_a_locked_keyring_is_said_and_public_models_are_still_found(desktop: Desktop):
    desktop.modelbay("token", "set", "huggingface", stdin=TOKEN)
    desktop.lock()

    listed = desktop.modelbay("token", "ls", "--json")
    stored = desktop.modelbay("token", "set", "huggingface", stdin=OTHER)
    gated = desktop.modelbay("get", "demo/gated-llm")
    public = desktop.modelbay("show", "demo/tiny-llm")
    looked = desktop.modelbay("doctor", "--json")

    row = json.loads(listed.stdout)["tokens"][0]
    assert (row["state"], "is locked" in row["trouble"]) == ("not read", True)
    assert (stored.returncode, gated.returncode, public.returncode) == (3, 3, 0)
    assert "is locked" in stored.stderr
    assert "the token huggingface for" in gated.stderr + gated.stdout
    checks = {check["subject"]: check for check in json.loads(looked.stdout)["checks"]}
    assert "Secret Service, locked" in checks["keyring"]["said"]


def test_a_locked_keyring_that_holds_nothing_of_ours_is_not_missed(desktop: Desktop):
    desktop.lock()

    public = desktop.modelbay("show", "demo/tiny-llm")

    assert public.returncode == 0
    assert "Secret Service" not in public.stderr + public.stdout


def test_a_session_whose_keyring_was_never_made_is_not_asked_to_make_one(hub: Hub, tmp_path: Path):
    with session(tmp_path / "bob", {"HF_ENDPOINT": hub.endpoint}) as environ:
        daemon = ["gnome-keyring-daemon", "--start", "--components=secrets", "--foreground"]
        with started(daemon, environ):
            bob = Desktop(environ)
            public = bob.modelbay("show", "demo/tiny-llm")
            stored = bob.modelbay("token", "set", "huggingface", stdin=TOKEN)

    assert (public.returncode, stored.returncode) == (0, 3), stored.stderr
    assert not list((tmp_path / "bob").rglob("*.keyring"))


@pytest.mark.parametrize("address", ["unix:path=/no/such/bus", "nonsense"])
def test_a_bus_that_is_not_there_is_no_keyring(hub: Hub, tmp_path: Path, address: str):
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HF_ENDPOINT": hub.endpoint}
    nobody = Desktop({**environ, "DBUS_SESSION_BUS_ADDRESS": address})

    stored = nobody.modelbay("token", "set", "huggingface", stdin=TOKEN)
    public = nobody.modelbay("show", "demo/tiny-llm")

    assert (stored.returncode, public.returncode) == (3, 0)
    assert "keyring" in stored.stderr
