"""Bay: the use cases that both faces call, and the only place where things are wired.

with Bay.open() as bay:
    ref = bay.parse("org/name")
    selection = bay.select(bay.resolve(ref), variant="Q4_K_M")
    run = bay.carry([bay.plan(selection, bay.layout(None, ref))])
    run.wait(3600)
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from modelbay import paths, sources
from modelbay.config import Settings, read_settings
from modelbay.credentials import Credentials
from modelbay.errors import ModelbayError, UsageError
from modelbay.http import Client
from modelbay.library.base import Layout
from modelbay.library.dir import Dir
from modelbay.library.hf_cache import HfCache
from modelbay.location import Location, Other
from modelbay.plan import Plan
from modelbay.planner import check_space, check_writable, make_plan
from modelbay.queue import Carrier, MemoryRows, Run
from modelbay.refs import ModelRef, parse
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
        self._credentials = Credentials(environ)
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
        """The canonical ref that `text` means. Raises RefError."""
        return parse(text, [self.source(name) for name in sources.names()])

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

    def plan(self, selection: Selection, layout: Layout, *, replace: bool = False) -> Plan:
        """What this disk lacks of `selection`; files in place are hashed. Writes nothing."""
        plan = make_plan(selection, layout, held=held_bytes, replace=replace)
        self._layouts[plan.layout, plan.root] = layout
        return plan

    def carry(self, plans: Sequence[Plan]) -> Run:
        """Starts the work and returns at once. Raises NoSpace and NotWritable before it does."""
        check_writable(plans)
        check_space(plans, reserve=self.settings.reserve.percent / 100)
        carrier = Carrier(self._engine, MemoryRows(), self._locate)
        return carrier.start([(plan, self._layouts[plan.layout, plan.root]) for plan in plans])

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


def _limits(settings: Settings) -> Limits:
    return Limits(
        jobs=settings.jobs, connections=settings.connections, bandwidth=settings.bandwidth
    )
