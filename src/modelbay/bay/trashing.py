"""`trash`: what is in it everywhere, bringing it back, and deleting it for good."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelbay.bay.removing import is_of
from modelbay.bay.roots import homes, repos
from modelbay.bay.session import Session
from modelbay.errors import ModelbayError, NotFound, UsageError
from modelbay.library.hub_removal import take_away_empty
from modelbay.library.trash import Bundle, Discarded, Trash
from modelbay.refs import ModelRef
from modelbay.text import clean


@dataclass(frozen=True, slots=True)
class Chosen:
    """Files of one bundle; all of them when `files` is None."""

    bundle: Bundle
    files: tuple[Discarded, ...] | None = None


def bundles(session: Session) -> list[Bundle]:
    """What lies in the trash of every root, the newest first."""
    found = [bundle for home in homes(session) for bundle in Trash(home.base).bundles()]
    return sorted(found, key=lambda one: (-one.when, one.id))


def choose(session: Session, names: Sequence[str]) -> list[Chosen]:
    """What `names` mean: a bundle's id or the beginning of it, a ref, an old path. Of several
    bundles with a ref or a path the newest. Raises NotFound, UsageError.
    """
    every = bundles(session)
    return [_chosen(session, every, name) for name in names]


def _chosen(session: Session, every: Sequence[Bundle], name: str) -> Chosen:
    by_id = [one for one in every if name in {one.id, one.name}]
    if len(by_id) > 1:
        raise UsageError(
            f"{clean(name)} is in the trash of {len(by_id)} folders",
            hint="write one of " + ", ".join(one.id for one in by_id),
        )
    if by_id:
        return Chosen(by_id[0])
    path = Path(name).absolute()
    ref = _ref(session, name)
    for bundle in every:
        files = tuple(
            one
            for one in bundle.files
            if bundle.base / one.path == path or (ref is not None and _is_meant(session, one, ref))
        )
        if files:
            return Chosen(bundle, files)
    raise NotFound(
        f"nothing in the trash is called {clean(name, limit=200)}",
        hint="`modelbay trash ls` shows what is there",
    )


def _ref(session: Session, text: str) -> ModelRef | None:
    try:
        return session.parse(text)
    except ModelbayError:
        return None


def _is_meant(session: Session, file: Discarded, ref: ModelRef) -> bool:
    """Whether it was of `ref`, at any revision where that names none."""
    if not file.ref or not is_of(session, file.ref, ref):
        return False
    return ref.revision is None or ref.revision == session.parse(file.ref).revision


def restore(session: Session, chosen: Sequence[Chosen]) -> list[Path]:
    """Brings them back under their old names, and tells the index. Raises TargetTaken before
    anything of a bundle moves, DiskError.
    """
    back: list[Path] = []
    for one in chosen:
        back += Trash(one.bundle.base).restore(one.bundle, one.files)
    known = [home for home in session.index.homes() if home.base in {c.bundle.base for c in chosen}]
    session.index.rebuild(known)
    return back


def empty(session: Session, chosen: Sequence[Bundle]) -> int:
    """Deletes bundles for good; the bytes that this freed. Raises DiskError."""
    total = 0
    for bundle in chosen:
        total += Trash(bundle.base).empty(bundle)
    for home in homes(session):
        Trash(home.base).sweep()
    for repo in repos(session):
        take_away_empty(repo)
    return total


def older(every: Sequence[Bundle], days: float) -> list[Bundle]:
    """Those that have been in the trash for `days`."""
    return [one for one in every if one.when <= time.time() - days * 86_400]
