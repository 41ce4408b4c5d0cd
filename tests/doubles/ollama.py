"""A registry of our own on loopback that answers as Ollama's does, and a store on another origin
that it redirects blobs to: protocols-rest A2, A4, A6 and SURPRISES §3.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_public_key,
)

DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
MEDIA = "application/vnd.ollama.image."
UNKNOWN = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
_ROUTE = re.compile(r"/v2/(.+)/(manifests|blobs|tags)/(.+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


def weights(seed: str, size: int = 4096) -> bytes:
    """`size` bytes that begin as a .gguf file does, of which no two pieces are alike."""
    made = b"".join(
        hashlib.sha256(f"{seed}{number}".encode()).digest() for number in range(size // 32 + 1)
    )
    return (b"GGUF" + made)[:size]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def new_key(folder: Path) -> str:
    """A key as Ollama's client makes it, and its public half as OpenSSH writes it."""
    made = Ed25519PrivateKey.generate()
    folder.mkdir(parents=True, exist_ok=True)
    private = made.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    (folder / "id_ed25519").write_bytes(private)
    public = made.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return public.split()[1].decode()


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]


@dataclass
class OllamaDouble:
    """`registry` and `store` are origins; every request is kept."""

    manifests: dict[str, bytes] = field(default_factory=dict)
    """By `repo:tag`."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    by_digest: bool = True
    lists_tags: bool = False
    redirects: bool = True
    private: bool = False
    """Whether a token is wanted."""
    keys: set[str] = field(default_factory=set)
    """Public keys that get one."""
    anonymous: bool = False
    """Whether anybody gets one."""
    realm: str | None = None
    static: str | None = None
    """A token of a user that is accepted as it is."""
    seconds: int = 300
    refusal: tuple[int, str] | None = None
    """What is answered to every manifest."""
    slow: float = 0.0
    """Seconds for each 64 KiB from the store."""
    broken: set[str] = field(default_factory=set)
    """Blobs of which the last byte is another one."""
    gone: set[str] = field(default_factory=set)
    hub: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Files of repositories that are on the Hub at the same address."""
    asked: list[Asked] = field(default_factory=list)
    asked_store: list[Asked] = field(default_factory=list)
    given: dict[str, float] = field(default_factory=dict)

    def put(self, name: str, layers: dict[str, bytes], config: dict[str, Any] | None = None) -> str:
        """A model `repo:tag` of those layers; the digest of its manifest."""
        document: dict[str, Any] = {"schemaVersion": 2, "mediaType": DOCKER}
        if config is not None:
            body = json.dumps(config).encode() + b"\n"
            document["config"] = self._row("application/vnd.docker.container.image.v1+json", body)
        document["layers"] = [
            self._row(MEDIA + kind.partition("#")[0], body) for kind, body in layers.items()
        ]
        return self.put_manifest(name, json.dumps(document, separators=(",", ":")).encode())

    def put_manifest(self, name: str, content: bytes) -> str:
        self.manifests[name] = content
        return f"sha256:{sha256(content)}"

    def _row(self, media: str, body: bytes) -> dict[str, Any]:
        digest = f"sha256:{sha256(body)}"
        self.blobs[digest] = body
        return {"mediaType": media, "digest": digest, "size": len(body)}

    def __enter__(self) -> Self:
        self._servers = [_server(self, _Registry), _server(self, _Store)]
        self.registry, self.store = (
            f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers
        )
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @property
    def host(self) -> str:
        return urlsplit(self.registry).netloc

    def paths(self, part: str) -> list[str]:
        return [one.path for one in self.asked if part in one.path]


def _server(double: OllamaDouble, handler: type["_Handler"]) -> ThreadingHTTPServer:
    made = type("Bound", (handler,), {"double": double})
    server = _Quiet(("127.0.0.1", 0), made)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is none of this server's business."""


class _Handler(BaseHTTPRequestHandler):
    double: OllamaDouble
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def note(self, to: list[Asked]) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        to.append(Asked(self.command, self.path, headers))

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(OSError):
                self.wfile.write(body)

    def json(self, status: int, body: object, **headers: str) -> None:
        self.answer(status, json.dumps(body).encode(), Content_Type="application/json", **headers)

    def body(self, content: bytes, slow: float = 0.0) -> None:
        """With ranges; slowly where that is asked."""
        matched = _RANGE.fullmatch(self.headers.get("Range", ""))
        start, end = 0, len(content)
        if matched:
            start = int(matched[1])
            end = min(end, int(matched[2]) + 1) if matched[2] else end
        self.send_response(206 if matched else 200)
        if matched:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        with contextlib.suppress(OSError):
            for at in range(start, end, 1 << 16):
                self.wfile.write(content[at : min(end, at + (1 << 16))])
                time.sleep(slow)

    def bytes_of(self, digest: str) -> bytes | None:
        content = None if digest in self.double.gone else self.double.blobs.get(digest)
        if content is not None and digest in self.double.broken:
            return content[:-1] + bytes([content[-1] ^ 1])
        return content


class _Store(_Handler):
    def do_GET(self) -> None:
        self.note(self.double.asked_store)
        digest = "sha256:" + urlsplit(self.path).path.split("/")[-2]
        content = self.bytes_of(digest)
        if content is None:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self.body(content, self.double.slow)


class _Registry(_Handler):
    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.note(self.double.asked)
        parts = urlsplit(self.path)
        matched = _ROUTE.fullmatch(parts.path)
        if parts.path == "/token":
            self._token(parse_qs(parts.query))
        elif matched is None:
            self._hub(parts.path)
        elif not self._may_read():
            self._challenge(matched[1])
        elif matched[2] == "manifests":
            self._manifest(matched[1], matched[3])
        elif matched[2] == "tags":
            self._tags(matched[1])
        else:
            self._blob(matched[3])

    def _may_read(self) -> bool:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if not self.double.private:
            return not scheme or scheme == "Bearer"
        alive = self.double.given.get(token, 0) > time.monotonic()
        return scheme == "Bearer" and (alive or token == self.double.static)

    def _challenge(self, repo: str) -> None:
        realm = self.double.realm or f"{self.double.registry}/token"
        challenge = f'Bearer realm="{realm}",service="ollama.com",scope="repository:{repo}:pull"'
        self.json(401, {"errors": [{"code": "UNAUTHORIZED"}]}, WWW_Authenticate=challenge)

    def _token(self, query: dict[str, list[str]]) -> None:
        if not (self.double.anonymous or self._is_signed(query)):
            self.json(401, {"error": "unauthorized"})
            return
        token = sha256(f"{len(self.double.given)}".encode())
        self.double.given[token] = time.monotonic() + self.double.seconds
        self.json(200, {"token": token, "expires_in": self.double.seconds})

    def _is_signed(self, query: dict[str, list[str]]) -> bool:
        public, _, signature = self.headers.get("Authorization", "").partition(":")
        if public not in self.double.keys or not {"ts", "nonce", "scope", "service"} <= set(query):
            return False
        empty = base64.b64encode(sha256(b"").encode()).decode()
        message = f"GET,{self.double.registry}{self.path},{empty}".encode()
        key = load_ssh_public_key(f"ssh-ed25519 {public}".encode())
        assert isinstance(key, Ed25519PublicKey)
        try:
            key.verify(base64.b64decode(signature), message)
        except InvalidSignature:
            return False
        names = [pair.partition("=")[0] for pair in urlsplit(self.path).query.split("&")]
        return names == sorted(names)

    def _manifest(self, repo: str, reference: str) -> None:
        if self.command == "HEAD":
            self.answer(405, b"")
            return
        if self.double.refusal is not None:
            status, text = self.double.refusal
            self.answer(status, text.encode(), Content_Type="text/plain")
            return
        if DOCKER not in self.headers.get("Accept", ""):
            self.json(400, {"errors": [{"code": "MANIFEST_INVALID", "message": "invalid"}]})
            return
        content = self.double.manifests.get(f"{repo}:{reference}")
        if reference.startswith("sha256:") and self.double.by_digest:
            found = (c for n, c in self.double.manifests.items() if n.startswith(f"{repo}:"))
            content = next((c for c in found if f"sha256:{sha256(c)}" == reference), None)
        if content is None:
            self.json(404, UNKNOWN)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True

    def _tags(self, repo: str) -> None:
        tags = [n.rpartition(":")[2] for n in self.double.manifests if n.startswith(f"{repo}:")]
        if not self.double.lists_tags or not tags:
            self.answer(404, b"404 page not found", Content_Type="text/plain")
        else:
            self.json(200, {"name": repo, "tags": tags})

    def _blob(self, digest: str) -> None:
        content = self.bytes_of(digest)
        if content is None:
            self.json(404, {"errors": [{"code": "BLOB_UNKNOWN", "message": "blob unknown"}]})
        elif not self.double.redirects:
            self.body(content, self.double.slow)
        else:
            hexed = digest.removeprefix("sha256:")
            path = f"/ollama/docker/registry/v2/blobs/sha256/{hexed[:2]}/{hexed}/data"
            target = f"{self.double.store}{path}?X-Amz-Expires=86400&X-Amz-Signature=REDACTED"
            link = f'<a href="{target}">Temporary Redirect</a>.\n\n'.encode()
            self.answer(307, link, Location=target, Content_Type="text/html; charset=utf-8")

    def _hub(self, path: str) -> None:
        commit = "c" * 40
        for repo, files in self.double.hub.items():
            rows = [{"type": "file", "path": name, **_lfs(body)} for name, body in files.items()]
            if path == f"/api/models/{repo}/revision/main" or path.endswith(f"/revision/{commit}"):
                self.json(200, {"id": repo, "sha": commit, "siblings": []})
            elif path == f"/api/models/{repo}/tree/{commit}":
                self.json(200, rows)
            elif path.startswith(f"/{repo}/resolve/{commit}/"):
                self.body(files[path.rpartition("/")[2]])
            else:
                continue
            return
        self.answer(404, b"404 page not found", Content_Type="text/plain")


def _lfs(body: bytes) -> dict[str, Any]:
    lfs = {"oid": sha256(body), "size": len(body), "pointerSize": 134}
    return {"oid": hashlib.sha1(body).hexdigest(), "size": len(body), "lfs": lfs}


@contextlib.contextmanager
def foreign_host() -> Iterator[tuple[str, list[Asked]]]:
    """A host that has nothing to do with the registry, and what it was asked."""
    double = OllamaDouble()
    server = _server(double, _Registry)
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", double.asked
    finally:
        server.shutdown()
        server.server_close()
