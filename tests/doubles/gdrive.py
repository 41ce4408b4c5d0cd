"""Google Drive as its recorded pages show it (protocols-rest E), on 127.0.0.1.

Every page is 200; a large file wants its form sent back with the cookie that came with it.
"""

import html
import re
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

Mode = Literal[
    "small", "big", "post", "lines", "quota", "late-quota", "private", "missing", "chunked",
    "busy-once", "unknown-page", "foreign-form", "infected",
]  # fmt: skip
FOLDER_TYPE = "application/vnd.google-apps.folder"


@dataclass(frozen=True)
class Shared:
    """One file or folder. `children` make it a folder: names and ids, some of documents."""

    name: str
    content: bytes = b""
    mode: Mode = "small"
    resource_key: str | None = None
    children: Sequence[tuple[str, str]] | None = None


@dataclass(frozen=True)
class Asked:
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    status: int


@dataclass
class DriveDouble:
    """`things` by their ids. `elsewhere` is where a foreign form and a login lead."""

    things: dict[str, Shared] = field(default_factory=dict)
    elsewhere: str = "https://accounts.google.com"
    asked: list[Asked] = field(default_factory=list)
    slow: threading.Event | None = None
    """Where given, files of more than 1 MiB wait for it half-way."""
    issued: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                _Answering(double, self).answer()

            def log_message(self, *args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that stops reading is no news."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.slow is not None:
            self.slow.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def starts(self) -> list[int]:
        """Where the parts of files began that were asked for, one-byte looks left out."""
        parts = (asked for asked in self.asked if asked.status == 206)
        ranges = [asked.headers["range"] for asked in parts]
        return [int(r[6:].partition("-")[0]) for r in ranges if r != "bytes=0-0"]


class _Answering:
    def __init__(self, double: DriveDouble, handler: BaseHTTPRequestHandler) -> None:
        self.double, self.handler = double, handler
        parts = urlsplit(handler.path)
        self.path, self.query = parts.path, dict(parse_qsl(parts.query))
        self.headers = {name.lower(): value for name, value in handler.headers.items()}

    def answer(self) -> None:
        thing = self.double.things.get(self.query.get("id", ""))
        wants = thing.resource_key if thing else None
        if self.path.startswith("/ServiceLogin"):
            self.page("Meet Google Drive", '<form action="/ServiceLogin">Sign in</form>')
        elif thing is None or thing.mode == "missing":
            self.send(404, b"<html><title>Error 404 (Not Found)!!1</title></html>", PAGE)
        elif wants is not None and self.query.get("resourcekey") != wants:
            self.send(302, b"", {"Location": f"{self.double.elsewhere}/ServiceLogin"})
        elif self.path == "/embeddedfolderview" and thing.children is not None:
            self.folder(thing)
        elif self.path in {"/download", "/uc", "/u/4/uc"}:
            self.download(thing)
        else:
            self.send(404, b"", {})

    def download(self, thing: Shared) -> None:
        ident = self.query["id"]
        match thing.mode:
            case "private":
                self.send(302, b"", {"Location": f"{self.double.elsewhere}/ServiceLogin?id=x"})
            case "quota":
                self.page("Google Drive - Quota exceeded", QUOTA)
            case "late-quota" if "range" not in self.headers:
                self.page("Google Drive - Quota exceeded", QUOTA)
            case "infected":
                self.page(
                    "Google Drive - Infected file", "Sorry, this file is infected with a virus"
                )
            case "unknown-page":
                self.page("Something new", "<p>Please wait</p>")
            case "busy-once" if not self.seen(ident):
                self.double.issued[ident] = "busy"
                self.send(429, b"", {"Retry-After": "0"})
            case "big" | "post" | "lines" | "foreign-form" if not self.passed(ident):
                self.warning(ident, thing)
            case _:
                self.file(thing)

    def seen(self, ident: str) -> bool:
        return ident in self.double.issued

    def passed(self, ident: str) -> bool:
        """Whether the form came back with its uuid, and with the cookie of that page."""
        uuid = self.query.get("uuid")
        cookie = self.double.issued.get(uuid or "")
        return cookie is not None and f"NID={cookie}" in self.headers.get("cookie", "")

    def warning(self, ident: str, thing: Shared) -> None:
        uuid, cookie = secrets.token_hex(8), secrets.token_hex(8)
        self.double.issued[uuid] = cookie
        fields = {"id": ident, "export": "download", "confirm": "t", "uuid": uuid}
        fields |= {"at": "a&b=c"} if thing.mode == "lines" else {}
        fields |= {"resourcekey": thing.resource_key} if thing.resource_key else {}
        action, method, inputs = "https://drive.usercontent.google.com/download", "get", ""
        if thing.mode == "foreign-form":
            action = f"{self.double.elsewhere}/download"
        if thing.mode == "post":
            action = f"https://drive.google.com/u/4/uc?{html.escape(urlencode(fields))}"
            method = "post"
        else:
            inputs = "".join(
                f'<input type="hidden" name="{name}" value="{html.escape(value)}">'
                for name, value in fields.items()
            )
        form = f'<form id="download-form" action="{action}" method="{method}">{inputs}</form>'
        if thing.mode == "lines":
            form = re.sub(r" (?=[a-z]+=)", "\n  ", form)
        self.page(
            "Google Drive - Virus scan warning",
            f"<p>Google Drive can't scan this file for viruses.</p>{form}",
            {
                "Set-Cookie": f"NID={cookie}; expires=Sat, 22-May-2027 10:00:00 GMT; path=/; HttpOnly"
            },
        )

    def folder(self, thing: Shared) -> None:
        rows = []
        for name, ident in thing.children or ():
            child = self.double.things.get(ident)
            if ident.startswith("doc-"):
                href, kind = f"https://docs.google.com/document/d/{ident}/edit", "document"
            elif child is not None and child.children is not None:
                href, kind = f"https://drive.google.com/drive/folders/{ident}", FOLDER_TYPE
            else:
                href, kind = f"https://drive.google.com/file/d/{ident}/view?usp=drive_web", "bin"
            if child is not None and child.resource_key:
                href += f"{'&amp;' if '?' in href else '?'}resourcekey={child.resource_key}"
            rows.append(
                f'<div class="flip-entry" id="entry-{ident}"><div class="flip-entry-info">'
                f'<a href="{href}" target="_blank"><div class="flip-entry-list-icon">'
                f'<img src="https://drive-thirdparty.googleusercontent.com/16/type/{kind}"/></div>'
                f'<div class="flip-entry-title">{html.escape(name)}</div></a></div>'
                '<div class="flip-entry-last-modified"><div>5:33&#8239;am</div></div></div>'
            )
        self.page(thing.name, f'<div class="flip-entries">{"".join(rows)}</div>')

    def file(self, thing: Shared) -> None:
        start, end, status = 0, len(thing.content), 200
        told = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Disposition": "attachment;"
            f'filename="{thing.name.encode("ascii", "replace").decode()}";'
            f"filename*=UTF-8''{quote(thing.name)}",
            "X-Goog-Hash": "crc32c=4Dbqog==",
            "Last-Modified": "Mon, 16 May 2016 12:31:40 GMT",
            "Date": "Fri, 20 Nov 2026 12:31:40 GMT",
        }
        if thing.mode == "chunked":
            return self.chunked(thing, headers)
        if told is not None:
            start, status = int(told[1]), 206
            end = min(end, int(told[2]) + 1) if told[2] else end
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(thing.content)}"
        return self.send(status, thing.content[start:end], headers)

    def chunked(self, thing: Shared, headers: Mapping[str, str]) -> None:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(thing.content), thing.content)
        self.send(200, body, {**headers, "Transfer-Encoding": "chunked"}, length=False)

    def page(self, title: str, body: str, more: Mapping[str, str] | None = None) -> None:
        text = f"<!DOCTYPE html><html><head><title>{title}</title></head><body>{body}</body></html>"
        self.send(200, text.encode(), {**PAGE, **(more or {})})

    def send(
        self, status: int, body: bytes, headers: Mapping[str, str], *, length: bool = True
    ) -> None:
        self.double.asked.append(Asked(self.path, self.query, self.headers, status))
        self.handler.send_response_only(status)
        for name, value in headers.items():
            self.handler.send_header(name, value)
        if length:
            self.handler.send_header("Content-Length", str(len(body)))
        self.handler.end_headers()
        half = len(body) // 2 if self.double.slow and len(body) > 1 << 20 else len(body)
        try:
            self.handler.wfile.write(body[:half])
            if half < len(body) and self.double.slow is not None:
                self.double.slow.wait(30)
                self.handler.wfile.write(body[half:])
        except ConnectionError:
            self.handler.close_connection = True


PAGE = {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-cache"}
QUOTA = (
    "<p>Sorry, you can't view or download this file at this time.</p><p>Too many users have\n"
    'viewed or downloaded this file recently.</p><a href="https://accounts.google.com/">Sign in</a>'
)
