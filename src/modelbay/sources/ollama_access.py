"""How a registry is asked: with a token of the user's, or with one that it gives for the asking.

Facts: protocols-rest A4. A token is kept as long as it lives, for the repository that it is for.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from modelbay import paths
from modelbay.errors import CredentialMissing, ServerTrouble, UsageError
from modelbay.location import Credential, origin_of
from modelbay.sources.base import Means
from modelbay.sources.ollama_key import signed
from modelbay.sources.ollama_refs import PUBLIC
from modelbay.text import Secret
from modelbay.wire.oci import Challenge, Refusal, Registry, Repo, Token, ask_token, host_of

T_ = TypeVar("T_")
_PUBLIC_REALM: Final = "https://ollama.com"
"""Where Ollama's own registry sends one for a token."""
_LIFE: Final = 0.8
"""Of a token's time, as much is used: the rest is for the way, and for clocks."""


@dataclass(frozen=True, slots=True)
class _Given:
    credential: Credential
    until: float
    """Monotonic, seconds."""


@dataclass
class Access:
    """The tokens of one source. Safe to share between threads."""

    means: Means
    _given: dict[Repo, _Given] = field(default_factory=dict)
    _asked: dict[Repo, Challenge | None] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _first: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, repo: Repo, question: Callable[[Registry], T_]) -> T_:
        """What `question` answers; asked once more with a token where one is wanted. Raises
        Refusal, CredentialMissing.
        """
        try:
            answer = question(self._registry(repo))
        except Refusal as refusal:
            if refusal.challenge is None or refusal.status != 401 or self.own(repo) is not None:
                raise
            self._asked[repo] = refusal.challenge
            self._given.pop(repo, None)
            return question(self._registry(repo))
        self._asked.setdefault(repo, None)
        return answer

    def credential(self, repo: Repo, url: str) -> Credential | None:
        """What goes with a request for the blob at `url`. The first time for a repository that
        was not asked anything yet, its registry is asked whether it wants a token.
        """
        own = self.own(repo)
        with self._first:
            if own is None and repo not in self._asked:
                self.ask(repo, lambda registry: registry.check(url))
        return own or self._token(repo)

    def own(self, repo: Repo) -> Credential | None:
        """The user's token for that registry's host."""
        return self.means.credentials.find("ollama", repo.origin)

    @property
    def key(self) -> Path | None:
        """The key of Ollama's own client, where there is one."""
        try:
            path = paths.home(self.means.credentials.environ) / ".ollama/id_ed25519"
        except UsageError:
            return None
        return path if path.is_file() else None

    def _registry(self, repo: Repo) -> Registry:
        return Registry(self.means.client, self.own(repo) or self._token(repo))

    def _token(self, repo: Repo) -> Credential | None:
        with self._lock:
            challenge, given = self._asked.get(repo), self._given.get(repo)
            if challenge is None:
                return None
            if given is None or given.until < time.monotonic():
                token = self._asked_for(repo, challenge)
                bearer = Secret(f"Bearer {token.value.reveal()}")
                origins = frozenset({origin_of(repo.origin)})
                label = f"the token that {host_of(challenge.realm)} gave"
                credential = Credential("Authorization", bearer, origins, label)
                given = _Given(credential, time.monotonic() + token.seconds * _LIFE)
                self._given[repo] = given
            return given.credential

    def _asked_for(self, repo: Repo, challenge: Challenge) -> Token:
        if repo.origin.startswith("https:") and not challenge.realm.startswith("https:"):
            raise ServerTrouble(
                f"{host_of(repo.origin)} sends one to {host_of(challenge.realm)} for a token "
                "without TLS",
                hint="nothing was sent there; tell whoever runs that registry",
            )
        key = self.key
        if key is not None and self._may_know(repo, challenge):
            return ask_token(self.means.client, *signed(challenge, key))
        own = self.means.credentials.find("ollama", challenge.realm, auth={})
        try:
            return ask_token(self.means.client, challenge.url({}), own)
        except Refusal as refusal:
            if own is not None or refusal.status not in {401, 403}:
                raise
            raise self.missing(repo) from refusal

    def _may_know(self, repo: Repo, challenge: Challenge) -> bool:
        """Whether that registry is one that the key was made for, and asks for itself."""
        public = repo.origin == PUBLIC
        own = repo.origin == self.means.endpoint and self.means.credentials.are_bound_to(
            repo.origin
        )
        allowed = {origin_of(repo.origin)} | ({origin_of(_PUBLIC_REALM)} if public else set())
        return (public or own) and origin_of(challenge.realm) in allowed

    def missing(self, repo: Repo) -> CredentialMissing:
        host = host_of(repo.origin)
        variable = self.means.credentials.variable("ollama", repo.origin)
        hint = f"`export {variable}=<token>` and run the same command again"
        if repo.origin == PUBLIC:
            hint = "`ollama signin` makes a key that the registry knows; run it, and then the same "
            hint += "command again"
        return CredentialMissing(
            f"{host} gives {repo.path} only to those who sign in, or does not have it", hint=hint
        )
