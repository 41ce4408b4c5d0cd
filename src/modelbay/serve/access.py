"""Who asks, and what he may have. Answers as the Hub does (SURPRISES H1–H5)."""

from collections.abc import Mapping
from dataclasses import dataclass

from modelbay.serve.http11 import Request
from modelbay.serve.shelf import Shelf, ShelfRepo
from modelbay.text import Secret


class Refusal(Exception):
    """A request that is turned down: the status, a sentence, the Hub's code for it."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a token speaks for.

    `granted` are the ids of the private repositories he may see and of the gated ones he
    was let into; `*` stands for all.
    """

    name: str
    granted: frozenset[str] = frozenset()

    def may_have(self, repo_id: str) -> bool:
        return "*" in self.granted or repo_id in self.granted


class Door:
    """Tokens and gates. Without `anonymous`, nobody is answered without a token."""

    def __init__(
        self, shelf: Shelf, tokens: Mapping[Secret, Account], *, anonymous: bool = True
    ) -> None:
        self._shelf = shelf
        self._tokens = tokens
        self._anonymous = anonymous

    def account_of(self, request: Request) -> Account | None:
        """None for nobody in particular. Raises Refusal for a token that is not known."""
        header = request.headers.get("authorization", "")
        if not header:
            if self._anonymous:
                return None
            raise Refusal(401, "Invalid username or password.")
        scheme, _, token = header.partition(" ")
        try:
            known = self._tokens.get(Secret(token))
        except ValueError:
            known = None
        if known is None or scheme.lower() != "bearer":
            raise Refusal(401, "Invalid credentials in Authorization header")
        return known

    def sees(self, account: Account | None, repo: ShelfRepo) -> bool:
        if not repo.facts.private:
            return True
        return account is not None and account.may_have(repo.id)

    def repo(self, account: Account | None, name: str) -> ShelfRepo:
        """By any of its names. Raises Refusal, the same for private and for absent."""
        repo = self._shelf.repo(name)
        if repo is not None and self.sees(account, repo):
            return repo
        if account is None:
            raise Refusal(401, "Invalid username or password.")
        raise Refusal(404, "Repository not found", "RepoNotFound")

    def pass_gate(self, account: Account | None, repo: ShelfRepo) -> None:
        """Raises Refusal where this account may not have the files' content."""
        gated = repo.facts.gated != "no"
        if gated and account is None:
            raise Refusal(
                401,
                f"Access to model {repo.id} is restricted. You must have access to it and be "
                "authenticated to access it. Please log in.",
                "GatedRepo",
                (("WWW-Authenticate", 'Bearer realm="Authentication required", charset="UTF-8"'),),
            )
        if gated and account is not None and not account.may_have(repo.id):
            raise Refusal(
                403,
                f"Access to model {repo.id} is restricted and you are not in the authorized "
                f"list. Visit https://huggingface.co/{repo.id} to ask for access.",
                "GatedRepo",
            )
        if repo.facts.disabled:
            raise Refusal(403, "Access to this resource is disabled.")


def commit_of(shelf: Shelf, repo: ShelfRepo, revision: str) -> str:
    """Raises Refusal when there is no such revision."""
    commit = shelf.commit_of(repo, revision)
    if commit is None:
        raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return commit
