"""S3 from two servers that others wrote: ministack and moto. `.ci/install-real` installs them."""

import base64
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelbay.provision import read_lock
from modelbay.transfer import journal
from tests.syncing import Machine

pytestmark = pytest.mark.real

SERVERS = Path(sys.prefix) / "real/s3/bin"
BUCKET = "company-models"
MANY = 1_050
"""More objects than one page of a listing holds."""
WEIGHTS = os.urandom(1 << 20) * 24
FILES = {
    "llm/a/config.json": b"{}",
    "llm/a/weights.bin": WEIGHTS,
    "llm/a/sub dir/ü+#&%=@~.bin": b"x" * 1000,
    "llm/a/empty.bin": b"",
}


@dataclass(frozen=True)
class Server:
    name: str
    endpoint: str
    client: Any

    def machine(self, home: Path, **more: str) -> Machine:
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        environ = {
            **keys,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        return Machine(None, home, {**environ, **more})

    def put(self, key: str, body: bytes, **more: Any) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=body, **more)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def client_of(endpoint: str, service: str = "s3", key: str = "test", secret: str = "test") -> Any:
    """What AWS's own library makes of that server, to fill it with."""
    import boto3  # type: ignore[import-untyped]
    from botocore.config import Config

    return boto3.client(
        service, endpoint_url=endpoint, region_name="us-east-1",
        aws_access_key_id=key, aws_secret_access_key=secret,
        config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
    )  # fmt: skip


@contextmanager
def running(name: str, home: Path) -> Iterator[Server]:
    program = SERVERS / {"ministack": "ministack", "moto": "moto_server"}[name]
    if not program.exists():
        pytest.skip(f"1 server is not here: {name} (.ci/install-real)")
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    more = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SERVICES": "s3"}
    words = ["-H", "127.0.0.1", "-p", str(port)] if name == "moto" else []
    process = subprocess.Popen(
        [program, *words], env={"PATH": os.environ["PATH"], "HOME": str(home), **more},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        _wait_for(port, process)
        yield Server(name, endpoint, client_of(endpoint))
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the server did not start")


@pytest.fixture(scope="module", params=["ministack", "moto"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with running(request.param, tmp_path_factory.mktemp("server")) as server:
        server.client.create_bucket(Bucket=BUCKET)
        for key, body in FILES.items():
            server.put(key, body)
        server.put("llm/a/", b"")
        digest = hashlib.sha256(WEIGHTS)
        server.put("summed.bin", WEIGHTS, ChecksumSHA256=base64.b64encode(digest.digest()).decode(),
                   ChecksumAlgorithm="SHA256")  # fmt: skip
        server.put("told.bin", WEIGHTS, Metadata={"sha256": digest.hexdigest()})
        yield server


def entry(prefix: str, bucket: str = BUCKET) -> str:
    return (
        f'[models.llm.a]\nsource = "s3"\nbucket = "{bucket}"\nprefix = "{prefix}"\nlayout = "dir"\n'
    )


def test_a_prefix_is_fetched_as_it_is(server: Server, tmp_path: Path):
    said = server.machine(tmp_path).run("get", f"s3://{BUCKET}/llm/a/", "--to", tmp_path / "to")

    assert said.code == 0, said.err
    for key, body in FILES.items():
        assert (tmp_path / "to" / key.removeprefix("llm/a/")).read_bytes() == body


def test_it_is_locked_synced_on_an_empty_machine_and_verified(server: Server, tmp_path: Path):
    one, other = server.machine(tmp_path / "one"), server.machine(tmp_path / "other")
    first = one.run("sync", one.write("a.toml", entry("llm/a/")))

    copied = other.write("a.lock.toml", (tmp_path / "one/a.lock.toml").read_text())
    second = other.run("sync", copied)

    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert other.run("verify").code == 0
    assert other.run("sync", copied, "--check", "--deep").code == 0


def test_a_listing_longer_than_a_page_is_read_whole(server: Server, tmp_path: Path):
    for number in range(MANY):
        server.put(f"many/{number:05} ä.bin", b"")

    said = server.machine(tmp_path).run("show", f"s3://{BUCKET}/many/", "--json")

    assert said.code == 0, said.err
    assert len(json.loads(said.out)["files"]) == MANY


def test_checksums_that_the_server_or_the_uploader_told_are_claims(server: Server, tmp_path: Path):
    claimed = {}
    for name in ("summed.bin", "told.bin"):
        said = server.machine(tmp_path).run("show", f"s3://{BUCKET}/{name}", "--json")
        (file,) = json.loads(said.out)["files"]
        claimed[name] = hashlib.sha256(WEIGHTS).hexdigest() in json.dumps(file)

    assert claimed == {"summed.bin": True, "told.bin": True}


def test_an_object_in_parts_has_no_digest_and_the_right_bytes(server: Server, tmp_path: Path):
    asked = {"Bucket": BUCKET, "Key": "parts.bin"}
    upload = server.client.create_multipart_upload(**asked)["UploadId"]
    tags = []
    for number in (1, 2):
        part = WEIGHTS[(number - 1) * (12 << 20) : number * (12 << 20)]
        done = server.client.upload_part(**asked, UploadId=upload, PartNumber=number, Body=part)
        tags.append({"ETag": done["ETag"], "PartNumber": number})
    server.client.complete_multipart_upload(
        **asked, UploadId=upload, MultipartUpload={"Parts": tags}
    )
    here = server.machine(tmp_path)

    shown = here.run("show", f"s3://{BUCKET}/parts.bin")
    said = here.run("get", f"s3://{BUCKET}/parts.bin", "--to", tmp_path / "to")

    assert "no digest" in shown.out
    assert said.code == 0, said.err
    assert (tmp_path / "to/parts.bin").read_bytes() == WEIGHTS


def test_a_lock_replays_the_version_that_it_was_made_of(server: Server, tmp_path: Path):
    bucket = "kept-versions"
    server.client.create_bucket(Bucket=bucket)
    server.client.put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    server.client.put_object(Bucket=bucket, Key="m/a.bin", Body=b"old" * 1000)
    one, other = server.machine(tmp_path / "one"), server.machine(tmp_path / "other")
    assert one.run("sync", one.write("a.toml", entry("m/", bucket))).code == 0
    server.client.put_object(Bucket=bucket, Key="m/a.bin", Body=b"new" * 1000)
    lock = tmp_path / "one/a.lock.toml"

    said = other.run("sync", other.write("a.lock.toml", lock.read_text()))

    assert said.code == 0, said.err
    assert read_lock(lock).models[0].table["version:a.bin"]
    assert (other.workspace / "llm/a/a.bin").read_bytes() == b"old" * 1000


def test_a_killed_run_goes_on_where_it_was(server: Server, tmp_path: Path):
    here = server.machine(tmp_path, MODELBAY_BANDWIDTH="6MB/s")
    words = ("get", f"s3://{BUCKET}/told.bin", "--to", str(tmp_path / "to"))
    process = here.start(*words)
    parts = tmp_path / "to/.modelbay/parts"
    until = time.monotonic() + 60
    while time.monotonic() < until and not _front(parts):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    front = _front(parts)
    assert 0 < front < len(WEIGHTS)
    assert not (tmp_path / "to/told.bin").exists()

    here.more.pop("MODELBAY_BANDWIDTH")
    said = here.run(*words, "--json")

    assert said.code == 0, said.err
    assert (tmp_path / "to/told.bin").read_bytes() == WEIGHTS
    assert json.loads(said.out)["bytes"] <= len(WEIGHTS) - front


def _front(parts: Path) -> int:
    for part in parts.glob("*.part"):
        found = journal.read(part)
        if found is not None and found.spans and found.spans[0][0] == 0:
            return found.spans[0][1]
    return 0


def test_what_is_not_there_exits_8(server: Server, tmp_path: Path):
    here = server.machine(tmp_path)

    assert here.run("get", f"s3://{BUCKET}/gone.bin", "--to", tmp_path).code == 8
    assert here.run("get", f"s3://{BUCKET}/gone/", "--to", tmp_path).code == 8
    assert here.run("get", "s3://no-such-bucket-here/x/", "--to", tmp_path).code == 8


def test_prefixes_are_browsed(server: Server, tmp_path: Path):
    here = server.machine(tmp_path)

    said = here.run("search", "--source", "s3", f"s3://{BUCKET}/llm/", "--json")
    buckets = here.run("search", "--source", "s3", "s3://", "--json")

    assert [hit["title"] for hit in json.loads(said.out)["hits"]] == ["llm/a/"]
    assert BUCKET in [hit["title"] for hit in json.loads(buckets.out)["hits"]]


def test_what_is_public_is_read_without_keys_and_nothing_else_is(tmp_path: Path):
    with running("moto", tmp_path) as server:
        server.client.create_bucket(Bucket=BUCKET)
        server.put("open.bin", b"open" * 100, ACL="public-read")
        server.put("closed.bin", b"closed" * 100)
        here = server.machine(tmp_path / "home", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")

        found = here.run("get", f"s3://{BUCKET}/open.bin", "--to", tmp_path / "to")
        refused = here.run("get", f"s3://{BUCKET}/closed.bin", "--to", tmp_path / "to")

    assert (found.code, refused.code) == (0, 3), found.err + refused.err
    assert "asked without keys" in found.err
    assert (tmp_path / "to/open.bin").read_bytes() == b"open" * 100


def test_a_server_that_checks_signatures_takes_right_ones_and_no_others(tmp_path: Path):
    with running("moto", tmp_path) as server:
        pair = _user(server)
        server.put("told.bin", b"signed" * 100)
        request = urllib.request.Request(
            f"{server.endpoint}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"}
        )
        urllib.request.urlopen(request, timeout=10).close()
        outcomes = {}
        for name, keys in {
            "right": pair,
            "wrong": {**pair, "AWS_SECRET_ACCESS_KEY": "x" * 40},
            "strange": {
                "AWS_ACCESS_KEY_ID": "AKIANOBODYKNOWS12345",
                "AWS_SECRET_ACCESS_KEY": "x" * 40,
            },
        }.items():
            here = server.machine(tmp_path / name, **keys)
            outcomes[name] = here.run(
                "get", f"s3://{BUCKET}/told.bin", "--to", tmp_path / name / "to"
            )

    assert {name: said.code for name, said in outcomes.items()} == {
        "right": 0, "wrong": 3, "strange": 3
    }, "\n".join(said.err for said in outcomes.values())  # fmt: skip
    assert "SignatureDoesNotMatch" in outcomes["wrong"].err
    assert "InvalidAccessKeyId" in outcomes["strange"].err
    assert (tmp_path / "right/to/told.bin").read_bytes() == b"signed" * 100


def _user(server: Server) -> dict[str, str]:
    """Keys of a user who may do everything with S3."""
    iam = client_of(server.endpoint, "iam")
    iam.create_user(UserName="reader")
    allowed = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    iam.put_user_policy(
        UserName="reader", PolicyName="reads",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allowed]}),
    )  # fmt: skip
    server.client.create_bucket(Bucket=BUCKET)
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    return {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }
