"""What one session is wired from, and the steps that every use case takes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modelbay import paths
from modelbay.bay.unpacking import plan_of
from modelbay.config import Settings
from modelbay.credentials import Credentials
from modelbay.digest import Digest
from modelbay.errors import CredentialMissing, NoSpace, UsageError
from modelbay.http import Client, Reach
from modelbay.library.archived import Archived
from modelbay.library.base import Layout
from modelbay.library.dir import Dir
from modelbay.library.elsewhere import Elsewhere
from modelbay.library.folders import NAMES, Application, Mapped, application
from modelbay.library.folders_layout import Folders, Homes
from modelbay.library.hf_cache import HfCache
from modelbay.library.ollama_layout import OllamaStore
from modelbay.library.trash import expire, with_trash
from modelbay.location import Http
from modelbay.plan import LADDER, Plan, Step, Way
from modelbay.planner import check_space, check_targets, check_writable, make_plan
from modelbay.provision import Place
from modelbay.provision.formats import judge_danger, judge_formats
from modelbay.queue import Carrier, MemoryRows, Mirrors, Run
from modelbay.refs import ModelRef
from modelbay.safepath import SafeRelPath
from modelbay.selection import Selection
from modelbay.snapshot import ModelFile, Snapshot
from modelbay.sources.base import Placed
from modelbay.sources.loaded import Loaded
from modelbay.tokens import Tokens
from modelbay.transfer import Engine, Limits, held_bytes

if TYPE_CHECKING:
    from modelbay.library.index import Index, IndexedHome

_WAYS: Final[Mapping[str, Sequence[Way]]] = {
    "reflink": ("reflink", "copy"),
    "hardlink": ("hard link", "copy"),
    "copy": ("copy",),
}
"""The setting `links`. No layout here may hold symbolic links to other programs' files, so
"symlink" is the ladder like "auto".
"""


class Session:
    """One client, one engine, one set of sources and folders. Its methods may be called from
    any thread.
    """

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        workspace: Path | None = None,
        root: Path | None = None,
        limits: Limits | None = None,
        reach: Reach | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        """With `reach` it is for a file that is not trusted: see `bay.documents`. `tokens` are
        those of another keyring than the login's.
        """
        self.settings = settings
        self.environ = environ
        self.reach = reach
        self._workspace = workspace
        self._root = root
        self.client = Client(offline=settings.offline, reach=reach)
        self.tokens = tokens or Tokens(environ, offline=settings.offline)
        self.credentials = Credentials(
            environ, named=settings.endpoints.values(), tokens=self.tokens
        )
        if reach is not None:
            self.credentials = self.credentials.standing(reach.own)
        self.engine = Engine(self.client, limits or _limits(settings))
        self.sources = Loaded(self.client, self.credentials, settings.endpoints)
        self._layouts: dict[tuple[str, Path, str], Layout] = {}
        self._homes = Homes()
        self._store: OllamaStore | None = None
        self._ways = _WAYS.get(settings.links, LADDER)
        self.elsewhere = Elsewhere(
            lambda: paths.state_dir(environ) / "library.db", self._standard_homes
        )
        self._restricted: list[Session] = []
        self._is_restricted = reach is not None
        self._together: dict[Digest, Step] | None = None
        self.mirrors: Sequence[str] = settings.mirrors
        """Endpoints that are asked before a file's own source."""

    def restricted(self, reach: Reach) -> "Session":
        """The same user's session for a file that is not trusted; closed with this one."""
        made = Session(
            self.settings,
            self.environ,
            workspace=self._workspace,
            root=self._root,
            limits=self.engine.limits,
            reach=reach,
            tokens=self.tokens,
        )
        made.client.hosts = self.client.hosts
        made.engine.bucket = self.engine.bucket
        caches = paths.hub_cache(self.environ), paths.ollama_models(self.environ)
        made.elsewhere.closed = tuple(cache.resolve() for cache in caches)
        self._restricted.append(made)
        return made

    @property
    def workspace(self) -> Path:
        """Where folder layouts begin; made when something is put there."""
        return paths.workspace(self.environ, asked=self._workspace, setting=self.settings.workspace)

    @property
    def index(self) -> "Index":
        """What is known of every file in the library; made from the records on disk where
        there is none. Raises DiskError, FormatError.
        """
        return self.elsewhere.index()

    def _standard_homes(self) -> Iterator["IndexedHome"]:
        """Where records of ours lie if nobody named another place."""
        from modelbay.library.index_homes import (
            home_in_store,
            homes_in_cache,
            homes_of_application,
        )

        yield from homes_in_cache(paths.hub_cache(self.environ))
        yield from home_in_store(paths.ollama_models(self.environ))
        for app in map(application, NAMES):
            folders = app.categories.values()
            yield from homes_of_application(self.workspace / app.root, app.name, folders)
        chosen = application(self.settings.folders)
        for root in (self._root, self.settings.root):
            if root is not None:
                yield from homes_of_application(root, chosen.name, chosen.categories.values())

    def parse(self, text: str) -> ModelRef:
        """The canonical ref that `text`, which the user wrote, means. Raises RefError."""
        ref = self.sources.parse(text)
        if ref.address is not None:
            self.credentials.note_named(ref.address)
        return ref

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
        source `told`. Raises UsageError.
        """
        if to is not None:
            return Dir(to, ways=self._ways)
        if name is None and ref.scheme != "oci":
            source = self.sources.get(ref.source)
            name = source.layout if isinstance(source, Placed) else "dir"
        if category is not None or name == "folders":
            return self._category_layout(ref, category or told)
        if name == "hf-cache":
            return HfCache.of(self.environ, ways=self._ways)
        if name == "ollama":
            return self._ollama_store()
        return Dir(Path.cwd(), ways=self._ways)

    def _ollama_store(self) -> OllamaStore:
        """One for all models: what one of them brought, the next can link."""
        if self._store is None:
            self._store = OllamaStore(paths.ollama_models(self.environ), ways=self._ways)
        return self._store

    def _category_layout(self, ref: ModelRef, category: str | None) -> Layout:
        if category is None:
            raise UsageError(
                f"the layout folders needs to know what kind of model {ref} is",
                hint="name it with --category: checkpoints, lora, vae, …",
            )
        app = application(self.settings.folders)
        folder = app.folder(category, ref.name, self.settings.categories)
        last = ref.name.rstrip("/").rpartition("/")[2].replace(":", "-")
        own = None if app.by_publisher else last
        return self._homes.layout(
            self.models_root(app), Mapped(folder, {}), own=own, ways=self._ways, application=app
        )

    def layout_at(self, place: Place, names: Mapping[str, SafeRelPath]) -> Layout:
        """The layout that a lock names. Raises FormatError, UnsafeName."""
        if place.layout == "hf-cache":
            return HfCache.of(self.environ, ways=self._ways)
        if place.layout == "ollama":
            return self._ollama_store()
        if place.layout == "folders":
            app = application(place.folders or "")
            where = Mapped(place.dir or "", names)
            return self._homes.layout(
                self.models_root(app), where, ways=self._ways, application=app
            )
        folder = self.workspace / SafeRelPath.parse(place.dir or "")
        return Dir(folder, names=names, ways=self._ways)

    def models_root(self, app: Application) -> Path:
        """The folder below which `app` keeps its models."""
        return self._root or self.settings.root or self.workspace / app.root

    def plan(
        self, selection: Selection, layout: Layout, *, replacing: bool = False, model: str = ""
    ) -> Plan:
        """What this disk lacks of `selection`; files in place are hashed. Writes nothing.

        With `replacing`, files that are not ours go to the trash instead of blocking. `model`
        is its id in a lock. Raises PolicyError where the setting `formats` refuses a file, or its
        own service found it to be harmful.
        """
        name = model or str(selection.snapshot.ref)
        judge_danger(name, selection.files)
        judge_formats(name, selection.files, self.settings.formats)
        if isinstance(layout, Folders):
            layout = layout.holding(selection.files)
        if isinstance(layout, OllamaStore):
            layout.check(selection)
        if isinstance(layout, Archived):
            plan = plan_of(selection, layout, replacing=replacing, elsewhere=self.elsewhere)
        else:
            plan = make_plan(
                selection,
                layout,
                held=held_bytes,
                replace=replacing,
                elsewhere=self.elsewhere,
                first=self._together,
            )
        plan = replace(plan, model=model or str(selection.snapshot.ref))
        self._layouts[_key(plan)] = layout
        return plan

    @contextmanager
    def together(self) -> Iterator[None]:
        """Plans made inside are for one run: what one of them brings, the later ones link. For
        a file that is not trusted each model's bytes come from its own source.
        """
        self._together = None if self._is_restricted else {}
        try:
            yield
        finally:
            self._together = None

    def layout_of(self, plan: Plan) -> Layout:
        """The layout that `plan`, made by this session, is for."""
        return self._layouts[_key(plan)]

    def carry(self, plans: Sequence[Plan]) -> Run:
        """Starts the work and returns at once. Raises before that: UsageError where two plans
        want one name for different files, NotWritable and NoSpace.
        """
        check_targets(plans)
        check_writable(plans)
        bases = [self.layout_of(plan).records(plan.snapshot).base for plan in plans]
        expire(bases, self.settings.trash_days)
        try:
            check_space(plans, reserve=self.settings.reserve.of)
        except NoSpace as error:
            homes = (*bases, *self._trashed_in_cache())
            raise with_trash(error, homes, (plan.root for plan in plans)) from error
        at = self.sources.at
        mirrors = Mirrors(partial(self.sources.mirrored, self.mirrors))
        carrier = Carrier(
            self.engine, MemoryRows(), self.sources.locate, self.elsewhere, at, mirrors
        )
        return carrier.start([(plan, self.layout_of(plan)) for plan in plans])

    def _trashed_in_cache(self) -> Iterator[Path]:
        """Repos of the Hub's cache that something was removed from."""
        for trash in paths.hub_cache(self.environ).glob("*/.modelbay/trash"):
            yield trash.parents[1]

    def check_token(self, snapshot: Snapshot, file: ModelFile) -> None:
        """Raises CredentialMissing or what the gate says, before anything moves."""
        location = self.sources.locate(snapshot, file)
        if isinstance(location, Http) and location.credential is None and location.sign is None:
            variable = self.credentials.variable(snapshot.ref.source, location.url)
            raise CredentialMissing(
                f"{snapshot.ref} is said to be gated, and there is no token for its host",
                hint=f"`export {variable}=<token>` and run the same command again",
            )

    def close(self) -> None:
        for one in self._restricted:
            one.close()
        self.client.close()
        self.elsewhere.close()


def _key(plan: Plan) -> tuple[str, Path, str]:
    return plan.layout, plan.root, plan.model


def _limits(settings: Settings) -> Limits:
    return Limits(
        jobs=settings.jobs, connections=settings.connections, bandwidth=settings.bandwidth
    )
