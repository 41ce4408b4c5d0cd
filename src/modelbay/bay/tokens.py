"""What a person does with tokens: store one, list them, take one away, ask whose it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Literal

from modelbay import sources
from modelbay.bay.session import Session
from modelbay.errors import CredentialMissing, KeyringTrouble, ModelbayError, NotFound, UsageError
from modelbay.location import Credential, origin_of
from modelbay.sources.base import Account, Identifying
from modelbay.text import Secret, clean
from modelbay.tokens import DEFAULT, TokenName, basic, credential_of

_ADDRESSES: Final = ("endpoint", "tracking_uri", "registry", "url")
"""Keys of an entry that say where its source is asked."""


@dataclass(frozen=True, slots=True)
class Named:
    """A token as a person names it: `SOURCE[/NAME]`, and the address that it is for."""

    token: TokenName
    url: str
    by_name: bool
    """Whether NAME was written, so that no other token will do."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One token that there is. `kept` says where: `keyring`, a variable, a file."""

    token: TokenName
    kept: str
    state: Literal["ok", "gone", "not read"] = "ok"
    fingerprint: str = ""
    """Equal for equal tokens of one keyring; empty where it cannot be made."""
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Tested:
    """A token that was found. `account` is None where the service cannot be asked whose it is."""

    token: TokenName
    label: str
    origins: tuple[str, ...]
    account: Account | None


class TokenStore:
    """The tokens of one session's login."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tokens = session.tokens

    def named(self, text: str, host: str | None = None) -> Named:
        """The token that `text` names, for `host` or where its source is asked. Raises
        UsageError that does not quote what it cannot read: that may be a token.
        """
        named, slash, name = text.partition("/")
        factory = self._session.settings.sources.get(named, {})
        source = str(factory.get("type", named))
        if source not in sources.names():
            raise _unknown(named, (*sources.names(), *self._session.settings.sources))
        url = host or self._home(source, factory)
        if url is None:
            raise UsageError(
                f"{source} is asked at many hosts, and a token is for one",
                hint=f"name it: `modelbay token set {source} --host https://HOST`",
            )
        url = url if "://" in url else f"https://{url}"
        if "@" in url:
            raise UsageError(
                "the address of the host carries a user name",
                hint="write it as https://host; a user is named with --user",
            )
        return Named(TokenName.at(source, url, name if slash else DEFAULT), url, bool(slash))

    def keep(self, named: Named, secret: Secret, *, user: str | None = None) -> str:
        """Stores `secret`, the password of `user` where one is named; the keyring's name.
        Raises KeyringTrouble, DiskError, UsageError.
        """
        both = secret if user is None else basic(user, secret)
        self._tokens.keep(named.token, both)
        return self._tokens.keyring().name

    def first(self, named: Named) -> str:
        """What comes before the keyring for that host: a variable's name, or ""."""
        return self._elsewhere(named.token.source, named.url)

    def forget(self, named: Named) -> None:
        """Raises NotFound where there is none, KeyringTrouble."""
        if not self._tokens.forget(named.token):
            raise NotFound(
                f"the keyring has no token {named.token.shown} for {clean(named.token.host)}",
                hint="see `modelbay token ls`",
            )

    def listed(self) -> list[Listed]:
        """Those that modelbay stored, and those that stand where other tools keep them."""
        known = {*self._tokens.known(), *(name for name, _ in self._homes())}
        rows = [row for row in map(self._look, sorted(known)) if row is not None]
        for name, url in self._homes():
            label = self._elsewhere(name.source, url)
            if label:
                rows.append(Listed(name, label))
        return sorted(rows, key=lambda row: (row.token, row.kept))

    def test(self, named: Named) -> Tested:
        """The token that would be sent, and whose it is. Raises CredentialMissing where there
        is none, CredentialRefused where the service does not know it, NetworkError.
        """
        credential = self._credential(named)
        if credential is None:
            at = clean(origin_of(named.url))
            raise CredentialMissing(
                f"there is no token {named.token.shown} for {clean(named.token.host)}",
                hint=f"store one: `modelbay token set {named.token.shown} --host {at}`",
            )
        source = self._session.sources.get(named.token.source)
        account = None
        if isinstance(source, Identifying):
            account = source.account(named.url, credential)
        return Tested(named.token, credential.label, tuple(sorted(credential.origins)), account)

    def _credential(self, named: Named) -> Credential | None:
        if not named.by_name:
            return self._session.credentials.find(named.token.source, named.url)
        secret = self._tokens.get(named.token)
        return None if secret is None else credential_of(named.token, secret, named.url)

    def _home(self, source: str, keys: Mapping[str, object]) -> str | None:
        own = next((str(keys[key]) for key in _ADDRESSES if key in keys), None)
        endpoints = self._session.settings.endpoints
        return own or endpoints.get(source) or self._session.credentials.home(source)

    def _homes(self) -> list[tuple[TokenName, str]]:
        """The usual token of every source that has one address."""
        homes = [(name, self._home(name, {})) for name in sources.names()]
        return [(TokenName.at(name, url), url) for name, url in homes if url is not None]

    def _look(self, token: TokenName) -> Listed | None:
        """None for one that nobody stored."""
        known = token in self._tokens.known()
        if self._tokens.offline:
            return Listed(token, "keyring", "not read", trouble="offline") if known else None
        try:
            secret = self._tokens.get(token)
        except KeyringTrouble as error:
            return Listed(token, "keyring", "not read", trouble=str(error)) if known else None
        if secret is None:
            return Listed(token, "keyring", "gone") if known else None
        return Listed(token, "keyring", fingerprint=self._fingerprint(secret))

    def _fingerprint(self, secret: Secret) -> str:
        try:
            return self._tokens.fingerprint(secret)
        except KeyringTrouble:
            return ""

    def _elsewhere(self, source: str, url: str) -> str:
        try:
            found = self._session.credentials.find(source, url)
        except ModelbayError:
            return ""
        return "" if found is None or found.label.startswith("the keyring") else found.label


def _unknown(named: str, known: tuple[str, ...]) -> UsageError:
    near = get_close_matches(named, known, n=1)
    listed = ", ".join(sorted(set(known)))
    return UsageError(
        "a token belongs to a source, and what was written is none",
        hint=(f"did you mean {near[0]}? " if near else "") + f"The sources are {listed}; the token "
        "itself comes from a prompt or stdin",
    )
