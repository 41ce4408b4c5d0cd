"""`prune`: what nobody needs any more, in every root."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from modelbay.bay.removing import forget
from modelbay.bay.roots import homes, repos
from modelbay.bay.session import Session
from modelbay.errors import ModelbayError
from modelbay.library.hub_removal import take_away_empty
from modelbay.library.litter import Litter, clear, litter_in, litter_in_repo
from modelbay.library.records import records_in
from modelbay.library.trash import Trash
from modelbay.refs import ModelRef


@dataclass(frozen=True, slots=True)
class Pruned:
    """What became of it: `freed` bytes at once, `trashed` when the trash is emptied."""

    freed: int
    trashed: int
    gone: int
    busy: tuple[Litter, ...]


def litter(
    session: Session, *, everything: bool = False, detached: bool = False
) -> Iterator[Litter]:
    """What could go, as it is found: with `everything` partials of today too, with `detached`
    revisions of the Hub's cache that no ref leads to. Raises DiskError.
    """
    for home in homes(session):
        yield from litter_in(home.base, everything=everything)
    for repo in repos(session):
        ref = _ref_of(session, repo)
        if ref is not None:
            yield from litter_in_repo(repo, ref, detached=detached)


def prune(session: Session, chosen: Sequence[Litter]) -> Pruned:
    """Takes `chosen` away. What somebody is at by now stays. Raises DiskError."""
    trash: dict[Path, Trash] = {}
    busy: list[Litter] = []
    freed = trashed = 0
    for one in chosen:
        if not clear(one, trash.setdefault(one.base, Trash(one.base))):
            busy.append(one)
        elif one.to_trash:
            trashed += one.frees
        else:
            freed += one.frees
    for one in chosen:
        if one not in busy:
            _forget(session, one)
    for repo in repos(session):
        take_away_empty(repo)
    return Pruned(freed, trashed, len(chosen) - len(busy), tuple(busy))


def _forget(session: Session, gone: Litter) -> None:
    if gone.removal is not None:
        forget(session, gone.removal, gone.removal.paths)
    elif gone.kind == "blob":
        session.index.forget(gone.paths)


def _ref_of(session: Session, repo: Path) -> ModelRef | None:
    """What a record says that the repo is called, else what its folder does; None for a kind
    of repo that no source of this version knows.
    """
    kind, _, name = repo.name.partition("--")
    prefix = "" if kind == "models" else f"{kind}/"
    told = [record.ref for record in records_in(repo)]
    for text in (*told, f"hf://{prefix}{name.replace('--', '/')}"):
        with suppress(ModelbayError):
            return session.parse(text).at(None)
    return None
