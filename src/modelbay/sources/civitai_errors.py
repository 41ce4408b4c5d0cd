"""What a refusal of CivitAI means to a person, and what he does next."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from modelbay.errors import (
    AccessError,
    CredentialMissing,
    CredentialRefused,
    FileNotFound,
    Gated,
    ModelbayError,
    ModelDisabled,
    ModelNotFound,
    ServerTrouble,
)
from modelbay.location import Credential
from modelbay.text import clean
from modelbay.wire.civitai import Refusal
from modelbay.wire.civitai_answers import Model


@dataclass(frozen=True, slots=True)
class About:
    """What was asked for, in words, and with what."""

    what: str
    endpoint: str
    page: str
    credential: Credential | None
    variable: str

    @property
    def host(self) -> str:
        return clean(urlsplit(self.endpoint).netloc, limit=200)


def refused(refusal: Refusal, about: About) -> ModelbayError:
    """The error for `refusal`, of a question or of a file."""
    match refusal.kind:
        case "login":
            return _login(about)
        case "missing":
            return _not_given(refusal, about)
        case "archived":
            return archived(about)
        case "early" | "disabled" | "no-access" | "region":
            return _gate(refusal, about)
    return _trouble(refusal, about)


def _said(refusal: Refusal) -> str:
    return f": {clean(refusal.said, limit=300)}" if refusal.said else ""


def _not_given(refusal: Refusal, about: About) -> FileNotFound:
    return FileNotFound(
        f"{about.host} does not give {about.what}: it is not there, or not now{_said(refusal)}",
        hint=f"look at its page: {about.page}; run the same command again later",
    )


def _gate(refusal: Refusal, about: About) -> AccessError:
    if refusal.kind == "early":
        return _early(about, refusal.deadline)
    if refusal.kind == "region":
        return AccessError(
            f"{about.host} does not serve {about.what} in this region (451)",
            hint="name a registry of your own that has it under [endpoints] civitai",
        )
    if refusal.kind == "disabled":
        return Gated(
            f"the creator of {about.what} has disabled its downloads on {about.host}",
            hint=f"no token helps; its page may say where else it is: {about.page}",
        )
    return Gated(
        f"{about.host} gives {_whose(about)} no access to {about.what}{_said(refusal)}",
        hint=f"ask for access at {about.page}; {_another(about)}",
    )


def _trouble(refusal: Refusal, about: About) -> ServerTrouble:
    if refusal.kind == "blocked":
        return ServerTrouble(
            f"a guard in front of {about.host} answered {refusal.status} with a web page",
            hint=f"open {about.page} in a browser: this network may be blocked",
        )
    if refusal.kind == "store":
        return ServerTrouble(
            f"the store behind {about.host} answered {refusal.status} for {about.what}",
            hint="run the same command again: it asks for a new link",
        )
    return ServerTrouble(
        f"{about.host} answered {refusal.status} about {about.what}{_said(refusal)}",
        hint="check the number and the endpoint's address",
    )


def key_refused(refusal: Refusal, about: About) -> ModelbayError:
    """The error for a question about the key itself."""
    if refusal.kind != "login" or about.credential is None:
        return refused(refusal, about)
    return CredentialRefused(
        f"{about.host} does not know the token from {about.credential.label}",
        hint=f"make a new key at {about.endpoint}/user/account and put it into {about.variable}",
    )


def archived(about: About) -> ModelDisabled:
    return ModelDisabled(
        f"{about.what} is archived on {about.host}: its files cannot be fetched",
        hint=f"its page may say why: {about.page}",
    )


def no_version(number: int, about: About, model: Model | None) -> ModelNotFound:
    """`model` has that number, where there is one: the usual mix-up."""
    if model is None:
        return ModelNotFound(
            f"{about.host} has no version {number}, and no model of that number either",
            hint="it may have been unpublished; the number of a version stands after "
            "modelVersionId= in the address of its page",
        )
    versions = ", ".join(
        f"civitai://{one.id} ({clean(one.name, limit=60)})" for one in model.versions[:5]
    )
    return ModelNotFound(
        f"{number} is the number of a model on {about.host} ({clean(model.name, limit=100)}), "
        "not of one of its versions",
        hint=f"its versions: {versions or 'none'}; its newest one, whichever that is: "
        f"civitai://model/{number} (model_id = {number})",
    )


def no_model(number: int, about: About) -> ModelNotFound:
    return ModelNotFound(
        f"{about.host} has no model {number}, or no version of it is published",
        hint=f"if it is the number of a version, write civitai://{number}",
    )


def _login(about: About) -> ModelbayError:
    if about.credential is None:
        return CredentialMissing(
            f"{about.host} gives {about.what} to signed-in users only, and no token was found",
            hint=f"make a key at {about.endpoint}/user/account, then "
            f"`export {about.variable}=<your key>` and run the same command again",
        )
    return CredentialRefused(
        f"{about.host} gives {about.what} to signed-in users only, and did not accept the token "
        f"from {about.credential.label}",
        hint=f"make a new key at {about.endpoint}/user/account and put it into {about.variable}",
    )


def _early(about: About, deadline: str | None) -> Gated:
    until = f" until {when(deadline)}" if deadline else ""
    return Gated(
        f"{about.what} is in early access on {about.host}{until}, and {_whose(about)} "
        "has not bought it",
        hint=f"buy it at {about.page}"
        + (", or wait until then" if deadline else "")
        + f"; {_another(about)}",
    )


def when(time: str) -> str:
    """`2026-10-11 14:30 UTC` for an ISO 8601 time of theirs."""
    shown = clean(time, limit=40)
    return f"{shown[:10]} {shown[11:16]} UTC" if len(shown) > 16 else shown


def _whose(about: About) -> str:
    if about.credential is None:
        return "whoever has no token"
    return f"the account of the token from {about.credential.label}"


def _another(about: About) -> str:
    if about.credential is None:
        return f"then `export {about.variable}=<your key>`"
    return f"another token goes into {about.variable}"
