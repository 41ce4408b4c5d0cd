"""The operating system's keyring, and only a real one.

`keyring` takes what it finds, be it a plain file or one that throws everything away
(reliability.md, T12), and may wait for a person for ever. Here stand the list of those that
encrypt, a time limit for every call, and one error for all that its backends raise. Facts:
protocols-rest G1, measured with keyring 25.7.
"""

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

from modelbay.errors import KeyringTrouble
from modelbay.text import Secret, clean

READ_SECONDS: Final = 10.0
WRITE_SECONDS: Final = 120.0
"""Whoever stores a token is there, and may have to type a password first."""
REAL: Final[Mapping[str, str]] = {
    "keyring.backends.SecretService.Keyring": "Secret Service",
    "keyring.backends.libsecret.Keyring": "Secret Service (libsecret)",
    "keyring.backends.kwallet.DBusKeyring": "KWallet",
    "keyring.backends.kwallet.DBusKeyringKWallet4": "KWallet 4",
    "keyring.backends.macOS.Keyring": "macOS Keychain",
    "keyring.backends.Windows.WinVaultKeyring": "Windows Credential Locker",
}
"""Backends that encrypt with the user's login; every other one is refused."""
_SERVICE: Final = "keyring.backends.SecretService.Keyring"
_SESSION: Final = (
    "HOME", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
    "PYTHON_KEYRING_BACKEND",
)  # fmt: skip
_HINT: Final = "put the token into the environment, or into a file that `<VARIABLE>_FILE` names"
_Given = TypeVar("_Given")


class Backend(Protocol):
    """What is used of `keyring.backend.KeyringBackend`."""

    def get_password(self, service: str, username: str, /) -> str | None: ...
    def set_password(self, service: str, username: str, password: str, /) -> None: ...
    def delete_password(self, service: str, username: str, /) -> None: ...


class Keyring:
    """One backend, whose every call ends in time. Safe to share between threads.

    Raises KeyringTrouble, from every method, for what cannot be done.
    """

    def __init__(self, backend: Backend, name: str, *, seconds: float | None = None) -> None:
        """`seconds` is the limit of every call, in place of the usual ones."""
        self._backend = backend
        self.name = name
        self._seconds = seconds
        self._silent = False
        self._turn = threading.Lock()

    def get(self, service: str, user: str) -> Secret | None:
        """What is kept there, or None. Asks nobody to unlock what holds nothing of ours."""
        with self._turn:
            if not self._within(READ_SECONDS, lambda: self._may_hold(service, user)):
                return None
            text = self._within(READ_SECONDS, lambda: self._backend.get_password(service, user))
        secret = _secret(text)
        if text and secret is None:
            raise KeyringTrouble(
                f"what {self.name} keeps under {clean(service)} is no token: one line of plain "
                "ASCII characters was expected",
                hint="store it again with `modelbay token set`",
            )
        return secret

    def keep(self, service: str, user: str, secret: Secret) -> None:
        """Stores `secret` and reads it back: a keyring may say yes and keep nothing."""

        def kept() -> bool:
            self._backend.set_password(service, user, secret.reveal())
            return self._backend.get_password(service, user) == secret.reveal()

        with self._turn:
            if not self._within(WRITE_SECONDS, kept):
                raise KeyringTrouble(
                    f"{self.name} took the token and did not give it back: it is not stored",
                    hint=_HINT,
                )

    def forget(self, service: str, user: str) -> bool:
        """Takes it away; False where there was none."""

        def forgotten() -> bool:
            if not self._may_hold(service, user):
                return False
            if self._backend.get_password(service, user) is None:
                return False
            self._backend.delete_password(service, user)
            if self._backend.get_password(service, user) is not None:
                raise KeyringTrouble(
                    f"{self.name} still has the token after it was deleted",
                    hint="delete it with the desktop's own program",
                )
            return True

        with self._turn:
            return self._within(WRITE_SECONDS, forgotten)

    def state(self) -> str:
        """`unlocked`, `locked`, or "" where that cannot be told without asking a person."""
        if _path(self._backend) != _SERVICE:
            return ""
        with self._turn:
            return self._within(READ_SECONDS, _default_state)

    def _may_hold(self, service: str, user: str) -> bool:
        """Names can be searched while a Secret Service is locked, and where it has no keyring
        at all; `keyring` itself would first have one unlocked or made.
        """
        if _path(self._backend) != _SERVICE:
            return True
        import secretstorage

        with contextlib.closing(secretstorage.dbus_init()) as bus:
            found = secretstorage.search_items(bus, {"service": service, "username": user})
            return next(iter(found), None) is not None

    def _within(self, seconds: float, ask: Callable[[], _Given]) -> _Given:
        limit = seconds if self._seconds is None else self._seconds
        if self._silent:
            raise _silent(self.name, limit)
        try:
            return within(limit, ask)
        except TimeoutError as error:
            self._silent = True
            raise _silent(self.name, limit) from error
        except KeyringTrouble:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a backend raises, it is of no use now
            # From None: what a backend was told may stand in its own exception.
            raise _trouble(self.name, error) from None


def real_keyring(environ: Mapping[str, str]) -> Keyring:
    """The keyring of this login. Raises KeyringTrouble that says why there is none."""
    refuse_other_session(environ)
    try:
        backends = within(READ_SECONDS, _backends)
    except TimeoutError as error:
        raise _silent("the keyring", READ_SECONDS) from error
    except Exception as error:
        raise _trouble("the keyring", error) from error
    for backend in backends:
        if name := REAL.get(_path(backend)):
            return Keyring(backend, name)
    raise _unreal(_path(backends[0]) if backends else "")


def refuse_other_session(environ: Mapping[str, str]) -> None:
    """Raises KeyringTrouble where `environ` has no keyring for certain; loads nothing.

    A keyring belongs to the login of this process, and `keyring` reads that alone.
    """
    if any(environ.get(name) != os.environ.get(name) for name in _SESSION):
        raise KeyringTrouble(
            "the keyring belongs to another login than the environment in use", hint=_HINT
        )
    named = environ.get("DBUS_SESSION_BUS_ADDRESS") or environ.get("PYTHON_KEYRING_BACKEND")
    if sys.platform.startswith("linux") and not named:
        raise KeyringTrouble(
            "there is no keyring here: this login has no D-Bus session "
            "(DBUS_SESSION_BUS_ADDRESS is not set)",
            hint=_HINT,
        )


def within(seconds: float, ask: Callable[[], _Given]) -> _Given:
    """What `ask` gives, or raises. Raises TimeoutError when it takes longer: it is then left
    to itself in a thread that keeps no program from ending.
    """
    answers: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def answer() -> None:
        try:
            answers.put((True, ask()))
        except Exception as error:  # noqa: BLE001 - raised where the answer is waited for
            answers.put((False, error))

    threading.Thread(target=answer, name="keyring", daemon=True).start()
    try:
        good, found = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if not good:
        raise found
    given: _Given = found
    return given


def _backends() -> list[Any]:
    """The one in force, or those that a chain of them would try, the best first."""
    import keyring

    chosen = keyring.get_keyring()
    return list(getattr(chosen, "backends", None) or [chosen])


def _default_state() -> str:
    import secretstorage

    with contextlib.closing(secretstorage.dbus_init()) as bus:
        try:
            locked = secretstorage.Collection(bus).is_locked()
        except secretstorage.exceptions.ItemNotFoundException:
            return "not made yet"
    return "locked" if locked else "unlocked"


def _secret(text: str | None) -> Secret | None:
    try:
        return Secret(text) if text and text.isascii() else None
    except ValueError:
        return None


def _path(backend: object) -> str:
    return f"{type(backend).__module__}.{type(backend).__qualname__}"


def _silent(name: str, seconds: float) -> KeyringTrouble:
    return KeyringTrouble(
        f"{name} did not answer within {seconds:.0f} s: it may wait for a password",
        hint="unlock it and run the same command again, or " + _HINT,
    )


def _trouble(name: str, error: Exception) -> KeyringTrouble:
    """Any exception of the library means that it cannot be used now."""
    kind, said = type(error).__name__, str(error).lower()
    if kind == "KeyringLocked" or "dismissed" in said or "locked" in said:
        return KeyringTrouble(
            f"{name} is locked, and nobody unlocked it",
            hint="log in at the desktop, or unlock it, and run the same command again; or " + _HINT,
        )
    return KeyringTrouble(f"{name} cannot be used ({clean(kind)})", hint=_HINT)


def _unreal(path: str) -> KeyringTrouble:
    if path in {"", "keyring.backends.fail.Keyring"}:
        return KeyringTrouble(
            "there is no keyring here: no Secret Service, KWallet or Keychain answers", hint=_HINT
        )
    why = "it is none that is known to encrypt"
    if path == "keyring.backends.null.Keyring":
        why = "it throws away what it is given"
    elif "plain" in path.lower():
        why = "it would write tokens into a file that anybody can read"
    return KeyringTrouble(
        f"the keyring in force is {clean(path, limit=200)}, which is refused: {why}",
        hint="start a Secret Service (gnome-keyring, KWallet) and take "
        f"PYTHON_KEYRING_BACKEND away, or {_HINT}",
    )
