"""Ollama's registry, and OCI registries whose images have layers like its own.

Facts: protocols-rest A, corrected by fixtures SURPRISES §3. A model is a manifest and its
blobs; the manifest is a file of the snapshot like any other, so that locks, mirrors and the
store have it byte for byte.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from modelbay.digest import Digest
from modelbay.errors import (
    FormatError,
    ModelbayError,
    ModelDisabled,
    NoSearch,
    RefError,
    RevisionNotFound,
    UpstreamChanged,
    UsageError,
    WrongBytes,
)
from modelbay.location import Http, Location, Other, Stream
from modelbay.refs import ModelRef, RawRef
from modelbay.safepath import SafeRelPath
from modelbay.snapshot import Hit, Licence, ModelFile, Query, Snapshot
from modelbay.sources import ollama_facts as facts
from modelbay.sources import ollama_refs as refs
from modelbay.sources.base import Means, Option
from modelbay.sources.ollama_access import Access
from modelbay.sources.ollama_errors import blob_refused, explained, refused
from modelbay.sources.ollama_refs import Name
from modelbay.text import clean
from modelbay.wire.hub import PUBLIC as PUBLIC_HUB
from modelbay.wire.hub import Hub
from modelbay.wire.hub import Refusal as HubRefusal
from modelbay.wire.hub import Repo as HubRepo
from modelbay.wire.oci import Refusal, Repo
from modelbay.wire.oci_manifest import LARGEST, MANIFEST_NAME, Layer, Manifest, read_manifest

_AGAIN: Final = "make the lock again from its provision file"
_GONE: Final = frozenset({400, 404, 405})
"""What registries that find manifests by their tags alone answer to a digest."""


class Ollama:
    """Implements `Source`. One per process; safe to share between threads."""

    name = "ollama"
    schemes = refs.SCHEMES
    layout = "ollama"
    options: tuple[Option, ...] = (
        Option("model", "name, or namespace/name", required=True),
        Option("tag", "which of its variants; latest when left out"),
        Option("registry", "host of another registry than Ollama's own"),
        Option("digest", "sha256:<hex> of the one manifest that is meant"),
    )

    def __init__(self, means: Means) -> None:
        self._means = means
        self._configured = means.endpoint
        self._access = Access(means)
        self._on_hub: dict[str, tuple[str, Mapping[Digest, str]]] = {}

    def read_ref(self, raw: RawRef) -> ModelRef:
        return refs.read_ref(raw, self._configured)

    def recognise(self, text: str) -> ModelRef | None:
        return refs.recognise(text, self._configured)

    def ref_of(self, keys: dict[str, object]) -> ModelRef:
        told = {name: keys.get(name) for name in ("model", "tag", "registry", "digest")}
        texts = {name: None if value is None else str(value) for name, value in told.items()}
        model = texts["model"]
        if not model:
            raise UsageError("an entry of ollama has no model", hint='write model = "llama3.2"')
        return refs.named(
            model, texts["tag"], texts["registry"], self._configured, revision=texts["digest"]
        )

    def keys_of(self, ref: ModelRef) -> dict[str, object]:
        name = Name.of(ref)
        usual = name.host == refs.PUBLIC_HOST and self._configured is None
        told = {
            "model": name.repo if "/" in name.repo else f"/{name.repo}",
            "tag": name.tag,
            "registry": None if usual else name.origin if name.http else name.host,
            "digest": ref.revision,
        }
        return {key: value for key, value in told.items() if value is not None}

    def ref_in(self, table: Mapping[str, str], asked: ModelRef) -> ModelRef:
        return _name_in(table, asked).ref(asked.revision, asked.path)

    def search(self, query: Query) -> Iterator[Hit]:
        """The tags of the repository that the query names, where its registry lists them."""
        name = self._searched(query.text)
        repo = self._repo(name)
        try:
            tags = self._access.ask(repo, lambda registry: registry.tags(repo))
        except Refusal as refusal:
            raise explained(refusal, self._access, repo, name) from refusal
        if tags is None:
            raise NoSearch(
                f"{name.host} lists no tags of {name.repo}",
                hint=f"name one: `modelbay show {name.ref()}`",
            )
        for tag in tags[: query.limit]:
            one = Name(name.host, name.repo, tag, name.http)
            yield Hit(one.ref(), f"{name.repo}:{clean(tag, limit=128)}")

    def _searched(self, text: str) -> Name:
        try:
            scheme = "" if text.startswith(("ollama:", "oci:")) else "oci://"
            ref = self.read_ref(RawRef("oci", True, _body(scheme + text), (), text))  # noqa: FBT003
        except RefError:
            ref = None
        if ref is None or Name.of(ref).host == refs.PUBLIC_HOST:
            raise NoSearch(
                "Ollama's registry has no search that programs may ask for "
                f"{clean(text, limit=100)!r}",
                hint="look at https://ollama.com/search, then `modelbay show ollama:NAME:TAG`; "
                "for another registry's tags search for HOST/NAMESPACE/NAME",
            )
        return Name.of(ref)

    def resolve(self, ref: ModelRef) -> Snapshot:
        name = Name.of(ref)
        repo = self._repo(name)
        try:
            manifest = self._manifest(repo, name, ref.revision)
            config = self._config(repo, manifest)
            licence = self._licence(repo, manifest)
        except Refusal as refusal:
            raise explained(refusal, self._access, repo, name, ref.revision) from refusal
        _refuse_remote(name, manifest, config)
        return Snapshot(
            ref=ref,
            revision=str(manifest.digest),
            files=_files(manifest),
            table=_table(name, manifest.digest),
            licence=licence,
            page=name.page,
            notes=tuple(_notes(name, config)),
        )

    def _manifest(self, repo: Repo, name: Name, revision: str | None) -> Manifest:
        """The one of that digest, else what the tag stands for. Raises Refusal."""
        where = f"the manifest of {name.repo}:{name.tag}"
        content = self._content(repo, name.tag, revision)
        manifest = read_manifest(content, where)
        if revision is not None and str(manifest.digest) != revision:
            raise RevisionNotFound(
                f"{name.host} no longer has {revision} of {name.repo}: its tag {name.tag} stands "
                f"for {manifest.digest}",
                hint=f"ask for that one: {name.ref()}",
            )
        return manifest

    def _content(self, repo: Repo, tag: str, digest: str | None) -> bytes:
        """By digest where one is known, and by tag where the registry knows no digests."""
        if digest is not None:
            try:
                return self._access.ask(repo, lambda registry: registry.manifest(repo, digest))
            except Refusal as refusal:
                if refusal.status not in _GONE:
                    raise
        return self._access.ask(repo, lambda registry: registry.manifest(repo, tag))

    def _config(self, repo: Repo, manifest: Manifest) -> Mapping[str, Any]:
        for layer in manifest.of("config"):
            if layer.size <= facts.LARGEST_CONFIG:
                return facts.read_config(self._small(repo, layer))
        return {}

    def _licence(self, repo: Repo, manifest: Manifest) -> Licence:
        layers = [one for one in manifest.of("license") if one.size <= facts.LARGEST_LICENCE]
        texts = [self._small(repo, layer).decode("utf-8", "replace") for layer in layers]
        return facts.licence_of(texts)

    def _small(self, repo: Repo, layer: Layer) -> bytes:
        limit = max(facts.LARGEST_CONFIG, facts.LARGEST_LICENCE)
        content = self._access.ask(repo, lambda asked: asked.blob(repo, layer.digest, limit))
        if hashlib.sha256(content).hexdigest() != layer.digest.hex:
            raise WrongBytes(
                f"{repo.path} has a {layer.name} whose bytes are not those of its digest",
                hint="run the same command again; if it stays so, tell whoever runs that registry",
            )
        return content

    def locate(self, snapshot: Snapshot, file: ModelFile) -> Location:
        """A blob's address. The manifest is asked for when it is read; a Hub's file is the
        Hub's.
        """
        name = _name_in(snapshot.table, snapshot.ref)
        repo = self._repo(name)
        if file.path == MANIFEST_NAME or file.sha256 is None:
            return Stream(lambda offset: self._stream(repo, name, snapshot, offset))
        if name.is_hub and (elsewhere := self._hub_file(repo, name, file.sha256)) is not None:
            return Other(elsewhere)
        url = repo.blob_url(file.sha256)
        try:
            credential = self._access.credential(repo, url)
        except Refusal as refusal:
            raise refused(refusal, self._access, repo, name) from refusal

        def explain(status: int, headers: Mapping[str, str], start: str) -> ModelbayError:  # noqa: ARG001
            return blob_refused(status, start, self._access, repo, file.path)

        return Http(url, credential=credential, explain=explain)

    def _stream(self, repo: Repo, name: Name, snapshot: Snapshot, offset: int) -> Iterator[bytes]:
        wanted = snapshot.table.get("manifest-digest", snapshot.revision)
        try:
            content = self._content(repo, name.tag, wanted)
        except Refusal as refusal:
            raise explained(refusal, self._access, repo, name, wanted) from refusal
        found = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if found != wanted or len(content) > LARGEST:
            raise UpstreamChanged(
                f"{name.host} gives another manifest of {name.repo}:{name.tag}: {found} instead of "
                f"{wanted}",
                hint="make the lock anew with `modelbay lock --upgrade`, or ask for it again",
            )
        yield content[offset:]

    def _hub_file(self, repo: Repo, name: Name, digest: Digest) -> ModelRef | None:
        """The Hub's own name for a blob of a Hub's model; None where it cannot be told. Looked
        for once for each model.
        """
        if name.repo not in self._on_hub:
            self._on_hub[name.repo] = self._listed(repo.origin, name.repo)
        commit, paths = self._on_hub[name.repo]
        path = paths.get(digest)
        if path is None:
            return None
        options = () if repo.origin == PUBLIC_HUB else (("endpoint", repo.origin),)
        return ModelRef("huggingface", "hf", name.repo, commit, path, options)

    def _listed(self, endpoint: str, repo: str) -> tuple[str, Mapping[Digest, str]]:
        credential = self._means.credentials.find("huggingface", endpoint, auth={})
        hub, there = Hub(self._means.client, endpoint, credential), HubRepo(endpoint, repo)
        try:
            commit = hub.facts(there, "main").sha
            rows = [row for row in hub.tree(there, commit) if row.sha256 is not None]
        except (HubRefusal, ModelbayError):
            return "", {}
        return commit, {Digest.sha256(row.sha256 or ""): row.path for row in rows}

    def _repo(self, name: Name) -> Repo:
        if not name.is_hub:
            return Repo(name.origin, name.repo)
        # hf.co redirects to the other name, and its tokens are for that one (SURPRISES O2).
        endpoint = self._means.credentials.home("huggingface") or PUBLIC_HUB
        return Repo(endpoint.rstrip("/"), name.repo)


def _body(text: str) -> str:
    """What stands after the scheme."""
    return text.partition(":")[2].removeprefix("//")


def _files(manifest: Manifest) -> tuple[ModelFile, ...]:
    whole = ModelFile(SafeRelPath(MANIFEST_NAME), len(manifest.content), (_claim(manifest),))
    layers = (ModelFile(one.name, one.size, (one.digest,)) for one in manifest.layers)
    return tuple(sorted((whole, *layers), key=lambda file: file.path))


def _claim(manifest: Manifest) -> Digest:
    return Digest.sha256(manifest.digest.hex)


def _table(name: Name, digest: Digest) -> dict[str, str]:
    host = name.origin if name.http else name.host
    return {"host": host, "name": name.repo, "tag": name.tag, "manifest-digest": str(digest)}


def _name_in(table: Mapping[str, str], ref: ModelRef) -> Name:
    """The name in a table, which a lock may have brought for `ref`. Raises FormatError."""
    try:
        host, http = refs.endpoint_of(table.get("host", ""))
        refs.checked_revision(table.get("manifest-digest", ""), str(ref))
        name = Name(host, table.get("name", ""), table.get("tag", ""), http)
        again = refs.named(f"/{name.repo}", name.tag, name.origin, None, revision=None)
    except RefError as error:
        raise FormatError(
            f"{ref} is locked to a host, a name, a tag and a manifest that could not be asked for: "
            f"{error}",
            hint=_AGAIN,
        ) from error
    if Name.of(again) != name:
        raise FormatError(f"{ref} is locked to another form of its name, {again}", hint=_AGAIN)
    return name


def _refuse_remote(name: Name, manifest: Manifest, config: Mapping[str, Any]) -> None:
    """Raises ModelDisabled for a model that only runs on somebody's servers."""
    if config.get("remote_host") and not (manifest.of("model") or manifest.of("tensor")):
        raise ModelDisabled(
            f"{name.repo}:{name.tag} runs on {clean(config['remote_host'], limit=200)} alone: "
            "there is nothing to download",
            hint="take a tag without `cloud` in its name",
        )


def _notes(name: Name, config: Mapping[str, Any]) -> Iterator[str]:
    requires = config.get("requires")
    if isinstance(requires, str) and requires:
        yield f"it needs Ollama {clean(requires, limit=40)} or newer"
    if name.http:
        yield "plain http: whoever carries the bytes could change them"
