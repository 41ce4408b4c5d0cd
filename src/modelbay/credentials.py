"""Where a token is found, and which origins it was bound to before anyone asked.

A credential is looked up by whoever is about to ask a server, never earlier, and is
handed on as a `Credential`: the HTTP floor sends it to its origins and nowhere else.
No sentence made here holds anything of what was read.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from modelbay import paths
from modelbay.errors import (
    CredentialMissing,
    FormatError,
    KeyringTrouble,
    PolicyError,
    UsageError,
)
from modelbay.location import Credential, origin_of
from modelbay.text import Secret, clean
from modelbay.tokens import TokenName, Tokens, credential_of

LARGEST_TOKEN_FILE: Final = 64 << 10
_TRUE = frozenset({"1", "ON", "YES", "TRUE"})
_AUTH_KEYS = ("token_env", "token_env_var", "token_file", "header_env", "keyring")
_AUTH_HINT = 'write one of auth = { token_env = "VAR" }, { token_file = "path" }, '
_AUTH_HINT += '{ keyring = "name" }, { header_env = { Authorization = "VAR" } }'


@dataclass(frozen=True, slots=True)
class _Standing:
    """The variables that tools already use for one source, and what they are bound to."""

    variables: tuple[str, ...]
    endpoint_variable: str
    public: str
    hub_file: bool = False
    """Whether the Hub's token file holds its token, and the Hub's switch is its own."""


_STANDING: Final[Mapping[str, _Standing]] = {
    "huggingface": _Standing(
        ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
        "HF_ENDPOINT",
        "https://huggingface.co",
        hub_file=True,
    ),
    "civitai": _Standing(("CIVITAI_TOKEN",), "MODELBAY_CIVITAI_ENDPOINT", "https://civitai.com"),
}


class Credentials:
    """Looks tokens up in an entry's own `auth`, the environment, the keyring and token files.

    `named` are hosts or addresses that the user wrote himself (command line, settings):
    for those the loose spelling of `MODELBAY_TOKEN_<HOST>` counts as well, see `variable_for`.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        auth: Mapping[str, object] | None = None,
        named: Iterable[str] = (),
        tokens: Tokens | None = None,
    ) -> None:
        """Without `tokens` no keyring is asked."""
        self._environ = environ
        self._tokens = tokens
        self._auth = auth
        self._named = {_host(one) for one in named}
        self._own: frozenset[str] | None = None

    def owned(self, auth: Mapping[str, object] | None) -> Self:
        """The same, for an entry whose own `auth` comes first."""
        own = type(self)(self._environ, auth=auth, tokens=self._tokens)
        own._named = self._named  # noqa: SLF001 - of the same class
        own._own = self._own  # noqa: SLF001 - of the same class
        return own

    def standing(self, origins: frozenset[str]) -> Self:
        """The same, for addresses that somebody else chose: tokens go to hosts that they were
        bound to before, at https's own port or at `origins` of the user; no `auth` is read.
        """
        own = type(self)(self._environ, tokens=self._tokens)
        own._own = origins  # noqa: SLF001 - of the same class
        return own

    @property
    def environ(self) -> Mapping[str, str]:
        """For chains of other tools, which read more than tokens out of it."""
        return self._environ

    @property
    def auth(self) -> Mapping[str, object]:
        """What the entry itself names; empty without."""
        return self._auth or {}

    @property
    def chosen_by_others(self) -> bool:
        """Whether somebody else, who is not trusted, chose what is asked for."""
        return self._own is not None

    def are_bound_to(self, url: str) -> bool:
        """Whether what the user has for a whole service may serve at `url`: everywhere, unless
        somebody else chose the address.
        """
        return self._own is None or origin_of(url) in self._own

    def secret(self, variable: str) -> Secret | None:
        """What `variable` holds, else the file that `<variable>_FILE` names. Raises
        CredentialMissing.
        """
        text = self._environ.get(variable, "")
        if text.strip():
            return _checked(text, variable)
        named = self._environ.get(f"{variable}_FILE", "")
        if not named:
            return None
        return _read_token(paths.substituted(named, self._environ), f"{variable}_FILE")

    def note_named(self, address: str) -> None:
        """The user has just written that host or address himself."""
        self._named.add(_host(address))

    def find(
        self, source: str, url: str, *, auth: Mapping[str, object] | None = None
    ) -> Credential | None:
        """What `source` may send to the origin of `url`, or None.

        First found wins: the entry's own `auth`, `MODELBAY_TOKEN_<HOST>`, the source's own
        variables, the keyring, the files its other tools keep. Raises CredentialMissing when
        something that was named holds no token, KeyringTrouble when it is in a keyring that
        cannot be used, FormatError when `auth` cannot be read, PolicyError when none may be.
        """
        own = auth if auth is not None else self._auth
        if own and self._own is not None:
            raise PolicyError(
                "a file that is not trusted names credentials",
                hint="trust it with --trust, once you have read it",
            )
        if own:
            return self._from_auth(own, source, url)
        if self._own is not None and origin_of(url) not in self._own and not _is_usual(url):
            return None
        for variable in (*self._variables(url), *self._standing_variables(source, url)):
            found = self._from_variable(variable, origin_of(url))
            if found is not None:
                return found
        if self._implicit_off(source):
            return None
        return self._from_keyring(source, url) or self._from_hub_file(source, url)

    def home(self, source: str) -> str | None:
        """The address that `source` is asked at when nothing else is said, where it has one."""
        standing = _STANDING.get(source)
        if standing is None:
            return None
        return self._environ.get(standing.endpoint_variable, "").strip() or standing.public or None

    def troubles(self) -> list[str]:
        """Sentences for tokens that the keyring should have, and did not give."""
        return [] if self._tokens is None else self._tokens.troubles()

    def variable(self, source: str, url: str) -> str:
        """The variable a person would set for `source` at `url`; for hints."""
        standing = _STANDING.get(source)
        if standing is not None and self._bound(standing) == origin_of(url):
            return standing.variables[0]
        return variable_for(url)

    def _variables(self, url: str) -> tuple[str, ...]:
        host = urlsplit(url).hostname or ""
        if not re.fullmatch(r"[A-Za-z0-9.:-]+", host):
            return ()
        loose = "MODELBAY_TOKEN_" + re.sub(r"[^A-Z0-9]", "_", host.upper())
        exact = variable_for(host)
        return (exact, loose) if _host(host) in self._named and loose != exact else (exact,)

    def _bound(self, standing: _Standing) -> str:
        """The one origin that a source's standing token belongs to."""
        named = self._environ.get(standing.endpoint_variable, "").strip()
        try:
            return origin_of(named or standing.public)
        except ValueError as error:
            raise UsageError(
                f"{standing.endpoint_variable} is {clean(named, limit=200)!r}, which is no address",
                hint=f"write it as https://host, like {standing.endpoint_variable}="
                f"{standing.public}",
            ) from error

    def _standing_variables(self, source: str, url: str) -> tuple[str, ...]:
        standing = _STANDING.get(source)
        bound = standing is not None and self._bound(standing) == origin_of(url)
        return standing.variables if standing and bound and not self._implicit_off(source) else ()

    def _implicit_off(self, source: str) -> bool:
        """Whether the Hub's own switch says that no token goes by itself."""
        standing = _STANDING.get(source)
        if standing is None or not standing.hub_file:
            return False
        return self._environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() in _TRUE

    def _from_keyring(self, source: str, url: str) -> Credential | None:
        if self._tokens is None:
            return None
        asked = TokenName.at(source, url)
        found = self._tokens.standing(asked)
        return None if found is None else credential_of(asked, found, url)

    def _from_hub_file(self, source: str, url: str) -> Credential | None:
        standing = _STANDING.get(source)
        if standing is None or not standing.hub_file or self._bound(standing) != origin_of(url):
            return None
        path = self._hub_token_file()
        if path is None or not path.exists():
            return None
        return _bearer(_read_token(path, "the Hub's token file"), origin_of(url), "token file")

    def _hub_token_file(self) -> Path | None:
        """Where the Hub's own tools keep the token (protocols-hub A5)."""
        if named := self._environ.get("HF_TOKEN_PATH"):
            return paths.substituted(named, self._environ)
        if any(self._environ.get(name) for name in ("HF_HOME", "XDG_CACHE_HOME", "HOME")):
            return paths.hub_home(self._environ) / "token"
        return None

    def _from_variable(self, variable: str, origin: str) -> Credential | None:
        """The token in `variable`, else in the file that `<variable>_FILE` names."""
        text = self._environ.get(variable, "")
        if text.strip():
            return _bearer(_checked(text, variable), origin, variable)
        named = self._environ.get(f"{variable}_FILE", "")
        if named:
            token = _read_token(paths.substituted(named, self._environ), f"{variable}_FILE")
            return _bearer(token, origin, f"{variable}_FILE")
        return None

    def _from_auth(self, auth: Mapping[str, object], source: str, url: str) -> Credential | None:
        """What the entry itself names, bound to the origin it is asked for."""
        if len(auth) != 1 or next(iter(auth)) not in _AUTH_KEYS:
            raise FormatError(
                f"auth holds {', '.join(clean(key) for key in auth)}",
                hint=_AUTH_HINT,
            )
        key, value = next(iter(auth.items()))
        if key == "header_env":
            return self._from_header_env(value, url)
        if not isinstance(value, str) or not value:
            raise FormatError(
                f"auth.{key} should be a name in quotation marks",
                hint='write auth = { token_env = "VAR" }',
            )
        if key == "keyring":
            return self._from_named(TokenName.at(source, url, value), url)
        if key == "token_file":
            token = _read_token(paths.substituted(value, self._environ), "auth.token_file")
            return _bearer(token, origin_of(url), "auth.token_file")
        found = self._from_variable(value, origin_of(url))
        if found is None:
            raise _unset(value)
        return found

    def _from_named(self, asked: TokenName, url: str) -> Credential | None:
        """The keyring's token that an entry names; None offline, where nothing is sent."""
        if self._tokens is None or self._tokens.offline:
            return None
        try:
            found = self._tokens.get(asked)
        except KeyringTrouble as error:
            raise KeyringTrouble(
                f"auth names the keyring's token {asked.name} for {clean(asked.host)}: {error}",
                hint=error.hint,
            ) from error
        if found is None:
            raise CredentialMissing(
                f"auth names the token {asked.name}, which the keyring has not for "
                f"{asked.source} at {clean(asked.host)}",
                hint=f"store it: `modelbay token set {asked.source}/{asked.name} "
                f"--host {origin_of(url)}`",
            )
        return credential_of(asked, found, url)

    def _from_header_env(self, value: object, url: str) -> Credential:
        if not isinstance(value, Mapping) or len(value) != 1:
            raise FormatError(
                "auth.header_env should name one header",
                hint='write auth = { header_env = { Authorization = "VAR" } }',
            )
        header, variable = next(iter(value.items()))
        if not isinstance(variable, str) or not re.fullmatch(r"[!-9;-~]+", header):
            raise FormatError(
                f"auth.header_env names the header {clean(header, limit=100)!r}",
                hint='write auth = { header_env = { Authorization = "VAR" } }',
            )
        text = self._environ.get(variable, "")
        if not text.strip():
            raise _unset(variable)
        secret = _checked(text, variable)
        return Credential(header, secret, frozenset({origin_of(url)}), variable)


def variable_for(url_or_host: str) -> str:
    """The environment variable for the token of that host.

    A dot becomes `_` and a hyphen `__`: were both `_`, whoever registers
    `models-company.com` could ask for the token of `models.company.com`.
    """
    host = _host(url_or_host).upper().replace("-", "__")
    return "MODELBAY_TOKEN_" + re.sub(r"[^A-Z0-9_]", "_", host)


def _is_usual(url: str) -> bool:
    """Whether `url` is of the service that a host is known for, not of another on its machine."""
    return origin_of(url).startswith("https://") and origin_of(url).endswith(":443")


def _host(url_or_host: str) -> str:
    found = urlsplit(url_or_host).hostname if "//" in url_or_host else url_or_host
    return (found or "").lower()


def _bearer(token: Secret, origin: str, label: str) -> Credential:
    return Credential(
        "Authorization", Secret(f"Bearer {token.reveal()}"), frozenset({origin}), label
    )


def _checked(text: str, where: str) -> Secret:
    """`text` as a token. Raises CredentialMissing that says where, and not what."""
    try:
        secret = Secret(text)
    except ValueError:
        secret = None
    if secret is None or not secret.reveal().isascii():
        raise CredentialMissing(
            f"{clean(where)} holds no token: one line of plain ASCII characters was expected",
            hint="put the bare token there, or take it away to go on without one",
        )
    return secret


def _read_token(path: Path, where: str) -> Secret:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_TOKEN_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it has no usable name"
        raise CredentialMissing(
            f"{clean(where)} ({clean(path, limit=300)}) could not be read: {clean(reason)}",
            hint="put the token into that file, readable by you alone (chmod 600), "
            "or unset what names it",
        ) from error
    text = content.decode("utf-8", "replace") if len(content) <= LARGEST_TOKEN_FILE else ""
    return _checked(text, f"{where} ({clean(path, limit=300)})")


def _unset(variable: str) -> CredentialMissing:
    return CredentialMissing(
        f"the entry's auth names {clean(variable)}, which is not set",
        hint=f"export {clean(variable)}=… (or {clean(variable)}_FILE=path) and run it again",
    )
