"""The chain that AWS's own tools look through: each link against a service of its own."""

import datetime as dt
import hashlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import pytest

from modelbay.credentials import Credentials
from modelbay.errors import (
    AccessError,
    CredentialMissing,
    FormatError,
    ModelbayError,
)
from modelbay.http import Client
from modelbay.sources.base import Means
from modelbay.sources.s3 import S3Store
from modelbay.sources.s3_keys import Chain
from tests.doubles.s3 import S3Double

ALONE = {"AWS_EC2_METADATA_DISABLED": "true"}
PAIR = "aws_access_key_id = AKID\naws_secret_access_key = secret/+key\n"
LATER = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
GIVEN = {"AccessKeyId": "AKID", "SecretAccessKey": "secret/+key", "Token": "of-the-role",
         "SessionToken": "of-the-role", "Expiration": LATER}  # fmt: skip
STS = f"""<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>AKID</AccessKeyId><SecretAccessKey>secret/+key</SecretAccessKey>
<SessionToken>of-the-role</SessionToken><Expiration>{LATER}</Expiration></Credentials>
<AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn><AssumedRoleId>x:s</AssumedRoleId></AssumedRoleUser>
</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""


class Service:
    """Answers any path with what `answer` makes of it, and remembers what it was asked."""

    def __init__(self, answer: Callable[[str], tuple[int, str]]) -> None:
        self.asked: list[str] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                service.asked.append(f"{self.command} {self.path}")
                status, body = answer(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            do_PUT = do_POST = do_GET  # noqa: N815

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def store() -> Iterator[S3Double]:
    with S3Double() as store:
        store.put("models", "one.bin", b"hello")
        yield store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of one's own, for the library behind the chain as well."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws/sso/cache").mkdir(parents=True)
    return tmp_path


def reads(store: S3Double, home: Path, query: str = "", **environ: str) -> str | None:
    """Where the keys came from that `store` gave an object for."""
    environ = {"HOME": str(home), **environ}
    with Client() as client:
        source = S3Store(Means(client, Credentials(environ), endpoint=store.endpoint))
        options = dict(pair.split("=") for pair in query.split("&") if pair)
        ref = source.ref_of({"bucket": "models", "prefix": "one.bin", **options})
        assert source.resolve(ref).files[0].size == 5
    keys = Chain(Credentials(environ), options.get("profile")).keys()
    return keys.label if keys else None


def configure(home: Path, text: str, name: str = "config") -> None:
    (home / ".aws" / name).write_text(text)


def test_keys_are_found_in_the_environment_first(store: S3Double, home: Path):
    configure(
        home, "[default]\naws_access_key_id = NO\naws_secret_access_key = no\n", "credentials"
    )

    label = reads(
        store, home, AWS_ACCESS_KEY_ID="AKID", AWS_SECRET_ACCESS_KEY="secret/+key", **ALONE
    )

    assert label == "AWS_ACCESS_KEY_ID"


def test_a_file_may_hold_each_variable(store: S3Double, home: Path):
    (home / "id").write_text("AKID\n")
    (home / "secret").write_text("secret/+key\n")

    label = reads(store, home, AWS_ACCESS_KEY_ID_FILE=str(home / "id"),
                  AWS_SECRET_ACCESS_KEY_FILE=str(home / "secret"), **ALONE)  # fmt: skip

    assert label == "AWS_ACCESS_KEY_ID"


def test_keys_are_found_in_the_shared_credentials_file(store: S3Double, home: Path):
    configure(home, f"[default]\n{PAIR}", "credentials")

    assert reads(store, home, **ALONE) == "the shared credentials file"


def test_a_profile_is_chosen_by_the_environment_or_the_entry(store: S3Double, home: Path):
    configure(home, f"[work]\n{PAIR}", "credentials")
    wrong = {"AWS_ACCESS_KEY_ID": "NO", "AWS_SECRET_ACCESS_KEY": "no"}

    assert (
        reads(store, home, AWS_PROFILE="work", **ALONE)
        == "the shared credentials file (profile work)"
    )
    assert (
        reads(store, home, "profile=work", **wrong, **ALONE)
        == "the shared credentials file (profile work)"
    )


def test_a_program_may_give_the_keys(store: S3Double, home: Path):
    script = home / "give.py"
    script.write_text(f"print({json.dumps(json.dumps({'Version': 1, **GIVEN}))})")
    configure(home, f"[default]\ncredential_process = {sys.executable} {script}\n")
    store.token = "of-the-role"

    assert reads(store, home, **ALONE) == "credential_process"


def test_a_web_identity_becomes_keys(store: S3Double, home: Path):
    (home / "token").write_text("a.jwt.token")
    store.token = "of-the-role"
    with Service(lambda _: (200, STS)) as sts:
        configure(
            home,
            f"[default]\nrole_arn = arn:aws:iam::1:role/r\nweb_identity_token_file = {home}/token\n"
            f"services = own\nregion = us-east-1\n[services own]\nsts =\n  endpoint_url = {sts.endpoint}\n",
        )

        label = reads(store, home, **ALONE)

    assert label == "the role of the web identity"
    assert sts.asked


def sso(home: Path, endpoint: str) -> None:
    configure(
        home,
        "[profile work]\nsso_start_url = https://company.example/start\nsso_region = us-east-1\n"
        "sso_account_id = 111122223333\nsso_role_name = reader\nservices = own\n"
        f"[services own]\nsso =\n  endpoint_url = {endpoint}\n",
    )


def test_a_sign_in_becomes_keys(store: S3Double, home: Path):
    name = hashlib.sha1(b"https://company.example/start").hexdigest()
    kept = {"startUrl": "https://company.example/start", "region": "us-east-1",
            "accessToken": "signed-in", "expiresAt": LATER}  # fmt: skip
    (home / f".aws/sso/cache/{name}.json").write_text(json.dumps(kept))
    role = {"accessKeyId": "AKID", "secretAccessKey": "secret/+key", "sessionToken": "of-the-role",
            "expiration": 1000 * int(dt.datetime.now(dt.UTC).timestamp() + 3600)}  # fmt: skip
    store.token = "of-the-role"
    with Service(lambda _: (200, json.dumps({"roleCredentials": role}))) as portal:
        sso(home, portal.endpoint)

        # The library looks for its home when it is loaded.
        code, said = child(store, home, "s3://models/one.bin?profile=work")

    assert code == 0, said
    assert "role_name=reader" in portal.asked[0]
    assert store.log[-1].headers["x-amz-security-token"] == "of-the-role"


def child(store: S3Double, home: Path, ref: str) -> tuple[int, str]:
    """`modelbay show` as a process of its own, and what it said."""
    environ = {"HOME": str(home), "PATH": os.environ["PATH"], "AWS_ENDPOINT_URL_S3": store.endpoint}
    ran = subprocess.run([sys.executable, "-P", "-m", "modelbay", "show", ref], env={**environ, **ALONE},
                         capture_output=True, text=True, check=False, timeout=60)  # fmt: skip
    return ran.returncode, ran.stdout + ran.stderr


def test_a_sign_in_that_has_run_out_says_how_to_sign_in(store: S3Double, home: Path):
    sso(home, "http://127.0.0.1:9")

    code, said = child(store, home, "s3://models/one.bin?profile=work")

    assert code == 3
    assert "aws sso login --profile work" in said
    assert "Traceback" not in said


def test_the_containers_role_gives_keys(
    store: S3Double, home: Path, monkeypatch: pytest.MonkeyPatch
):
    store.token = "of-the-role"
    with Service(lambda _: (200, json.dumps(GIVEN))) as agent:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{agent.endpoint}/creds")

        assert reads(store, home, **ALONE) == "the container's role"


def test_the_machines_role_gives_keys(store: S3Double, home: Path):
    def answer(path: str) -> tuple[int, str]:
        if path.endswith("/api/token"):
            return 200, "imds-token"
        if path.endswith("/security-credentials/"):
            return 200, "machine-role"
        return 200, json.dumps({"Code": "Success", **GIVEN})

    store.token = "of-the-role"
    with Service(answer) as imds:
        label = reads(store, home, AWS_EC2_METADATA_SERVICE_ENDPOINT=imds.endpoint)

    assert label == "the machine's role"
    assert imds.asked[0].startswith("PUT /latest/api/token")


def test_no_machines_role_is_asked_for_where_that_is_off(store: S3Double, home: Path):
    with Service(lambda _: (200, "")) as imds:
        found = Chain(
            Credentials(
                {"HOME": str(home), "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.endpoint, **ALONE}
            )
        ).keys()

    assert found is None
    assert not imds.asked


@pytest.mark.parametrize(
    ("text", "environ", "kind", "said"),
    [
        ("[default]\n", {"AWS_PROFILE": "none"}, CredentialMissing, "'none'"),
        ("this is no ini", {}, FormatError, "config files"),
        ("[default]\naws_access_key_id = AKID\n", {}, AccessError, "gave no keys"),
        ("[default]\ncredential_process = false\n", {}, AccessError, "gave no keys"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_chain_is_said_with_a_next_step(
    store: S3Double,
    home: Path,
    text: str,
    environ: dict[str, str],
    kind: type[ModelbayError],
    said: str,
):
    configure(home, text)

    with pytest.raises(kind) as caught:
        reads(store, home, **environ, **ALONE)
    assert said in str(caught.value)
    assert caught.value.hint


def test_region_and_endpoint_of_the_profile_are_heeded(store: S3Double, home: Path):
    store.region = "eu-west-3"
    configure(home, f"[default]\nregion = eu-west-3\nendpoint_url = {store.endpoint}\n")
    configure(home, f"[default]\n{PAIR}", "credentials")
    with Client() as client:
        source = S3Store(Means(client, Credentials({"HOME": str(home), **ALONE})))

        ref = source.ref_of({"bucket": "models", "prefix": "one.bin"})
        snapshot = source.resolve(ref)

    assert str(ref) == f"s3://models/one.bin?endpoint={store.endpoint}"
    assert snapshot.table["region"] == "eu-west-3"
    assert {asked.status for asked in store.log} == {200}


def test_keys_of_the_process_are_not_those_of_a_session_with_another_environment(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OF-THE-PROCESS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-process")
    monkeypatch.setenv("AWS_PROFILE", "of-the-process")

    assert Chain(Credentials({"HOME": str(home), **ALONE})).keys() is None


def test_the_library_writes_no_request_into_logs(
    store: S3Double, home: Path, caplog: pytest.LogCaptureFixture
):
    store.token = "canary-of-the-session"
    with caplog.at_level(logging.DEBUG):
        reads(store, home, AWS_ACCESS_KEY_ID="AKID", AWS_SECRET_ACCESS_KEY="secret/+key",
              AWS_SESSION_TOKEN="canary-of-the-session", **ALONE)  # fmt: skip

    assert "canary-of-the-session" not in caplog.text
    assert "secret/+key" not in caplog.text


def test_the_library_is_loaded_for_s3_alone(tmp_path: Path):
    program = (
        "import sys; from modelbay.cli import run; import io; out = io.StringIO(); "
        "code = run(sys.argv[1:3], environ={'HOME': sys.argv[3]}, out=out, err=out); "
        "print(code, sorted(m for m in sys.modules if m.split('.')[0] in ('boto3', 'botocore', 'urllib3')))"
    )

    ran = subprocess.run(
        [sys.executable, "-P", "-c", program, "show", "mock://org/model", str(tmp_path)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip

    assert ran.stdout == "0 []\n"
