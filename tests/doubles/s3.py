"""A store that answers as S3 and its like were recorded to (fixtures/s3, protocols-rest C).

It checks every signature against the secret, by the rules and not by the library that signs.
"""

import base64
import datetime as dt
import hashlib
import hmac
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<id>[^/]+)/(?P<day>\d{8})/(?P<region>[^/]+)/s3/aws4_request, "
    r"SignedHeaders=(?P<headers>[^,]+), Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass
class Thing:
    """One version of one object."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    version: str | None = None

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.body).hexdigest()}"'


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    status: int


@dataclass
class No(Exception):
    status: int
    code: str
    more: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class S3Double:
    """`keys` are secrets by access key; a bucket in `public` is read without any."""

    keys: dict[str, str] = field(default_factory=lambda: {"AKID": "secret/+key"})
    token: str | None = None
    region: str | None = "us-east-1"
    """None takes any, as MinIO and Ceph do."""
    page: int = 1000
    quiet: bool = False
    """Whether an answer to HEAD keeps the bucket's region to itself."""
    messages: bool = True
    """Ceph writes none (SURPRISES S1)."""
    v1: bool = False
    """Whether it knows the first version of listings alone."""
    clock: dt.timedelta = dt.timedelta()
    public: set[str] = field(default_factory=set)
    unlisted: set[str] = field(default_factory=set)
    """Buckets that may be read and not listed: what is missing is refused then (S6)."""
    buckets: dict[str, dict[str, list[Thing]]] = field(default_factory=dict)
    redirect: str | None = None
    """Where every GET of an object is sent."""
    before: Callable[[Asked], No | None] = lambda _: None
    log: list[Asked] = field(default_factory=list)

    def put(self, bucket: str, key: str, body: bytes, **headers: str) -> Thing:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        thing = Thing(body, named)
        self.buckets.setdefault(bucket, {})[key] = [thing]
        return thing

    def put_version(self, bucket: str, key: str, body: bytes, version: str) -> Thing:
        thing = Thing(body, {}, version)
        self.buckets.setdefault(bucket, {}).setdefault(key, []).append(thing)
        return thing

    def __enter__(self) -> Self:
        double = self

        class Handler(_Handler):
            pass

        Handler.store = double
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def fetched(self) -> list[Asked]:
        """GETs of objects."""
        return [one for one in self.log if one.method == "GET" and one.path.count("/") > 1
                and not one.path.endswith("/")]  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: S3Double

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, parts.path, query, headers, 0)
        try:
            stop = self.store.before(asked)
            if stop is not None:
                raise stop
            bucket, _, key = unquote(parts.path[1:]).partition("/")
            self._check(parts.path, parts.query, headers, bucket)
            self._serve(bucket, key, query, headers, asked)
        except No as no:
            message = f"<Message>told {no.code}</Message>" if self.store.messages else ""
            text = f"{XML}<Error><Code>{no.code}</Code>{message}{no.more}<RequestId>tx0</RequestId></Error>"
            self._send(
                asked, no.status, text.encode(), {"Content-Type": "application/xml", **no.headers}
            )

    def _check(self, path: str, query: str, headers: Mapping[str, str], bucket: str) -> None:
        """Raises `No` unless the request is signed with a key that is known, or needs none."""
        said = headers.get("authorization")
        if said is None:
            if bucket not in self.store.public:
                raise No(403, "AccessDenied")
            return
        found = AUTHORIZATION.fullmatch(said)
        if found is None:
            raise No(400, "AuthorizationHeaderMalformed")
        if self.store.region not in {None, found["region"]}:
            told = {} if self.store.quiet else {"x-amz-bucket-region": str(self.store.region)}
            raise No(
                400, "AuthorizationHeaderMalformed", f"<Region>{self.store.region}</Region>", told
            )
        secret = self.store.keys.get(found["id"])
        if secret is None:
            raise No(403, "InvalidAccessKeyId")
        if self.store.token is not None and headers.get("x-amz-security-token") != self.store.token:
            raise No(403, "InvalidToken")
        when = dt.datetime.strptime(headers["x-amz-date"] + "+0000", "%Y%m%dT%H%M%SZ%z")
        now = dt.datetime.now(dt.UTC) + self.store.clock
        if abs(now - when) > dt.timedelta(minutes=15):
            raise No(403, "RequestTimeTooSkewed")
        if signature(self.command, path, query, headers, found, secret) != found["signature"]:
            raise No(403, "SignatureDoesNotMatch")

    def _serve(
        self,
        bucket: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        asked: Asked,
    ) -> None:
        if not bucket:
            made = "".join(f"<Bucket><Name>{name}</Name><CreationDate>2026-01-02T03:04:05.000Z</CreationDate></Bucket>"
                           for name in self.store.buckets)  # fmt: skip
            body = (
                f"{XML}<ListAllMyBucketsResult><Buckets>{made}</Buckets></ListAllMyBucketsResult>"
            )
            return self._send(asked, 200, body.encode(), {"Content-Type": "application/xml"})
        things = self.store.buckets.get(bucket)
        if things is None:
            raise No(404, "NoSuchBucket", f"<BucketName>{bucket}</BucketName>")
        if not key:
            if bucket in self.store.unlisted:
                raise No(403, "AccessDenied")
            return self._send(
                asked,
                200,
                self._listing(bucket, things, query).encode(),
                {"Content-Type": "application/xml"},
            )
        if key not in things:
            raise No(403, "AccessDenied") if bucket in self.store.unlisted else No(404, "NoSuchKey")
        return self._object(things[key], query, headers, asked)

    def _object(
        self,
        versions: list[Thing],
        query: Mapping[str, str],
        headers: Mapping[str, str],
        asked: Asked,
    ) -> None:
        wanted = query.get("versionId")
        thing = (
            next((one for one in versions if one.version == wanted), None)
            if wanted
            else versions[-1]
        )
        if thing is None:
            raise No(404, "NoSuchVersion")
        if thing.headers.get("x-amz-storage-class") == "GLACIER" and self.command == "GET":
            raise No(403, "InvalidObjectState")
        if self.store.redirect and self.command == "GET":
            return self._send(asked, 307, b"", {"Location": self.store.redirect})
        told = {name: value for name, value in thing.headers.items()
                if not name.startswith("x-amz-checksum") or headers.get("x-amz-checksum-mode") == "ENABLED"}  # fmt: skip
        told |= {
            "ETag": thing.etag,
            "Accept-Ranges": "bytes",
            "Last-Modified": formatdate(1_700_000_000, usegmt=True),
        }
        told |= {"x-amz-version-id": thing.version} if thing.version else {}
        ranged = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
        if headers.get("if-range", thing.etag) != thing.etag:
            ranged = None
        size = len(thing.body)
        if ranged and int(ranged[1]) >= size:
            raise No(416, "InvalidRange", headers={"Content-Range": f"bytes */{size}"})
        if not ranged:
            return self._send(asked, 200, thing.body, told)
        first, last = int(ranged[1]), min(int(ranged[2] or size), size - 1)
        told |= {"Content-Range": f"bytes {first}-{last}/{size}"}
        return self._send(asked, 206, thing.body[first : last + 1], told)

    def _listing(
        self, bucket: str, things: Mapping[str, list[Thing]], query: Mapping[str, str]
    ) -> str:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("marker", "")
        if not self.store.v1:
            token = query.get("continuation-token")
            after = base64.b64decode(token).decode() if token else query.get("start-after", "")
        encoded = query.get("encoding-type") == "url" and not self.store.v1
        rows: list[tuple[str, str]] = []
        for key in sorted(things):
            if not key.startswith(prefix):
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                common = prefix + rest.partition(delimiter)[0] + delimiter
                row = (
                    common,
                    f"<CommonPrefixes><Prefix>{_written(common, encoded)}</Prefix></CommonPrefixes>",
                )
            else:
                thing = things[key][-1]
                storage = thing.headers.get("x-amz-storage-class", "STANDARD")
                text = (f"<Contents><Key>{_written(key, encoded)}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
                       f"<ETag>{escape(thing.etag, {chr(34): '&quot;'})}</ETag><Size>{len(thing.body)}</Size>"
                       f"<StorageClass>{storage}</StorageClass></Contents>")  # fmt: skip
                row = (key, text)
            if row[0] > after and row not in rows:
                rows.append(row)
        page, more = rows[: self.store.page], len(rows) > self.store.page
        following = ""
        if more and not self.store.v1:
            token = base64.b64encode(page[-1][0].encode()).decode()
            following = f"<NextContinuationToken>{token}</NextContinuationToken>"
        kind = "<EncodingType>url</EncodingType>" if encoded else ""
        return (f'{XML}<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{bucket}</Name>'
                f"<Prefix>{_written(prefix, encoded)}</Prefix><KeyCount>{len(page)}</KeyCount>{kind}"
                f"<IsTruncated>{str(more).lower()}</IsTruncated>{following}{''.join(text for _, text in page)}</ListBucketResult>")  # fmt: skip

    def _send(self, asked: Asked, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.store.log.append(Asked(asked.method, asked.path, asked.query, asked.headers, status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            try:
                self.wfile.write(body)
            except OSError:
                self.close_connection = True


def _written(key: str, encoded: bool) -> str:
    return quote(key, safe="/").replace("%20", "+") if encoded else escape(key)


def signature(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    said: "re.Match[str]",
    secret: str,
) -> str:
    """AWS Signature Version 4 of a request, from its description."""
    pairs = sorted(
        (quote(k, safe="-_.~"), quote(v, safe="-_.~"))
        for k, v in parse_qsl(query, keep_blank_values=True)
    )
    names = said["headers"].split(";")
    canonical = "\n".join([
        method, quote(unquote(path), safe="/-_.~"), "&".join(f"{k}={v}" for k, v in pairs),
        *(f"{name}:{' '.join(headers[name].split())}" for name in names), "",
        said["headers"], headers["x-amz-content-sha256"],
    ])  # fmt: skip
    scope = f"{said['day']}/{said['region']}/s3/aws4_request"
    text = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            headers["x-amz-date"],
            scope,
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    key = f"AWS4{secret}".encode()
    for part in (*scope.split("/"),):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
