"""Provision files: the entries a person wrote (formats.md §2)."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelbay.errors import FormatError, UsageError
from modelbay.files import disk_errors
from modelbay.text import clean

LARGEST: Final = 1 << 20
LAYOUTS: Final = ("hf-cache", "dir")


@dataclass(frozen=True, slots=True)
class Entry:
    """One model as asked for. `keys` are the source's own and the choice of files."""

    id: str
    source: str
    keys: Mapping[str, object]
    layout: str
    dir: str | None = None

    @property
    def choice(self) -> dict[str, Any]:
        """The keyword arguments of a selection that `keys` mean."""
        files = self.keys.get("files", [self.keys["file"]] if "file" in self.keys else ())
        # A mock is told its files, and makes them; it has nothing to choose from.
        include = () if self.source == "mock" else [str(name) for name in _listed(files)]
        return {
            "include": [*include, *map(str, _listed(self.keys.get("include", ())))],
            "exclude": [str(glob) for glob in _listed(self.keys.get("exclude", ()))],
            "variant": self.keys.get("variant"),
        }


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else [value]


def read_provision(path: Path) -> tuple[Entry, ...]:
    """The entries of `path` in the order of their ids. Raises FormatError, DiskError."""
    with disk_errors(path):
        raw = path.read_bytes()
    document = parsed(raw, path)
    return tuple(sorted(_entries(document, path), key=lambda entry: entry.id))


def parsed(raw: bytes, path: Path) -> dict[str, Any]:
    """TOML of at most 1 MiB. Raises FormatError with file, line and column."""
    try:
        if len(raw) > LARGEST:
            raise ValueError(f"it is larger than {LARGEST >> 20} MiB")  # noqa: TRY301 - one sentence for all faults
        return tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{clean(path)} cannot be read as TOML: {clean(error, limit=300)}",
            hint="mend that place, then run the same command again",
        ) from error


def _entries(document: Mapping[str, Any], path: Path) -> Iterator[Entry]:
    models = document.get("models")
    if not isinstance(models, dict) or not models:
        raise FormatError(
            f"{clean(path)} names no model",
            hint="write a table such as [models.llm.qwen] with source and repo",
        )
    for category, several in models.items():
        if not isinstance(several, dict):
            raise FormatError(
                f"{clean(path)}: models.{clean(category)} is not a table of models",
                hint=f"write [models.{clean(category)}.NAME]",
            )
        for name, keys in several.items():
            yield _entry(f"{category}/{name}", keys, path)


def _entry(ident: str, keys: object, path: Path) -> Entry:
    if not isinstance(keys, dict) or not isinstance(keys.get("source"), str):
        raise FormatError(
            f"{clean(path)}: {clean(ident)} names no source",
            hint='write source = "huggingface", "url" or "mock"',
        )
    layout = keys.get("layout")
    if layout not in LAYOUTS:
        raise UsageError(
            f"{clean(path)}: {clean(ident)} asks for the layout {clean(layout or 'folders')!r}, "
            "which is not in this version yet",
            hint='write layout = "hf-cache", or layout = "dir" and dir = "…"',
        )
    own = {key: value for key, value in keys.items() if key not in {"source", "layout", "dir"}}
    folder = str(keys.get("dir", ident)) if layout == "dir" else None
    return Entry(ident, keys["source"], own, str(layout), folder)
