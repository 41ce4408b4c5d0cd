"""S3 from one command, one entry and one lock, against a store that checks every signature."""

import base64
import datetime as dt
import hashlib
import json
import os
import signal
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbay.credentials import Credentials
from modelbay.errors import (
    AccessError,
    CredentialMissing,
    CredentialRefused,
    FormatError,
    ModelNotFound,
    NoSearch,
    PolicyError,
    RefError,
    RevisionNotFound,
    UnsafeName,
    UsageError,
)
from modelbay.http import Client
from modelbay.location import Http
from modelbay.provision import read_lock
from modelbay.refs import ModelRef, parse
from modelbay.snapshot import Query, Snapshot
from modelbay.sources.base import Means, Source
from modelbay.sources.s3 import S3Store
from tests.doubles.s3 import No, S3Double
from tests.syncing import Machine

KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret/+key"}
LONE = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nowhere"}
CLIENT: list[Client] = []
HEADER = json.dumps(
    {"w": {"dtype": "U8", "shape": [5_120_000], "data_offsets": [0, 5_120_000]}}
).encode()
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(range(256)) * 20_000
FILES = {
    "llm/a/config.json": b"{}",
    "llm/a/model.safetensors": WEIGHTS,
    "llm/a/sub dir/ü+#&%.bin": b"x" * 1000,
}


@pytest.fixture
def store() -> Iterator[S3Double]:
    with S3Double() as store:
        for key, body in FILES.items():
            store.put("models", key, body)
        store.put("models", "llm/a/", b"")
        store.put("models", "one.bin", b"hello" * 100)
        yield store


@pytest.fixture(autouse=True)
def client() -> Iterator[Client]:
    """The one client of a test."""
    with Client() as client:
        CLIENT[:] = [client]
        yield client


def source(store: S3Double | None = None, **environ: str) -> S3Store:
    endpoint = store.endpoint if store else None
    return S3Store(Means(CLIENT[0], Credentials({**LONE, **environ}), endpoint=endpoint))


def signed(store: S3Double, **environ: str) -> S3Store:
    return source(store, **{**KEYS, **environ})


def ref(text: str, of: Source | None = None) -> ModelRef:
    return parse(text, [of or source()])


def resolved(store: S3Double, text: str, **environ: str) -> Snapshot:
    made = signed(store, **environ)
    return made.resolve(ref(text, made))


def machine(store: S3Double, home: Path, **more: str) -> Machine:
    environ = {**KEYS, "AWS_ENDPOINT_URL_S3": store.endpoint, "AWS_EC2_METADATA_DISABLED": "true"}
    return Machine(None, home, {**environ, **more})


def entry(extra: str = "", prefix: str = "llm/a/") -> str:
    return (
        '[models.llm.a]\nsource = "s3"\nbucket = "models"\n'
        f'prefix = "{prefix}"\nlayout = "dir"\n{extra}'
    )


# What a model is called


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("s3://models/llm/a/", "s3://models/llm/a/"),
        ("s3://models", "s3://models/"),
        ("s3://models/a b/c+d#e.bin", "s3://models/a%20b/c%2Bd%23e.bin"),
        ("s3://m-1/x?versionId=v1&region=eu-west-1", "s3://m-1/x?region=eu-west-1&versionId=v1"),
        ("s3://models/x?endpoint=http://MinIO.local:9000/", "s3://models/x?endpoint=http://minio.local:9000"),
        ("s3://models/x?endpoint=https://s3.eu-west-1.amazonaws.com", "s3://models/x?region=eu-west-1"),
        ("https://models.s3.amazonaws.com/llm/a.bin", "s3://models/llm/a.bin"),
        ("https://models.s3.eu-west-1.amazonaws.com/a%20b.bin", "s3://models/a%20b.bin?region=eu-west-1"),
        ("https://models.s3-eu-west-1.amazonaws.com/a.bin", "s3://models/a.bin?region=eu-west-1"),
        ("https://models.s3.dualstack.us-east-2.amazonaws.com/a", "s3://models/a?region=us-east-2"),
        ("https://s3.us-west-2.amazonaws.com/models/llm/", "s3://models/llm/?region=us-west-2"),
        ("https://my.models.s3.amazonaws.com/a?versionId=x", "s3://my.models/a?versionId=x"),
        ("https://s3.console.aws.amazon.com/s3/buckets/models?region=eu-west-1&prefix=llm/a/", "s3://models/llm/a/?region=eu-west-1"),
    ],
)  # fmt: skip
def test_a_ref_has_one_canonical_form_that_reads_back(text: str, canonical: str):
    found = ref(text)

    assert str(found) == canonical
    assert ref(canonical) == found
    made = source()
    assert made.ref_of(made.keys_of(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        "s3://", "s3:models/x", "s3://m", "s3://../x", "s3://models/a//b", "s3://models/../b",
        "s3://models/a?color=red", "s3://models/a?anonymous=maybe", "s3://models/a?addressing=odd",
        "s3://models/a?endpoint=ftp://h", "s3://models/a?endpoint=https://u:p@h",
        "s3://models/a?X-Amz-Signature=abc", "s3://models/%2e%2e/b", "s3://models/a?region=a/b",
    ],
)  # fmt: skip
def test_a_ref_that_names_no_object_is_refused_with_the_form(text: str):
    with pytest.raises(RefError) as caught:
        ref(text)

    assert caught.value.hint


def test_an_address_at_the_configured_store_is_an_object_of_it(store: S3Double):
    made = signed(store)

    found = ref(f"{store.endpoint}/models/llm/a/", made)

    assert str(found) == f"s3://models/llm/a/?endpoint={store.endpoint}"
    assert made.recognise("https://elsewhere.example/models/x") is None
    assert made.recognise(f"{store.endpoint}/") is None


def test_an_entry_names_the_same_as_a_ref():
    made = source()
    keys: dict[str, object] = {"bucket": "models", "prefix": "llm/a b/", "region": "eu-west-1",
                               "endpoint": "http://minio.local:9000", "profile": "work", "anonymous": True,
                               "addressing": "virtual", "version_id": "v1"}  # fmt: skip

    found = made.ref_of(keys)

    assert str(found).startswith(
        "s3://models/llm/a%20b/?endpoint=http://minio.local:9000&region=eu-west-1"
    )
    assert made.keys_of(found) == keys


def test_an_entry_without_a_bucket_is_told_what_to_write():
    with pytest.raises(UsageError) as caught:
        source().ref_of({"prefix": "llm/"})

    assert 'bucket = "' in caught.value.hint


# What a ref means


def test_a_prefix_is_a_model_of_everything_below_it(store: S3Double):
    snapshot = resolved(store, "s3://models/llm/a/")

    assert {str(file.path): file.size for file in snapshot.files} == {
        key.removeprefix("llm/a/"): len(body) for key, body in FILES.items()
    }
    assert snapshot == resolved(store, "s3://models/llm/a/")
    assert snapshot.table == {
        "endpoint": store.endpoint, "region": "us-east-1", "bucket": "models", "prefix": "llm/a/",
        "revision": snapshot.revision,
    }  # fmt: skip


def test_a_prefix_without_its_slash_is_the_same_model(store: S3Double):
    assert resolved(store, "s3://models/llm/a") == resolved(store, "s3://models/llm/a/")


def test_a_key_is_a_model_of_one_file(store: S3Double):
    snapshot = resolved(store, "s3://models/one.bin")

    assert [(str(file.path), file.size) for file in snapshot.files] == [("one.bin", 500)]
    assert snapshot.table["prefix"] == "one.bin"


def test_a_listing_of_many_pages_is_read_to_its_end(store: S3Double):
    for number in range(25):
        store.put("many", f"p/{number:03}.bin", b"x" * number)
    store.page = 4

    assert len(resolved(store, "s3://many/p/").files) == 25


def test_a_store_that_knows_the_first_listing_alone_is_read_to_its_end(store: S3Double):
    for number in range(25):
        store.put("many", f"p/{number:03} ü.bin", b"x" * number)
    store.page, store.v1 = 4, True

    assert len(resolved(store, "s3://many/p/").files) == 25


def test_checksums_of_the_store_and_of_the_uploader_are_claims(store: S3Double):
    digest = hashlib.sha256(b"one").digest()
    store.put("sums", "a.bin", b"one", x_amz_checksum_sha256=base64.b64encode(digest).decode())
    store.put("sums", "b.bin", b"one", X_Amz_Meta_Sha256=digest.hex())
    store.put("sums", "c.bin", b"one")

    files = resolved(store, "s3://sums/").files

    assert [file.sha256.hex if file.sha256 else None for file in files] == [
        digest.hex(),
        digest.hex(),
        None,
    ]


def test_another_object_under_the_same_key_is_another_revision(store: S3Double):
    before = resolved(store, "s3://models/llm/a/").revision
    store.put("models", "llm/a/config.json", b"[]")

    assert resolved(store, "s3://models/llm/a/").revision != before


def test_the_newest_version_is_pinned_and_an_older_one_can_be_asked_for(store: S3Double):
    store.put_version("kept", "m/a.bin", b"old", "v1")
    store.put_version("kept", "m/a.bin", b"newer", "v2")

    newest, old = resolved(store, "s3://kept/m/"), resolved(store, "s3://kept/m/a.bin?versionId=v1")

    assert newest.table["version:a.bin"] == "v2"
    assert (old.files[0].size, old.revision) == (3, "version v1")
    with pytest.raises(RevisionNotFound, match="no version 'v9'"):
        resolved(store, "s3://kept/m/a.bin?versionId=v9")


def test_the_region_is_found_out_and_asked_once(store: S3Double):
    store.region = "eu-central-1"
    made = signed(store)

    first = made.resolve(ref("s3://models/llm/a/", made))
    before = len(store.log)
    made.resolve(ref("s3://models/llm/a/", made))

    assert first.table["region"] == "eu-central-1"
    assert all(asked.status == 200 for asked in store.log[before:])


def test_the_region_is_found_out_where_a_head_does_not_tell_it(store: S3Double):
    store.region, store.quiet = "eu-central-1", True

    assert resolved(store, "s3://models/one.bin").table["region"] == "eu-central-1"


def test_archived_objects_are_said_before_anything_moves(store: S3Double):
    store.put("cold", "m/a.bin", b"x" * 10, x_amz_storage_class="GLACIER")

    assert any("archived" in note for note in resolved(store, "s3://cold/m/").notes)


@pytest.mark.parametrize(
    "key", ["m/../x.bin", "m/a\\b.bin", "m/con", "m//x.bin", "m/x.", "m/\u202ex.bin"]
)
def test_a_hostile_name_is_refused_and_nothing_is_fetched(store: S3Double, key: str):
    store.put("bad", key, b"x")

    with pytest.raises(UnsafeName):
        resolved(store, "s3://bad/m/")
    assert not store.fetched()


def test_names_that_are_one_where_case_does_not_count_are_refused(store: S3Double):
    store.put("bad", "m/A.bin", b"x")
    store.put("bad", "m/a.bin", b"x")

    with pytest.raises(UnsafeName):
        resolved(store, "s3://bad/m/")


# Keys


def test_a_public_bucket_is_read_without_keys_and_that_is_said(store: S3Double):
    store.public = {"models"}
    made = source(store)

    snapshot = made.resolve(ref("s3://models/llm/a/", made))

    assert any("asked without keys" in note for note in snapshot.notes)
    assert all("authorization" not in asked.headers for asked in store.log)


def test_anonymous_signs_nothing_though_there_are_keys(store: S3Double):
    store.public = {"models"}

    resolved(store, "s3://models/llm/a/?anonymous=true")

    assert all("authorization" not in asked.headers for asked in store.log)


def test_without_keys_a_private_bucket_asks_for_them(store: S3Double):
    made = source(store)

    with pytest.raises(CredentialMissing) as caught:
        made.resolve(ref("s3://models/llm/a/", made))
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"AWS_ACCESS_KEY_ID": "OTHER"}, "InvalidAccessKeyId"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "AWS_ACCESS_KEY_ID"),
    ],
)
def test_refused_keys_are_named_and_not_shown(store: S3Double, environ: dict[str, str], said: str):
    made = signed(store, **environ)

    with pytest.raises(AccessError) as caught:
        made.resolve(ref("s3://models/llm/a/", made))
    assert said in str(caught.value)
    assert "secret/+key" not in f"{caught.value}{caught.value.hint}"
    assert "wrong" not in f"{caught.value}{caught.value.hint}"


def test_half_a_pair_of_keys_says_what_is_missing(store: S3Double):
    made = source(store, AWS_ACCESS_KEY_ID="AKID")

    with pytest.raises(CredentialMissing, match="AWS_SECRET_ACCESS_KEY is not"):
        made.resolve(ref("s3://models/llm/a/", made))


def test_a_session_token_goes_with_the_keys(store: S3Double):
    store.token = "session-token"

    assert resolved(store, "s3://models/one.bin", AWS_SESSION_TOKEN="session-token").files
    with pytest.raises(AccessError):
        resolved(store, "s3://models/one.bin")


def test_a_clock_that_is_wrong_is_said(store: S3Double):
    store.clock = dt.timedelta(hours=3)

    with pytest.raises(CredentialRefused, match="clock"):
        resolved(store, "s3://models/llm/a/")


def test_the_entrys_own_pair_comes_first(store: S3Double):
    store.keys = {"COMPANY": "company-secret"}
    environ = {
        **LONE,
        **KEYS,
        "COMPANY_ACCESS_KEY_ID": "COMPANY",
        "COMPANY_SECRET_ACCESS_KEY": "company-secret",
    }
    auth = {"token_env": "COMPANY_ACCESS_KEY_ID"}
    made = S3Store(Means(CLIENT[0], Credentials(environ, auth=auth), endpoint=store.endpoint))

    assert made.resolve(ref("s3://models/one.bin", made)).files


def test_an_auth_that_names_no_pair_is_told_what_would(store: S3Double):
    made = S3Store(
        Means(CLIENT[0], Credentials(LONE, auth={"token_env": "S3_TOKEN"}), endpoint=store.endpoint)
    )

    with pytest.raises(UsageError) as caught:
        made.resolve(ref("s3://models/one.bin", made))
    assert "COMPANY_ACCESS_KEY_ID" in caught.value.hint


def test_for_an_address_that_somebody_else_chose_nothing_is_signed(store: S3Double):
    restricted = Credentials({**LONE, **KEYS}).standing(frozenset())
    store.public = {"models"}
    made = S3Store(Means(CLIENT[0], restricted))

    made.resolve(made.ref_of({"bucket": "models", "prefix": "llm/a/", "endpoint": store.endpoint}))

    assert store.log
    assert all("authorization" not in asked.headers for asked in store.log)


def test_somebody_else_chooses_no_profile():
    made = S3Store(Means(CLIENT[0], Credentials(LONE).standing(frozenset())))

    with pytest.raises(PolicyError, match="profile"):
        made.ref_of({"bucket": "models", "profile": "prod"})


# Refusals


def test_what_is_not_there_says_where_to_look(store: S3Double):
    for text, said in (("s3://models/llm/b/", "nothing under"), ("s3://models/no.bin", "nothing under"),
                       ("s3://nowhere/x/", "no bucket")):  # fmt: skip
        with pytest.raises(ModelNotFound, match=said) as caught:
            resolved(store, text)
        assert caught.value.hint


def test_a_store_that_writes_no_message_is_understood(store: S3Double):
    store.messages = False

    with pytest.raises(ModelNotFound, match="no bucket"):
        resolved(store, "s3://nowhere/x/")


def test_one_object_can_be_read_where_nothing_may_be_listed(store: S3Double):
    store.unlisted = {"models"}

    assert resolved(store, "s3://models/one.bin").files[0].size == 500
    with pytest.raises(AccessError, match="without s3:ListBucket a missing key is refused as well"):
        resolved(store, "s3://models/none.bin")


def test_a_lock_of_no_bucket_is_refused():
    with pytest.raises(FormatError):
        source().ref_in({"bucket": "../x", "prefix": "a/"}, ref("s3://models/a/"))


# Browsing


def test_prefixes_are_browsed_and_nothing_else_is_searched(store: S3Double):
    made = signed(store)

    def below(text: str) -> list[str]:
        return [hit.title for hit in made.search(Query(text))]

    assert below("s3://") == ["models"]
    assert below("s3://models/") == ["llm/", "one.bin"]
    assert below("s3://models/llm/a/") == [
        "llm/a/sub dir/",
        "llm/a/config.json",
        "llm/a/model.safetensors",
    ]
    assert next(str(hit.ref) for hit in made.search(Query("s3://models/"))).startswith(
        "s3://models/llm/?"
    )
    with pytest.raises(NoSearch, match="browsed"):
        made.search(Query("qwen3"))


def test_a_page_of_hits_is_all_that_is_asked_for(store: S3Double):
    for number in range(50):
        store.put("many", f"{number:03}/x.bin", b"x")
    store.page = 10
    made = signed(store)

    hits = list(made.search(Query("s3://many/", limit=5)))

    assert len(hits) == 5
    assert len(store.log) == 1


# From the command line to the disk


def test_one_command_fetches_a_prefix_signed_request_by_request(store: S3Double, tmp_path: Path):
    said = machine(store, tmp_path).run("get", "s3://models/llm/a/", "--to", tmp_path / "to")

    assert said.code == 0, said.err
    for key, body in FILES.items():
        assert (tmp_path / "to" / key.removeprefix("llm/a/")).read_bytes() == body
    assert all("aws4_request" in asked.headers["authorization"] for asked in store.log)


def test_one_entry_is_locked_synced_on_an_empty_machine_and_verified(
    store: S3Double, tmp_path: Path
):
    one, other = machine(store, tmp_path / "one"), machine(store, tmp_path / "other")
    asked = one.write("a.toml", entry())

    first = one.run("sync", asked)
    lock = tmp_path / "one/a.lock.toml"
    (model,) = read_lock(lock).models
    text = lock.read_text()
    copied = other.write("a.lock.toml", text)
    store.buckets["models"].pop("llm/a/")
    before = len(store.log)
    second = other.run("sync", copied)

    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert model.table["prefix"] == "llm/a/"
    assert "secret" not in text
    assert "AKID" not in text
    assert {asked.method for asked in store.log[before:]} == {"GET"}
    assert not [asked for asked in store.log[before:] if asked.path.endswith("/")]
    for key, body in FILES.items():
        assert (other.workspace / "llm/a" / key.removeprefix("llm/a/")).read_bytes() == body
    assert other.run("verify").code == 0
    assert other.run("sync", copied, "--check").code == 0


def test_a_lock_replays_the_version_that_it_was_made_of(store: S3Double, tmp_path: Path):
    store.put_version("kept", "m/a.bin", b"old" * 1000, "v1")
    one, other = machine(store, tmp_path / "one"), machine(store, tmp_path / "other")
    asked = one.write("a.toml", entry(prefix="m/").replace('"models"', '"kept"'))
    assert one.run("sync", asked).code == 0
    store.put_version("kept", "m/a.bin", b"new" * 1000, "v2")

    said = other.run("sync", other.write("a.lock.toml", (tmp_path / "one/a.lock.toml").read_text()))

    assert said.code == 0, said.err
    assert (other.workspace / "llm/a/a.bin").read_bytes() == b"old" * 1000


def test_an_overwritten_object_is_not_what_was_locked(store: S3Double, tmp_path: Path):
    one, other = machine(store, tmp_path / "one"), machine(store, tmp_path / "other")
    assert one.run("sync", one.write("a.toml", entry())).code == 0
    store.put("models", "llm/a/model.safetensors", WEIGHTS[:-1] + b"x")

    said = other.run("sync", other.write("a.lock.toml", (tmp_path / "one/a.lock.toml").read_text()))

    assert said.code == 5, said.err
    assert not (other.workspace / "llm/a/model.safetensors").exists()


def test_wrong_bytes_are_never_published(store: S3Double, tmp_path: Path):
    store.put("models", "bad.bin", b"x" * 100_000, x_amz_meta_sha256="0" * 64)

    said = machine(store, tmp_path).run("get", "s3://models/bad.bin", "--to", tmp_path / "to")

    assert said.code == 5, said.err
    assert not (tmp_path / "to/bad.bin").exists()


@pytest.mark.parametrize(
    ("environ", "ref_", "code"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "s3://models/one.bin", 3),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "s3://models/one.bin", 3),
        ({}, "s3://models/gone.bin", 8),
        ({}, "s3://gone/one.bin", 8),
        ({"AWS_PROFILE": "none", "AWS_ACCESS_KEY_ID": ""}, "s3://models/one.bin", 3),
    ],
)
def test_what_fails_ends_with_its_exit_code_and_a_next_step(
    store: S3Double, tmp_path: Path, environ: dict[str, str], ref_: str, code: int
):
    said = machine(store, tmp_path, **environ).run("get", ref_, "--to", tmp_path / "to")

    assert said.code == code, said.err
    assert "secret/+key" not in said.err
    assert "  " in said.last or "`" in said.err


def test_an_archived_object_says_how_to_restore_it(store: S3Double, tmp_path: Path):
    store.put("models", "cold.bin", b"x" * 10, x_amz_storage_class="GLACIER")

    said = machine(store, tmp_path).run("get", "s3://models/cold.bin", "--to", tmp_path / "to")

    assert said.code == 8
    assert "restore-object" in said.err


def test_a_coding_that_only_its_uploader_meant_changes_no_byte(store: S3Double, tmp_path: Path):
    store.put("models", "chunked.bin", b"x" * 100_000, Content_Encoding="aws-chunked")

    said = machine(store, tmp_path).run("get", "s3://models/chunked.bin", "--to", tmp_path / "to")

    assert said.code == 0, said.err
    assert (tmp_path / "to/chunked.bin").read_bytes() == b"x" * 100_000


def test_a_busy_store_is_asked_again(store: S3Double, tmp_path: Path):
    left = iter([No(503, "SlowDown"), No(503, "SlowDownRead")])
    store.before = lambda asked: next(left, None) if "range" in asked.headers else None

    said = machine(store, tmp_path).run(
        "get", "s3://models/llm/a/model.safetensors", "--to", tmp_path
    )

    assert said.code == 0, said.err
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS


def test_a_redirect_to_another_host_carries_nothing_of_the_keys(store: S3Double, tmp_path: Path):
    store.token = "session-token"
    seen: list[str] = []

    class Other(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while (line := self.rfile.readline().decode()).strip():
                seen.append(line.lower())
            self.wfile.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\nConnection: close\r\n\r\n"
                + b"hello" * 100
            )

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, args=(0.05,), daemon=True).start()
        store.redirect = f"http://127.0.0.1:{other.server_address[1]}/one.bin"
        said = machine(store, tmp_path, AWS_SESSION_TOKEN="session-token").run(
            "get", "s3://models/one.bin", "--to", tmp_path / "to"
        )
        other.shutdown()

    assert said.code == 0, said.err
    assert any(line.startswith("get /one.bin") for line in seen)
    assert not [
        line
        for line in seen
        if "authorization" in line or "x-amz" in line or "session-token" in line
    ]


def test_a_killed_run_goes_on_where_it_was(store: S3Double, tmp_path: Path):
    body = os.urandom(1 << 20) * 24
    store.put("models", "big.bin", body, x_amz_meta_sha256=hashlib.sha256(body).hexdigest())
    here = machine(store, tmp_path, MODELBAY_BANDWIDTH="6MB/s")
    words = ("get", "s3://models/big.bin", "--to", str(tmp_path / "to"))
    process = here.start(*words)
    parts = tmp_path / "to/.modelbay/parts"
    until = time.monotonic() + 30
    while time.monotonic() < until and not list(parts.glob("*.journal")):
        time.sleep(0.02)
    while time.monotonic() < until and not _front(parts):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    front, before = _front(parts), len(store.log)
    assert not (tmp_path / "to/big.bin").exists()

    here.more.pop("MODELBAY_BANDWIDTH")
    said = here.run(*words)

    assert said.code == 0, said.err
    assert (tmp_path / "to/big.bin").read_bytes() == body
    starts = [
        int(asked.headers["range"][6:].partition("-")[0])
        for asked in store.log[before:]
        if "range" in asked.headers
    ]
    assert front > 0
    assert min(starts) >= front


def _front(parts: Path) -> int:
    """How far the journal vouches for the part, from its beginning."""
    from modelbay.transfer import journal

    for part in parts.glob("*.part"):
        found = journal.read(part)
        if found is not None and found.spans and found.spans[0][0] == 0:
            return found.spans[0][1]
    return 0


def test_offline_nothing_is_asked(store: S3Double, tmp_path: Path):
    said = machine(store, tmp_path, HF_HUB_OFFLINE="1").run(
        "get", "s3://models/one.bin", "--to", tmp_path
    )

    assert said.code == 6
    assert not store.log


def test_a_factory_names_the_store_once(store: S3Double, tmp_path: Path):
    here = machine(store, tmp_path)
    del here.more["AWS_ENDPOINT_URL_S3"]
    text = (
        f'[sources.company-s3]\ntype = "s3"\nbucket = "models"\nendpoint = "{store.endpoint}"\n'
        '[models.llm]\nsmall = "company-s3:llm/a/"\n'
    )

    said = here.run("sync", here.write("a.toml", text))

    assert said.code == 0, said.err
    found = {path.name for path in here.workspace.rglob("*.safetensors")}
    assert found == {"model.safetensors"}


def test_show_tells_what_a_person_should_know(store: S3Double, tmp_path: Path):
    said = machine(store, tmp_path).run("show", "s3://models/llm/a/", "--json")

    document = json.loads(said.out)
    assert said.code == 0, said.err
    assert document["ref"].startswith("s3://models/llm/a/")
    assert "plain http" in " ".join(document["notes"])


def test_no_key_stands_in_what_is_written_down(store: S3Double, tmp_path: Path):
    here = machine(store, tmp_path / "home", AWS_SESSION_TOKEN="canary-session-token")
    asked = here.write("a.toml", entry())

    said = here.run("sync", asked)

    assert said.code == 0, said.err
    files = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    written = b"".join(path.read_bytes() for path in files) + (said.out + said.err).encode()
    assert b"models" in written
    for secret in (b"secret/+key", b"canary-session-token", b"aws4_request"):
        assert secret not in written


def test_what_it_gives_is_located_without_a_question(store: S3Double):
    made = signed(store)
    snapshot = made.resolve(ref("s3://models/llm/a/", made))
    before = len(store.log)

    found = made.locate(snapshot, snapshot.files[-1])

    assert isinstance(found, Http)
    assert found.url.endswith("/models/llm/a/sub%20dir/%C3%BC%2B%23%26%25.bin")
    assert len(store.log) == before
    assert found.sign is not None
    assert "AKID" in found.sign("GET", found.url, {})["Authorization"]
