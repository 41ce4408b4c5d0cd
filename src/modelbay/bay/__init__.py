"""Bay: the use cases that both faces call, and the only place where things are wired.

with Bay.open() as bay:
    ref = bay.parse("org/name")
    selection = bay.select(bay.resolve(ref), variant="Q4_K_M")
    run = bay.carry([bay.plan(selection, bay.layout(None, ref))])
    run.wait(3600)
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self, Unpack

from modelbay import sources
from modelbay.bay import (
    adopting,
    checking,
    exporting,
    factories,
    locking,
    mending,
    relocking,
    searching,
    subjects,
    syncing,
    verifying,
)
from modelbay.bay.checking import Checking
from modelbay.bay.library import Library
from modelbay.bay.locking import Draft
from modelbay.bay.session import Session
from modelbay.bay.syncing import Syncing
from modelbay.bay.tokens import TokenStore
from modelbay.config import Settings, read_settings
from modelbay.errors import ModelbayError
from modelbay.http import Delay
from modelbay.library.base import Layout
from modelbay.plan import Plan
from modelbay.provision import Lock, Provision
from modelbay.queue import Report, Row, Run
from modelbay.refs import ModelRef
from modelbay.selection import Selection, select
from modelbay.snapshot import Hit, Query, Snapshot
from modelbay.sources.base import Source
from modelbay.tokens import Tokens
from modelbay.transfer import Limits


class Bay:
    """One session. Opened with `Bay.open`, closed by `with`; its methods may be called from
    any thread, and raise ModelbayError with a `code` and a `hint`.
    """

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        workspace: Path | None = None,
        root: Path | None = None,
        limits: Limits | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        """`tokens` are those of another keyring than the login's."""
        self._session = Session(
            settings, environ, workspace=workspace, root=root, limits=limits, tokens=tokens
        )

    @classmethod
    def open(
        cls,
        *,
        settings: Settings | None = None,
        environ: Mapping[str, str] | None = None,
        workspace: str | os.PathLike[str] | None = None,
        root: str | os.PathLike[str] | None = None,
    ) -> Self:
        """A Bay for this user: settings from his file, tokens from his environment. `root` is
        the models' folder itself, in place of the application's below the workspace.
        """
        environ = os.environ if environ is None else environ
        return cls(
            settings or read_settings(environ),
            environ,
            workspace=None if workspace is None else Path(workspace),
            root=None if root is None else Path(root),
        )

    @property
    def settings(self) -> Settings:
        return self._session.settings

    @property
    def workspace(self) -> Path:
        """Where folder layouts begin; made when something is put there."""
        return self._session.workspace

    @property
    def library(self) -> Library:
        """What this machine holds: listing, removing, the trash, pruning."""
        return Library(self._session)

    @property
    def tokens(self) -> TokenStore:
        """The tokens in the keyring: storing, listing, removing, asking whose they are."""
        return TokenStore(self._session)

    @property
    def limits(self) -> Limits:
        """The engine's numbers; a change counts from the next file on."""
        return self._session.engine.limits

    def set_bandwidth(self, rate: float | None) -> None:
        """Bytes a second for everything together, from now on; None for no limit."""
        self._session.engine.bucket.rate = rate

    def delays(self) -> list[Delay]:
        """The hosts that are waited for now, and why."""
        return self._session.client.hosts.delays()

    def source(self, name: str) -> Source:
        """The source called `name`. Raises UsageError."""
        return self._session.sources.get(name)

    def parse(self, text: str) -> ModelRef:
        """The canonical ref that `text`, which the user wrote, means. Raises RefError."""
        return self._session.parse(text)

    def search(self, query: Query, sources: Sequence[str] = ()) -> Iterator[Hit | ModelbayError]:
        """Hits of each source, whoever answers first; one that is down is one more result.

        Without `sources` those that have a search are asked.
        """
        asked = [self.source(name) for name in sources or self._installed()]
        yield from searching.search(asked, query, named=bool(sources))

    def _installed(self) -> Sequence[str]:
        return sources.names()

    def resolve(self, ref: ModelRef) -> Snapshot:
        """What `ref` means now. Raises NotFound, AccessError, NetworkError, UnsafeName."""
        return self._session.sources.resolve(ref)

    def select(
        self,
        snapshot: Snapshot,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        variant: str | None = None,
        path: str | None = None,
    ) -> Selection:
        """The wanted files of `snapshot`. Raises FileNotFound with the near names."""
        return select(snapshot, include=include, exclude=exclude, variant=variant, path=path)

    def layout(
        self,
        name: str | None,
        ref: ModelRef,
        *,
        to: Path | None = None,
        category: str | None = None,
        told: str | None = None,
    ) -> Layout:
        """Where files of `ref` go: `to` a plain folder, else the layout called `name`, else
        the default of its source. In folders it is of the `category`, else of the one that its
        source `told` (`Snapshot.category`). Raises UsageError.
        """
        return self._session.layout(name, ref, to=to, category=category, told=told)

    def plan(
        self, selection: Selection, layout: Layout, *, replacing: bool = False, model: str = ""
    ) -> Plan:
        """What this disk lacks of `selection`; files in place are hashed. Writes nothing.

        With `replacing`, files that are not ours go to the trash instead of blocking. `model`
        is its id in a lock.
        """
        return self._session.plan(selection, layout, replacing=replacing, model=model)

    def together(self) -> AbstractContextManager[None]:
        """Plans made inside are for one run: what one of them brings, the later ones link."""
        return self._session.together()

    def carry(self, plans: Sequence[Plan]) -> Run:
        """Starts the work and returns at once. Raises before that: UsageError where two plans
        want one name for different files, NotWritable and NoSpace.
        """
        return self._session.carry(plans)

    def provision(self, path: Path) -> Provision:
        """The provision file at `path`, its sources not asked yet. Raises FormatError."""
        return locking.provision(self._session, path)

    def lock(self, asked: Path, lock: Path) -> Report:
        """Resolves every entry of a provision file and writes `lock`, fetching into place what
        no source tells a sha256 of. Raises FormatError, PolicyError, IntegrityError,
        AccessError, and the first failure of a fetch.
        """
        return locking.lock(self._session, asked, lock)

    def draft(
        self,
        provision: Provision,
        before: Lock | None,
        *,
        upgrade: Collection[str] | None = (),
        fetch: bool = True,
        whole: bool = True,
    ) -> Draft:
        """`provision`, resolved: models of the lock `before` stay, but for those in `upgrade`
        (None: all) and those whose entries ask for something else. Raises UsageError.
        """
        return locking.draft(
            self._session, provision, before, upgrade=upgrade, fetch=fetch, whole=whole
        )

    def prepare_lock(
        self,
        where: str,
        *,
        out: Path | None = None,
        upgrade: Collection[str] | None = (),
        fetch: bool = True,
    ) -> relocking.Locking:
        """The lock of the provision file `where`, its sources asked, nothing fetched or
        written yet: `carry()`, then `finish()`. Raises FormatError, UsageError, TargetTaken.
        """
        return relocking.prepare(self._session, where, out=out, upgrade=upgrade, fetch=fetch)

    def prepare_hash(self, where: str, ident: str, *, fetch: bool = True) -> relocking.Locking:
        """The locking of one model alone, without its pin. Raises as `prepare_lock`."""
        return relocking.prepare_hash(self._session, where, ident, fetch=fetch)

    def check_lock(self, where: str, *, out: Path | None = None) -> tuple[str, ...]:
        """Sentences for everything in which the lock of `where` is not what it asks for. No
        source is asked. Raises FormatError.
        """
        return relocking.differences(self._session, where, out=out)

    def locked_hash(self, where: str, ident: str, *, out: Path | None = None) -> str | None:
        """What `hash` may say of a model, from its lock; None where that cannot tell. Raises
        FormatError, UsageError.
        """
        return relocking.locked_hash(self._session, where, ident, out=out)

    def lock_of(self, draft: Draft, rows: Iterable[Row]) -> Lock:
        """The lock of `draft`, after its `unknown` plans were carried as `rows`. Raises the
        first failure of those.
        """
        return locking.lock_of(self._session, draft, rows)

    def satisfies(self, lock: Lock, provision: Provision) -> list[str]:
        """Sentences for everything in which `lock` is not what `provision` asks for; none
        when it is up to date. No source is asked.
        """
        return locking.satisfies(self._session, lock, provision)

    def plans_of(self, lock: Lock | Path) -> list[Plan]:
        """A plan for each model of a lock; no source is asked. Raises FormatError, PolicyError,
        IntegrityError where a pin and the lock differ.
        """
        return locking.plans_of(self._session, lock)

    def prepare_sync(self, where: str | Path, **options: Unpack[syncing.Options]) -> Syncing:
        """A sync of the provision file or lock at a path or an address, of which everything is
        known and nothing has moved: `carry` it, and `finish` it with the run. Raises FormatError,
        PolicyError, UsageError, IntegrityError, AccessError, NotFound, NetworkError.
        """
        return syncing.prepare(self._session, str(where), **options)

    def sync(self, where: str | Path, **options: Unpack[syncing.Options]) -> Report:
        """Brings every model of a provision file or a lock into place, verified, and blocks
        meanwhile. Raises as `prepare_sync`; and, after everything else was done, the failure
        that stands for all.
        """
        return syncing.sync(self._session, str(where), **options)

    def check(self, where: str | Path, **options: Unpack[checking.Options]) -> Checking:
        """In what the disk differs from a lock, or from that of a provision file. With `deep`
        its `work` is to be started and followed, which reads every byte. Raises as
        `prepare_sync`.
        """
        return checking.check(self._session, str(where), **options)

    def verify(self, plans: Sequence[Plan]) -> int:
        """Reads every file of `plans` again and compares it with its digests; how many bytes.
        Raises WrongBytes for the first that differs.
        """
        return verifying.verify(plans)

    def prepare_export(
        self,
        file: Path,
        names: Sequence[str] = (),
        *,
        form: exporting.Form = "toml",
        replace: bool = False,
    ) -> exporting.Export:
        """What of the library `write` would write to `file`: the models called `names`, or all.
        Where it has `unread` files, its `carry` must have ended before. Raises ModelNotFound,
        RefError, TargetTaken.
        """
        return exporting.prepare_export(self._session, file, names, form=form, replace=replace)

    def check_factory(self, name: str, table: Mapping[str, Any]) -> None:
        """Raises UsageError for a `[sources.NAME]` of the settings that no source understands."""
        factories.check_factory(self._session, name, table)

    def verification(self, names: Sequence[str] = ()) -> verifying.Verification:
        """What reads the files of the locks and models `names` again, of the whole library
        without any: `work.start()`, wait, then `finish()` and `findings`.

        Raises ModelNotFound, FileNotFound, FormatError, RefError.
        """
        return verifying.Verification(self._session, subjects.asked(self._session, names))

    def mending(self, findings: Sequence[verifying.Finding]) -> mending.Mending:
        """What fetches the bad pieces of damaged files of ours again: `check()`, `work.start()`,
        wait.
        """
        return mending.Mending(self._session, findings)

    def adopt(
        self, folders: Sequence[Path] = (), *, tell: adopting.Tell | None = None
    ) -> adopting.Adopted:
        """Indexes the models in `folders`, or where programs usually keep them, where they lie.

        Nothing is moved, hashed or written to but the index. `tell` hears how many names were
        looked at in a place so far. Raises FileNotFound, DiskError, and what `tell` raises.
        """
        return adopting.adopt(self._session, folders, tell=tell)

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
