"""The sources of one session, each made when it is first asked for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from modelbay import sources
from modelbay.credentials import Credentials
from modelbay.errors import AccessError, ModelbayError, NotFound, RefError, UsageError
from modelbay.http import Client
from modelbay.location import Http, Location, Other
from modelbay.refs import ModelRef, parse
from modelbay.safepath import SafeRelPath
from modelbay.selection import select
from modelbay.snapshot import ARCHIVE, ModelFile, Snapshot
from modelbay.sources.base import Means, Mirrored, Source
from modelbay.text import clean

_DEEPEST = 3
"""How many times a source may name another one (design.md §2)."""


class Loaded:
    """Sources by name, and those that an entry needs for its own credentials or headers."""

    def __init__(
        self, client: Client, credentials: Credentials, endpoints: Mapping[str, str]
    ) -> None:
        self._means = Means(client, credentials)
        self._endpoints = endpoints
        self._sources: dict[str, Source] = {}
        self._own: dict[str, Source] = {}
        self._told: set[str] = set()

    def get(self, name: str) -> Source:
        """The source called `name`. Raises UsageError."""
        if name not in self._sources:
            means = replace(self._means, endpoint=self._endpoints.get(name))
            self._sources[name] = sources.load(name)(means)
        return self._sources[name]

    def parse(self, text: str) -> ModelRef:
        """The canonical ref that `text` means to one of them. Raises RefError."""
        usable, broken = self._usable()
        try:
            return parse(text, usable)
        except RefError as error:
            if not broken:
                raise
            raise RefError(f"{error}; {broken[0]}", hint=broken[0].hint) from error

    def _usable(self) -> tuple[list[Source], list[UsageError]]:
        """Those that can be loaded, and why the others cannot: one that somebody else wrote
        must not stop the rest.
        """
        usable: list[Source] = []
        broken: list[UsageError] = []
        for name in sources.names():
            try:
                usable.append(self.get(name))
            except UsageError as error:
                broken.append(error)
        return usable, broken

    def ref_of(self, name: str, original: Mapping[str, object]) -> ModelRef:
        """What an entry's keys mean, or the ref that its short form was. Raises UsageError."""
        if "ref" in original:
            return self.parse(str(original["ref"]))
        keys = {k: list(v) if isinstance(v, tuple) else v for k, v in original.items()}
        return self.get(name).ref_of(keys)

    def bind(self, ref: ModelRef, auth: Mapping[str, object], headers: Mapping[str, str]) -> None:
        """From now on `ref` is asked for with an entry's own credentials and headers."""
        if auth or headers:
            means = Means(
                self._means.client,
                self._means.credentials.owned(auth or None),
                self._endpoints.get(ref.source),
                headers,
            )
            self._own[str(ref)] = sources.load(ref.source)(means)

    def resolve(self, ref: ModelRef) -> Snapshot:
        """What `ref` means now. Raises NotFound, AccessError, NetworkError, UnsafeName."""
        own = self._own.get(str(ref))
        with self._blaming():
            snapshot = (own or self.get(ref.source)).resolve(ref)
        if own is not None:
            self._own[str(snapshot.ref)] = own
        new = [one for one in self._means.credentials.troubles() if one not in self._told]
        self._told.update(new)
        return replace(snapshot, notes=(*snapshot.notes, *new)) if new else snapshot

    def locate(self, snapshot: Snapshot, file: ModelFile) -> Location:
        """Where a file can be had, whichever source has it in the end. Raises UsageError for a
        member of an archive.
        """
        if snapshot.table.get(ARCHIVE) not in {None, file.path}:
            raise UsageError(
                f"{clean(file.path)} is a member of {clean(snapshot.table[ARCHIVE])}, and cannot "
                "be fetched by itself",
                hint="sync its provision file or its lock, with --replace where it is damaged",
            )
        for _ in range(_DEEPEST + 1):
            source = self._own.get(str(snapshot.ref)) or self.get(snapshot.ref.source)
            with self._blaming():
                location = source.locate(snapshot, file)
            if not isinstance(location, Other):
                return self._blamed(location)
            snapshot = self.resolve(location.ref)
            file = select(snapshot, path=location.ref.path).files[0]
        raise UsageError(
            f"{snapshot.ref} is passed on from source to source more than {_DEEPEST} times",
            hint="name the model at the source that has its bytes",
        )

    @contextmanager
    def _blaming(self) -> Iterator[None]:
        """A token that the keyring did not give may be why a source is refused."""
        try:
            yield
        except (AccessError, NotFound) as error:
            self._with_troubles(error)
            raise

    def _blamed(self, location: Location) -> Location:
        if not isinstance(location, Http) or location.explain is None:
            return location
        explain = location.explain
        return replace(location, explain=lambda *told: self._with_troubles(explain(*told)))

    def _with_troubles(self, error: ModelbayError) -> ModelbayError:
        if isinstance(error, AccessError | NotFound):
            error.hint = "; ".join(filter(None, [*self._means.credentials.troubles(), error.hint]))
        return error

    def has_mirrors(self, name: str) -> bool:
        """Whether other endpoints may have the files of the source called `name`."""
        return isinstance(self.get(name), Mirrored)

    def mirrored(
        self, mirrors: Sequence[str], snapshot: Snapshot, file: ModelFile
    ) -> list[tuple[str, Callable[[], Location]]]:
        """Of `mirrors` those that may have `file`, and how to find it there."""
        source = self.get(snapshot.ref.source)
        if not isinstance(source, Mirrored):
            return []
        return [(one, partial(source.locate_at, one, snapshot, file)) for one in mirrors]

    def at(self, url: str) -> Location:
        """Where an alternate is, asked for as any plain address. Raises UsageError, RefError."""
        source = self.get("url")
        ref = source.ref_of({"url": url})
        return source.locate(Snapshot(ref, "", ()), ModelFile(SafeRelPath("alternate")))
