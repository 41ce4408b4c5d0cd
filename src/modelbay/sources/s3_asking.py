"""How a bucket is asked: at which address, in which region, signed with whose keys."""

import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

from modelbay.errors import PolicyError
from modelbay.refs import ModelRef
from modelbay.sources import s3_refs as refs
from modelbay.sources.base import Means
from modelbay.sources.s3_errors import Asking
from modelbay.sources.s3_keys import Chain
from modelbay.text import clean
from modelbay.wire.s3 import PUBLIC, S3, Bucket
from modelbay.wire.s3_answers import Refusal

_T = TypeVar("_T")


class Asker:
    """What one source has found out so far; safe to share between threads."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self.given = refs.normal_endpoint(means.endpoint) if means.endpoint else None
        """The endpoint of the settings."""
        self._chains: dict[str | None, Chain] = {}
        self._regions: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()

    def endpoint(self, profile: str | None) -> str:
        """Where is asked when a ref says nothing: the settings, the profile, AWS itself."""
        if self.given is not None:
            return self.given
        told = self._chain(profile).configured("endpoint_url")
        return refs.normal_endpoint(told) if told else PUBLIC

    def bucket(self, ref: ModelRef) -> Bucket:
        """The bucket of `ref` in the region that is known or configured."""
        bucket = refs.bucket_of(ref, self.endpoint(ref.option("profile")))
        known = bucket.region or self._regions.get((bucket.endpoint, bucket.name))
        if known is None:
            environ = self._means.credentials.environ
            known = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
        if known is None and not ref.option("anonymous"):
            known = self._chain(ref.option("profile")).configured("region")
        return bucket if known is None else bucket.at(known)

    def store(self, ref: ModelRef, bucket: Bucket) -> S3:
        """How `bucket` is asked for `ref`; no key is looked for before the first request."""
        credential = None
        if "header_env" in self._means.credentials.auth:
            credential = self._means.credentials.find("s3", bucket.address)
        chain = self._chain(ref.option("profile"))

        def sign(method: str, url: str, headers: Mapping[str, str]) -> Mapping[str, str]:
            own = {name: value for name, value in headers.items() if _is_signed(name)}
            return chain.signed(method, url, own, bucket.signing_region)

        signing = self._signs(ref, bucket) and credential is None
        return S3(self._means.client, bucket, sign if signing else None, credential)

    def label(self, ref: ModelRef, bucket: Bucket) -> str | None:
        """Where the keys come from that were signed with; None for a request without."""
        if "header_env" in self._means.credentials.auth:
            return "the entry's header_env"
        keys = self._chain(ref.option("profile")).keys() if self._signs(ref, bucket) else None
        return keys.label if keys else None

    def asking(
        self,
        ref: ModelRef,
        bucket: Bucket,
        key: str,
        version: str | None = None,
        *,
        listed: bool = False,
    ) -> Asking:
        return Asking(bucket, key, version, self.label(ref, bucket), listed=listed)

    def in_its_region(
        self, ref: ModelRef, bucket: Bucket, ask: Callable[[S3], _T]
    ) -> tuple[_T, Bucket]:
        """The answer, from the region that the bucket turns out to lie in. Raises Refusal."""
        try:
            return ask(self.store(ref, bucket)), bucket
        except Refusal as refusal:
            elsewhere = refusal.region
            if refusal.status == 400 and not refusal.code and elsewhere is None:
                elsewhere = self._told_region(ref, bucket)
            wrong = refusal.status in {301, 307, 400} and elsewhere != bucket.region
            if elsewhere is None or not wrong:
                raise
            self._regions[bucket.endpoint, bucket.name] = elsewhere
            bucket = bucket.at(elsewhere)
            return ask(self.store(ref, bucket)), bucket

    def _told_region(self, ref: ModelRef, bucket: Bucket) -> str | None:
        """Where the refusal of a listing says that the bucket lies; that of a HEAD may not."""
        try:
            next(self.store(ref, bucket).objects(""), None)
        except Refusal as refusal:
            return refusal.region
        return None

    def _chain(self, profile: str | None) -> Chain:
        if profile is not None and self._means.credentials.chosen_by_others:
            raise PolicyError(
                f"a file that is not trusted names the AWS profile {clean(profile)!r}",
                hint="trust it with --trust, once you have read it",
            )
        with self._lock:
            if profile not in self._chains:
                self._chains[profile] = Chain(self._means.credentials, profile)
            return self._chains[profile]

    def _signs(self, ref: ModelRef, bucket: Bucket) -> bool:
        """Whether the user's keys may be used there: AWS's own hosts are those that they are
        for, others only where he chose the address himself.
        """
        bound = bucket.is_aws or self._means.credentials.are_bound_to(bucket.endpoint)
        return bound and not ref.option("anonymous")


def _is_signed(header: str) -> bool:
    """Proxies may change the others on the way."""
    return header.lower().startswith("x-amz-")
