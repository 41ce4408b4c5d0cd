"""What a store's refusal means to a person (protocols-rest C3).

The code alone decides: some stores write no message (fixtures SURPRISES S1), and an answer to
HEAD has no code at all. A missing key is a 403 to whoever may not list (S6).
"""

from dataclasses import dataclass
from typing import Final

from modelbay.errors import (
    AccessError,
    CredentialMissing,
    CredentialRefused,
    FileNotFound,
    ModelbayError,
    ModelDisabled,
    ModelNotFound,
    RateLimited,
    RevisionNotFound,
    ServerTrouble,
    UsageError,
)
from modelbay.text import clean
from modelbay.wire.s3 import Bucket
from modelbay.wire.s3_answers import Refusal

_BAD_KEYS: Final = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSecurity", "InvalidToken"}
    | {"ExpiredToken", "TokenRefreshRequired", "ExpiredTokenException", "NotSignedUp"}
)
_OVERASKED: Final = frozenset({"SlowDown", "SlowDownRead", "ServiceUnavailable", "Throttling"})
_PASSING: Final = frozenset({"RequestTimeout", "InternalError", "OperationAborted"})
_ELSEWHERE: Final = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)


@dataclass(frozen=True, slots=True)
class Asking:
    """What was asked for, with which keys."""

    bucket: Bucket
    key: str
    version: str | None = None
    label: str | None = None
    """Where the keys came from; None for a request without any."""
    listed: bool = False
    """Whether a listing showed the key, so that it is there."""

    @property
    def host(self) -> str:
        return clean(self.bucket.address.partition("://")[2], limit=200)

    @property
    def shown(self) -> str:
        return clean(f"s3://{self.bucket.name}/{self.key}", limit=300)


def explained(refusal: Refusal, asking: Asking) -> ModelbayError:
    code, status = refusal.code, refusal.status
    found = _of_the_bucket(refusal, asking)
    if found is None and (code in {"NoSuchVersion", "NoSuchKey"} or status in {404, 405, 410}):
        found = _missing(asking, code)
    if found is None and code in _OVERASKED:
        found = RateLimited(
            f"{asking.host} limits how often it may be asked ({code})",
            hint="run the same command again later; what arrived is kept",
            transient=True,
        )
    if found is None and status in {400, 401, 403}:
        found = _refused(refusal, asking)
    return found or ServerTrouble(
        f"{asking.host} answered {status}{f' ({code})' if code else ''} for {asking.shown}",
        hint="check the endpoint's address; if it is right, run the same command again later",
        transient=code in _PASSING,
    )


def _of_the_bucket(refusal: Refusal, asking: Asking) -> ModelbayError | None:
    code, bucket = refusal.code, clean(asking.bucket.name)
    if code == "NoSuchBucket":
        return ModelNotFound(
            f"{asking.host} has no bucket {bucket!r}",
            hint="check its spelling, and the endpoint: ?endpoint=https://host",
        )
    if code in _ELSEWHERE or (refusal.status == 301 and not code):
        return UsageError(
            f"the bucket {bucket!r} lies in {refusal.region or 'another region'}, and "
            f"{asking.host} was asked",
            hint=f'write region = "{refusal.region or "…"}", or ?region= in the ref',
        )
    if code == "InvalidObjectState":
        return ModelDisabled(
            f"{asking.shown} is archived: its store gives it only after it was restored",
            hint=f"`aws s3api restore-object --bucket {bucket} --key {clean(asking.key)} "
            "--restore-request Days=7`, then wait some hours",
        )
    return None


def _missing(asking: Asking, code: str) -> ModelbayError:
    if asking.version and (code in {"", "NoSuchVersion"}):
        return RevisionNotFound(
            f"{asking.shown} has no version {clean(asking.version, limit=120)!r}",
            hint="leave versionId out for the newest, or list them: `aws s3api "
            "list-object-versions`",
        )
    if asking.listed:
        return FileNotFound(
            f"{asking.shown} is no longer there, and a moment ago it was listed",
            hint="run the same command again: somebody is changing that prefix",
        )
    folder = asking.key.rpartition("/")[0]
    return ModelNotFound(
        f"{asking.host} has nothing under {asking.shown}",
        hint=f"see what is there: `modelbay search --source s3 s3://{clean(asking.bucket.name)}/"
        f"{clean(folder)}`",
    )


def _refused(refusal: Refusal, asking: Asking) -> ModelbayError | None:
    code = refusal.code
    if code == "RequestTimeTooSkewed":
        said = f"; its own says {clean(refusal.date, limit=60)}" if refusal.date else ""
        return CredentialRefused(
            f"{asking.host} refuses signatures by this machine's clock{said}",
            hint="set the clock (`timedatectl set-ntp true`), and run the same command again",
        )
    if code in _BAD_KEYS:
        return CredentialRefused(
            f"{asking.host} refused the keys from {asking.label or 'nowhere'} ({code})",
            hint=_HINTS.get(code, _CHECK),
        )
    if refusal.status == 400:
        return None
    said = f" ({code})" if code else ""
    if asking.label is None:
        return CredentialMissing(
            f"{asking.shown} may not be read without keys{said}, and none were found",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile "
            '(AWS_PROFILE, profile = "…")',
        )
    may = "they need s3:GetObject" if asking.listed else "they need s3:ListBucket and s3:GetObject"
    absent = "" if asking.listed else "; without s3:ListBucket a missing key is refused as well"
    return AccessError(
        f"{asking.shown} may not be read with the keys from {asking.label}{said}{absent}",
        hint=f"{may}; for a public bucket write anonymous = true, or ?anonymous=true in the ref",
    )


_CHECK: Final = "check them: `aws sts get-caller-identity`"
_HINTS: Final = {
    "SignatureDoesNotMatch": "the secret key is not that of the access key, or a proxy changes "
    "requests: give AWS_SECRET_ACCESS_KEY again",
    "ExpiredToken": "the session has run out: sign in again, or give new AWS_* variables",
    "TokenRefreshRequired": "the session has run out: sign in again, or give new AWS_* variables",
}
