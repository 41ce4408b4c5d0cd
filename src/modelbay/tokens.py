"""Tokens in the keyring: what they are called, which host each is for, which there are.

A keyring lists nothing, so the names (never more) of those that modelbay stored stand in
`tokens.json` in the state directory. Names are no secrets: a Secret Service shows them to
every program of the login, locked or not.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from modelbay import files, paths
from modelbay.errors import KeyringTrouble, UsageError
from modelbay.keyrings import Keyring, real_keyring
from modelbay.location import Credential, origin_of
from modelbay.text import Secret

DEFAULT: Final = "default"
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,22}[a-z0-9])?", re.IGNORECASE)
"""Shorter than any token, so that one which lands here by mistake is not written down."""
_FINGERPRINTS: Final = ("modelbay:fingerprints", "key")


@dataclass(frozen=True, slots=True, order=True)
class TokenName:
    """What one token is called. Raises UsageError that quotes nothing of a bad name: it may
    be the token itself.
    """

    source: str
    host: str
    """The host, with its port unless that is https's own (formats.md §5)."""
    name: str = DEFAULT

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(
                "the name of a token is at most 24 letters, digits, dots and hyphens",
                hint="name it for the account, like huggingface/work; the token is asked for",
            )

    @classmethod
    def at(cls, source: str, url: str, name: str = DEFAULT) -> "TokenName":
        """The token of `source` for the origin of `url`."""
        return cls(source, host_of(url), name)

    @property
    def service(self) -> str:
        return f"modelbay:{self.source}:{self.host}"

    @property
    def shown(self) -> str:
        """As the command line writes it."""
        return self.source if self.name == DEFAULT else f"{self.source}/{self.name}"


class Tokens:
    """The tokens of one login. Each is read once; safe to share between threads."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        offline: bool = False,
        keyring: Callable[[], Keyring] | None = None,
    ) -> None:
        """`keyring` opens another one than the login's; with `offline` none is asked."""
        self._environ = environ
        self._offline = offline
        self._open = keyring
        self._opened: Keyring | KeyringTrouble | None = None
        self._seen: dict[tuple[str, str], Secret | KeyringTrouble | None] = {}
        self._troubles: dict[str, None] = {}
        self._listed: frozenset[TokenName] | None = None
        self._turn = threading.RLock()

    @property
    def offline(self) -> bool:
        return self._offline

    def keyring(self) -> Keyring:
        """Opened when first asked for. Raises KeyringTrouble."""
        with self._turn:
            if self._opened is None:
                try:
                    self._opened = self._open() if self._open else real_keyring(self._environ)
                except KeyringTrouble as error:
                    self._opened = error
            if isinstance(self._opened, KeyringTrouble):
                raise self._opened
            return self._opened

    def get(self, asked: TokenName) -> Secret | None:
        """The token called so, or None; None as well when offline. Raises KeyringTrouble."""
        if self._offline:
            return None
        found = self._read((asked.service, asked.name))
        if isinstance(found, KeyringTrouble):
            raise found
        return found

    def standing(self, asked: TokenName) -> Secret | None:
        """The token called so where that can be told without trouble: nobody asked for one.

        Trouble with a keyring that has one, as far as is known, is told by `troubles`.
        """
        try:
            return self.get(asked)
        except KeyringTrouble as error:
            self._note(asked, error)
            return None

    def troubles(self) -> list[str]:
        """Sentences for the tokens that `standing` should have given, and could not."""
        with self._turn:
            return list(self._troubles)

    def keep(self, asked: TokenName, secret: Secret) -> None:
        """Stores `secret`, and reads it back. Raises KeyringTrouble, DiskError, UsageError."""
        keyring = self.keyring()
        new = self._list_also(asked)
        try:
            keyring.keep(asked.service, asked.name, secret)
        except KeyringTrouble:
            if new:
                self._strike(asked)
            raise
        finally:
            self._seen.pop((asked.service, asked.name), None)

    def forget(self, asked: TokenName) -> bool:
        """Takes it out of the keyring; False where there was none. Raises KeyringTrouble."""
        gone = self.keyring().forget(asked.service, asked.name)
        self._seen.pop((asked.service, asked.name), None)
        self._strike(asked)
        return gone

    def known(self) -> tuple[TokenName, ...]:
        """Those that modelbay stored, sorted. Whether they are still there the keyring knows."""
        try:
            rows = json.loads(self._file().read_bytes())
            return tuple(sorted({TokenName(**row) for row in rows}))
        except (OSError, ValueError, TypeError, UsageError):
            return ()

    def fingerprint(self, secret: Secret) -> str:
        """Eight digits that are the same for the same token in this keyring, and say nothing of
        it to whoever has not its key, which lies there too. Raises KeyringTrouble.
        """
        with self._turn:
            key = self._read(_FINGERPRINTS)
            if key is None:
                key = Secret(secrets.token_hex(32))
                self.keyring().keep(*_FINGERPRINTS, key)
                self._seen[_FINGERPRINTS] = key
        if isinstance(key, KeyringTrouble):
            raise key
        made = hmac.new(key.reveal().encode(), secret.reveal().encode(), hashlib.sha256)
        return made.hexdigest()[:8]

    def _read(self, place: tuple[str, str]) -> Secret | KeyringTrouble | None:
        with self._turn:
            if place not in self._seen:
                try:
                    self._seen[place] = self.keyring().get(*place)
                except KeyringTrouble as error:
                    self._seen[place] = error
            return self._seen[place]

    def _note(self, asked: TokenName, trouble: KeyringTrouble) -> None:
        with self._turn:
            if self._listed is None:
                self._listed = frozenset(self.known())
            if asked in self._listed:
                sentence = f"the token {asked.shown} for {asked.host} is not used: {trouble}"
                self._troubles[sentence] = None

    def _list_also(self, name: TokenName) -> bool:
        """Before the keyring has it, so that no kill leaves a token that nobody lists. Gives
        whether it is new there. Raises DiskError.
        """
        with self._listing() as file:
            known = self.known()
            if name not in known:
                _write(file, [*known, name])
            return name not in known

    def _strike(self, name: TokenName) -> None:
        """Raises DiskError."""
        with self._listing() as file:
            known = self.known()
            if name in known:
                _write(file, [one for one in known if one != name])

    @contextmanager
    def _listing(self) -> Iterator[Path]:
        file = self._file()
        files.make_dir(file.parent)
        with ExitStack() as held, files.disk_errors(file):
            with suppress(files.LockUnsupported):
                lock = file.with_suffix(".lock")
                held.enter_context(files.locked(lock, pause=time.sleep, tell=lambda _: None))
            yield file

    def _file(self) -> Path:
        return paths.state_dir(self._environ) / "tokens.json"


def _write(file: Path, names: list[TokenName]) -> None:
    rows = [asdict(name) for name in sorted(names)]
    files.write_atomic(file, json.dumps(rows, indent=1).encode(), mode=0o600)


def host_of(url: str) -> str:
    """What a token for the origin of `url` is filed under: its host, and its port unless that
    is https's own, so that no other service of a host is given it. Raises UsageError.
    """
    try:
        parts = urlsplit(origin_of(url))
    except ValueError as error:
        raise UsageError(
            "that is no address of a host", hint="write it as https://host or https://host:port"
        ) from error
    usual = parts.scheme == "https" and parts.port == 443
    return parts.netloc.removesuffix(":443") if usual else parts.netloc


def basic(user: str, password: Secret) -> Secret:
    """How a user and his password are kept, as one secret."""
    return Secret(json.dumps({"user": user, "password": password.reveal()}))


def credential_of(kept: TokenName, secret: Secret, url: str) -> Credential:
    """What the keyring gave, a token or a user with a password, bound to the origin of `url`."""
    label = "the keyring" if kept.name == DEFAULT else f"the keyring ({kept.name})"
    value = Secret(f"Bearer {secret.reveal()}")
    with suppress(ValueError, TypeError, KeyError):
        both = json.loads(secret.reveal())
        pair = f"{both['user']}:{both['password']}".encode()
        value = Secret(f"Basic {base64.b64encode(pair).decode()}")
    return Credential("Authorization", value, frozenset({origin_of(url)}), label)
