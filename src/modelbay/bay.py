"""Bay: the use cases that both faces call, and the only place where things are wired.

with Bay.open() as bay:
    ref = bay.parse("org/name")
    selection = bay.select(bay.resolve(ref), variant="Q4_K_M")
    run = bay.carry([bay.plan(selection, bay.layout(None, ref))])
    run.wait(3600)
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Self, cast

from modelbay import files, paths, sources
from modelbay.config import Settings, read_settings
from modelbay.credentials import Credentials
from modelbay.digest import Algorithm, Digest, disagreement
from modelbay.errors import (
    CredentialMissing,
    ModelbayError,
    NoSearch,
    TargetTaken,
    UsageError,
    WrongBytes,
)
from modelbay.http import Client
from modelbay.library.base import Layout
from modelbay.library.dir import Dir
from modelbay.library.folders import Application, Mapped, application
from modelbay.library.folders_layout import Folders, Homes
from modelbay.library.hf_cache import HfCache
from modelbay.location import Http
from modelbay.plan import Action, Plan
from modelbay.planner import check_space, check_targets, check_writable, make_plan
from modelbay.provision import (
    Entry,
    Known,
    Lock,
    Place,
    Provision,
    judge,
    read_lock,
    read_provision,
    snapshot_of,
    written,
)
from modelbay.provision.making import (
    Wanted,
    check_gate,
    locked,
    refuse_one_target,
    unlike_pin,
    wanted,
)
from modelbay.queue import Carrier, MemoryRows, Report, Run
from modelbay.refs import ModelRef
from modelbay.safepath import SafeRelPath
from modelbay.selection import Selection, select
from modelbay.snapshot import Hit, ModelFile, Query, Snapshot
from modelbay.sources.base import Source
from modelbay.sources.loaded import Loaded
from modelbay.text import clean
from modelbay.transfer import Engine, Limits, held_bytes


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
    ) -> None:
        self.settings = settings
        self._environ = environ
        self._workspace = workspace
        self._root = root
        self._client = Client(offline=settings.offline)
        self._credentials = Credentials(environ, named=settings.endpoints.values())
        self._engine = Engine(self._client, limits or _limits(settings))
        self._sources = Loaded(self._client, self._credentials, settings.endpoints)
        self._layouts: dict[tuple[str, Path, str], Layout] = {}
        self._homes = Homes()

    @classmethod
    def open(
        cls,
        *,
        settings: Settings | None = None,
        environ: Mapping[str, str] | None = None,
        workspace: Path | None = None,
        root: Path | None = None,
    ) -> Self:
        """A Bay for this user: settings from his file, tokens from his environment. `root` is
        the models' folder itself, in place of the application's below the workspace.
        """
        environ = os.environ if environ is None else environ
        return cls(settings or read_settings(environ), environ, workspace=workspace, root=root)

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
        return self._sources.get(name)

    def parse(self, text: str) -> ModelRef:
        """The canonical ref that `text`, which the user wrote, means. Raises RefError."""
        ref = self._sources.parse(text)
        if ref.address is not None:
            self._credentials.note_named(ref.address)
        return ref

    def search(self, query: Query, sources: Sequence[str] = ()) -> Iterator[Hit | ModelbayError]:
        """Hits of each source in turn; a source that is down is one more result.

        Without `sources` those that have a search are asked.
        """
        for name in sources or self._installed():
            try:
                yield from self.source(name).search(query)
            except NoSearch as error:
                if sources:
                    yield error
            except ModelbayError as error:
                yield error

    def _installed(self) -> Sequence[str]:
        return sources.names()

    def resolve(self, ref: ModelRef) -> Snapshot:
        """What `ref` means now. Raises NotFound, AccessError, NetworkError, UnsafeName."""
        return self._sources.resolve(ref)

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
        if name == "ollama":
            raise UsageError(
                "the layout ollama is not in this version yet", hint="name a folder with --to"
            )
        if category is not None or name == "folders":
            return self._category_layout(ref, category)
        if name == "hf-cache" or (name is None and ref.source == "huggingface"):
            return HfCache.of(self._environ)
        return Dir(Path.cwd())

    def _category_layout(self, ref: ModelRef, category: str | None) -> Layout:
        if category is None:
            raise UsageError(
                "the layout folders needs to know what kind of model it is",
                hint="name it with --category: checkpoints, lora, vae, …",
            )
        app = application(self.settings.folders)
        folder = app.folder(category, ref.name, self.settings.categories)
        own = None if app.by_publisher else ref.name.rpartition("/")[2]
        return self._homes.layout(self._models_root(app), Mapped(folder, {}), own=own)

    def plan(
        self, selection: Selection, layout: Layout, *, replacing: bool = False, model: str = ""
    ) -> Plan:
        """What this disk lacks of `selection`; files in place are hashed. Writes nothing.

        With `replacing`, files that are not ours go to the trash instead of blocking. `model`
        is its id in a lock.
        """
        if isinstance(layout, Folders):
            layout = layout.holding(selection.files)
        plan = make_plan(selection, layout, held=held_bytes, replace=replacing)
        plan = replace(plan, model=model or str(selection.snapshot.ref))
        self._layouts[_key(plan)] = layout
        return plan

    def carry(self, plans: Sequence[Plan]) -> Run:
        """Starts the work and returns at once. Raises before that: UsageError where two plans
        want one name for different files, NotWritable and NoSpace.
        """
        check_targets(plans)
        check_writable(plans)
        check_space(plans, reserve=self.settings.reserve.of)
        carrier = Carrier(self._engine, MemoryRows(), self._sources.locate)
        return carrier.start([(plan, self._layouts[_key(plan)]) for plan in plans])

    def provision(self, path: Path) -> Provision:
        """The provision file at `path`, its sources not asked yet. Raises FormatError."""
        return read_provision(
            path,
            Known(
                sources.names(),
                lambda name: self.source(name).options,
                self._sources.parse,
                self.settings.sources,
            ),
        )

    def lock(self, asked: Path, lock: Path) -> Report:
        """Resolves every entry of a provision file and writes `lock`, fetching into place what
        no source tells a sha256 of. Raises FormatError, PolicyError, IntegrityError,
        AccessError, and the first failure of a fetch.
        """
        provision = self.provision(asked)
        provision.refuse_later()
        chosen = [self._wanted(entry, provision) for entry in provision.entries]
        for one in chosen:
            check_gate(one, self._check_token)
        plans = [self._plan_of(one.entry.id, one.selection, one.place, one.names) for one in chosen]
        refuse_one_target(plans)
        unknown = [_part(plan, one.unknown) for one, plan in zip(chosen, plans, strict=True)]
        run = self.carry([plan for plan in unknown if plan.steps])
        while not run.wait(1.0):
            pass
        of = {id(plan): one for one, plan in zip(chosen, unknown, strict=True)}
        for row in run.rows:
            if isinstance(row.error, WrongBytes):
                raise unlike_pin(of[id(row.plan)], row.error)
            if row.error is not None:
                raise row.error
        models = tuple(
            locked(one, self._observed(plan)) for one, plan in zip(chosen, unknown, strict=True)
        )
        files.write_atomic(
            lock, written(Lock(models, provision.license_allow, provision.manifest_hash))
        )
        return run.report()

    def _wanted(self, entry: Entry, provision: Provision) -> Wanted:
        ref = self._sources.ref_of(entry.source, entry.original)
        self._sources.bind(ref, entry.auth, entry.headers)
        snapshot = self.resolve(ref)
        judge(entry.id, snapshot.licence, provision.license_allow, self.settings.license_allow)
        return wanted(
            entry,
            snapshot,
            path=ref.path,
            application=application(provision.folders or self.settings.folders),
            categories={**self.settings.categories, **provision.categories},
        )

    def _check_token(self, snapshot: Snapshot, file: ModelFile) -> None:
        """Raises CredentialMissing or what the gate says, before anything moves."""
        location = self._sources.locate(snapshot, file)
        if isinstance(location, Http) and location.credential is None:
            variable = self._credentials.variable(snapshot.ref.source, location.url)
            raise CredentialMissing(
                f"{snapshot.ref} is said to be gated, and there is no token for its host",
                hint=f"`export {variable}=<token>` and run the same command again",
            )

    def _observed(self, plan: Plan) -> dict[str, tuple[int, tuple[Digest, ...]]]:
        """Size and digests of every file of `plan`, as they are in place now."""
        records = self._layouts[_key(plan)].records(plan.snapshot)
        found: dict[str, tuple[int, tuple[Digest, ...]]] = {}
        for step in plan.steps:
            if step.action is Action.BLOCKED:
                raise TargetTaken(step.reason, hint="move it away, or choose another filename")
            names: list[Algorithm] = ["sha256", *(one.algorithm for one in step.file.digests)]
            digests = records.observe(step.blob, dict.fromkeys(names))
            found[step.file.path] = (step.blob.stat().st_size, digests)
        return found

    def _plan_of(
        self, model: str, selection: Selection, place: Place, names: Mapping[str, SafeRelPath]
    ) -> Plan:
        return self.plan(selection, self._layout_at(place, names), model=model)

    def _layout_at(self, place: Place, names: Mapping[str, SafeRelPath]) -> Layout:
        if place.layout == "hf-cache":
            return HfCache.of(self._environ)
        if place.layout == "folders":
            root = self._models_root(application(place.folders or ""))
            return self._homes.layout(root, Mapped(place.dir or "", names))
        return Dir(self.workspace / SafeRelPath.parse(place.dir or ""), names=names)

    def _models_root(self, app: Application) -> Path:
        return self._root or self.settings.root or self.workspace / app.root

    def plans_of(self, lock: Path) -> list[Plan]:
        """A plan for each model of a lock; no source is asked. Raises FormatError, PolicyError,
        IntegrityError where a pin and the lock differ.
        """
        found = read_lock(lock)
        for model in found.models:
            judge(model.id, model.licence, found.license_allow, self.settings.license_allow)
            model.check_pin()
        plans = []
        for model in found.models:
            ref = self._sources.ref_of(model.source, model.original)
            headers = model.original.get("headers", {})
            self._sources.bind(ref, model.auth, cast("dict[str, str]", headers))
            selection = Selection(snapshot_of(model, ref), model.files)
            plans.append(self._plan_of(model.id, selection, model.place, model.names))
        refuse_one_target(plans)
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

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _part(plan: Plan, paths: AbstractSet[str]) -> Plan:
    """The steps of `plan` for the files `paths`."""
    return replace(plan, steps=tuple(step for step in plan.steps if step.file.path in paths))


def _key(plan: Plan) -> tuple[str, Path, str]:
    return plan.layout, plan.root, plan.model


def _limits(settings: Settings) -> Limits:
    return Limits(
        jobs=settings.jobs, connections=settings.connections, bandwidth=settings.bandwidth
    )
