"""Debian's docker-registry, filled as Ollama fills one: what is pulled from it, and how it says no."""

import base64
import datetime as dt
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.doubles.ollama import DOCKER, MEDIA, OllamaDouble, sha256, weights
from tests.syncing import Machine

_BESIDE = Path(__file__).parents[1] / ".venv/real/docker-registry/usr/bin/docker-registry"
PROGRAM = shutil.which("docker-registry") or (str(_BESIDE) if _BESIDE.exists() else None)
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(PROGRAM is None, reason="docker-registry is not installed: 6 tests"),
]
WEIGHTS = weights("real", 9 << 20)
LAYERS = {"model": WEIGHTS, "license": b"MIT License\n", "params": b"{}"}


@dataclass
class Registry:
    origin: str
    folder: Path

    @property
    def host(self) -> str:
        return urlsplit(self.origin).netloc

    def push(self, repo: str, tag: str, layers: dict[str, bytes], token: str = "") -> bytes:
        rows = [self._blob(repo, MEDIA + kind, body, token) for kind, body in layers.items()]
        config = self._blob(repo, "application/vnd.docker.container.image.v1+json", b"{}\n", token)
        document = {"schemaVersion": 2, "mediaType": DOCKER, "config": config, "layers": rows}
        content = json.dumps(document).encode()
        self._send("PUT", f"{self.origin}/v2/{repo}/manifests/{tag}", content, DOCKER, token)
        return content

    def _blob(self, repo: str, media: str, body: bytes, token: str) -> dict[str, object]:
        where = self._send("POST", f"{self.origin}/v2/{repo}/blobs/uploads/", b"", "", token)
        mark = "&" if "?" in where else "?"
        digest = f"sha256:{sha256(body)}"
        binary = "application/octet-stream"
        self._send("PUT", f"{where}{mark}digest={digest}", body, binary, token)
        return {"mediaType": media, "digest": digest, "size": len(body)}

    def _send(self, method: str, url: str, body: bytes, kind: str, token: str) -> str:
        headers = {"Content-Type": kind} | ({"Authorization": f"Bearer {token}"} if token else {})
        request = urllib.request.Request(url, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.headers.get("Location", ""))


@contextmanager
def registry(folder: Path, **more: object) -> Iterator[Registry]:
    """The real server, bound to loopback, stopped by its own id."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "reg")}},
        "http": {"addr": f"127.0.0.1:{port}"},
        **more,
    }
    (folder / "r.yml").write_text(json.dumps(settings))
    assert PROGRAM is not None
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, "serve", str(folder / "r.yml")], stdout=log, stderr=log
        )
    try:
        _await(port, process)
        yield Registry(f"http://127.0.0.1:{port}", folder / "reg")
    finally:
        process.terminate()
        process.wait(10)


def _await(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("docker-registry did not start")


def machine(one: Registry, home: Path, **more: str) -> Machine:
    return Machine(None, home, {"MODELBAY_OLLAMA_ENDPOINT": one.origin, **more})


def store(user: Machine) -> Path:
    return user.home / ".ollama/models"


def test_a_model_is_pulled_from_a_registry_that_gives_blobs_itself(tmp_path: Path):
    with registry(tmp_path) as one:
        content = one.push("library/tiny", "1b", LAYERS)
        user = machine(one, tmp_path / "home")

        said = user.run("get", "ollama:tiny:1b")

        assert said.code == 0, said.err
        assert (store(user) / f"manifests/{one.host}/library/tiny/1b").read_bytes() == content
        assert (store(user) / f"blobs/sha256-{sha256(WEIGHTS)}").read_bytes() == WEIGHTS
        assert user.run("verify").code == 0


def test_a_model_is_pulled_from_a_registry_that_redirects(tmp_path: Path):
    with OllamaDouble() as double:
        redirect = {"name": "redirect", "options": {"baseurl": double.store}}
        with registry(tmp_path, middleware={"storage": [redirect]}) as one:
            one.push("library/tiny", "1b", LAYERS)
            double.blobs = {f"sha256:{sha256(body)}": body for body in (*LAYERS.values(), b"{}\n")}
            user = machine(one, tmp_path / "home")

            said = user.run("get", "ollama:tiny:1b")

    assert said.code == 0, said.err
    assert any(sha256(WEIGHTS) in asked.path for asked in double.asked_store)


def test_a_lock_is_replayed_by_digests_after_the_tag_moved(tmp_path: Path):
    entry = '[models.llm.t]\nsource = "ollama"\nmodel = "tiny"\ntag = "1b"\nlayout = "ollama"\n'
    with registry(tmp_path) as one:
        content = one.push("library/tiny", "1b", LAYERS)
        first, other = machine(one, tmp_path / "first"), machine(one, tmp_path / "other")
        assert first.run("lock", first.write("team.toml", entry)).code == 0
        one.push("library/tiny", "1b", LAYERS | {"params": b'{"x":1}'})
        lock = other.write("team.lock.toml", (first.home / "team.lock.toml").read_text())

        said = other.run("sync", lock)

        assert said.code == 0, said.err
        assert (store(other) / f"manifests/{one.host}/library/tiny/1b").read_bytes() == content
        assert other.run("sync", "--check", "--deep", lock).code == 0


def test_tags_are_listed_and_what_is_not_there_is_told_with_them(tmp_path: Path):
    with registry(tmp_path) as one:
        one.push("library/tiny", "1b", LAYERS)
        user = machine(one, tmp_path / "home")

        found = user.run("search", "--source", "ollama", f"{one.host}/library/tiny")
        missing = user.run("get", "ollama:tiny:2b")
        unknown = user.run("get", "ollama:none:2b")

    assert "library/tiny:1b" in found.out
    assert (missing.code, unknown.code) == (8, 8)
    assert "its tags: 1b" in missing.err


def test_a_damaged_blob_of_the_registry_ends_with_5(tmp_path: Path):
    with registry(tmp_path) as one:
        one.push("library/tiny", "1b", LAYERS)
        (blob,) = one.folder.rglob(f"{sha256(WEIGHTS)}/data")
        blob.write_bytes(WEIGHTS[:-1] + b"!")
        user = machine(one, tmp_path / "home")

        said = user.run("get", "ollama:tiny:1b")

    assert said.code == 5
    assert not list((store(user) / "manifests").rglob("1b"))


def test_a_token_is_fetched_where_the_registry_says(tmp_path: Path):
    with tokens() as (realm, authority, asked):
        (tmp_path / "root.pem").write_bytes(authority.pem)
        settings = {
            "realm": realm,
            "service": "registry",
            "issuer": "issuer",
            "rootcertbundle": str(tmp_path / "root.pem"),
        }
        with registry(tmp_path, auth={"token": settings}) as one:
            token = authority.token("repository:library/tiny:pull,push", ["pull", "push"])
            one.push("library/tiny", "1b", LAYERS, token)
            user = machine(one, tmp_path / "home")

            said = user.run("get", "ollama:tiny:1b")

    assert said.code == 0, said.err
    assert asked == ["repository:library/tiny:pull"]


class Authority:
    """Whoever signs tokens for a docker-registry."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
        now = dt.datetime.now(dt.UTC)
        self._certificate = (
            x509.CertificateBuilder(name, name, self._key.public_key())
            .serial_number(1)
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self._certificate.public_bytes(Encoding.PEM)

    def token(self, scope: str, actions: list[str]) -> str:
        now = int(time.time())
        chain = [base64.b64encode(self._certificate.public_bytes(Encoding.DER)).decode()]
        head = {"typ": "JWT", "alg": "ES256", "x5c": chain}
        access = [{"type": "repository", "name": scope.split(":")[1], "actions": actions}]
        times = {"iat": now, "nbf": now - 60, "exp": now + 300}
        claims = {"iss": "issuer", "sub": "", "aud": "registry", "jti": "1", "access": access}
        signed = f"{_encoded(head)}.{_encoded(claims | times)}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64(r.to_bytes(32) + s.to_bytes(32))}"


def _encoded(value: object) -> str:
    return _base64(json.dumps(value).encode())


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


@contextmanager
def tokens() -> Iterator[tuple[str, Authority, list[str]]]:
    """An address that gives anybody a token for pulling, who signs it, and for what it was asked."""
    authority, asked = Authority(), list[str]()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            (scope,) = parse_qs(urlsplit(self.path).query)["scope"]
            asked.append(scope)
            body = json.dumps({"token": authority.token(scope, ["pull"])}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/token", authority, asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
