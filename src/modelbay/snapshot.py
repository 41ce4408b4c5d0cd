"""A ref at one immutable revision: what a source answers with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from modelbay.digest import Digest, find
from modelbay.refs import ModelRef
from modelbay.safepath import SafeRelPath

ARCHIVE: Final = "archive"
"""In a snapshot's table: the file that all others are members of."""
GateState = Literal["no", "auto", "manual"]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a snapshot. `size` in bytes; None where the source cannot know it."""

    path: SafeRelPath
    size: int | None = None
    digests: tuple[Digest, ...] = ()
    lfs: bool = False
    etag: str | None = None
    """What the Hub's cache names the blob by, where that is not one of the digests."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Facts only the file's own source reads again (`blob_id`, `xet`, a file id)."""
    urls: tuple[str, ...] = ()
    """Alternates: addresses of the same bytes, asked in turn when its source's own fails."""
    danger: str = ""
    """What its service found in it, for which nobody should have it."""

    @property
    def sha256(self) -> Digest | None:
        return find(self.digests, "sha256")


@dataclass(frozen=True, slots=True)
class Licence:
    """What the model's page says. `spdx` is None when it could not be told."""

    spdx: str | None = None
    raw: str | None = None
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A ref, resolved.

    `table` is what a lock writes under the source's name: enough for that source to
    locate the files again without asking what the ref means. Values are plain text.
    """

    ref: ModelRef
    revision: str
    files: tuple[ModelFile, ...]
    table: Mapping[str, str] = field(default_factory=dict)
    licence: Licence = Licence()
    gated: GateState = "no"
    page: str | None = None
    """Where a person reads about it, and accepts its terms."""
    notes: tuple[str, ...] = ()
    """Sentences for the person: a rename followed, a tag that moved, a warning."""
    category: str | None = None
    """The kind of model that its source tells, as a category of folders."""
    fresh: bool = True
    """The source answered in this run (a replayed lock sets False)."""

    @property
    def size(self) -> int | None:
        """Bytes of all files, or None when one of them is unknown."""
        total = 0
        for file in self.files:
            if file.size is None:
                return None
            total += file.size
        return total


@dataclass(frozen=True, slots=True)
class Query:
    """What a person looks for. A source ignores what it does not know and says so."""

    text: str = ""
    limit: int = 20
    author: str | None = None
    filters: tuple[str, ...] = ()
    task: str | None = None
    gated: bool | None = None
    sort: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One row of a search. Counts are None where the service does not tell."""

    ref: ModelRef
    title: str
    author: str | None = None
    likes: int | None = None
    downloads: int | None = None
    updated: str | None = None
    task: str | None = None
    licence: str | None = None
    gated: GateState | None = None
    private: bool = False
    tags: tuple[str, ...] = ()
