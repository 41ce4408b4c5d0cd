"""Twelve secrets go through everything that modelbay does, and none of them is left anywhere."""

import base64
import json
import os
import shutil
import socketserver
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

from modelbay.serve import Hub, demo_shelf
from modelbay.serve.access import Account
from modelbay.text import Secret
from tests.canaries import CODE, NAMES, forms, leaks, left_below, made
from tests.scripted import Asked, Reply, Scripted

SECRETS = made(20261121)
PROVISION = """
[models.llm.gated]
source = "huggingface"
repo = "demo/gated-llm"

[models.llm.named]
source = "huggingface"
repo = "demo/tiny-llm"
auth = {{ keyring = "work" }}

[models.vae.header]
url = "{files}/with-header.bin"
headers = {{ X-Api-Key = "{toml}" }}

[models.vae.env]
url = "{files}/with-header-env.bin"
auth = {{ header_env = {{ X-Own-Secret = "CORP_HEADER" }} }}

[models.vae.signed]
url = "{files}/signed.bin"

[models.vae.keyring]
url = "{files}/with-keyring.bin"
"""
REFUSED = """
[models.vae.refused]
url = "{files}/refused.bin"
auth = {{ token_env = "MLFLOW_TRACKING_TOKEN" }}

[models.lora.civitai]
source = "civitai"
version_id = "58390"

[models.data.s3]
source = "s3"
bucket = "company"
prefix = "models/"
region = "us-east-1"
endpoint = "{files}"
"""


@dataclass
class Bench:
    """Servers that want secrets, a user who has them, and everything that was said."""

    root: Path
    hub: Hub
    files: Scripted
    store: Scripted
    proxy: "Turnstile"
    said: dict[str, bytes] = field(default_factory=dict)
    codes: list[int] = field(default_factory=list)
    asked: list[dict[str, object]] = field(default_factory=list)

    @property
    def environ(self) -> dict[str, str]:
        password = quote(SECRETS["proxy-password"], safe="")
        proxied = f"http://me:{password}@127.0.0.1:{self.proxy.server_address[1]}"
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path.cwd()),
            "HOME": str(self.root / "home"),
            "WORKSPACE": str(self.root / "workspace"),
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_TOKEN": SECRETS["hf"],
            "CIVITAI_TOKEN": SECRETS["civitai"],
            "MODELBAY_CIVITAI_ENDPOINT": self.files.url,
            "AWS_ACCESS_KEY_ID": SECRETS["s3-id"],
            "AWS_SECRET_ACCESS_KEY": SECRETS["s3-secret"],
            "MLFLOW_TRACKING_URI": self.files.url,
            "MLFLOW_TRACKING_USERNAME": "ada",
            "MLFLOW_TRACKING_PASSWORD": SECRETS["mlflow-password"],
            "MLFLOW_TRACKING_TOKEN": SECRETS["mlflow-token"],
            "CORP_HEADER": SECRETS["lock-header"],
            "HTTPS_PROXY": proxied,
            "NO_PROXY": "127.0.0.1",
        }

    def run(self, *words: str | Path, stdin: str = "", **more: str) -> None:
        """To be carried out with all the others."""
        self.asked.append({"argv": [*map(str, words)], "stdin": stdin, "more": more})

    def carry_out(self) -> None:
        argv = [sys.executable, "-m", "tests.canaries", str(self.keyring)]
        lines = "".join(json.dumps(one) + "\n" for one in self.asked).encode()
        ran = subprocess.run(argv, env=self.environ, input=lines, capture_output=True, check=False)
        self.said = {"stdout": ran.stdout, "stderr": ran.stderr}
        told = ran.stdout.decode().splitlines()
        self.codes = [int(one.removeprefix(CODE)) for one in told if one.startswith(CODE)]

    @property
    def keyring(self) -> Path:
        """Beside what is scanned, like the person's own provision file: there they belong."""
        return self.root.with_name("keyring.json")

    def write(self, name: str, text: str) -> Path:
        path = self.root.with_name(name)
        path.write_text(text)
        return path

    def artefacts(self) -> dict[str, bytes]:
        locks = {path.name: path.read_bytes() for path in self.root.parent.glob("*.lock.toml")}
        return {**left_below(self.root), **locks, **self.said}


class Turnstile(socketserver.ThreadingTCPServer):
    """A proxy that lets nobody through, and remembers what it was shown."""

    daemon_threads = True

    def __init__(self) -> None:
        self.shown: list[bytes] = []
        super().__init__(("127.0.0.1", 0), _Turning)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class _Turning(socketserver.StreamRequestHandler):
    server: Turnstile

    def handle(self) -> None:
        self.server.shown += iter(self.rfile.readline, b"\r\n")
        self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")


def wanting(header: str, secret: str) -> Reply:
    def answer(asked: Asked) -> Reply:
        if secret not in asked.headers.get(header, ""):
            return Reply(401, b"no")
        return Reply(body=b"\x93NUMPY-bytes-of-a-model", headers={"ETag": '"one"'})

    return answer  # type: ignore[return-value]


def echoed(asked: Asked) -> Reply:
    """A server that repeats what it was sent, as some do when they refuse it."""
    sent = asked.headers.get("authorization", "")
    headers = {"X-Error-Message": f"not known: {sent}", "Content-Type": "application/json"}
    return Reply(401, f'{{"error": "not known: {sent}"}}'.encode(), headers=headers)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    people = {Secret(SECRETS[name]): Account(name, frozenset({"*"})) for name in ("hf", "keyring")}
    root = tmp_path_factory.mktemp("canaries") / "root"
    (root / "home").mkdir(parents=True)
    with Hub(demo_shelf(), tokens=people) as hub, Scripted() as store, Scripted() as files:
        signed = f"{store.url}/signed.bin?X-Amz-Signature={quote(SECRETS['signed-query'], safe='')}"
        files.answers |= {
            "/with-header.bin": wanting("x-api-key", SECRETS["toml-header"]),
            "/with-header-env.bin": wanting("x-own-secret", SECRETS["lock-header"]),
            "/with-keyring.bin": wanting("authorization", SECRETS["keyring"]),
            "/signed.bin": Reply(302, headers={"Location": signed}),
            "/refused.bin": echoed,
            "/api/v1/model-versions/58390": echoed,
            "/api/models/demo/echo/revision/main": echoed,
            "/api/whoami-v2": echoed,
        }
        store.answers["/signed.bin"] = Reply(body=b"\x93NUMPY-signed", headers={"ETag": '"two"'})
        with Turnstile() as proxy:
            made_bench = Bench(root, hub, files, store, proxy)
            made_bench.keyring.write_text("{}")
            everything(made_bench)
            made_bench.carry_out()
            proxy.shutdown()
        yield made_bench


def everything(bench: Bench) -> None:
    text = PROVISION.format(files=bench.files.url, toml=SECRETS["toml-header"])
    file = bench.write("models.toml", text)
    refused = bench.write("refused.toml", REFUSED.format(files=bench.files.url))
    bench.run("token", "set", "huggingface/work", stdin=SECRETS["keyring"])
    bench.run("token", "set", "url", "--host", bench.files.url, stdin=SECRETS["keyring"] + "\n")
    bench.run("token", "ls")
    bench.run("token", "test", "huggingface")
    bench.run("token", "test", "huggingface", "--host", bench.files.url, HF_TOKEN="")
    bench.run("token", "test", "huggingface", HF_ENDPOINT=bench.files.url)
    bench.run("doctor", "--json")
    bench.run("lock", file)
    bench.run("sync", file, "--progress", "json")
    bench.run("sync", bench.root.with_name("models.lock.toml"), "--workspace", bench.root / "other")
    bench.run("sync", refused)
    bench.run("provision", refused)
    bench.run("show", "demo/echo", HF_ENDPOINT=bench.files.url)
    bench.run("get", "civitai://58390")
    bench.run("get", f"https://me:{quote(SECRETS['userinfo'], safe='')}@127.0.0.1:9/model.bin")
    bench.run("get", "https://proxied.invalid/model.bin")
    bench.run("get", "s3://company/models/", AWS_ENDPOINT_URL_S3=bench.files.url)
    bench.run("ls", "--json")
    bench.run("verify")
    bench.run("export", bench.root / "exported.toml")
    bench.run("show", "demo/tiny-llm", CRASH="1")
    bench.run("token", "set", "huggingface", SECRETS["keyring"], stdin="x")
    bench.run("token", "rm", "huggingface/work")


def test_the_run_used_its_secrets_and_left_every_kind_of_artefact(bench: Bench) -> None:
    left = bench.artefacts()

    heard = str([asked.headers for asked in bench.files.asked]) + str(bench.store.asked)
    used = ("civitai", "toml-header", "lock-header", "keyring", "mlflow-token", "s3-id")
    assert all(SECRETS[name] in heard for name in used)
    assert quote(SECRETS["signed-query"], safe="") in heard
    password = base64.b64encode(f"me:{SECRETS['proxy-password']}".encode())
    assert password in b"".join(bench.proxy.shown)
    assert {70, 2, 3} <= set(bench.codes)
    assert len(bench.codes) == len(bench.asked), bench.said["stderr"].decode()
    assert b"DEBUG" in bench.said["stderr"]
    names = " ".join(left)
    for kind in (
        "library.db",
        "modelbay.log",
        "provision.log",
        "tokens.json",
        "/meta/",
        "lock.toml",
    ):
        assert kind in names, kind


def test_no_secret_is_left_anywhere(bench: Bench) -> None:
    left = bench.artefacts()

    print(f"{len(SECRETS)} secrets, {len(left)} artefacts, {sum(map(len, left.values())):,} bytes")
    assert leaks(SECRETS, left) == []


def test_no_secret_went_to_a_host_that_it_was_not_for(bench: Bench) -> None:
    elsewhere = {name: text for name, text in SECRETS.items() if name != "signed-query"}

    heard = {str(number): str(asked).encode() for number, asked in enumerate(bench.store.asked)}

    assert heard
    assert leaks(elsewhere, heard) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_planted_leak_is_found_in_every_form_and_every_place(
    bench: Bench, tmp_path: Path, name: str
) -> None:
    shapes = dict(forms(SECRETS[name]))
    places = ["stderr", "home/log.txt", "a.db"]
    for shape, planted in shapes.items():
        folder = tmp_path / shape
        folder.mkdir()
        (folder / "home").mkdir()
        (folder / "home/log.txt").write_bytes(b"before" + planted + b"after")
        with sqlite3.connect(folder / "a.db") as table:
            table.execute("create table t (x)")
            table.execute("insert into t values (?)", [planted])
        table.close()
        artefacts = {**left_below(folder), "stderr": b"said " + planted + b"\n"}

        found = leaks(SECRETS, artefacts)

        assert {where for who, _, where in found if who == name} == set(places), shape
        shutil.rmtree(folder)


@pytest.mark.parametrize("before", [b"", b"a", b"ab", b"Bearer ", b"user:"])
def test_a_secret_inside_of_something_encoded_is_found(before: bytes) -> None:
    secret = SECRETS["hf"]
    whole = before + secret.encode() + b"tail"
    encoded = {"b64": base64.b64encode(whole), "hex": whole.hex().encode()}

    found = {where for _, _, where in leaks({"hf": secret}, encoded)}

    assert found == {"b64", "hex"}
