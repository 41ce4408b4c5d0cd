"""What can go wrong, as a person can act on it.

Every error carries a sentence (the thing's name, what was expected, what was
found), a `hint` with the next step as an exact command or key, and a stable
`code` that programs may compare. Anything that is not a `ModelbayError` is a bug.

    ModelbayError
      UsageError        RefError, FormatError, NoSearch
      AccessError       CredentialMissing, CredentialRefused, KeyringTrouble, Gated, LoginPage
      PolicyError
      IntegrityError    WrongBytes, UpstreamChanged, UnsafeName
      NetworkError      Unreachable, ServerTrouble, RateLimited, RedirectRefused, TlsRefused
      DiskError         NoSpace, NotWritable
      NotFound          ModelNotFound, RevisionNotFound, FileNotFound, ModelDisabled
      TargetTaken
      Interrupted
"""

from collections.abc import Iterable
from typing import ClassVar, Final


class ModelbayError(Exception):
    """Something the user can act on. `str()` is the sentence, `hint` the next step."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(ModelbayError):
    code = "usage"


class RefError(UsageError):
    code = "ref-unreadable"


class FormatError(UsageError):
    """A file is not what it should be."""

    code = "format-unreadable"


class NoSearch(UsageError):
    """A source that has no search was asked for one."""

    code = "no-search"


class AccessError(ModelbayError):
    code = "access"


class CredentialMissing(AccessError):
    code = "credential-missing"


class CredentialRefused(AccessError):
    code = "credential-refused"


class KeyringTrouble(AccessError):
    """The keyring is absent, locked, silent, or none that encrypts."""

    code = "keyring"


class Gated(AccessError):
    """The page to accept terms on stands in the hint."""

    code = "gated"


class LoginPage(AccessError):
    """A page came where a model was expected."""

    code = "page-instead-of-model"


class PolicyError(ModelbayError):
    code = "policy"


class IntegrityError(ModelbayError):
    code = "integrity"


class WrongBytes(IntegrityError):
    code = "wrong-bytes"


class UpstreamChanged(IntegrityError):
    code = "upstream-changed"


class UnsafeName(IntegrityError):
    """A server gave a name that must not reach the disk."""

    code = "unsafe-name"


class NetworkError(ModelbayError):
    """`transient` trouble may pass by itself; `retry_after` is the wait asked for, in seconds."""

    code = "network"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        transient: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.transient = transient
        self.retry_after = retry_after


class Unreachable(NetworkError):
    code = "unreachable"


class ServerTrouble(NetworkError):
    code = "server-trouble"


class RateLimited(NetworkError):
    code = "rate-limited"


class RedirectRefused(NetworkError):
    code = "redirect-refused"


class TlsRefused(NetworkError):
    code = "tls-refused"


class DiskError(ModelbayError):
    code = "disk"


class NoSpace(DiskError):
    code = "no-space"


class NotWritable(DiskError):
    code = "not-writable"


class NotFound(ModelbayError):
    code = "not-found"


class ModelNotFound(NotFound):
    code = "model-not-found"


class RevisionNotFound(NotFound):
    code = "revision-not-found"


class FileNotFound(NotFound):
    code = "file-not-found"


class ModelDisabled(NotFound):
    """The model exists, and its host has taken it out of service."""

    code = "model-disabled"


class TargetTaken(ModelbayError):
    """A file that is not ours stands where one of ours should go."""

    code = "target-taken"


class Interrupted(ModelbayError):
    """Stopped by a signal or by the person; what arrived is kept."""

    code = "interrupted"


_FIRST: Final[tuple[type[ModelbayError], ...]] = (
    Interrupted,
    IntegrityError,
    PolicyError,
    AccessError,
    NotFound,
    TargetTaken,
    DiskError,
    NetworkError,
)


def deciding(errors: Iterable[ModelbayError]) -> ModelbayError | None:
    """Of several failures the one that stands for all: the order is formats.md §4's, what no
    class there covers comes last but one, and usage last.
    """

    def rank(error: ModelbayError) -> int:
        kinds = (number for number, kind in enumerate(_FIRST) if isinstance(error, kind))
        return next(kinds, len(_FIRST) + isinstance(error, UsageError))

    return min(errors, key=rank, default=None)
