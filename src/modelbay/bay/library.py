"""The library as faces see it: what is here, what it takes, and taking it away."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from modelbay.bay import holdings, outdated, pruning, reasons, removing, trashing
from modelbay.bay.holdings import DiskUse, Holding
from modelbay.bay.outdated import Newer
from modelbay.bay.pruning import Pruned
from modelbay.bay.reasons import Reason
from modelbay.bay.session import Session
from modelbay.bay.trashing import Chosen
from modelbay.files import Usage
from modelbay.library.index import IndexedFile, IndexedModel
from modelbay.library.litter import Litter
from modelbay.library.removal import Removal, Removed
from modelbay.library.trash import Bundle


class Library:
    """What this machine holds. Its methods raise ModelbayError."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def models(
        self, text: str | None = None, *, source: str | None = None, layout: str | None = None
    ) -> Iterator[Holding]:
        """Models whose ref or id has `text` in it, by ref, as they are read. Raises DiskError."""
        return holdings.holdings(self._session, text, source=source, layout=layout)

    def files_of(self, model: IndexedModel) -> Iterator[IndexedFile]:
        """The files of one of those models, by name."""
        return holdings.files_of(self._session, model)

    def disk_use(self) -> DiskUse:
        """By place, model and file system; the bytes of each inode once. Looks at every file."""
        return holdings.disk_use(self._session)

    def why(self, file: Path, locks: Sequence[Path] = ()) -> Reason:
        """Everything known of `file`. Raises FileNotFound, DiskError."""
        return reasons.why(self._session, file, locks)

    def removals(self, names: Sequence[str]) -> list[Removal]:
        """What removing models, revisions or files would do. Raises ModelNotFound, RefError."""
        return removing.removals(self._session, names)

    def remove(self, chosen: Sequence[Removal]) -> list[Removed]:
        """Moves them to the trash. Raises DiskError."""
        return removing.remove(self._session, chosen)

    def freed_by(self, chosen: Sequence[Removal]) -> Usage:
        """What emptying the trash of them will free."""
        return removing.freed(chosen)

    def trash(self) -> list[Bundle]:
        """What lies in the trash of every root, the newest first."""
        return trashing.bundles(self._session)

    def in_trash(self, names: Sequence[str]) -> list[Chosen]:
        """What ids, refs or old paths mean in the trash. Raises NotFound, UsageError."""
        return trashing.choose(self._session, names)

    def restore(self, chosen: Sequence[Chosen]) -> list[Path]:
        """Brings them back under their old names. Raises TargetTaken, DiskError."""
        return trashing.restore(self._session, chosen)

    def empty_trash(self, chosen: Sequence[Bundle]) -> int:
        """Deletes them for good; bytes freed. Raises DiskError."""
        return trashing.empty(self._session, chosen)

    def litter(self, *, everything: bool = False, detached: bool = False) -> Iterator[Litter]:
        """What nobody needs any more; with `everything` partials of today too, with
        `detached` revisions of the Hub's cache without a ref.
        """
        return pruning.litter(self._session, everything=everything, detached=detached)

    def prune(self, chosen: Sequence[Litter]) -> Pruned:
        """Takes litter away. Raises DiskError."""
        return pruning.prune(self._session, chosen)

    def outdated(self, text: str | None = None, lock: Path | None = None) -> Iterator[Newer]:
        """Whether sources have newer revisions of what is here, or in `lock`."""
        return outdated.outdated(self._session, text, lock)
