"""What a reader of other programs' folders yields, and how it looks at a folder.

Digests that come from names are claims: enough to show that something is here already, never
enough to rely on.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from modelbay.digest import Digest
from modelbay.errors import UnsafeName
from modelbay.files.walking import Entry, list_folder
from modelbay.safepath import SafeRelPath
from modelbay.text import clean

PlaceKind = Literal["hf-cache", "ollama", "folders", "dir"]
DEEPEST: Final = 32
MOST_NOTES: Final = 20
_EMPTY: Final = frozenset(
    {
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
    }
)
_BY_LENGTH: Final = {64: "sha256", 40: "git-sha1"}


@dataclass(frozen=True, slots=True)
class Place:
    """One folder that some program keeps models in. `root` has no link in it."""

    kind: PlaceKind
    root: Path
    application: str | None = None
    """Whose folders they are: a name of `library.folders`."""
    beside: str = ""
    """Which folder of the application it is, where that lies beside its models."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file where its bytes lie. `name` is its path in the snapshot, sizes are in bytes."""

    path: str
    name: str
    size: int
    mtime_ns: int
    inode: int
    device: int
    digests: tuple[Digest, ...] = ()
    damage: str = ""
    """Why its bytes cannot be what its name says."""


@dataclass(frozen=True, slots=True)
class FoundModel:
    """Files that belong together. `ref` is canonical where the place tells it, else a path."""

    ref: str
    revision: str
    layout: PlaceKind
    root: str
    files: tuple[FoundFile, ...]
    source: str = ""
    category: str | None = None
    troubles: tuple[str, ...] = ()
    """Names that lead nowhere, as sentences."""
    detached: bool = False
    """A revision of the Hub's cache that no ref leads to: its own `prune` removes it."""


@dataclass(slots=True)
class Look:
    """One look through one place: what was noted on the way, and whether all of it was seen.

    `tick` hears how many names were just listed; `skip` are folders that other places read.
    """

    tick: Callable[[int], None]
    skip: Collection[str] = ()
    notes: list[str] = field(default_factory=list)
    unsaid: int = 0
    whole: bool = True
    links: int = 0
    _seen: set[tuple[int, int]] = field(default_factory=set)

    def folder(self, path: str, *, optional: bool = False) -> list[Entry]:
        """The names in `path`; none where it cannot be read, was seen before, or is missing
        though it is `optional`.
        """
        if path in self.skip:
            return []
        try:
            listing = list_folder(path)
        except FileNotFoundError:
            self.whole = self.whole and optional
            return []
        except OSError as error:
            self.whole = False
            self.note(f"{clean(path)} was skipped: {error.strerror}")
            return []
        if listing.identity in self._seen:
            return []
        self._seen.add(listing.identity)
        self.tick(len(listing.entries))
        return listing.entries

    def note(self, sentence: str) -> None:
        """Told to the person; of very many the first ones, and how many more there are."""
        if len(self.notes) < MOST_NOTES:
            self.notes.append(sentence)
        else:
            self.unsaid += 1

    def too_deep(self, path: str) -> None:
        self.whole = False
        self.note(f"{clean(path)} was skipped: it is more than {DEEPEST} folders deep")

    def safe_name(self, name: str, path: str) -> str | None:
        """`name` as a path inside a snapshot; None, and a note, where it cannot be one."""
        try:
            return "/".join([_component(part) for part in name.split("/")])
        except UnsafeName as error:
            self.note(f"{clean(path)} was skipped: {clean(error)}")
            return None


@lru_cache(maxsize=4096)
def _component(name: str) -> str:
    return SafeRelPath.component(name)


def left_over(sizes: Collection[int]) -> str:
    """Blobs of these sizes, in words."""
    from humanize import naturalsize

    noun = "blob" if len(sizes) == 1 else "blobs"
    return f"{len(sizes):,} {noun} of {naturalsize(sum(sizes)).replace('Byte', 'byte')}"


def named_digest(hexadecimal: str) -> Digest | None:
    """The claim in a blob's name: 64 digits are a sha256, 40 are git's blob id."""
    algorithm = _BY_LENGTH.get(len(hexadecimal))
    if algorithm is None or hexadecimal.strip("0123456789abcdef"):
        return None
    return Digest(algorithm, hexadecimal)  # type: ignore[arg-type]


def found_file(
    path: str, name: str, entry: Entry, claim: Digest | None = None, size: int | None = None
) -> FoundFile:
    """`entry` as it lies at `path`. What is known of its true `size` or of the digest of
    nothing shows damage without reading a byte.
    """
    damage = ""
    if size is not None and entry.size != size:
        damage = f"{entry.size} bytes instead of {size}"
    elif not entry.size and claim is not None and claim.hex not in _EMPTY:
        damage = "0 bytes: damaged by name"
    claims = (claim,) if claim is not None else ()
    return FoundFile(
        path, name, entry.size, entry.mtime_ns, entry.inode, entry.device, claims, damage
    )
