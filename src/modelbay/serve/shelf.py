"""What the Hub's face asks of whatever holds the models, and a shelf in memory.

A shelf knows repositories, revisions, files and their digests. It knows no HTTP, no
accounts and no addresses.
"""

import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from modelbay.serve.content import Content, Held, OnDisk, git_sha1_of, sha256_of
from modelbay.snapshot import GateState

_POINTER: Final = "version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n"
_LARGE: Final = 10 << 20
_WEIGHTS: Final = (
    ".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".h5", ".msgpack", ".npz",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """What a repository says about itself; all of it optional. Times are ISO 8601, UTC."""

    licence: str | None = None
    pipeline_tag: str | None = None
    library_name: str | None = None
    tags: tuple[str, ...] = ()
    gated: GateState = "no"
    private: bool = False
    disabled: bool = False
    downloads: int = 0
    likes: int = 0
    trending: float = 0
    created: str = "2026-01-01T00:00:00.000Z"
    modified: str = "2026-01-01T00:00:00.000Z"
    card: Mapping[str, object] = field(default_factory=dict)
    """The card's front matter, beyond the licence."""
    config: Mapping[str, object] = field(default_factory=dict)
    parameters: Mapping[str, int] = field(default_factory=dict)
    """Of safetensors: how many of each dtype."""
    gguf: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShelfRepo:
    """One repository. `commit` is where its default branch stands."""

    id: str
    commit: str
    facts: Facts = Facts()

    @property
    def key(self) -> str:
        """The `_id` the Hub gives it, which stays when names do not."""
        return hashlib.sha256(self.id.encode()).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class ShelfFile:
    """One file at one commit. `size` in bytes.

    `git_sha1` is git's blob id: of the content, or of the LFS pointer where `lfs`.
    `sha256` is set for LFS files, as on the Hub.
    """

    path: str
    size: int
    git_sha1: str
    sha256: str | None = None

    @property
    def lfs(self) -> bool:
        return self.sha256 is not None

    @property
    def etag(self) -> str:
        return self.sha256 or self.git_sha1


@dataclass(frozen=True, slots=True)
class Refs:
    """Names and the commits they stand for; `pulls` by number."""

    branches: Mapping[str, str]
    tags: Mapping[str, str] = field(default_factory=dict)
    pulls: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Commit:
    id: str
    title: str
    date: str


class Shelf(Protocol):
    """Asked by many threads at once."""

    def repos(self) -> Sequence[ShelfRepo]:
        """All of them, private and disabled ones too."""
        ...

    def repo(self, name: str) -> ShelfRepo | None:
        """By its id, an earlier name, or its id in other letter case: compare `.id`."""
        ...

    def commit_of(self, repo: ShelfRepo, revision: str) -> str | None:
        """The commit that a branch, tag, `refs/…` name or commit id stands for."""
        ...

    def refs(self, repo: ShelfRepo) -> Refs: ...

    def commits(self, repo: ShelfRepo, commit: str) -> Sequence[Commit]:
        """That commit and its ancestors, newest first."""
        ...

    def files(self, repo: ShelfRepo, commit: str) -> Mapping[str, ShelfFile]:
        """By path, sorted. May take as long as hashing what was never hashed."""
        ...

    def open(self, repo: ShelfRepo, commit: str, path: str) -> Content:
        """The bytes of a file that `files` names. Raises OSError when they have gone."""
        ...


def pointer_to(sha256: str, size: int) -> bytes:
    """The text that git keeps in place of an LFS file."""
    return _POINTER.format(oid=sha256, size=size).encode()


@dataclass(slots=True)
class _Stand:
    """A repository's whole history on a MemoryShelf."""

    facts: Facts
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: dict[int, str] = field(default_factory=dict)
    trees: dict[str, dict[str, Content]] = field(default_factory=dict)
    parents: dict[str, str | None] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)

    def commit_of(self, revision: str) -> str | None:
        names = self.branches | self.tags
        names |= {f"refs/heads/{name}": commit for name, commit in self.branches.items()}
        names |= {f"refs/tags/{name}": commit for name, commit in self.tags.items()}
        names |= {f"refs/pr/{number}": commit for number, commit in self.pulls.items()}
        if revision in names:
            return names[revision]
        found = [commit for commit in self.trees if commit.startswith(revision)]
        return found[0] if len(revision) >= 7 and len(found) == 1 else None


class MemoryShelf:
    """Repositories made by a test, a demo or a program. A `Shelf`.

    Digests are computed when a listing first needs them, and kept.
    """

    def __init__(self) -> None:
        self._stands: dict[str, _Stand] = {}
        self._names: dict[str, str] = {}
        self._listed: dict[tuple[str, str], Mapping[str, ShelfFile]] = {}
        self._hashing = threading.Lock()

    def add(
        self,
        repo_id: str,
        files: Mapping[str, bytes | str | Path | Content],
        *,
        facts: Facts | None = None,
        branch: str = "main",
        title: str = "Upload files",
    ) -> str:
        """Commits `files` as the whole tree of `branch`; gives the commit id.

        Commit ids follow from what was committed, so that two runs agree.
        """
        tree = {path: _content(files[path]) for path in sorted(files)}
        stand = self._stands.setdefault(repo_id, _Stand(facts or Facts()))
        stand.facts = facts or stand.facts
        parent = stand.branches.get(branch) or stand.branches.get("main")
        told = [repo_id, parent or "", title, *(f"{p}\0{c.identity}" for p, c in tree.items())]
        commit = hashlib.sha1("\n".join(told).encode(), usedforsecurity=False).hexdigest()
        stand.trees[commit] = tree
        stand.parents[commit] = parent
        stand.titles[commit] = title
        stand.branches[branch] = commit
        self._names[repo_id.casefold()] = repo_id
        return commit

    def tag(self, repo_id: str, name: str, commit: str) -> None:
        self._stands[repo_id].tags[name] = commit

    def pull(self, repo_id: str, number: int, commit: str) -> None:
        """A pull request: `refs/pr/<number>`."""
        self._stands[repo_id].pulls[number] = commit

    def rename(self, old: str, repo_id: str) -> None:
        """Makes `old` an earlier name of `repo_id`, which need not be the same model."""
        self._names[old.casefold()] = repo_id

    def repos(self) -> Sequence[ShelfRepo]:
        return [self._repo(repo_id) for repo_id in list(self._stands)]

    def repo(self, name: str) -> ShelfRepo | None:
        repo_id = name if name in self._stands else self._names.get(name.casefold())
        return None if repo_id is None else self._repo(repo_id)

    def _repo(self, repo_id: str) -> ShelfRepo:
        stand = self._stands[repo_id]
        newest = stand.branches.get("main") or next(iter(stand.branches.values()))
        return ShelfRepo(repo_id, newest, stand.facts)

    def commit_of(self, repo: ShelfRepo, revision: str) -> str | None:
        return self._stands[repo.id].commit_of(revision)

    def refs(self, repo: ShelfRepo) -> Refs:
        stand = self._stands[repo.id]
        return Refs(dict(stand.branches), dict(stand.tags), dict(stand.pulls))

    def commits(self, repo: ShelfRepo, commit: str) -> Sequence[Commit]:
        stand = self._stands[repo.id]
        return [
            Commit(one, stand.titles[one], stand.facts.modified)
            for one in _line(commit, stand.parents)
        ]

    def files(self, repo: ShelfRepo, commit: str) -> Mapping[str, ShelfFile]:
        listed = self._listed.get((repo.id, commit))
        if listed is not None:
            return listed
        tree = self._stands[repo.id].trees[commit]
        with self._hashing:
            listed = self._listed.get((repo.id, commit)) or {
                path: _measured(path, content) for path, content in tree.items()
            }
            self._listed[repo.id, commit] = listed
        return listed

    def open(self, repo: ShelfRepo, commit: str, path: str) -> Content:
        return self._stands[repo.id].trees[commit][path]


def _content(given: bytes | str | Path | Content) -> Content:
    if isinstance(given, Path):
        return OnDisk(given)
    if isinstance(given, str):
        return Held(given.encode())
    return Held(given) if isinstance(given, bytes) else given


def _line(commit: str, parents: Mapping[str, str | None]) -> Iterable[str]:
    one: str | None = commit
    while one is not None:
        yield one
        one = parents[one]


def _measured(path: str, content: Content) -> ShelfFile:
    if not path.lower().endswith(_WEIGHTS) and content.size < _LARGE:
        return ShelfFile(path, content.size, git_sha1_of(content))
    sha256 = sha256_of(content)
    pointer = git_sha1_of(Held(pointer_to(sha256, content.size)))
    return ShelfFile(path, content.size, pointer, sha256)
