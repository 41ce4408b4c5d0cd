"""The only truth about a part: which of its bytes are on disk, and of what.

One JSON document beside the part, replaced whole, with a checksum of its own. The order
that makes it true: data → `fdatasync` → journal. A journal that cannot be believed (torn,
of another version, of other content) is no journal, and the part is started over.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from modelbay import files
from modelbay.transfer.pieces import Span, merged

VERSION = 1
LARGEST = 4 << 20


@dataclass(frozen=True, slots=True)
class Journal:
    """What is held of which content. `identity` names the bytes: a digest or a validator."""

    size: int
    identity: str
    spans: tuple[Span, ...]
    validator: str | None = None
    """The strong ETag or date that the bytes came with, as the server writes it."""

    @property
    def held(self) -> int:
        return sum(end - start for start, end in self.spans)


def path_of(part: Path) -> Path:
    return part.with_name(part.name.removesuffix(".part") + ".journal")


def write(part: Path, journal: Journal) -> None:
    """Replaces the journal of `part`. The data it speaks of must be on disk. Raises OSError."""
    body = json.dumps(asdict(journal), separators=(",", ":"))
    whole = {"version": VERSION, "sum": _sum(body), "body": body}
    files.write_atomic(path_of(part), json.dumps(whole).encode(), mode=0o600, alone=True)


def read(part: Path) -> Journal | None:
    """The journal of `part`, or None when there is none that can be believed.

    Never more than the part really holds: a journal ahead of its data is cut back.
    """
    try:
        with path_of(part).open("rb") as stream:
            raw = stream.read(LARGEST)
        there = part.lstat().st_size
        whole = json.loads(raw)
        if whole["version"] != VERSION or _sum(whole["body"]) != whole["sum"]:
            return None
        return _believable(json.loads(whole["body"]), there)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, AttributeError):
        return None


def _believable(body: Any, there: int) -> Journal:
    """Raises ValueError, KeyError, TypeError, AttributeError for what no version of us writes."""
    size, identity, validator = body["size"], body["identity"], body["validator"]
    pairs = [(start, end) for start, end in body["spans"]]
    # A whole number and nothing like it: 0.9 would claim byte 0, and infinity has no integer.
    if any(type(number) is not int or number < 0 for pair in pairs for number in (size, *pair)):
        raise ValueError("no place in a file")
    sent_back = validator is None or (validator.isascii() and validator.isprintable())
    if not isinstance(identity, str) or not sent_back:
        raise ValueError("no name of content")
    limit = min(size, there)
    return Journal(size, identity, tuple(merged((s, min(e, limit)) for s, e in pairs)), validator)


def _sum(body: str) -> str:
    return blake3(body.encode()).hexdigest()


def remove(part: Path) -> None:
    """Forgets the part and its journal, the journal first. Raises OSError."""
    for path in (path_of(part), part):
        path.unlink(missing_ok=True)


def held_bytes(part: Path) -> int:
    """How many bytes a next run can use of `part`; 0 when none."""
    journal = read(part)
    return journal.held if journal else 0
