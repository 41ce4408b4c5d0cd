"""A look at the first bytes of a file before the rest is asked for.

A login, quota or portal page in place of a model is the most repeated complaint of the
field (reliability.md §0.5); it costs one request here, and its title is the message.
"""

import json
import re
from urllib.parse import urlsplit

from modelbay.errors import LoginPage, WrongBytes
from modelbay.http.redact import shown_url
from modelbay.text import clean

LOOK = 64 << 10
_PAGE = re.compile(
    rb"^(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)",
    re.IGNORECASE | re.DOTALL,
)
_TITLE = re.compile(rb"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_PAGES = frozenset({".html", ".htm", ".xhtml", ".md", ".txt", ".svg", ".xml"})
_BINARY = frozenset(
    {".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".h5", ".zip", ".npz"}
    | {".tar", ".gz", ".tgz", ".msgpack", ".model", ".tflite", ".npy", ".keras", ".pkl"}
)
_MAGIC = {
    ".gguf": (b"GGUF",),
    ".zip": (b"PK\x03\x04", b"PK\x05\x06"),
    ".npz": (b"PK\x03\x04", b"PK\x05\x06"),
    ".keras": (b"PK\x03\x04",),
    ".gz": (b"\x1f\x8b",),
    ".tgz": (b"\x1f\x8b",),
    ".h5": (b"\x89HDF\r\n\x1a\n",),
    ".npy": (b"\x93NUMPY",),
}
_SAFETENSORS_LARGEST_HEADER = 100 << 20


def inspect(head: bytes, *, suffix: str, name: str, url: str, content_type: str = "") -> None:
    """Raises LoginPage for a page or an error document in place of the file, WrongBytes for
    bytes that are not what `suffix` says. `head` is the first 64 KiB, or the whole file.
    """
    host = clean(urlsplit(url).hostname or "the host", limit=200)
    if suffix not in _PAGES and _PAGE.match(head[:4096]):
        raise LoginPage(
            f"{host} sent a web page in place of {clean(name)}: {_title(head)!r}",
            hint=f"open {shown_url(url)} in a browser: it may want a login, a click, or a token "
            "of yours",
        )
    if suffix not in _BINARY:
        return
    if head[:1] in {b"{", b"["} and "json" in content_type:
        raise LoginPage(
            f"{host} sent a message in place of {clean(name)}: {_message(head)!r}",
            hint="it may want a token, or limit how often it may be asked: "
            "read the message, then run the same command again",
        )
    if not head:
        return
    magic = _MAGIC.get(suffix)
    if magic is not None and not head.startswith(magic):
        raise WrongBytes(
            f"{clean(name)} does not begin as a {suffix} file does: "
            f"found {head[:8].hex(' ')}, expected {magic[0].hex(' ')}",
            hint="nothing was kept; look at the model's page, the file may have been replaced",
        )
    if suffix == ".safetensors":
        _safetensors(head, name)


def _safetensors(head: bytes, name: str) -> None:
    length = int.from_bytes(head[:8], "little")
    if len(head) < 10 or head[8:9] != b"{" or length > _SAFETENSORS_LARGEST_HEADER:
        raise WrongBytes(
            f"{clean(name)} does not begin as a .safetensors file does: "
            "expected the length of a JSON header and '{', "
            f"found {head[:9].hex(' ')}",
            hint="nothing was kept; look at the model's page, the file may have been replaced",
        )


def _title(head: bytes) -> str:
    found = _TITLE.search(head)
    import html

    text = found[1] if found else re.sub(rb"<[^>]*>", b" ", head[:2000])
    return clean(" ".join(html.unescape(text.decode("utf-8", "replace")).split()), limit=120)


def _message(head: bytes) -> str:
    try:
        found = json.loads(head)
        message = found.get("error") or found.get("message") or found
    except (ValueError, AttributeError, RecursionError):
        message = head[:120].decode("utf-8", "replace")
    return clean(message, limit=160)
