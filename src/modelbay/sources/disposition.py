r"""The file name in a Content-Disposition header (RFC 6266, RFC 5987, RFC 8187), made safe.

Written here because `email.message` misreads several forms that real servers send
(protocols-rest F2): no space after `;`, `\"` in quotes, UTF-8 bytes read as Latin-1.
"""

import re
import unicodedata
from urllib.parse import unquote_to_bytes

from modelbay.errors import UnsafeName
from modelbay.safepath import LONGEST_COMPONENT, SafeRelPath

_PARAMETER = re.compile(
    r';\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;]*))', re.DOTALL
)
_FORBIDDEN = re.compile(r'[:<>"|?*]')
NAMELESS = "download"


def name_in(header: str) -> str | None:
    """The name as the server wrote it, decoded; None when it names none.

    `filename*` beats `filename`, which is never percent-decoded: `x%20y.bin` is a name.
    """
    parameters: dict[str, str] = {}
    for key, quoted, plain in _PARAMETER.findall(header):
        value = re.sub(r"\\(.)", r"\1", quoted) if quoted else plain.strip()
        parameters.setdefault(key.lower(), value)
    extended = _extended(parameters.get("filename*", ""))
    return extended or _repaired(parameters.get("filename", "")) or None


def _extended(value: str) -> str | None:
    charset, first, rest = value.partition("'")
    _, second, encoded = rest.partition("'")
    if not (first and second):
        return None
    encoding = {"utf-8": "utf-8", "iso-8859-1": "latin-1", "us-ascii": "ascii"}.get(charset.lower())
    if encoding is None:
        return None
    try:
        return unquote_to_bytes(encoded).decode(encoding)
    except UnicodeDecodeError:
        return None


def _repaired(value: str) -> str:
    """UTF-8 that came as Latin-1 is turned back; anything else stays."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return value


def safe_name(text: str) -> SafeRelPath:
    """`text` as one ordinary file name, its extension kept; `download` when nothing is left.

    A server's suggestion is bent into shape here rather than refused: a plain URL has no
    other name to offer, and the person sees the name before anything moves.
    """
    name = unicodedata.normalize("NFC", re.split(r"[/\\]", text)[-1])
    name = "".join(c for c in name if c.isprintable() or c == " ")
    name = _FORBIDDEN.sub("_", name).strip(" ").rstrip(". ")
    if name.startswith("."):
        name = "_" + name.lstrip(".")
    name = _shortened(name) or NAMELESS
    for candidate in (name, "_" + name):
        try:
            return SafeRelPath.component(candidate)
        except UnsafeName:
            continue
    return SafeRelPath.component(NAMELESS)


def _shortened(name: str) -> str:
    """At most 250 bytes, cut before the extension."""
    stem, dot, extension = name.rpartition(".")
    if not dot or len(extension) > 20:
        stem, dot, extension = name, "", ""
    room = LONGEST_COMPONENT - 5 - len((dot + extension).encode())
    cut = stem.encode("utf-8", "ignore")[:room].decode("utf-8", "ignore")
    return (cut.rstrip(". ") if cut != stem else stem) + dot + extension
