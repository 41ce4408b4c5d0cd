"""What a model's own small blobs tell: its configuration, and its licences."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from modelbay.snapshot import Licence
from modelbay.text import clean

LARGEST_CONFIG: Final = 1 << 20
LARGEST_LICENCE: Final = 256 << 10
_HEADS: Final = (
    ("Apache-2.0", re.compile(r"Apache License\s+Version 2\.0, January 2004")),
    ("MIT", re.compile(r"MIT License|Permission is hereby granted, free of charge")),
    ("BSD-3-Clause", re.compile(r"BSD 3-Clause License")),
    ("CC-BY-NC-4.0", re.compile(r"Attribution-NonCommercial 4\.0 International")),
    ("CC-BY-4.0", re.compile(r"Attribution 4\.0 International")),
)
_HEAD_CHARACTERS: Final = 600


def read_config(content: bytes) -> Mapping[str, Any]:
    """The configuration; empty where it is none: nothing depends on it."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def licence_of(texts: Sequence[str]) -> Licence:
    """By how the texts begin; `raw` are their first lines. Several hold together."""
    if not texts:
        return Licence()
    known = [_spdx(text) for text in texts]
    names = dict.fromkeys(name for name in known if name)
    firsts = dict.fromkeys(_first_line(text) for text in texts)
    spdx = " AND ".join(names) if all(known) else None
    return Licence(spdx, ", ".join(firsts) or None)


def _spdx(text: str) -> str | None:
    head = " ".join(text[:_HEAD_CHARACTERS].split())
    return next((name for name, pattern in _HEADS if pattern.search(head)), None)


def _first_line(text: str) -> str:
    lines = (line.strip() for line in text.splitlines())
    return clean(next((line for line in lines if line), "a text without words"), limit=120)
