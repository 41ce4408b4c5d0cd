"""The part of the OCI registry protocol that pulling needs, as Ollama's registry speaks it.

Facts: protocols-rest A2, A4 and A6, corrected by fixtures SURPRISES §3: manifests come as
text/plain without a length, HEAD on them is refused, blobs are redirected with 302 or 307 or
given directly. No policy here: a refusal comes back as a `Refusal`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from modelbay.digest import Digest
from modelbay.errors import ServerTrouble
from modelbay.http import Answer, Client
from modelbay.location import Credential
from modelbay.text import Secret, clean
from modelbay.wire.oci_manifest import DOCKER, LARGEST, OCI

ACCEPT: Final = f"{DOCKER}, {OCI}"
"""Without Docker's type by name a docker-registry answers 400."""
_CHALLENGE = re.compile(r"(?i)^\s*bearer\s+(.*)$", re.DOTALL)
_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))')
_LEAST_SECONDS: Final = 60.0
"""What a token lives when nobody says (the protocol's own default)."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """Where a token is given, and for what. Untrusted: a registry chose it."""

    realm: str
    service: str
    scopes: tuple[str, ...]

    def url(self, more: Mapping[str, str]) -> str:
        """The address to ask, its query sorted by keys as Go's `url.Values` writes it."""
        parts = urlsplit(self.realm)
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        pairs += [("service", self.service)] if self.service else []
        pairs += [("scope", scope) for scope in self.scopes]
        pairs += list(more.items())
        query = urlencode(sorted(pairs, key=lambda pair: pair[0]))
        return parts._replace(query=query, fragment="").geturl()


class Refusal(Exception):
    """The registry said no. `said` is its own sentence, uncleaned, or empty."""

    def __init__(self, status: int, said: str, challenge: Challenge | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.said = said
        self.challenge = challenge


@dataclass(frozen=True, slots=True)
class Token:
    """What a token endpoint gave, and for how many seconds."""

    value: Secret
    seconds: float


@dataclass(frozen=True, slots=True)
class Repo:
    """One repository of one registry. `origin` is `scheme://host[:port]`, or a Hub's endpoint."""

    origin: str
    path: str

    def manifest_url(self, reference: str) -> str:
        return f"{self._base}/manifests/{quote(reference, safe=':')}"

    def blob_url(self, digest: Digest) -> str:
        return f"{self._base}/blobs/{digest}"

    @property
    def tags_url(self) -> str:
        return f"{self._base}/tags/list"

    @property
    def _base(self) -> str:
        return f"{self.origin}/v2/{quote(self.path)}"


@dataclass(frozen=True, slots=True)
class Registry:
    """Asks one registry with one credential."""

    client: Client
    credential: Credential | None = None

    def manifest(self, repo: Repo, reference: str) -> bytes:
        """The bytes of a manifest, by tag or by digest, as they came. Raises Refusal."""
        return self._get(repo.manifest_url(reference), {"Accept": ACCEPT}, LARGEST)

    def blob(self, repo: Repo, digest: Digest, limit: int) -> bytes:
        """A small blob, whole and not compared with anything. Raises Refusal."""
        return self._get(repo.blob_url(digest), {}, limit)

    def tags(self, repo: Repo) -> list[str] | None:
        """The tags it lists; None where it lists none, as Ollama's own. Raises Refusal."""
        answer = self.client.ask(repo.tags_url, credential=self.credential)
        if answer.status in {404, 405}:
            return None
        self._judge(answer)
        body = answer.json()
        tags = body.get("tags") if isinstance(body, dict) else None
        return [tag for tag in tags or [] if isinstance(tag, str)]

    def check(self, url: str) -> None:
        """Asks for the first byte of a blob. Raises Refusal when it may not be read."""
        answer = self.client.probe(url, credential=self.credential)
        if answer.status in {401, 403}:
            raise refusal_of(answer)

    def _get(self, url: str, headers: Mapping[str, str], limit: int) -> bytes:
        answer = self.client.ask(url, headers=headers, credential=self.credential)
        self._judge(answer)
        if len(answer.body) > limit:
            raise ServerTrouble(
                f"{host_of(url)} answered {len(answer.body)} bytes where at most {limit} were "
                "expected",
                hint="check the name, and the registry's address",
            )
        return answer.body

    @staticmethod
    def _judge(answer: Answer) -> None:
        if answer.status != 200:
            raise refusal_of(answer)


def ask_token(client: Client, url: str, authorization: Credential | None) -> Token:
    """A token for pulling. Raises Refusal."""
    answer = client.ask(url, credential=authorization, follow="none")
    if answer.status != 200:
        raise refusal_of(answer)
    body = answer.json()
    body = body if isinstance(body, dict) else {}
    value, seconds = body.get("token") or body.get("access_token"), body.get("expires_in")
    lives = float(seconds) if isinstance(seconds, int | float) and seconds > 0 else _LEAST_SECONDS
    try:
        secret = Secret(value if isinstance(value, str) else "")
    except ValueError as error:
        raise ServerTrouble(
            f"{host_of(url)} was asked for a token and gave none",
            hint="check the registry's address",
        ) from error
    return Token(secret, lives)


def refusal_of(answer: Answer) -> Refusal:
    return Refusal(
        answer.status, _said(answer), read_challenge(answer.header("www-authenticate") or "")
    )


def read_challenge(header: str) -> Challenge | None:
    """What `WWW-Authenticate: Bearer …` asks for; None where it is none."""
    matched = _CHALLENGE.match(header)
    if matched is None:
        return None
    found = {name.lower(): quoted or bare for name, quoted, bare in _PARAMETER.findall(matched[1])}
    realm = found.get("realm", "")
    if not realm.startswith(("https://", "http://")):
        return None
    return Challenge(realm, found.get("service", ""), tuple(found.get("scope", "").split()))


def host_of(url: str) -> str:
    return clean(urlsplit(url).netloc.rpartition("@")[2], limit=200)


def _said(answer: Answer) -> str:
    """The registry's sentence: JSON of two shapes, or plain text; nothing of a page."""
    text = answer.body[:2000].decode("utf-8", "replace").strip()
    if text.startswith("{"):
        try:
            body = answer.json()
        except ServerTrouble:
            return ""
        errors = body.get("errors")
        first = errors[0] if isinstance(errors, list) and errors else {}
        told = body.get("error") or (first.get("message") if isinstance(first, dict) else None)
        return told if isinstance(told, str) else ""
    return "" if text.startswith("<") or answer.status == 429 else text
