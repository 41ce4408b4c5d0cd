"""The faults, by name. Each is a function that takes its parameters and gives a `Fault`.

Combinators say when (`first`, `after_bytes`, `on_resume`, `during`, `at`), the rest say what.
"""

import gzip
import threading
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, urlsplit

from tests.faults.server import (
    MIB,
    Content,
    Exchange,
    Fault,
    Reply,
    byte_range,
    honest,
    path_of,
)


def first(times: int, fault: Fault, then: Fault = honest) -> Fault:
    """`fault` for the first `times` requests, `then` for the rest."""
    lock = threading.Lock()
    left = times

    def chosen(exchange: Exchange) -> None:
        nonlocal left
        with lock:
            left -= 1
            early = left >= 0
        (fault if early else then)(exchange)

    return chosen


def after_bytes(count: int, fault: Fault, before: Fault = honest) -> Fault:
    """`before` until the server has sent `count` bytes of bodies, then `fault`."""
    return lambda exchange: (fault if exchange.server.sent >= count else before)(exchange)


def on_resume(fault: Fault, otherwise: Fault = honest) -> Fault:
    """`fault` for requests that start past byte 0."""
    return lambda exchange: (fault if exchange.request.start else otherwise)(exchange)


def on_range(fault: Fault, otherwise: Fault = honest) -> Fault:
    """`fault` for requests with a Range of any kind."""

    def chosen(exchange: Exchange) -> None:
        ranged = byte_range(exchange.request.header("range")) is not None
        (fault if ranged else otherwise)(exchange)

    return chosen


def during(seconds: float, fault: Fault, then: Fault = honest) -> Fault:
    """`fault` for that long after the first request."""
    begun: list[float] = []

    def chosen(exchange: Exchange) -> None:
        begun.append(exchange.request.at)
        (fault if time.monotonic() - begun[0] < seconds else then)(exchange)

    return chosen


def at(paths: Mapping[str, Fault], otherwise: Fault = honest) -> Fault:
    """A fault of its own for each path."""
    return lambda exchange: paths.get(path_of(exchange.request), otherwise)(exchange)


def reset(after: int) -> Fault:
    """RST once `after` bytes of a body were received."""

    def fault(exchange: Exchange) -> None:
        reply = exchange.reply()
        exchange.deliver(reply, upto=after)
        if after < len(reply.body):
            exchange.reset()

    return fault


def early_fin(after: int) -> Fault:
    """FIN after `after` bytes of a longer Content-Length."""

    def fault(exchange: Exchange) -> None:
        reply = exchange.reply()
        exchange.deliver(reply, upto=after)
        if after < len(reply.body):
            exchange.close()

    return fault


def stall(after: int, seconds: float = 60.0) -> Fault:
    """`after` bytes, then silence on an open connection."""

    def fault(exchange: Exchange) -> None:
        reply = exchange.reply()
        exchange.deliver(reply, upto=after)
        if after < len(reply.body):
            exchange.hold(seconds)
            exchange.close()

    return fault


def trickle(after: int, every: float = 0.05) -> Fault:
    """`after` bytes at full speed, then one byte `every` so many seconds."""

    def fault(exchange: Exchange) -> None:
        reply = exchange.reply()
        exchange.deliver(reply, upto=after)
        for offset in range(after, len(reply.body)):
            exchange.send_body(reply.body[offset : offset + 1])
            exchange.hold(every)

    return fault


def slow_headers(seconds: float = 60.0) -> Fault:
    """Silence before the status line."""

    def fault(exchange: Exchange) -> None:
        exchange.hold(seconds)
        honest(exchange)

    return fault


def short(size: int) -> Fault:
    """The file ends at `size`, and every header agrees."""

    def fault(exchange: Exchange) -> None:
        content = exchange.content
        exchange.deliver(exchange.reply(replace(content, body=content.body[:size])))

    return fault


def without_length(upto: int | None = None, version: str = "HTTP/1.1") -> Fault:
    """The whole body without Content-Length or ranges, ended by closing; cut at `upto`."""

    def fault(exchange: Exchange) -> None:
        headers = {"Connection": "close", "Content-Type": "application/octet-stream"}
        if exchange.content.etag:
            headers["ETag"] = exchange.content.etag
        exchange.send_head(200, headers, version)
        exchange.send_body(exchange.content.body[:upto])
        exchange.close()

    return fault


def longer_length(extra: int = 500, *, ranges: bool = True) -> Fault:
    """A Content-Length that is longer than the body, which ends with the connection."""

    def fault(exchange: Exchange) -> None:
        reply = exchange.reply()
        if not ranges:
            reply = _whole(exchange)
        reply.headers["Content-Length"] = str(len(reply.body) + extra)
        exchange.deliver(reply)
        exchange.close()

    return fault


def longer_total(extra: int = 500) -> Fault:
    """A Content-Range with a total that the file does not have, else as `longer_length`."""

    def fault(exchange: Exchange) -> None:
        reply = exchange.reply()
        size = len(exchange.content.body)
        stated = reply.headers.get("Content-Range")
        if stated is None:
            longer_length(extra)(exchange)
            return
        reply.headers["Content-Range"] = stated.replace(f"/{size}", f"/{size + extra}")
        exchange.deliver(reply)

    return fault


def _whole(exchange: Exchange) -> Reply:
    """200 from a server that knows no ranges."""
    headers = exchange.reply().headers
    headers.pop("Content-Range", None)
    headers.pop("Accept-Ranges", None)
    return Reply(200, headers, memoryview(exchange.content.body))


def shifted_range(by: int = 1000) -> Fault:
    """A 206 that starts `by` bytes later than asked, and says so."""

    def fault(exchange: Exchange) -> None:
        reply = exchange.reply()
        span = byte_range(exchange.request.header("range"))
        if reply.status != 206 or span is None:
            exchange.deliver(reply)
            return
        size = len(exchange.content.body)
        start = min(span[0] + by, size - 1)
        end = min(start + len(reply.body), size)
        reply.body = memoryview(exchange.content.body)[start:end]
        reply.headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        exchange.deliver(reply)

    return fault


def wrong_bytes(offset: int | None = None) -> Fault:
    """Right headers over bytes of another file, or over one flipped bit at `offset`."""

    def fault(exchange: Exchange) -> None:
        reply = exchange.reply()
        damaged = bytearray(reply.body)
        start = exchange.request.start if reply.status == 206 else 0
        if offset is None:
            damaged[:] = bytes(len(damaged))
        elif start <= offset < start + len(damaged):
            damaged[offset - start] ^= 1
        reply.body = memoryview(bytes(damaged))
        exchange.deliver(reply)

    return fault


def range_ignored(after: int | None = None) -> Fault:
    """200 and the whole, whatever range was asked; RST after `after` bytes."""

    def fault(exchange: Exchange) -> None:
        exchange.deliver(_whole(exchange), upto=after)
        if after is not None:
            exchange.reset()

    return fault


def unsatisfiable(exchange: Exchange) -> None:
    """416, whatever was asked."""
    size = len(exchange.content.body)
    exchange.deliver(Reply(416, {"Content-Range": f"bytes */{size}"}, memoryview(b"")))


def serves(content: Content) -> Fault:
    """Another content than the server's own."""
    return lambda exchange: exchange.deliver(exchange.reply(content))


def status(code: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Fault:
    """That status and nothing of the file."""
    return lambda exchange: exchange.deliver(Reply(code, dict(headers or {}), memoryview(body)))


def rate_limited(retry_after: str) -> Fault:
    return status(429, b"slow down", {"Retry-After": retry_after})


@dataclass
class SignedUrls:
    """Addresses with `?sig=N` of which one is good for `life` bytes; then 403 until asked anew.

    `serve` is how a good one answers.
    """

    life: int
    path: str = "/model.bin"
    serve: Fault = honest
    issued: int = 0
    sold: dict[int, int] = field(default_factory=dict)

    def issue(self) -> str:
        """The path and query of a fresh address."""
        self.issued += 1
        return f"{self.path}?sig={self.issued}"

    def redirect(self, exchange: Exchange) -> None:
        """The lasting address, which leads to a fresh one each time."""
        redirect(self.issue())(exchange)

    def __call__(self, exchange: Exchange) -> None:
        query = parse_qs(urlsplit(exchange.request.target).query)
        number = int(query.get("sig", ["0"])[0])
        if self.sold.get(number, 0) >= self.life or number == 0:
            status(403, b"<Error><Code>AccessDenied</Code></Error>")(exchange)
            return
        before = exchange.request.sent
        try:
            self.serve(exchange)
        finally:
            self.sold[number] = self.sold.get(number, 0) + exchange.request.sent - before


def redirect(location: str, code: int = 302) -> Fault:
    return status(code, b"", {"Location": location})


def redirect_loop(length: int = 2) -> Fault:
    """`length` addresses that point at each other in a ring."""

    def fault(exchange: Exchange) -> None:
        here = path_of(exchange.request).removeprefix("/hop")
        following = (int(here) + 1) % length if here.isdigit() else 0
        redirect(f"/hop{following}")(exchange)

    return fault


PAGE = (
    b"<!DOCTYPE html><html><head><title>Sign in \x1b[31mhere</title></head><body>no</body></html>"
)


def page(body: bytes = PAGE, kind: str = "text/html; charset=utf-8") -> Fault:
    """A page with 200, whatever was asked."""
    return status(200, body, {"Content-Type": kind})


def long_page(size: int, body: bytes = PAGE, kind: str = "application/octet-stream") -> Fault:
    """A page as long as the file and labelled like it. Only its first 64 KiB are ever sent."""

    def fault(exchange: Exchange) -> None:
        exchange.send_head(200, {"Content-Type": kind, "Content-Length": str(size)})
        exchange.send_body(body.ljust(64 * 1024))
        exchange.hold(10)
        exchange.close()

    return fault


def gzip_body(exchange: Exchange) -> None:
    """The file gzip-encoded, which nobody asked for."""
    packed = gzip.compress(exchange.content.body, compresslevel=0)  # at once: the client waits
    headers = {"Content-Encoding": "gzip", "ETag": '"packed"'}
    exchange.deliver(Reply(200, headers, memoryview(packed)))


def gzip_bomb(size: int = 1024 * MIB) -> Fault:
    """A JSON answer of a few hundred KiB that unpacks to `size` bytes."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b"0" * MIB
    packed = squeeze.compress(b"[") + b"".join(squeeze.compress(block) for _ in range(size // MIB))
    packed += squeeze.flush()
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    return status(200, packed, headers)


def broken_chunks(after: int) -> Fault:
    """Chunked framing that turns into nonsense after `after` bytes."""

    def fault(exchange: Exchange) -> None:
        reply = exchange.reply()
        reply.headers["Transfer-Encoding"] = "chunked"
        exchange.send_head(reply.status, reply.headers)
        piece = reply.body[:after]
        exchange.send_raw(f"{len(piece):x}\r\n".encode())
        exchange.send_body(piece)
        exchange.send_raw(b"\r\nnot-a-number\r\n")
        exchange.close()

    return fault


def header_flood(count: int = 20_000) -> Fault:
    """More headers than any answer has."""

    def fault(exchange: Exchange) -> None:
        exchange.send_head(200, {f"X-Flood-{number}": "x" * 40 for number in range(count)})
        exchange.close()

    return fault


def long_header(size: int = 200_000) -> Fault:
    """One header of `size` bytes before an honest body."""

    def fault(exchange: Exchange) -> None:
        reply = exchange.reply()
        reply.headers["X-Long"] = "x" * size
        exchange.deliver(reply)

    return fault
