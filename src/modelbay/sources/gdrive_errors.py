"""What Google Drive's refusals mean, as a person can act on them."""

from modelbay.errors import (
    CredentialMissing,
    CredentialRefused,
    LoginPage,
    ModelbayError,
    ModelNotFound,
    PolicyError,
    RateLimited,
    ServerTrouble,
)
from modelbay.location import Credential
from modelbay.refs import ModelRef
from modelbay.text import clean
from modelbay.wire.gdrive import Refusal
from modelbay.wire.gdrive_pages import Page


def explained(refusal: Refusal, ref: ModelRef, credential: Credential | None) -> ModelbayError:
    """The error for what Drive answered in place of `ref`."""
    return refused_file(ref, refusal.status, refusal.page, credential)


def refused_file(
    ref: ModelRef, status: int, page: Page, credential: Credential | None
) -> ModelbayError:
    """The same, for a status and a page that the engine came upon."""
    if page.kind in {"quota", "busy"}:
        return _overasked(ref, page)
    if page.kind == "missing" or status in {404, 410}:
        return ModelNotFound(
            f"{ref} is not on Google Drive (any more)", hint="open the link in a browser"
        )
    if page.kind == "private" or status in {401, 403}:
        return _not_shared(ref, credential)
    if page.kind == "infected":
        return PolicyError(
            f"Google Drive says that {ref} is infected, and gives it to nobody but its owner",
            hint="ask its owner, or take the model from another place",
        )
    if status != 200:
        return ServerTrouble(
            f"Google Drive answered {status} for {ref}", hint="open the link in a browser"
        )
    return LoginPage(
        f"Google Drive sent a page in place of {ref}: {clean(page.title, limit=120)!r}",
        hint="open the link in a browser: it says what is asked for",
    )


def page_in_place(ref: ModelRef, page: LoginPage) -> ModelbayError:
    """The same, for a page that came when the file was asked for; its title is in `page`."""
    if "quota" in str(page).lower():
        return _overasked(ref, Page("quota", str(page)))
    return page


def _overasked(ref: ModelRef, page: Page) -> RateLimited:
    if page.kind == "quota":
        return RateLimited(
            f"{ref} has been downloaded too often for Google Drive's quota",
            hint="try again in up to 24 hours, or make a copy in a Drive of your own and share it",
        )
    return RateLimited(
        f"Google Drive takes this network's requests for automated ones, and gave no {ref}",
        hint="wait some minutes, then run the same command again",
    )


def _not_shared(ref: ModelRef, credential: Credential | None) -> ModelbayError:
    hint = "ask its owner to share it with 'Anyone with the link'"
    if credential is not None:
        return CredentialRefused(
            f"{ref} may not be read with the token from {credential.label}", hint=hint
        )
    return CredentialMissing(f"{ref} is not shared with everybody who has the link", hint=hint)
