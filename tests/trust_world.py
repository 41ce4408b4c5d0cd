"""A machine with everything that a hostile provision file would like to have: tokens, a service
on a private address that counts who asks it, and folders whose content is compared.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from modelbay.bay.session import Session
from modelbay.bay.syncing import sync
from modelbay.config import read_settings
from modelbay.digest import Digest
from modelbay.errors import ModelbayError
from modelbay.serve import Hub, demo_shelf
from modelbay.serve.access import Account
from modelbay.text import Secret
from modelbay.transfer import Limits

SECRETS = {
    "HF_TOKEN": "hf_canary_of_the_hub",
    "CORP_SECRET": "canary-of-the-company",
    "AWS_SECRET_ACCESS_KEY": "canary-of-aws",
}
_HEAD = json.dumps({"w": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}).encode()
MODEL = len(_HEAD).to_bytes(8, "little") + _HEAD + b"12345678"


class Server(ThreadingHTTPServer):
    """Answers with what stands in `pages`, else with a model; `/to/ADDRESS` redirects there."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.pages: dict[str, tuple[bytes, str]] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is none of this server's business."""

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Answering(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
        if self.path.startswith("/to/"):
            self._answer(302, b"", location=self.path.removeprefix("/to/"))
            return
        body, kind = self.server.pages.get(self.path, (MODEL, "application/octet-stream"))
        first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        if not first:
            self._answer(200, body, kind=kind)
            return
        end = min(int(last or len(body) - 1), len(body) - 1)
        span = f"bytes {first}-{end}/{len(body)}"
        self._answer(206, body[int(first) : end + 1], kind=kind, span=span)

    def _answer(
        self, status: int, body: bytes, *, kind: str = "", location: str = "", span: str = ""
    ) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Location": location, "Content-Range": span}
        for name, value in {**headers, "ETag": '"one"', "Accept-Ranges": "bytes"}.items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@dataclass
class World:
    folder: Path
    own: Server
    """Where the file comes from: the address that the user typed."""
    canary: Server
    """Nobody may ask it."""
    hub: Hub
    """The user's own endpoint of the Hub."""
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{self.own.origin}/models.toml"

    def filled(self, text: str) -> str:
        return (
            text.replace("$OWN", self.own.origin)
            .replace("$CANARY_PORT", str(self.canary.port))
            .replace("$CANARY", self.canary.origin)
            .replace("$HUB", self.hub.endpoint)
            .replace("$HOME", str(self.folder / "home"))
        )

    def offer(self, text: str | bytes, *, kind: str = "application/toml") -> Digest:
        """Serves `text` under `url`; its digest."""
        import hashlib

        body = text if isinstance(text, bytes) else self.filled(text).encode()
        self.own.pages["/models.toml"] = body, kind
        return Digest.sha256(hashlib.sha256(body).hexdigest())

    def sync(
        self, *, trust: Digest | None = None, where: str | None = None
    ) -> ModelbayError | None:
        """What a sync of `url` ends with."""
        settings = read_settings(self.environ)
        session = Session(settings, self.environ, limits=Limits(backoff=0.01, tries=2))
        try:
            sync(session, where or self.url, trust=trust, allow_http=True)
        except ModelbayError as error:
            return error
        finally:
            session.close()
        return None

    def tree(self) -> dict[str, bytes]:
        """Every name below the workspace, the home (with its cache) and the state."""
        found: dict[str, bytes] = {}
        for path in sorted(self.folder.rglob("*")):
            name = str(path.relative_to(self.folder))
            found[name] = path.read_bytes() if path.is_file() else b""
        return found

    def secrets_seen(self) -> list[str]:
        """Every secret that any server but the Hub's own was sent."""
        heard = repr(self.own.seen) + repr(self.canary.seen)
        return [name for name, value in SECRETS.items() if value in heard]


@contextmanager
def world(folder: Path, settings: str = "") -> Iterator[World]:
    for name in ("workspace", "home", "state"):
        (folder / name).mkdir()
    config = folder / "home" / "config.toml"
    own, canary = Server(), Server()
    anyone = {Secret(SECRETS["HF_TOKEN"]): Account("somebody")}
    with Hub(demo_shelf(), redirect=False, tokens=anyone) as hub:
        made = World(folder, own, canary, hub)
        made.environ = {
            "HOME": str(folder / "home"),
            "WORKSPACE": str(folder / "workspace"),
            "MODELBAY_STATE_DIR": str(folder / "state"),
            "MODELBAY_CONFIG": str(config),
            "HF_ENDPOINT": hub.endpoint,
            **SECRETS,
        }
        config.write_text(made.filled(settings))
        try:
            yield made
        finally:
            own.stop()
            canary.stop()
