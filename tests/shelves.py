"""Shelves for our Hub with the repositories that examples name: small, and valid to a reader."""

import random
from collections.abc import Iterable, Mapping

from modelbay.serve import MemoryShelf
from modelbay.serve.formats import Tensor, safetensors_head
from modelbay.serve.shelf import Facts


def weights(seed: str) -> bytes:
    """A safetensors file of a few hundred bytes, another for each seed."""
    head, size = safetensors_head([Tensor("weight", "F32", (8, 16))])
    return head + random.Random(seed).randbytes(size - len(head))


def content(repo: str, path: str) -> bytes:
    made = weights(f"{repo}/{path}")
    return made if path.endswith(".safetensors") else b'{"seed": "%s"}' % f"{repo}/{path}".encode()


def add_repos(
    shelf: MemoryShelf, repos: Mapping[str, Iterable[str]], *, gated: Iterable[str] = ()
) -> None:
    """Repositories with the files that they are asked for, and a README each."""
    for repo, paths in repos.items():
        files = {path: content(repo, path) for path in ["README.md", *paths]}
        shelf.add(repo, files, facts=Facts(gated="auto" if repo in gated else "no"))
