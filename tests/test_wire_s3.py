"""What stores answer, every recorded answer of theirs among it, and how they are asked."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from modelbay.digest import Digest
from modelbay.errors import (
    AccessError,
    CredentialMissing,
    ModelbayError,
    ModelDisabled,
    ModelNotFound,
    NetworkError,
    ServerTrouble,
    UsageError,
)
from modelbay.http import Answer
from modelbay.sources.s3_errors import Asking, explained
from modelbay.wire.s3 import PUBLIC, Bucket, is_bucket_name
from modelbay.wire.s3_answers import read_buckets, read_head, read_page, refusal_of

FIXTURES = (
    Path(os.environ.get("MODELBAY_FIXTURES", Path(__file__).parents[2] / "shared/fixtures")) / "s3"
)
RECORDED = 49
XML = {"content-type": "application/xml"}
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def recorded(pattern: str) -> list[Path]:
    found = sorted(FIXTURES.glob(pattern))
    if not found:
        pytest.skip(f"{RECORDED} recorded answers of stores are not here (MODELBAY_FIXTURES)")
    return found


def answer(body: bytes | str, status: int = 200, headers: Mapping[str, str] = XML) -> Answer:
    raw = body if isinstance(body, bytes) else body.encode()
    return Answer(status, "https://store.example/bucket/?list-type=2", raw, headers)


def http(path: Path) -> Answer:
    """An answer recorded with its head."""
    head, _, body = path.read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")
    status, *lines = head.decode().splitlines()
    headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
    return answer(body, int(status.split()[1]), headers)


def page_of(name: str):
    (path,) = recorded(name)
    return read_page(answer(path.read_bytes()))


def test_every_recorded_answer_is_read_here():
    names = {path.name for path in recorded("*")}

    listings = {path.name for path in recorded("*list_container_objects*.xml")}
    services = {path.name for path in recorded("*list_containers*.xml")}
    uploads = {path.name for path in recorded("*multipart*.xml")}
    errors = {path.name for path in recorded("error-*")}
    # B2's and Google's own JSON interfaces, Ceph's notes: not this protocol.
    others = {path.name for path in recorded("*.json")}
    assert names == listings | services | uploads | errors | others
    assert len(names) == RECORDED
    assert all(json.loads(path.read_text()) for path in recorded("*.json"))


def test_every_recorded_listing_is_read_whatever_its_namespace():
    for path in recorded("*list_container_objects*.xml"):
        page = read_page(answer(path.read_bytes()))

        assert bool(page.objects) is ("empty" not in path.name), path.name
        assert page.truncated is ("not_exhausted1" in path.name), path.name
        assert all(one.size >= 0 and one.modified and one.etag for one in page.objects)


def test_a_listing_that_goes_on_without_a_token_goes_on_from_its_last_key():
    page = page_of("libcloud-s3-list_container_objects_not_exhausted1.xml")

    assert (page.token, page.marker) == (None, "3.zip")


def test_every_recorded_list_of_buckets_is_read():
    for path in recorded("*list_containers*.xml"):
        found = read_buckets(answer(path.read_bytes()))

        assert bool(found) is ("empty" not in path.name), path.name
        assert all(is_bucket_name(name) and made for name, made in found)


def test_an_answer_about_uploads_is_no_listing():
    for path in recorded("*multipart*.xml"):
        with pytest.raises(ServerTrouble, match="no S3 listing"):
            read_page(answer(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "status", "kind", "said"),
    [
        ("error-aws-AuthorizationHeaderMalformed.xml", 400, UsageError, "lies in eu-central-1"),
        ("error-aws-InvalidObjectState.xml", 403, ModelDisabled, "archived"),
        ("error-aws-PermanentRedirect.headers", 301, UsageError, "lies in us-east-1"),
        ("error-ceph-AccessDenied.xml", 403, AccessError, "AccessDenied"),
        ("error-ceph-NoSuchBucket.headers", 404, ModelNotFound, "no bucket"),
        ("error-ceph-NoSuchKey.xml", 404, ModelNotFound, "nothing under"),
        ("error-cos-InvalidObjectState.headers", 403, ModelDisabled, "archived"),
        ("error-minio-AccessDenied.xml", 403, AccessError, "AccessDenied"),
        ("error-minio-SlowDownRead.xml", 503, NetworkError, "limits how often"),
        ("error-minio-root-403.headers", 403, AccessError, "AccessDenied"),
        ("error-yandex-NoSuchKey.xml", 404, ModelNotFound, "nothing under"),
    ],
)
def test_every_recorded_error_becomes_a_sentence_with_a_next_step(
    name: str, status: int, kind: type[ModelbayError], said: str
):
    (path,) = recorded(name)
    given = http(path) if path.suffix == ".headers" else answer(path.read_bytes(), status)
    asking = Asking(
        Bucket("models", "https://store.example"), "llm/a.bin", label="AWS_ACCESS_KEY_ID"
    )

    error = explained(refusal_of(given), asking)

    assert given.status == status
    assert isinstance(error, kind)
    assert said in str(error)
    assert error.hint


def test_the_same_refusal_without_keys_asks_for_keys():
    refusal = refusal_of(answer("<Error><Code>AccessDenied</Code></Error>", 403))

    error = explained(refusal, Asking(Bucket("models"), "a.bin"))

    assert isinstance(error, CredentialMissing)
    assert "AWS_ACCESS_KEY_ID" in error.hint


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html><body>Login</body></html>", b"<ListBucketResult>", b"\xff\xfe\x00",
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><ListBucketResult>&b;</ListBucketResult>',
        b"<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
        b"<ListBucketResult>" + b"<a>" * 5000 + b"</a>" * 5000 + b"</ListBucketResult>",
    ],
)  # fmt: skip
def test_what_is_no_listing_is_refused_by_the_name_of_its_host(body: bytes):
    with pytest.raises(ServerTrouble, match=r"store\.example"):
        read_page(answer(body))


def test_keys_that_were_encoded_are_decoded_once():
    body = (
        "<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>a+b/%2B%2525.bin</Key>"
        "<Size>1</Size></Contents><CommonPrefixes><Prefix>x%C3%BC/</Prefix></CommonPrefixes></ListBucketResult>"
    )

    page = read_page(answer(body))

    assert page.objects[0].key == "a b/+%25.bin"
    assert page.prefixes == ("xü/",)


@pytest.mark.parametrize(
    ("headers", "digests"),
    [
        ({"x-amz-checksum-sha256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}, [EMPTY_SHA256]),
        ({"x-amz-checksum-sha256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=-3"}, []),
        (
            {
                "x-amz-checksum-sha256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
                "x-amz-checksum-type": "COMPOSITE",
            },
            [],
        ),
        ({"x-amz-meta-sha256": EMPTY_SHA256.upper()}, [EMPTY_SHA256]),
        ({"x-amz-meta-sha256": "not a digest"}, []),
        ({"etag": '"d41d8cd98f00b204e9800998ecf8427e"'}, []),
    ],
)
def test_a_checksum_counts_when_it_is_of_the_whole(headers: dict[str, str], digests: list[str]):
    head = read_head(answer(b"", 200, headers))

    assert head.digests == tuple(Digest.sha256(one) for one in digests)


def test_an_archived_object_counts_as_there_once_it_was_restored():
    archived = {"x-amz-storage-class": "GLACIER"}
    restored = {**archived, "x-amz-restore": 'ongoing-request="false", expiry-date="x"'}

    assert read_head(answer(b"", 200, archived)).archived
    assert not read_head(answer(b"", 200, restored)).archived


@pytest.mark.parametrize(
    ("bucket", "address"),
    [
        (Bucket("models", PUBLIC, "eu-west-1"), "https://models.s3.eu-west-1.amazonaws.com"),
        (Bucket("models.v1", PUBLIC, "eu-west-1"), "https://s3.eu-west-1.amazonaws.com/models.v1"),
        (Bucket("Old_Models", PUBLIC), "https://s3.us-east-1.amazonaws.com/Old_Models"),
        (Bucket("models", PUBLIC, "cn-north-1"), "https://models.s3.cn-north-1.amazonaws.com.cn"),
        (Bucket("models", "http://minio.local:9000"), "http://minio.local:9000/models"),
        (Bucket("models", "https://h/p", addressing="path"), "https://h/p/models"),
        (Bucket("models", "https://h:1", addressing="virtual"), "https://models.h:1"),
    ],
)
def test_where_a_bucket_stands_in_its_address(bucket: Bucket, address: str):
    assert bucket.address == address


def test_a_store_with_its_region_in_its_name_is_signed_for_that_region():
    assert Bucket("m", "https://s3.us-west-004.backblazeb2.com").signing_region == "us-west-004"
    assert Bucket("m", "http://minio.local:9000").signing_region == "us-east-1"


def test_a_key_is_percent_encoded_as_its_signature_has_it():
    url = Bucket("m", "https://h").object_url("a b/ü+#&%?.bin", "v=1/2")

    assert url == "https://h/m/a%20b/%C3%BC%2B%23%26%25%3F.bin?versionId=v%3D1%2F2"
