"""A CivitAI of our own on loopback: REST v1 and a store on another origin, as protocols-hub C
and the recorded answers have them.
"""

import contextlib
import hashlib
import json
import random
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

from blake3 import blake3

BROWSERS = ("mozilla", "chrome", "safari", "firefox", "opera", "edge")
LOGIN = "The creator of this asset requires you to be logged in to download it"
DISABLED = "The creator of this asset has disabled downloads on this file"
REFUSALS: Mapping[str, tuple[int, dict[str, str]]] = {
    "disabled": (401, {"error": "Unauthorized", "message": DISABLED}),
    "no-access": (403, {"error": "You do not have access to download this file"}),
    "archived": (410, {"error": "Model archived, not available for download"}),
    "gone": (404, {"error": "File not found"}),
    "region": (451, {"error": "Unavailable For Legal Reasons"}),
    "paid": (403, {"error": "Early Access", "message": "This asset is in Early Access."}),
    "early": (
        403,
        {
            "error": "Early Access",
            "deadline": "2026-10-11T14:30:00.000Z",
            "message": "This asset is in Early Access.",
        },
    ),
}
GUARD = b"<!DOCTYPE html><html><title>Attention Required! | Cloudflare</title></html>"
LOGIN_PAGE = b"<!DOCTYPE html><html><title>Login | Civitai</title></html>"


def weights(seed: str, size: int = 4096) -> bytes:
    """`size` bytes that begin as a .safetensors file does."""
    head = json.dumps({"weight": {"dtype": "U8", "shape": [size - 136]}}).encode().ljust(128)
    return len(head).to_bytes(8, "little") + head + random.Random(seed).randbytes(size - 136)


@dataclass
class File:
    id: int
    name: str
    body: bytes = field(repr=False)
    type: str = "Model"
    format: str = "SafeTensor"
    facts: Mapping[str, str | None] = field(default_factory=dict)
    primary: bool = True
    virus: str = "Success"
    pickle: str = "Success"
    hashes: tuple[str, ...] = ("AutoV1", "AutoV2", "SHA256", "CRC32", "BLAKE3", "AutoV3")
    served: bytes | None = field(default=None, repr=False)
    """What the store really has, where that is something else."""

    def facts_of(self, version: int, api: str) -> dict[str, Any]:
        sha = hashlib.sha256(self.body).hexdigest().upper()
        known = {
            "AutoV1": sha[20:28], "AutoV2": sha[:10], "SHA256": sha, "CRC32": "DAEE95B7",
            "BLAKE3": blake3(self.body).hexdigest().upper(), "AutoV3": sha[30:42],
        }  # fmt: skip
        return {
            "id": self.id,
            "sizeKB": len(self.body) / 1024,
            "name": self.name,
            "type": self.type,
            "pickleScanResult": self.pickle,
            "pickleScanMessage": "No Pickle imports",
            "virusScanResult": self.virus,
            "virusScanMessage": None,
            "scannedAt": "2025-05-19T02:43:46.31",
            "metadata": {"format": self.format, "size": None, "fp": None, **self.facts},
            "hashes": {name: known[name] for name in self.hashes},
            **({"primary": True} if self.primary else {}),
            "downloadUrl": f"{api}/api/download/models/{version}",
        }


@dataclass
class Version:
    id: int
    name: str
    files: list[File]
    base_model: str = "SDXL 1.0"
    needs: str = ""
    """`login`, or a key of `REFUSALS`."""
    usage: str = "Download"
    availability: str = "Public"
    ends: str | None = None

    def facts_of(self, api: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "baseModel": self.base_model,
            "baseModelType": "Standard",
            "publishedAt": "2025-05-19T03:20:00.000Z",
            "availability": self.availability,
            "earlyAccessEndsAt": self.ends,
            "usageControl": self.usage,
            "trainedWords": [],
            "files": [file.facts_of(self.id, api) for file in self.files],
            "images": [],
            "downloadUrl": f"{api}/api/download/models/{self.id}",
        }


@dataclass
class Model:
    id: int
    name: str
    type: str
    versions: list[Version]
    mode: str | None = None
    tags: tuple[str, ...] = ()
    nsfw: bool = False
    creator: str = "artist"
    downloads: int = 10
    commercial: object = ("Image", "RentCivit")

    def facts_of(self, api: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "type": self.type,
            "mode": self.mode,
            "nsfw": self.nsfw,
            "allowNoCredit": True,
            "allowCommercialUse": self.commercial,
            "allowDerivatives": True,
            "allowDifferentLicense": False,
            "creator": {"username": self.creator},
            "stats": {"downloadCount": self.downloads, "thumbsUpCount": 3},
            "tags": list(self.tags),
            "modelVersions": [version.facts_of(api) for version in self.versions],
        }


@dataclass(frozen=True)
class Asked:
    path: str
    headers: Mapping[str, str]
    sent: list[int] = field(default_factory=list)

    @property
    def authorised(self) -> bool:
        return "authorization" in self.headers


@dataclass
class Answer:
    status: int
    body: bytes = b""
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, status: int, document: object) -> Self:
        return cls(status, json.dumps(document).encode())


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that stops reading is no news."""


class Civitai:
    """`api` and `store` are what each server was asked. Keys in `keys` are signed in."""

    def __init__(self, *models: Model, keys: tuple[str, ...] = ("a-key",)) -> None:
        self.models = list(models)
        self.keys = keys
        self.api: list[Asked] = []
        self.store: list[Asked] = []
        self.closed_routes = False
        """Search, model and version routes answer 503: only downloads are open."""
        self.paging = "cursor"
        self.login_page_refuses = False
        self.sends_to_pages = False
        """Every agent is taken for a browser."""
        self.guarded = False
        """What stands in front refuses everybody."""
        self.ttl = 86400.0
        self.elsewhere: str | None = None
        """Where downloads are sent in place of the store."""
        self.expired = 0
        self._signed: dict[str, tuple[File, float]] = {}
        self._servers = [self._serve(self.api, self._answer), self._serve(self.store, self._stored)]
        self._threads = [
            threading.Thread(
                target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
            )
            for server in self._servers
        ]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._servers[0].server_address[1]}"

    @property
    def store_url(self) -> str:
        return f"http://127.0.0.1:{self._servers[1].server_address[1]}"

    @property
    def versions(self) -> Iterator[tuple[Model, Version]]:
        return ((model, version) for model in self.models for version in model.versions)

    def paths(self) -> list[str]:
        return [asked.path for asked in self.api]

    def stored_bytes(self) -> int:
        return sum(sum(asked.sent) for asked in self.store)

    def forget(self) -> None:
        self.api.clear()
        self.store.clear()

    def _serve(self, log: list[Asked], answer: Any) -> ThreadingHTTPServer:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.path, headers)
                log.append(asked)
                found: Answer = answer(asked)
                self.send_response_only(found.status)
                told = {"Content-Type": found.kind, "Content-Length": str(len(found.body))}
                for name, value in {**told, **found.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    for start in range(0, len(found.body), 1 << 16):
                        piece = found.body[start : start + (1 << 16)]
                        self.wfile.write(piece)
                        asked.sent.append(len(piece))
                    return
                self.close_connection = True

            def do_HEAD(self) -> None:
                """A HEAD loses the session (C2)."""
                self.send_response_only(401)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        return _Quiet(("127.0.0.1", 0), Handler)

    def _answer(self, asked: Asked) -> Answer:
        agent = asked.headers.get("user-agent", "").lower()
        if agent.startswith("python-urllib") or self.guarded:
            return Answer(403, GUARD, "text/html; charset=UTF-8")
        parts = urlsplit(asked.path)
        if parts.path == "/login":
            status = 403 if self.login_page_refuses else 200
            return Answer(status, LOGIN_PAGE, "text/html; charset=utf-8")
        if found := re.fullmatch(r"/api/download/models/(.+)", parts.path):
            browser = self.sends_to_pages or any(word in agent for word in BROWSERS)
            return self._download(found[1], parts.query, asked, browser=browser)
        return Answer.of(503, {"error": "closed"}) if self.closed_routes else self._told(asked)

    def _told(self, asked: Asked) -> Answer:
        parts = urlsplit(asked.path)
        if parts.path == "/api/v1/models":
            return self._search(parse_qsl(parts.query))
        if found := re.fullmatch(r"/api/v1/models/(\d+)", parts.path):
            return self._model(int(found[1]))
        if found := re.fullmatch(r"/api/v1/model-versions/(\d+)", parts.path):
            return self._version(int(found[1]))
        if parts.path == "/api/v1/me" and self._signed_in(asked):
            return Answer.of(200, {"id": 1, "username": "me", "tier": "free"})
        return Answer.of(401 if parts.path == "/api/v1/me" else 404, {"error": "Unauthorized"})

    def _model(self, number: int) -> Answer:
        for model in self.models:
            if model.id == number:
                return Answer.of(200, model.facts_of(self.url))
        return Answer.of(404, {"error": f"No model with id {number}"})

    def _version(self, number: int) -> Answer:
        for model, version in self.versions:
            if version.id == number:
                about = {"name": model.name, "type": model.type, "nsfw": model.nsfw, "poi": False}
                return Answer.of(
                    200, {**version.facts_of(self.url), "modelId": model.id, "model": about}
                )
        return Answer.of(404, {"error": "Model not found"})

    def _signed_in(self, asked: Asked) -> bool:
        """An unknown key is nobody, and no error."""
        _, _, key = asked.headers.get("authorization", "").partition(" ")
        return key in self.keys

    def _download(self, number: str, query: str, asked: Asked, *, browser: bool) -> Answer:
        if not number.isdigit():
            return Answer(400, b"Expected number, received nan", "text/plain")
        version = next((v for _, v in self.versions if v.id == int(number)), None)
        wanted = {key: values[0] for key, values in parse_qs(query).items()}
        file = None if version is None else _chosen(version, wanted)
        if version is None or file is None:
            return Answer.of(404, {"error": "File not found"})
        refused = self._refused(version, asked, browser=browser)
        signed = {"Location": self.elsewhere or self._sign(file), "Cache-Control": "no-store"}
        return refused or Answer(307, headers=signed)

    def _refused(self, version: Version, asked: Asked, *, browser: bool) -> Answer | None:
        if version.needs == "login" and not self._signed_in(asked):
            if browser:
                back = quote(f"/model-versions/{version.id}", safe="")
                page = f"{self.url}/login?returnUrl={back}&reason=download-auth"
                return Answer(307, headers={"Location": page})
            return Answer.of(401, {"error": "Unauthorized", "message": LOGIN})
        if browser and version.needs in {"early", "paid"}:
            page = f"{self.url}/model-versions/{version.id}"
            return Answer(307, headers={"Location": page})
        return Answer.of(*REFUSALS[version.needs]) if version.needs in REFUSALS else None

    def _sign(self, file: File) -> str:
        signature = f"{len(self._signed):064x}"
        self._signed[signature] = file, time.monotonic() + self.ttl
        attachment = f'attachment; filename="{file.name}"'
        query = urlencode(
            {
                "X-Amz-Expires": "86400",
                "response-content-disposition": attachment,
                "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
                "X-Amz-Signature": signature,
            }
        )
        return f"{self.store_url}/model/{file.id}/flattened20name.D8rD.safetensors?{query}"

    def _stored(self, asked: Asked) -> Answer:
        if asked.authorised:
            return _xml(400, "InvalidRequest", "Missing x-amz-content-sha256")
        query = dict(parse_qsl(urlsplit(asked.path).query))
        file, until = self._signed.get(query.get("X-Amz-Signature", ""), (None, 0.0))
        if file is None or time.monotonic() >= until or self.expired > 0:
            self.expired -= self.expired > 0
            return _xml(403, "AccessDenied", "Request has expired")
        body = file.body if file.served is None else file.served
        headers = {
            "Accept-Ranges": "bytes",
            "ETag": f'"{hashlib.md5(body).hexdigest()}"',
            "Content-Disposition": query["response-content-disposition"],
        }
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers.get("range", ""))
        if span is None:
            return Answer(200, body, "application/octet-stream", headers)
        first, last = int(span[1]), min(int(span[2] or len(body)), len(body) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
        return Answer(206, body[first : last + 1], "application/octet-stream", headers)

    def _search(self, query: list[tuple[str, str]]) -> Answer:
        asked: dict[str, list[str]] = {}
        for key, value in query:
            asked.setdefault(key, []).extend(value.split(",") if key == "types" else [value])
        one = {key: values[0] for key, values in asked.items()}
        limit, page = int(one.get("limit", "100")), int(one.get("page", "1"))
        if not 0 <= limit <= 100:
            return Answer.of(400, {"error": {"name": "ZodError"}})
        if page * limit > 1000:
            return Answer.of(429, {"error": "You've requested too many pages"})
        found = [model for model in self.models if _matches(model, asked)]
        start = int(one["cursor"].partition("|")[0]) if "cursor" in one else (page - 1) * limit
        rows = [model.facts_of(self.url) for model in found[start : start + limit]]
        after = start + limit
        metadata: dict[str, object] = {}
        if self.paging == "page":
            metadata = {"currentPage": page, "pageSize": limit}
        if after < len(found):
            base = f"https://civitai.com/api/v1/models?limit={limit}"
            following: dict[str, dict[str, object]] = {
                "cursor": {"nextCursor": f"{after}|932023"},
                "number": {"nextCursor": after},
                "address": {"nextPage": f"{base}&cursor={after}%7C99"},
                "page": {"nextPage": f"{base}&page={page + 1}"},
            }
            metadata |= following[self.paging]
        return Answer.of(200, {"items": rows or None, "metadata": metadata})

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


def _chosen(version: Version, wanted: Mapping[str, str]) -> File | None:
    if "fileId" in wanted:
        return next((file for file in version.files if str(file.id) == wanted["fileId"]), None)
    return next((file for file in version.files if file.primary), None)


def _matches(model: Model, asked: Mapping[str, list[str]]) -> bool:
    text = asked.get("query", [""])[0].lower()
    bases = {version.base_model for version in model.versions}
    return (
        text in model.name.lower()
        and (not asked.get("types") or model.type in asked["types"])
        and (not asked.get("baseModels") or bool(bases & {*asked["baseModels"]}))
        and (not asked.get("tag") or asked["tag"][0] in model.tags)
        and (not asked.get("username") or asked["username"][0] == model.creator)
        and (not model.nsfw or asked.get("nsfw") == ["true"])
    )


def _xml(status: int, code: str, message: str) -> Answer:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return Answer(status, body, "application/xml")
