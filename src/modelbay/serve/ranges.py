"""One file as an HTTP answer: validators, ranges, the whole (RFC 9110 §13 and §14)."""

import re

from modelbay.serve.content import Content
from modelbay.serve.http11 import Request, Response, Slice

_RANGE = re.compile(r"bytes=(?:(\d{1,19})-(\d{0,19})|-(\d{1,19}))")


def file_answer(request: Request, content: Content, size: int, etag: str) -> Response:
    """200, 206, 304 or 416 for `content` under the strong validator `etag` (unquoted).

    Several ranges in one request are answered with the whole, as object stores do.
    """
    quoted = f'"{etag}"'
    common = (("ETag", quoted), ("Accept-Ranges", "bytes"))
    if _matches(request.headers.get("if-none-match"), quoted):
        return Response(304, common)
    asked = request.headers.get("range", "")
    if request.method != "GET" or request.headers.get("if-range", quoted) != quoted:
        asked = ""
    found = _RANGE.fullmatch(asked.strip())
    span = _span(found, size) if found else None
    if span is None:
        return Response(200, common, Slice(content, 0, size))
    start, stop = span
    if start >= stop:
        return Response(416, (*common, ("Content-Range", f"bytes */{size}")))
    where = ("Content-Range", f"bytes {start}-{stop - 1}/{size}")
    return Response(206, (*common, where), Slice(content, start, stop))


def _span(found: re.Match[str], size: int) -> tuple[int, int] | None:
    """`[start, stop)`, empty where nothing of it exists; None for one that runs backwards."""
    first, last, suffix = found.groups()
    if suffix is not None:
        return max(0, size - int(suffix)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size


def _matches(header: str | None, quoted: str) -> bool:
    if header is None:
        return False
    given = {one.strip().removeprefix("W/") for one in header.split(",")}
    return "*" in given or quoted in given
