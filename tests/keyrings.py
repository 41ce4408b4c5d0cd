"""Backends as `keyring` has them, and a login whose keyring is one of them."""

import io
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from modelbay.bay import Bay
from modelbay.cli import run
from modelbay.config import read_settings
from modelbay.keyrings import Backend, Keyring
from modelbay.tokens import Tokens
from tests.syncing import Machine, Said


@dataclass
class Memory:
    """Keeps what it is given. `asked` counts every call."""

    kept: dict[tuple[str, str], str] = field(default_factory=dict)
    asked: int = 0

    def get_password(self, service: str, username: str, /) -> str | None:
        self.asked += 1
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str, /) -> None:
        self.asked += 1
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str, /) -> None:
        self.asked += 1
        del self.kept[service, username]


class Forgetful(Memory):
    """Says yes and keeps nothing, like keyring.backends.null."""

    def set_password(self, service: str, username: str, password: str, /) -> None: ...


class Clinging(Memory):
    """Gives nothing back that it has."""

    def delete_password(self, service: str, username: str, /) -> None: ...


class KeyringLocked(Exception):
    """Called as keyring's own."""


@dataclass
class Raising(Memory):
    """Answers every call with `error`."""

    error: Exception = field(default_factory=lambda: KeyringLocked("Failed to unlock!"))

    def get_password(self, service: str, username: str, /) -> str | None:
        raise self.error

    def set_password(self, service: str, username: str, password: str, /) -> None:
        raise self.error

    def delete_password(self, service: str, username: str, /) -> None:
        raise self.error


@dataclass
class Silent(Memory):
    """Answers nothing before `released` is set, like a dialogue that nobody sees."""

    released: threading.Event = field(default_factory=threading.Event)

    def get_password(self, service: str, username: str, /) -> str | None:
        self.released.wait()
        return None


def keyring_of(backend: Backend, *, seconds: float | None = None) -> Keyring:
    return Keyring(backend, "the keyring of a test", seconds=seconds)


@dataclass
class Login(Machine):
    """A machine whose user has `backend` as his keyring."""

    backend: Backend = field(default_factory=Memory)
    offline: bool = False

    def tokens(self) -> Tokens:
        return Tokens(self.environ, offline=self.offline, keyring=lambda: keyring_of(self.backend))

    def bay(self) -> Bay:
        return Bay(read_settings(self.environ), self.environ, tokens=self.tokens())

    def run(self, *words: str | Path, stdin: str = "") -> Said:
        out, err = io.StringIO(), io.StringIO()

        def open_bay(**_: object) -> Bay:
            return self.bay()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdin", io.StringIO(stdin))
            argv = [str(word) for word in words]
            code = run(argv, environ=self.environ, open_bay=open_bay, out=out, err=err)
        return Said(code, out.getvalue(), err.getvalue())
