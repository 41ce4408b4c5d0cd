"""What a refusal of the Hub means to a person, and what he does next."""

from difflib import get_close_matches
from itertools import islice
from urllib.parse import urlsplit

from modelbay.errors import (
    CredentialMissing,
    CredentialRefused,
    FileNotFound,
    Gated,
    ModelbayError,
    ModelDisabled,
    ModelNotFound,
    RevisionNotFound,
    ServerTrouble,
)
from modelbay.http import Answer
from modelbay.http.redact import shown_url
from modelbay.location import Credential
from modelbay.text import clean
from modelbay.wire.hub import PUBLIC, Hub, Refusal, Repo, refusal_of

_NEAR = 0.6


def explained(
    refusal: Refusal, hub: Hub, repo: Repo, *, variable: str, revision: str | None = None
) -> ModelbayError:
    """The error for `refusal`. `variable` is the one that would hold the token.

    Asks the Hub for near names of models or revisions; when that fails, none are named.
    """
    match refusal.kind:
        case "gated":
            return gated(repo, hub, variable)
        case "disabled":
            return disabled(repo)
        case "token" | "forbidden":
            return _refused(refusal, hub, repo) if hub.credential else _wanted(repo, variable)
        case "missing" | "missing-or-private":
            return _missing(refusal, hub, repo, variable)
        case "revision":
            return _no_revision(hub, repo, revision or "main")
    said = f": {clean(refusal.said, limit=300)}" if refusal.said else ""
    return ServerTrouble(
        f"{host_of(repo)} answered {refusal.status} about {repo.id}{said}",
        hint="check the name and the endpoint's address",
    )


def file_refused(
    answer: Answer, hub: Hub, repo: Repo, path: str, *, variable: str
) -> ModelbayError:
    """The error for a refused file: by the Hub itself, or by the store it redirects to."""
    refusal = refusal_of(answer)
    if refusal.kind in {"forbidden", "missing"} and not refusal.said:
        # The Hub gives a reason with every refusal; S3 and CDNs answer in XML.
        return ServerTrouble(
            f"the store behind {host_of(repo)} answered {answer.status} for {clean(path)}",
            hint="run the same command again: it asks for a new link",
        )
    if refusal.kind in {"entry", "missing"}:
        return FileNotFound(
            f"{repo.id} on {host_of(repo)} has no file {clean(path)}",
            hint=f"look at its files: {repo.page}/tree/main",
        )
    return explained(refusal, hub, repo, variable=variable)


def gated(repo: Repo, hub: Hub, variable: str) -> ModelbayError:
    """Terms not accepted, or nobody there who could have."""
    if hub.credential is None:
        return CredentialMissing(
            f"{repo.id} is gated, and no token for {host_of(repo)} was found",
            hint=f"accept its terms at {repo.page}, then `export {variable}=<your token>`, or "
            f"{_storing(repo)}, and run the same command again",
        )
    return Gated(
        f"{repo.id} is gated, and the token from {hub.credential.label} has no access to it",
        hint=f"ask for access at {repo.page} with the account of that token; "
        f"another token goes into {variable}",
    )


def account_refused(refusal: Refusal, endpoint: str, credential: Credential) -> ModelbayError:
    """Why the Hub did not say whose a token is."""
    host = clean(urlsplit(endpoint).netloc, limit=200)
    if refusal.status in {401, 403}:
        return CredentialRefused(
            f"{host} does not know the token from {credential.label}",
            hint=f"make a new one at {endpoint}/settings/tokens, then "
            "`modelbay token set huggingface`",
        )
    return ServerTrouble(
        f"{host} answered {refusal.status} when it was asked whose a token is",
        hint="check the endpoint's address",
    )


def disabled(repo: Repo) -> ModelDisabled:
    return ModelDisabled(
        f"{repo.id} was disabled by {host_of(repo)}: its files cannot be fetched",
        hint=f"its page may say why: {repo.page}",
    )


def host_of(repo: Repo) -> str:
    return clean(urlsplit(repo.endpoint).netloc, limit=200)


def _missing(refusal: Refusal, hub: Hub, repo: Repo, variable: str) -> ModelbayError:
    private = refusal.kind == "missing-or-private"
    near = _near_models(hub, repo)
    advice = [f"near names: {', '.join(map(clean, near))}"] if near else []
    if private:
        advice.append(f"if it is private, `export {variable}=<your token>`")
    if repo.type == "model":
        advice.append("a dataset is named hf://datasets/org/name")
    return ModelNotFound(
        f"{host_of(repo)} has no {repo.type} {clean(repo.id)}" + (", or hides it" * private),
        hint="; ".join(advice),
    )


def _no_revision(hub: Hub, repo: Repo, revision: str) -> RevisionNotFound:
    names = _refs(hub, repo)
    near = get_close_matches(revision, names, n=3, cutoff=_NEAR) or names[:5]
    return RevisionNotFound(
        f"{repo.id} on {host_of(repo)} has no revision {clean(revision, limit=200)!r}",
        hint=f"its branches and tags: {', '.join(map(clean, near))}"
        if near
        else f"look at its branches: {repo.page}/tree/main",
    )


def _refused(refusal: Refusal, hub: Hub, repo: Repo) -> CredentialRefused:
    label = hub.credential.label if hub.credential else "the environment"
    said = f": {clean(refusal.said, limit=300)}" if refusal.said else ""
    return CredentialRefused(
        f"{host_of(repo)} refused the token from {label} for {repo.id}{said}",
        hint=f"make a new one at {repo.endpoint}/settings/tokens, or take it out of {label} "
        "to go on without a token",
    )


def _wanted(repo: Repo, variable: str) -> CredentialMissing:
    return CredentialMissing(
        f"{host_of(repo)} wants a token for {repo.id}, and none was found",
        hint=f"`export {variable}=<your token>`, or {_storing(repo)}, and run the same command "
        "again",
    )


def _storing(repo: Repo) -> str:
    """How a token gets into the keyring."""
    host = "" if repo.endpoint == PUBLIC else f" --host {shown_url(repo.endpoint)}"
    return f"`modelbay token set huggingface{host}`"


def _near_models(hub: Hub, repo: Repo) -> list[str]:
    """By a misspelt namespace first, then by a misspelt name in that namespace."""
    author, _, name = repo.id.rpartition("/")
    for question in [("search", name)] + ([("author", author)] if author else []):
        try:
            rows = islice(hub.search(repo.type, [question, ("limit", "100")]), 100)
            found = {row.id.lower(): row.id for row in rows}
        except (Refusal, ModelbayError):
            return []
        if near := get_close_matches(repo.id.lower(), found, n=3, cutoff=_NEAR):
            return [found[key] for key in near]
    return []


def _refs(hub: Hub, repo: Repo) -> list[str]:
    try:
        return list(hub.refs(repo))
    except (Refusal, ModelbayError):
        return []
