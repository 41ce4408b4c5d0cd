"""How objects of S3 are named: `s3://`, AWS's own web addresses, those of a configured store."""

import re
from collections.abc import Mapping
from typing import Final, cast, get_args
from urllib.parse import parse_qs, urlsplit

from modelbay.errors import RefError
from modelbay.location import origin_of
from modelbay.refs import ModelRef, RawRef, checked_part, encode
from modelbay.text import clean
from modelbay.wire.s3 import PUBLIC, Addressing, Bucket, is_bucket_name

SCHEME: Final = "s3"
OPTIONS: Final = ("endpoint", "region", "versionId", "profile", "anonymous", "addressing")
"""In the order in which they are written."""

_AWS_HOST = re.compile(
    r"(?:(?P<bucket>.+)\.)?s3(?:[.-](?:dualstack\.)?(?P<region>[a-z]{2}[a-z0-9-]*-\d))?"
    r"\.amazonaws\.(?:com(?:\.cn)?|eu)"
)
_CONSOLE = re.compile(r"(?:[a-z0-9-]+\.)?(?:s3\.)?console\.(?:aws\.amazon\.com|amazonaws\.cn)")
_REGION = re.compile(r"[A-Za-z0-9-]{1,64}")
_PROFILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+ -]{0,100}")
_VERSION = re.compile(r"[A-Za-z0-9._~+/=-]{1,1024}")


def normal_endpoint(text: str) -> str:
    """An endpoint without trailing slash, host in lower case; `PUBLIC` for any of AWS's own.

    Raises RefError.
    """
    try:
        parts = urlsplit(text.strip())
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    odd = parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme not in {"http", "https"} or not host or odd:
        raise RefError(
            f"the endpoint {clean(text, limit=200)!r} is no address of an S3 store",
            hint="write it as https://host or http://host:9000 (AWS_ENDPOINT_URL_S3, ?endpoint=)",
        )
    aws = _AWS_HOST.fullmatch(host)
    if aws is not None and not aws["bucket"] and parts.scheme == "https" and port in {None, 443}:
        return PUBLIC
    name = f"[{host}]" if ":" in host else host
    shown = "" if port in {None, {"https": 443, "http": 80}[parts.scheme]} else f":{port}"
    return f"{parts.scheme}://{name}{shown}{parts.path.rstrip('/')}"


def region_of(endpoint: str) -> str | None:
    """The region that an address of AWS's own names."""
    aws = _AWS_HOST.fullmatch((urlsplit(endpoint).hostname or "").lower())
    return aws["region"] if aws else None


def ref_to(bucket: str, key: str, told: Mapping[str, str | None], configured: str) -> ModelRef:
    """The canonical ref. The endpoint is left out only where reading it back adds it again."""
    endpoint = told.get("endpoint") or configured
    written = {**told, "endpoint": endpoint}
    if endpoint == PUBLIC == configured:
        del written["endpoint"]
    options = tuple((name, value) for name in OPTIONS if (value := written.get(name)))
    name = bucket + "/" + "/".join(encode(part) for part in key.split("/"))
    return ModelRef("s3", SCHEME, name, options=options)


def read_ref(raw: RawRef, configured: str) -> ModelRef:
    """The canonical ref of `s3://bucket/key`. Raises RefError."""
    bucket, _, rest = raw.body.partition("/")
    told = _checked_options(raw)
    if not raw.slashes or not is_bucket_name(bucket):
        raise RefError(
            f"{clean(raw.text, limit=200)!r} names no bucket",
            hint="write it as s3://bucket/prefix/ or s3://bucket/file.safetensors",
        )
    return ref_to(bucket, _key(rest, raw.text), told, configured)


def recognise(text: str, configured: str) -> ModelRef | None:
    """An address of AWS's own, a page of its console, or an address at the `configured` store."""
    try:
        parts = urlsplit(text)
        host, origin = (parts.hostname or "").lower(), origin_of(text)
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"}:
        return None
    if configured != PUBLIC and origin == origin_of(configured):
        prefix = urlsplit(configured).path
        path = parts.path.removeprefix(prefix).lstrip("/")
        inside = parts.path.startswith(f"{prefix}/")
        return _from_path(path, parts.query, text, {}, configured) if inside else None
    if _CONSOLE.fullmatch(host):
        return _from_console(parts.path, parse_qs(parts.query), text, configured)
    aws = _AWS_HOST.fullmatch(host)
    if aws is None:
        return None
    told = {"endpoint": PUBLIC, "region": aws["region"]}
    path = parts.path.lstrip("/")
    if aws["bucket"]:
        path = f"{aws['bucket']}/{path}"
    return _from_path(path, parts.query, text, told, configured)


def parts_of(ref: ModelRef) -> tuple[str, str]:
    """Bucket and key of a ref, the key as it is; "" for the whole bucket."""
    bucket, _, rest = ref.name.partition("/")
    return bucket, _key(rest, str(ref))


def bucket_of(ref: ModelRef, configured: str) -> Bucket:
    endpoint = ref.option("endpoint")
    return Bucket(
        parts_of(ref)[0],
        normal_endpoint(endpoint) if endpoint else configured,
        ref.option("region"),
        addressing(ref.option("addressing")),
    )


def addressing(text: str | None) -> Addressing | None:
    """Raises RefError."""
    for known in get_args(Addressing):
        if text == known:
            return cast("Addressing", known)
    if text is None:
        return None
    raise RefError(
        f"addressing is {clean(text, limit=80)!r}",
        hint="write path (https://host/bucket/key) or virtual (https://bucket.host/key)",
    )


def _key(rest: str, text: str) -> str:
    """A key from its encoded parts; the last one is empty for a prefix. Raises RefError."""
    if not rest:
        return ""
    *folders, last = rest.split("/")
    plain = [checked_part(part, "key", text) for part in folders]
    return "/".join([*plain, checked_part(last, "key", text) if last else ""])


def _checked_options(raw: RawRef) -> dict[str, str | None]:
    """Raises RefError for an option that nobody knows, or a value that is none."""
    told: dict[str, str | None] = {}
    for key, value in raw.options:
        name = "versionId" if key.lower() in {"versionid", "version_id"} else key
        if name == "endpoint":
            told = {"region": region_of(value), **told, "endpoint": normal_endpoint(value)}
            continue
        if not _is_value(name, value):
            raise RefError(
                f"{clean(raw.text, limit=200)!r} has an option {clean(key, limit=80)!r} that is "
                f"{clean(value, limit=80)!r}",
                hint="the options of s3: refs are endpoint=https://host, region=, versionId=, "
                "profile=, anonymous=true and addressing=path or virtual",
            )
        told[name] = value
    return told


def _is_value(name: str, value: str) -> bool:
    forms = {"region": _REGION, "profile": _PROFILE, "versionId": _VERSION}
    if name in forms:
        return forms[name].fullmatch(value) is not None
    if name == "anonymous":
        return value == "true"
    return name == "addressing" and value in {"path", "virtual"}


def _from_path(
    path: str, query: str, text: str, told: Mapping[str, str | None], configured: str
) -> ModelRef | None:
    """`bucket/key?versionId=…`; None for the service's own page."""
    bucket, _, rest = path.partition("/")
    if not is_bucket_name(bucket):
        return None
    version = next(iter(parse_qs(query).get("versionId", [])), None)
    endpoint = told.get("endpoint") or configured
    named = {**told, "versionId": version, "endpoint": endpoint}
    return ref_to(bucket, _key(rest, text), named, configured)


def _from_console(
    path: str, query: Mapping[str, list[str]], text: str, configured: str
) -> ModelRef | None:
    """`/s3/buckets/NAME?prefix=…` and `/s3/object/NAME?prefix=…`."""
    parts = path.strip("/").split("/")
    if len(parts) != 3 or parts[0] != "s3" or not is_bucket_name(parts[2]):
        return None
    region = next(iter(query.get("region", [])), None)
    prefix = "/".join(encode(part) for part in query.get("prefix", [""])[0].split("/"))
    told = {
        "endpoint": PUBLIC,
        "region": region if region and _REGION.fullmatch(region) else None,
    }
    return ref_to(parts[2], _key(prefix, text), told, configured)
