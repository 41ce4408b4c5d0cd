"""What a refusal of a registry means to a person, and what he does next."""

from difflib import get_close_matches

from modelbay.errors import (
    CredentialRefused,
    FileNotFound,
    ModelbayError,
    ModelNotFound,
    RevisionNotFound,
    ServerTrouble,
    UsageError,
)
from modelbay.location import Credential
from modelbay.sources.ollama_access import Access
from modelbay.sources.ollama_refs import PUBLIC_HOST, Name
from modelbay.text import clean
from modelbay.wire.oci import Refusal, Repo, host_of

_NEAR = 0.5


def explained(
    refusal: Refusal, access: Access, repo: Repo, name: Name, revision: str | None = None
) -> ModelbayError:
    """The error for a refused manifest. Asks the registry for its tags; where it lists none,
    none are named.
    """
    if refusal.status in {401, 403}:
        return refused(refusal, access, repo, name)
    if refusal.status in {404, 410}:
        return _missing(access, repo, name, revision)
    if refusal.status == 400 and name.is_hub and refusal.said:
        return RevisionNotFound(
            f"{name.host} has no {name.repo}:{name.tag}: {_said(refusal)}",
            hint=f"take it from the Hub itself: hf://{name.repo}",
        )
    if refusal.status == 412:
        return UsageError(
            f"{name.host} does not give {name.repo}:{name.tag} to this client: {_said(refusal)}",
            hint="upgrade modelbay, or pull it with Ollama itself and `modelbay adopt` it",
        )
    said = f": {_said(refusal)}" if refusal.said else ""
    return ServerTrouble(
        f"{host_of(repo.origin)} answered {refusal.status} about {name.repo}:{name.tag}{said}",
        hint="check the name, and the registry's address",
    )


def refused(refusal: Refusal, access: Access, repo: Repo, name: Name) -> ModelbayError:
    """Nobody signed in, or somebody who may not."""
    if name.is_hub:
        missing = access.missing(repo)
        missing.hint = f"if it is gated or private, take it from the Hub itself: hf://{name.repo}"
        return missing
    own = access.own(repo)
    if own is None and (refusal.status == 401 or access.key is None):
        return access.missing(repo)
    return _refused_token(refusal, repo, name.repo, own)


def blob_refused(status: int, said: str, access: Access, repo: Repo, path: str) -> ModelbayError:
    """The error for a refused blob: by the registry, or by the store that it redirects to."""
    if status in {401, 403}:
        own = access.own(repo)
        if own is None:
            return access.missing(repo)
        return _refused_token(Refusal(status, said), repo, repo.path, own)
    if status in {404, 410}:
        return FileNotFound(
            f"{host_of(repo.origin)} no longer has {clean(path)} of {repo.path}",
            hint="its tag may stand for another model by now: ask for it again without a digest, "
            "or make the lock anew with `modelbay lock --upgrade`",
        )
    return ServerTrouble(
        f"the store behind {host_of(repo.origin)} answered {status} for {clean(path)}",
        hint="run the same command again: it asks for a new link",
    )


def _refused_token(
    refusal: Refusal, repo: Repo, what: str, own: Credential | None
) -> CredentialRefused:
    said = f": {_said(refusal)}" if refusal.said else ""
    label = own.label if own else "Ollama's key"
    return CredentialRefused(
        f"{host_of(repo.origin)} refused {label} for {what} (it answered {refusal.status}){said}",
        hint="sign in with an account that may read it, or take the token away to ask without one",
    )


def _missing(access: Access, repo: Repo, name: Name, revision: str | None) -> ModelbayError:
    if revision is not None:
        return RevisionNotFound(
            f"{name.host} has no {name.repo} with the manifest {revision}",
            hint=f"ask for what its tag stands for now: {name.ref()}",
        )
    tags = _tags(access, repo)
    if tags:
        near = get_close_matches(name.tag, tags, n=3, cutoff=_NEAR) or tags[:5]
        return RevisionNotFound(
            f"{name.host} has no tag {clean(name.tag)!r} of {name.repo}",
            hint=f"its tags: {', '.join(map(clean, near))}",
        )
    hint = "check the name: it is read from the right, as host/namespace/model:tag"
    if name.host == PUBLIC_HOST:
        page = f"https://ollama.com/{name.repo}/tags"
        hint = f"its registry lists nothing to programs; {page} shows the tags to people"
    return ModelNotFound(f"{name.host} has no {name.repo}:{name.tag}", hint=hint)


def _tags(access: Access, repo: Repo) -> list[str]:
    try:
        return access.ask(repo, lambda registry: registry.tags(repo)) or []
    except (Refusal, ModelbayError):
        return []


def _said(refusal: Refusal) -> str:
    return clean(refusal.said, limit=300)
