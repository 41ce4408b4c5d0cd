"""Amazon S3, and every store that answers like it: MinIO, Ceph, R2, B2 and others."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, TypeVar
from urllib.parse import urlsplit

from modelbay.errors import FormatError, ModelbayError, NoSearch, UsageError
from modelbay.location import Http
from modelbay.refs import ModelRef, RawRef, encode, split
from modelbay.safepath import SafeRelPath, refuse_clashes
from modelbay.snapshot import Hit, ModelFile, Query, Snapshot
from modelbay.sources import s3_refs as refs
from modelbay.sources.base import Means, Option
from modelbay.sources.s3_asking import Asker
from modelbay.sources.s3_errors import explained
from modelbay.text import clean
from modelbay.wire.s3 import PUBLIC, Bucket, is_bucket_name
from modelbay.wire.s3_answers import Head, Listed, Refusal, code_in

_T = TypeVar("_T")
_AT_ONCE: Final = 8
_MOST_HEADS: Final = 2000
"""Objects that are asked for their checksums; the others are hashed as they arrive."""
_SEPARATE: Final = frozenset({401, 403, 404})
_NOTHING: Final = Refusal(404, "", None, None)


@dataclass(frozen=True, slots=True)
class _Found:
    """An object, and what its own answer told besides."""

    path: SafeRelPath
    listed: Listed
    head: Head | None

    @property
    def file(self) -> ModelFile:
        head = self.head
        version = {"version": head.version} if head and head.version else {}
        key = {} if self.listed.key.endswith(self.path) else {"key": self.listed.key}
        etag = head.etag if head and head.etag else self.listed.etag
        return ModelFile(
            self.path,
            self.listed.size,
            head.digests if head else (),
            etag=etag,
            extra={**version, **key},
        )


class S3Store:
    """Implements `Source`. One per process; safe to share between threads."""

    name = "s3"
    schemes = (refs.SCHEME,)
    options: tuple[Option, ...] = (
        Option("bucket", "the bucket's name", required=True),
        Option("prefix", "the folder in it, or the one object that is wanted"),
        Option("region", "region of the bucket; found out when left out"),
        Option("endpoint", "address of an S3-compatible store, like http://minio.local:9000"),
        Option("profile", "profile of the AWS config files whose keys sign"),
        Option("anonymous", "sign nothing: the bucket is public", type="flag"),
        Option("addressing", "path or virtual: where the bucket stands in addresses"),
        Option("version_id", "version of the one object, in a bucket that keeps them"),
    )

    def __init__(self, means: Means) -> None:
        self._asker = Asker(means)

    def read_ref(self, raw: RawRef) -> ModelRef:
        return refs.read_ref(raw, self._asker.endpoint(dict(raw.options).get("profile")))

    def recognise(self, text: str) -> ModelRef | None:
        return refs.recognise(text, self._asker.given or PUBLIC)

    def ref_of(self, keys: dict[str, object]) -> ModelRef:
        """The bucket and prefix. Which of its files: the selection's business."""
        bucket, _, inner = str(keys.get("bucket") or "").partition("/")
        if not is_bucket_name(bucket):
            raise UsageError(
                f"an entry of s3 has the bucket {clean(keys.get('bucket'), limit=100)!r}",
                hint='write bucket = "company-models" and prefix = "models/name/"',
            )
        key = str(keys.get("prefix") or inner).removeprefix("/")
        named = {**keys, "versionId": keys.get("version_id")}
        named |= {"anonymous": "true" if keys.get("anonymous") else None}
        told = [(name, str(named[name])) for name in refs.OPTIONS if named.get(name)]
        body = f"{bucket}/" + "/".join(encode(part) for part in key.split("/"))
        text = clean(f"s3://{body}", limit=300)
        return self.read_ref(RawRef("s3", slashes=True, body=body, options=tuple(told), text=text))

    def keys_of(self, ref: ModelRef) -> dict[str, object]:
        bucket, key = refs.parts_of(ref)
        keys: dict[str, object] = {"bucket": bucket, **({"prefix": key} if key else {})}
        for name, value in ref.options:
            if name == "anonymous":
                keys[name] = True
            else:
                keys["version_id" if name == "versionId" else name] = value
        return keys

    def ref_in(self, table: Mapping[str, str], asked: ModelRef) -> ModelRef:
        bucket, prefix = _bucket_in(table, asked)
        told = {**dict(asked.options), "endpoint": bucket.endpoint}
        return refs.ref_to(bucket.name, prefix, told, self._asker.endpoint(asked.option("profile")))

    def search(self, query: Query) -> Iterator[Hit]:
        """What lies below `s3://bucket/prefix`; buckets below `s3://`."""
        raw = split(query.text.strip())
        if raw is None or raw.scheme != refs.SCHEME:
            raise NoSearch(
                f"S3 has no search for {clean(query.text, limit=100)!r}; prefixes can be browsed",
                hint="`modelbay search --source s3 s3://bucket/prefix/`",
            )
        if not raw.body:
            return islice(self._buckets(raw), query.limit)
        return islice(self._below(self.read_ref(raw)), query.limit)

    def resolve(self, ref: ModelRef) -> Snapshot:
        bucket, key = self._asker.bucket(ref), refs.parts_of(ref)[1]
        whole, found, bucket = self._find(ref, bucket, key)
        files = tuple(sorted((one.file for one in found), key=lambda file: file.path))
        refuse_clashes(file.path for file in files)
        told = {**dict(ref.options), "endpoint": bucket.endpoint}
        return Snapshot(
            ref=refs.ref_to(bucket.name, whole, told, self._asker.endpoint(ref.option("profile"))),
            revision=_revision(files),
            files=files,
            table=_table(bucket, whole, files),
            notes=tuple(self._notes(ref, bucket, found)),
        )

    def locate(self, snapshot: Snapshot, file: ModelFile) -> Http:
        """Signed anew for each request; nothing is asked here."""
        ref, table = snapshot.ref, snapshot.table
        bucket, prefix = _bucket_in(table, ref)
        key = _key_of(prefix, file, table)
        version = file.extra.get("version") or table.get(f"version:{file.path}")
        version = version or ref.option("versionId")
        store = self._asker.store(ref, bucket)

        def explain(status: int, headers: Mapping[str, str], start: str) -> ModelbayError:
            region = headers.get("x-amz-bucket-region")
            refusal = Refusal(status, code_in(start), region, headers.get("date"))
            return explained(refusal, self._asker.asking(ref, bucket, key, version, listed=True))

        return Http(
            bucket.object_url(key, version),
            credential=store.credential,
            sign=store.sign,
            explain=explain,
            etag=file.etag,
        )

    def _find(
        self, ref: ModelRef, bucket: Bucket, key: str
    ) -> tuple[str, Sequence[_Found], Bucket]:
        """One object, or all below a prefix: the key or prefix it is, what is there, and the
        bucket as it was found to lie.
        """
        if key and not key.endswith("/"):
            head, bucket, refused = self._one(ref, bucket, key)
            if head is not None:
                path = SafeRelPath.component(key.rpartition("/")[2])
                listed = Listed(key, head.size or 0, head.etag, head.modified, head.archived)
                return key, [_Found(path, listed, head)], bucket
        else:
            refused = None
        prefix = key if not key or key.endswith("/") else f"{key}/"
        try:
            rows, bucket = self._asker.in_its_region(ref, bucket, lambda s: list(s.objects(prefix)))
        except Refusal as refusal:
            # Who may read one object may not always list; what refuses a HEAD has no code.
            told = refused if refused and (refused.status == 404 or not refusal.code) else refusal
            raise explained(told, self._asker.asking(ref, bucket, key)) from refusal
        objects = [row for row in rows if not (row.key.endswith("/") and row.size == 0)]
        if not objects:
            raise explained(refused or _NOTHING, self._asker.asking(ref, bucket, key))
        named = [(SafeRelPath.parse(row.key[len(prefix) :]), row) for row in objects]
        heads = self._heads(ref, bucket, [row for _, row in named])
        return prefix, [_Found(path, row, heads.get(row.key)) for path, row in named], bucket

    def _one(
        self, ref: ModelRef, bucket: Bucket, key: str
    ) -> tuple[Head | None, Bucket, Refusal | None]:
        """What is told of the object `key`; None where there may be a folder of that name."""
        version = ref.option("versionId")
        try:
            head, bucket = self._asker.in_its_region(ref, bucket, lambda s: s.head(key, version))
        except Refusal as refusal:
            if refusal.status not in _SEPARATE or version is not None:
                asking = self._asker.asking(ref, bucket, key, version)
                raise explained(refusal, asking) from refusal
            return None, bucket, refusal
        return head, bucket, None

    def _heads(self, ref: ModelRef, bucket: Bucket, rows: Sequence[Listed]) -> Mapping[str, Head]:
        """The largest objects' own answers: versions and checksums stand in no listing."""
        from concurrent.futures import ThreadPoolExecutor

        store = self._asker.store(ref, bucket)
        asked = sorted(rows, key=lambda row: row.size, reverse=True)[:_MOST_HEADS]

        def head(row: Listed) -> Head | None:
            try:
                return store.head(row.key)
            except Refusal as refusal:
                if refusal.status not in _SEPARATE:
                    return None
                asking = self._asker.asking(ref, bucket, row.key, listed=True)
                raise explained(refusal, asking) from refusal

        with ThreadPoolExecutor(_AT_ONCE, "modelbay-s3") as pool:
            heads = list(pool.map(head, asked))
        return {row.key: one for row, one in zip(asked, heads, strict=True) if one is not None}

    def _notes(self, ref: ModelRef, bucket: Bucket, found: Sequence[_Found]) -> Iterator[str]:
        if not ref.option("anonymous") and self._asker.label(ref, bucket) is None:
            yield "asked without keys: none were found for it, and the bucket is public"
        if urlsplit(bucket.endpoint).scheme == "http":
            yield "plain http: whoever carries the bytes could change them"
        archived = [one for one in found if (one.head or one.listed).archived]
        if archived:
            yield (
                f"{len(archived)} of its files are archived, like {clean(archived[0].path)}: "
                "they can be fetched after they were restored"
            )
        if len(found) > _MOST_HEADS:
            yield (
                f"only the {_MOST_HEADS} largest of {len(found)} files were asked for their "
                "checksums"
            )

    def _buckets(self, raw: RawRef) -> Iterator[Hit]:
        ref = self.read_ref(replace(raw, body="any-bucket/"))
        bucket = self._asker.bucket(ref)
        try:
            found = self._asker.store(ref, bucket).buckets()
        except Refusal as refusal:
            raise explained(refusal, self._asker.asking(ref, bucket, "")) from refusal
        for name, made in found:
            if is_bucket_name(name):
                body = f"{name}/"
                yield Hit(self.read_ref(replace(raw, body=body)), name, updated=made)

    def _below(self, ref: ModelRef) -> Iterator[Hit]:
        bucket, key = self._asker.bucket(ref), refs.parts_of(ref)[1]
        try:
            rows, bucket = self._asker.in_its_region(ref, bucket, lambda s: _started(s.below(key)))
            for row in rows:
                below, updated = (row, None) if isinstance(row, str) else (row.key, row.modified)
                if below != key:
                    yield Hit(self._beside(ref, below), below, updated=updated)
        except Refusal as refusal:
            raise explained(refusal, self._asker.asking(ref, bucket, key)) from refusal

    def _beside(self, ref: ModelRef, key: str) -> ModelRef:
        endpoint = self._asker.endpoint(ref.option("profile"))
        return refs.ref_to(refs.parts_of(ref)[0], key, dict(ref.options), endpoint)


def _started(rows: Iterator[_T]) -> Iterator[_T]:
    """`rows` once the first of them was asked for, so that what refuses it is seen here."""
    first = list(islice(rows, 1))
    return (row for some in (first, rows) for row in some)


def _revision(files: Sequence[ModelFile]) -> str:
    """Stable text for the state of the prefix: its version, or a hash over all it is known by."""
    if len(files) == 1 and "version" in files[0].extra:
        return f"version {clean(files[0].extra['version'], limit=200)}"
    rows = (f"{one.path}\0{one.size}\0{one.extra.get('version') or one.etag}\n" for one in files)
    return hashlib.sha256("".join(rows).encode()).hexdigest()[:40]


def _table(bucket: Bucket, prefix: str, files: Sequence[ModelFile]) -> dict[str, str]:
    """What a lock keeps: where each object is, in which of its versions, and its own spelling
    where ours is another.
    """
    table = {"endpoint": bucket.endpoint, "region": bucket.signing_region, "bucket": bucket.name}
    table |= {"prefix": prefix, "revision": _revision(files)}
    if bucket.addressing:
        table["addressing"] = bucket.addressing
    for name in ("version", "key"):
        table |= {f"{name}:{one.path}": one.extra[name] for one in files if name in one.extra}
    return table


def _bucket_in(table: Mapping[str, str], ref: ModelRef) -> tuple[Bucket, str]:
    """Bucket and prefix of a table, which a lock may have brought for `ref`."""
    name, prefix = table.get("bucket", ""), table.get("prefix", "")
    if not is_bucket_name(name):
        raise FormatError(
            f"{ref} is locked to the bucket {clean(name, limit=100)!r}, which is none",
            hint="make the lock again from its provision file",
        )
    endpoint = refs.normal_endpoint(table.get("endpoint", PUBLIC))
    style = refs.addressing(table.get("addressing"))
    return Bucket(name, endpoint, table.get("region"), style), prefix


def _key_of(prefix: str, file: ModelFile, table: Mapping[str, str]) -> str:
    """A file's own key: its prefix is all of it where the model is one object."""
    spelled = file.extra.get("key") or table.get(f"key:{file.path}")
    if spelled:
        return spelled
    return prefix if prefix and not prefix.endswith("/") else f"{prefix}{file.path}"
