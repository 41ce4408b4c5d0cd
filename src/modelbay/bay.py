"""Bay: the use cases that both faces call, and the only place where things are wired.

with Bay.open() as bay:
    ref = bay.parse("org/name")
    selection = bay.select(bay.resolve(ref), variant="Q4_K_M")
    run = bay.carry([bay.plan(selection, bay.layout(None, ref))])
    run.wait(3600)
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from modelbay import files, paths, sources
from modelbay.config import Settings, read_settings
from modelbay.credentials import Credentials
from modelbay.digest import Digest, disagreement
from modelbay.errors import ModelbayError, UsageError, WrongBytes
from modelbay.http import Client
from modelbay.library.base import Layout
from modelbay.library.dir import Dir
from modelbay.library.hf_cache import HfCache
from modelbay.location import Location, Other
from modelbay.plan import Plan
from modelbay.planner import check_space, check_targets, check_writable, make_plan
from modelbay.provision import (
    Entry,
    LockedModel,
    Place,
    read_lock,
    read_provision,
    snapshot_of,
    written,
)
from modelbay.queue import Carrier, MemoryRows, Report, Run
from modelbay.refs import ModelRef, parse
from modelbay.safepath import SafeRelPath
from modelbay.selection import Selection, select
from modelbay.snapshot import Hit, ModelFile, Query, Snapshot
from modelbay.sources.base import Means, Source
from modelbay.text import clean
from modelbay.transfer import Engine, Limits, held_bytes

_DEEPEST = 3
"""How many times a source may name another one (design.md §2)."""


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
        limits: Limits | None = None,
    ) -> None:
        self.settings = settings
        self._environ = environ
        self._workspace = workspace
        self._client = Client(offline=settings.offline)
        self._credentials = Credentials(environ, named=settings.endpoints.values())
        self._engine = Engine(self._client, limits or _limits(settings))
        self._sources: dict[str, Source] = {}
        self._layouts: dict[tuple[str, Path], Layout] = {}

    @classmethod
    def open(
        cls,
        *,
        settings: Settings | None = None,
        environ: Mapping[str, str] | None = None,
        workspace: Path | None = None,
    ) -> Self:
        """A Bay for this user: settings from his file, tokens from his environment."""
        environ = os.environ if environ is None else environ
        return cls(settings or read_settings(environ), environ, workspace=workspace)

    @property
    def workspace(self) -> Path:
        """Where folder layouts begin; made when something is put there."""
        return paths.workspace(
            self._environ, asked=self._workspace, setting=self.settings.workspace
        )

    @property
    def limits(self) -> Limits:
        """The engine's numbers; a change counts from the next file on."""
        return self._engine.limits

    def set_bandwidth(self, rate: float | None) -> None:
        """Bytes a second for everything together, from now on; None for no limit."""
        self._engine.bucket.rate = rate

    def source(self, name: str) -> Source:
        """The source called `name`. Raises UsageError."""
        if name not in self._sources:
            means = Means(self._client, self._credentials, self.settings.endpoints.get(name))
            self._sources[name] = sources.load(name)(means)
        return self._sources[name]

    def parse(self, text: str) -> ModelRef:
        """The canonical ref that `text`, which the user wrote, means. Raises RefError."""
        ref = parse(text, [self.source(name) for name in sources.names()])
        if ref.address is not None:
            self._credentials.note_named(ref.address)
        return ref

    def search(self, query: Query, sources: Sequence[str] = ()) -> Iterator[Hit | ModelbayError]:
        """Hits of each source in turn; a source that is down is one more result.

        Without `sources` those that have a search are asked.
        """
        for name in sources or self._searchable():
            try:
                yield from self.source(name).search(query)
            except UsageError as error:
                if sources:
                    yield error
            except ModelbayError as error:
                yield error

    def _searchable(self) -> Sequence[str]:
        return [name for name in sources.names() if name != "mock"]

    def resolve(self, ref: ModelRef) -> Snapshot:
        """What `ref` means now. Raises NotFound, AccessError, NetworkError, UnsafeName."""
        return self.source(ref.source).resolve(ref)

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
    ) -> Layout:
        """Where files of `ref` go: `to` a plain folder, else the layout called `name`, else
        the default of its source. Raises UsageError.
        """
        if to is not None:
            return Dir(to)
        if category is not None or name in {"folders", "ollama"}:
            raise UsageError(
                f"the layout {clean(name or 'folders')} is not in this version yet",
                hint="name a folder with --to",
            )
        if name == "hf-cache" or (name is None and ref.source == "huggingface"):
            return HfCache.of(self._environ)
        return Dir(Path.cwd())

    def plan(self, selection: Selection, layout: Layout, *, replacing: bool = False) -> Plan:
        """What this disk lacks of `selection`; files in place are hashed. Writes nothing.

        With `replacing`, files that are not ours go to the trash instead of blocking.
        """
        plan = make_plan(selection, layout, held=held_bytes, replace=replacing)
        self._layouts[plan.layout, plan.root] = layout
        return plan

    def carry(self, plans: Sequence[Plan]) -> Run:
        """Starts the work and returns at once. Raises before that: UsageError where two plans
        want one name for different files, NotWritable and NoSpace.
        """
        check_targets(plans)
        check_writable(plans)
        check_space(plans, reserve=self.settings.reserve.of)
        carrier = Carrier(self._engine, MemoryRows(), self._locate)
        return carrier.start([(plan, self._layouts[plan.layout, plan.root]) for plan in plans])

    def lock(self, asked: Path, lock: Path) -> Report:
        """Resolves every entry of a provision file and writes `lock`, fetching into place what
        no source tells a sha256 of. Raises FormatError, and the first failure of a fetch.
        """
        chosen = [(entry, self._selected(entry)) for entry in read_provision(asked)]
        plans = [self.plan(*self._placed(entry, selection)) for entry, selection in chosen]
        unknown = [_undigested(plan) for plan in plans]
        run = self.carry([plan for plan in unknown if plan.steps])
        while not run.wait(1.0):
            pass
        observed = {(id(row.plan), row.name): row.observed for row in run.rows}
        for row in run.rows:
            if row.error is not None:
                raise row.error
        models = [
            _locked(
                entry,
                selection,
                {name: seen for (key, name), seen in observed.items() if key == id(part)},
            )
            for (entry, selection), part in zip(chosen, unknown, strict=True)
        ]
        files.write_atomic(lock, written(models))
        return run.report()

    def _selected(self, entry: Entry) -> Selection:
        return self.select(
            self.resolve(self.source(entry.source).ref_of(dict(entry.keys))), **entry.choice
        )

    def _placed(self, entry: Entry, selection: Selection) -> tuple[Selection, Layout]:
        return selection, self._layout_at(Place(entry.layout, dir=entry.dir))

    def _layout_at(self, place: Place) -> Layout:
        if place.layout == "hf-cache":
            return HfCache.of(self._environ)
        return Dir(self.workspace / SafeRelPath.parse(place.dir or ""))

    def plans_of(self, lock: Path) -> list[Plan]:
        """A plan for each model of a lock; no source is asked. Raises FormatError."""
        plans = []
        for model in read_lock(lock):
            ref = self.source(model.source).ref_of(dict(model.original))
            snapshot = snapshot_of(model, ref)
            layout = self._layout_at(model.place)
            plans.append(self.plan(Selection(snapshot, model.files), layout))
        return plans

    def verify(self, plans: Sequence[Plan]) -> int:
        """Reads every file of `plans` again and compares it with its digests; how many bytes.
        Raises WrongBytes for the first that differs.
        """
        total = 0
        for step in (step for plan in plans for step in plan.steps):
            names = tuple(digest.algorithm for digest in step.file.digests)
            wrong = disagreement(
                step.file.digests, files.hash_file(step.target, names, follow=True)
            )
            if wrong is not None:
                raise WrongBytes(
                    f"{clean(step.target)} has other bytes than its lock says: expected "
                    f"{wrong[0]}, found {wrong[1]}",
                    hint="delete it, then run the same command again",
                )
            total += step.file.size or 0
        return total

    def _locate(self, snapshot: Snapshot, file: ModelFile) -> Location:
        for _ in range(_DEEPEST + 1):
            location = self.source(snapshot.ref.source).locate(snapshot, file)
            if not isinstance(location, Other):
                return location
            snapshot = self.resolve(location.ref)
            file = select(snapshot, path=location.ref.path).files[0]
        raise UsageError(
            f"{snapshot.ref} is passed on from source to source more than {_DEEPEST} times",
            hint="name the model at the source that has its bytes",
        )

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _undigested(plan: Plan) -> Plan:
    """The part of `plan` that a lock needs fetched to know what it is."""
    return replace(plan, steps=tuple(step for step in plan.steps if step.file.sha256 is None))


def _locked(
    entry: Entry, selection: Selection, observed: Mapping[str, tuple[Digest, ...]]
) -> LockedModel:
    snapshot = selection.snapshot
    ref = (snapshot.ref.revision or "main") if entry.layout == "hf-cache" else None
    locked = tuple(
        replace(file, digests=observed.get(file.path) or file.digests) for file in selection.files
    )
    return LockedModel(
        entry.id,
        entry.source,
        entry.keys,
        snapshot.table,
        Place(entry.layout, ref, entry.dir),
        locked,
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        jobs=settings.jobs, connections=settings.connections, bandwidth=settings.bandwidth
    )
