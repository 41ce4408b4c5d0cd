"""What S3 and its like answer, as types. Sources of the facts: protocols-rest C, corrected by
recorded answers (fixtures SURPRISES §5): messages, keys and namespaces may be missing.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_plus, urlsplit
from xml.parsers import expat

from modelbay.digest import Algorithm, Digest
from modelbay.errors import FormatError, ServerTrouble
from modelbay.http import Answer
from modelbay.text import clean

_DEEPEST: Final = 32
_CHECKSUMS: Final[Mapping[str, Algorithm]] = {
    "x-amz-checksum-sha256": "sha256",
    "x-amz-checksum-sha512": "sha512",
    "x-amz-checksum-sha1": "sha1",
    "x-amz-checksum-md5": "md5",
}
_META_SHA256: Final = "x-amz-meta-sha256"
_ARCHIVED: Final = frozenset({"GLACIER", "DEEP_ARCHIVE", "ARCHIVE", "DEEPARCHIVE", "COLDARCHIVE"})
_REGION: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_CODE: Final = re.compile(r"<Code>\s*([A-Za-z0-9.]{1,64})\s*</Code>")


@dataclass(slots=True)
class _Node:
    """An element: its name without namespace, its text, its children."""

    name: str
    text: str = ""
    children: list["_Node"] = field(default_factory=list)

    def all(self, name: str) -> Iterator["_Node"]:
        return (child for child in self.children if child.name == name)

    def value(self, name: str) -> str:
        """The text of the first child of that name; "" without one."""
        return next((child.text for child in self.all(name)), "")


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of a listing. Its ETag is unquoted and no hash of anything."""

    key: str
    size: int
    etag: str | None = None
    modified: str | None = None
    archived: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing. `token` continues version 2, `marker` whatever is older."""

    objects: tuple[Listed, ...]
    prefixes: tuple[str, ...]
    truncated: bool = False
    token: str | None = None
    marker: str | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """What a server tells of one object. `digests` are of the whole content."""

    size: int | None
    etag: str | None
    version: str | None
    digests: tuple[Digest, ...]
    modified: str | None = None
    archived: bool = False


class Refusal(Exception):
    """The server said no. `code` is S3's own word, or empty (an answer to HEAD has none);
    `region` is where the bucket lies, if the answer tells.
    """

    def __init__(self, status: int, code: str, region: str | None, date: str | None) -> None:
        super().__init__(status, code)
        self.status = status
        self.code = code
        self.region = region
        self.date = date


def refusal_of(answer: Answer) -> Refusal:
    """What a non-200 answer says; nothing of it is taken for granted."""
    body = answer.body[:8192].decode("utf-8", "replace")
    region = answer.header("x-amz-bucket-region")
    if region is None:
        told = re.search(r"<Region>([^<]*)</Region>", body)
        region = told[1] if told else None
    if region is not None and not _REGION.fullmatch(region):
        region = None
    return Refusal(answer.status, code_in(body), region, answer.header("date"))


def code_in(body: str) -> str:
    """The error's code in the beginning of a body; "" where there is none."""
    found = _CODE.search(body)
    return found[1] if found else ""


def read_page(answer: Answer) -> Page:
    """A page of a listing. Raises ServerTrouble."""
    root = _document(answer, "ListBucketResult")
    encoded = root.value("EncodingType") == "url"
    objects = tuple(_listed(node, answer, encoded=encoded) for node in root.all("Contents"))
    prefixes = tuple(
        _key(node.value("Prefix"), encoded=encoded) for node in root.all("CommonPrefixes")
    )
    marker = _key(root.value("NextMarker"), encoded=encoded)
    last = max([*(one.key for one in objects), *prefixes], default="")
    return Page(
        objects,
        prefixes,
        root.value("IsTruncated").strip() == "true",
        root.value("NextContinuationToken") or None,
        marker or last or None,
    )


def read_buckets(answer: Answer) -> tuple[tuple[str, str | None], ...]:
    """Names of buckets, and when each was made. Raises ServerTrouble."""
    root = _document(answer, "ListAllMyBucketsResult")
    found = [bucket for several in root.all("Buckets") for bucket in several.all("Bucket")]
    return tuple((one.value("Name"), one.value("CreationDate") or None) for one in found)


def read_head(answer: Answer) -> Head:
    length = answer.header("content-length") or ""
    version = answer.header("x-amz-version-id")
    storage = (answer.header("x-amz-storage-class") or "").upper()
    restored = 'ongoing-request="false"' in (answer.header("x-amz-restore") or "")
    return Head(
        size=int(length) if length.isascii() and length.isdigit() else None,
        etag=unquoted(answer.header("etag")),
        version=None if version in {None, "", "null"} else version,
        digests=tuple(_digests(answer.headers)),
        modified=answer.header("last-modified"),
        archived=storage in _ARCHIVED and not restored,
    )


def unquoted(etag: str | None) -> str | None:
    """A strong ETag without its quotes, else None."""
    if etag is None or etag.startswith("W/"):
        return None
    return etag.strip().strip('"') or None


def _digests(headers: Mapping[str, str]) -> Iterator[Digest]:
    """The server's checksums of the whole, then what an uploader wrote down himself.

    A value that ends in `-N` is a hash of the parts' hashes, which says nothing of the whole.
    """
    whole = headers.get("x-amz-checksum-type", "FULL_OBJECT").upper() == "FULL_OBJECT"
    seen = set()
    for header, algorithm in _CHECKSUMS.items():
        found = _decoded(algorithm, headers.get(header, "")) if whole else None
        if found is not None:
            seen.add(algorithm)
            yield found
    if "sha256" not in seen and (told := headers.get(_META_SHA256, "").strip().lower()):
        try:
            yield Digest.sha256(told)
        except FormatError:
            return


def _decoded(algorithm: Algorithm, text: str) -> Digest | None:
    try:
        return Digest(algorithm, base64.b64decode(text.strip(), validate=True).hex())
    except (FormatError, binascii.Error, ValueError):
        return None


def _listed(node: _Node, answer: Answer, *, encoded: bool) -> Listed:
    size = node.value("Size").strip()
    if not (size.isascii() and size.isdigit()):
        raise _strange(answer, f"an object's size is {clean(size, limit=60)!r}")
    return Listed(
        _key(node.value("Key"), encoded=encoded),
        int(size),
        unquoted(node.value("ETag") or None),
        node.value("LastModified").strip() or None,
        node.value("StorageClass").strip().upper() in _ARCHIVED,
    )


def _key(text: str, *, encoded: bool) -> str:
    return unquote_plus(text) if encoded else text


def _document(answer: Answer, name: str) -> _Node:
    try:
        root = _parsed(answer.body)
    except (expat.ExpatError, ValueError) as error:
        raise _strange(answer, clean(error, limit=120)) from error
    if root.name != name:
        raise _strange(answer, f"a <{clean(root.name, limit=60)}> where <{name}> was expected")
    return root


def _parsed(body: bytes) -> _Node:
    """Raises ValueError for a document with a DOCTYPE, which could name entities without end."""
    above = [_Node("")]

    def start(name: str, _: object) -> None:
        if len(above) > _DEEPEST:
            raise ValueError("its elements are nested without end")
        node = _Node(name.rpartition(":")[2])
        above[-1].children.append(node)
        above.append(node)

    def end(_: str) -> None:
        above.pop()

    def text(part: str) -> None:
        above[-1].text += part

    def refuse(*_: object) -> None:
        raise ValueError("it has a DOCTYPE")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = text, refuse
    parser.Parse(body, True)  # noqa: FBT003 - expat takes it by position
    return above[0].children[0]


def _strange(answer: Answer, what: str) -> ServerTrouble:
    host = clean(urlsplit(answer.url).netloc, limit=200)
    return ServerTrouble(
        f"{host} answered {answer.status} with something that is no S3 listing: {what}",
        hint="check the endpoint's address; a portal or proxy may stand in between",
    )
