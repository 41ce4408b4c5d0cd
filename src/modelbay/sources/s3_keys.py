"""Keys to sign with: the chain that AWS's own tools look through, and one request signed.

The library behind it is loaded when a request is about to be signed and never earlier. What
it raises may hold what it has read, so no sentence here repeats it.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from modelbay.credentials import Credentials
from modelbay.errors import (
    AccessError,
    CredentialMissing,
    CredentialRefused,
    FormatError,
    ModelbayError,
    Unreachable,
    UsageError,
)
from modelbay.text import Secret, clean

_T = TypeVar("_T")
_ID: Final = "AWS_ACCESS_KEY_ID"
_OFF: Final = "AWS_EC2_METADATA_DISABLED"
_PROFILES: Final = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
_LABELS: Final[Mapping[str, str]] = {
    "shared-credentials-file": "the shared credentials file",
    "config-file": "the AWS config file",
    "custom-process": "credential_process",
    "sso": "the AWS sign-in (sso)",
    "login": "the AWS sign-in (login)",
    "assume-role": "the role that the profile assumes",
    "assume-role-with-web-identity": "the role of the web identity",
    "container-role": "the container's role",
    "iam-role": "the machine's role",
}


class Keys(NamedTuple):
    """What signs, and where it came from."""

    refreshing: Any
    label: str


class Chain:
    """The keys of one user for one profile. Looked for once; safe to share between threads."""

    def __init__(self, credentials: Credentials, profile: str | None = None) -> None:
        self._credentials = credentials
        self._environ = credentials.environ
        self._named = profile
        self.profile = profile or next(filter(None, map(self._environ.get, _PROFILES)), None)
        self._lock = threading.Lock()
        self._found: Keys | None = None
        self._looked = False
        self._made: Any = None

    def keys(self) -> Keys | None:
        """First found wins: the entry's own, the environment, profiles, web identity, SSO, the
        container's role, the machine's. None where there are none at all. Raises AccessError.
        """
        with self._lock:
            if not self._looked:
                self._found = self._from_entry() or self._from_environment() or self._from_chain()
                self._looked = True
            return self._found

    def signed(self, method: str, url: str, own: Mapping[str, str], region: str) -> dict[str, str]:
        """The headers that sign a request as of now; nothing without keys. Raises AccessError."""
        keys = self.keys()
        if keys is None:
            return {}
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest

        request = AWSRequest(method, url, headers=dict(own))
        frozen = self._asked(keys.refreshing.get_frozen_credentials)
        S3SigV4Auth(frozen, "s3", region).add_auth(request)
        return {str(name): str(value) for name, value in request.headers.items()}

    def configured(self, name: str) -> str | None:
        """`region` or `endpoint_url` as the profile has it. Raises AccessError, FormatError."""
        if not any(path.exists() for path in self._files().values()):
            return None
        return self._asked(lambda: _configured(self._session(), name))

    def _from_entry(self) -> Keys | None:
        """`auth = { token_env = "AWS_ACCESS_KEY_ID" }` names the pair of that name."""
        auth = self._credentials.auth
        if not auth:
            return None
        variable = auth.get("token_env", auth.get("token_env_var"))
        if not isinstance(variable, str) or not variable.endswith("ACCESS_KEY_ID"):
            raise UsageError(
                f"an entry of s3 has auth.{clean(', '.join(auth))}, which names no pair of keys",
                hint='write auth = { token_env = "COMPANY_ACCESS_KEY_ID" } with the secret in '
                'COMPANY_SECRET_ACCESS_KEY, or profile = "name"',
            )
        found = self._pair(variable)
        if found is None:
            raise CredentialMissing(
                f"the entry's auth names {clean(variable)}, which is not set",
                hint=f"export {clean(variable)}=… and {_secret_of(variable)}=…, and run it again",
            )
        return found

    def _from_environment(self) -> Keys | None:
        """A profile that was asked for by name comes before the environment."""
        return None if self._named else self._pair(_ID)

    def _pair(self, variable: str) -> Keys | None:
        access = self._credentials.secret(variable)
        if access is None:
            return None
        secret = self._credentials.secret(_secret_of(variable))
        if secret is None:
            raise CredentialMissing(
                f"{clean(variable)} is set and {_secret_of(variable)} is not: a request is signed "
                "with both",
                hint=f"export {_secret_of(variable)}=… (or {_secret_of(variable)}_FILE=path)",
            )
        token = self._credentials.secret(variable.replace("ACCESS_KEY_ID", "SESSION_TOKEN"))
        from botocore.credentials import Credentials as Pair

        _quiet()
        revealed: list[str | None] = [one.reveal() if one else None for one in (access, secret)]
        return Keys(Pair(*revealed, _revealed(token)), variable)

    def _from_chain(self) -> Keys | None:
        def look() -> Any:
            session = self._session()
            resolver = session.get_component("credential_provider")
            # Read above, from the environment that this session was given.
            resolver.remove("env")
            if self._environ.get(_OFF, "").lower() == "true":
                resolver.remove("iam-role")
            return session.get_credentials()

        found = self._asked(look)
        if found is None:
            return None
        label = _LABELS.get(str(found.method), "the AWS credential chain")
        return Keys(found, f"{label} (profile {self.profile})" if self.profile else label)

    def _session(self) -> Any:
        if self._made is None:
            self._made = _session({**self._environ, **self._named_files()}, self.profile)
        return self._made

    def _named_files(self) -> dict[str, str]:
        return {name: str(path) for name, path in self._files().items()}

    def _files(self) -> dict[str, Path]:
        home = Path(self._environ.get("HOME", "~")).expanduser() / ".aws"
        usual = {"AWS_CONFIG_FILE": "config", "AWS_SHARED_CREDENTIALS_FILE": "credentials"}
        return {
            name: Path(self._environ.get(name) or home / file).expanduser()
            for name, file in usual.items()
        }

    def _asked(self, ask: Callable[[], _T]) -> _T:
        """`ask` with what the library raises as errors a person can act on."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return ask()
        except (BotoCoreError, ClientError) as error:
            raise _explained(error, self.profile) from None


def _session(environ: Mapping[str, str], profile: str | None) -> Any:
    """A session of the library that reads `environ` and not the process's own."""
    from botocore.configprovider import ConfigChainFactory
    from botocore.session import Session

    _quiet()
    session = Session(profile=profile)
    store = session.get_component("config_store")
    factory = ConfigChainFactory(session=session, environ=environ)
    for name, (key, variables, default, convert) in Session.SESSION_VARIABLES.items():
        chain = factory.create_config_chain(
            instance_name=name,
            env_var_names=variables,
            config_property_names=key,
            default=default,
            conversion_func=convert,
        )
        store.set_config_provider(name, chain)
    return session


def _configured(session: Any, name: str) -> str | None:
    """What the profile says, for S3 alone first (`[services]`)."""
    scoped = session.get_scoped_config()
    services = session.full_config.get("services", {}).get(scoped.get("services"), {})
    for table in (services.get("s3", {}), scoped):
        value = table.get(name) if isinstance(table, Mapping) else None
        if isinstance(value, str) and value:
            return value
    return None


def _secret_of(variable: str) -> str:
    return clean(variable.replace("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))


def _revealed(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()


def _quiet() -> None:
    """At DEBUG the library writes whole requests, session tokens included; at WARNING it tells a
    terminal with a traceback what is an error here.
    """
    logging.getLogger("botocore").setLevel(logging.CRITICAL)


def _explained(error: Exception, profile: str | None) -> ModelbayError:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    shown = clean(profile or "default", limit=100)
    if "ProfileNotFound" in kinds:
        return CredentialMissing(
            f"the AWS profile {shown!r} is in no config or credentials file",
            hint=f"`aws configure --profile {shown}`, or name another profile",
        )
    if kinds & {"SSOError", "UnauthorizedSSOTokenError", "TokenRetrievalError", "LoginError"}:
        return CredentialRefused(
            f"the AWS sign-in of the profile {shown!r} has run out, or was never made",
            hint=f"`aws sso login --profile {shown}`, and run the same command again",
        )
    if "MissingDependencyException" in kinds:
        return CredentialMissing(
            f"the AWS profile {shown!r} signs in in a way that needs one more library",
            hint="`pip install 'botocore[crt]'`, and run the same command again",
        )
    if kinds & {"ConfigParseError", "ConfigNotFound", "InvalidConfigError"}:
        return FormatError(
            "the AWS config files cannot be read",
            hint="`aws configure list` says where they are and what is wrong with them",
        )
    if kinds & {"HTTPClientError", "ConnectionError"}:
        return Unreachable(
            f"the service that gives keys to the AWS profile {shown!r} could not be asked",
            hint="check the network (`modelbay doctor`), then run the same command again",
        )
    return AccessError(
        f"the AWS credential chain gave no keys for the profile {shown!r} "
        f"({clean(type(error).__name__)})",
        hint=f"`aws sts get-caller-identity --profile {shown}` says why",
    )
