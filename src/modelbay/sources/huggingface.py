"""The Hugging Face Hub, and every registry that answers like it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Final
from urllib.parse import quote

from modelbay.digest import Digest
from modelbay.errors import FormatError, ModelbayError, UsageError
from modelbay.http import Answer
from modelbay.location import Credential, Http
from modelbay.refs import ModelRef, RawRef
from modelbay.safepath import SafeRelPath, refuse_clashes
from modelbay.snapshot import Hit, Licence, ModelFile, Query, Snapshot
from modelbay.sources import huggingface_refs as refs
from modelbay.sources.base import Account, Means, Option
from modelbay.sources.huggingface_errors import (
    account_refused,
    disabled,
    explained,
    file_refused,
    gated,
    host_of,
)
from modelbay.sources.licences import spdx_of
from modelbay.text import clean
from modelbay.wire.hub import PUBLIC, Hub, Refusal, Repo, is_repo_id
from modelbay.wire.hub_answers import Found, RepoFacts, Row, is_commit

_PAGE = 100
_EXPANDED = ("downloads", "likes", "tags", "pipeline_tag", "lastModified", "gated", "private")
_SORTS: Final[Mapping[str, str]] = {
    "downloads": "downloads",
    "likes": "likes",
    "updated": "lastModified",
    "created": "createdAt",
    "trending": "trendingScore",
}
_NO_SUCH_ROUTE = frozenset({404, 405, 501})


class HuggingFace:
    """Implements `Source`. One per process; safe to share between threads."""

    name = "huggingface"
    schemes = (refs.SCHEME,)
    layout = "hf-cache"
    options: tuple[Option, ...] = (
        Option("repo", "org/name, or datasets/org/name", required=True),
        Option("revision", "branch, tag or commit; the default branch when left out"),
        Option("endpoint", "address of a Hub-compatible registry"),
        Option("file", "the one file that is wanted"),
        Option("files", "the files that are wanted", type="list"),
        Option("include", "globs of wanted files", type="list"),
        Option("exclude", "globs of files to leave out", type="list"),
        Option("variant", "quantisation or precision, like Q4_K_M"),
        Option("gated", "whether terms must be accepted; checked before anything moves", "flag"),
    )

    def __init__(self, means: Means) -> None:
        self._means = means
        self._endpoint = refs.normal_endpoint(means.endpoint or PUBLIC)
        self._granted: set[tuple[str, str]] = set()
        self._told: set[str] = set()

    def read_ref(self, raw: RawRef) -> ModelRef:
        return refs.read_ref(raw, self._endpoint)

    def recognise(self, text: str) -> ModelRef | None:
        return refs.recognise(text, self._endpoint)

    def ref_of(self, keys: dict[str, object]) -> ModelRef:
        """The repository at its revision. Which of its files: the selection's business."""
        repo = keys.get("repo")
        if not isinstance(repo, str) or not repo:
            raise UsageError("an entry of huggingface has no repo", hint='write repo = "org/name"')
        endpoint = keys.get("endpoint")
        query = (("endpoint", str(endpoint)),) if endpoint is not None else ()
        raw = RawRef(refs.SCHEME, slashes=True, body=repo, options=query, text=repo)
        ref = refs.read_ref(raw, self._endpoint)
        revision = keys.get("revision")
        return ref if revision is None else ref.at(str(revision))

    def keys_of(self, ref: ModelRef) -> dict[str, object]:
        told = {"repo": ref.name, "revision": ref.revision, "endpoint": ref.option("endpoint")}
        return {key: value for key, value in told.items() if value is not None}

    def ref_in(self, table: Mapping[str, str], asked: ModelRef) -> ModelRef:
        repo, _ = _repo_of(table, asked)
        return refs.ref_to(repo, asked.revision, asked.path, self._endpoint)

    def search(self, query: Query) -> Iterator[Hit]:
        """Models, newest trends first unless `sort` says otherwise."""
        params = _search_params(query)
        hub = self._hub(self._endpoint)
        try:
            for row in islice(hub.search("model", params), query.limit):
                yield self._hit(row)
        except Refusal as refusal:
            repo = Repo(self._endpoint, "its search")
            raise self._explained(refusal, hub, repo) from refusal

    def resolve(self, ref: ModelRef) -> Snapshot:
        repo = refs.repo_of(ref, self._endpoint)
        hub = self._hub(repo.endpoint)
        try:
            ref, facts = _facts(hub, repo, ref)
            if facts.disabled:
                raise disabled(repo)
            named = facts.id if is_repo_id(facts.id) else repo.id
            current = replace(repo, id=named)
            commit = ref.revision if ref.revision and is_commit(ref.revision) else facts.sha
            rows, notes = _rows(hub, current, commit)
        except Refusal as refusal:
            raise self._explained(refusal, hub, repo, ref.revision) from refusal
        if current != repo:
            notes = (f"{repo.id} is called {current.id} on {host_of(repo)}", *notes)
        return Snapshot(
            ref=refs.ref_to(current, ref.revision, ref.path, self._endpoint),
            revision=commit,
            files=_files(rows),
            table=_table(current, commit),
            licence=_licence(facts, current),
            gated=facts.gated,
            page=current.page,
            notes=(*notes, *self._warnings(hub)),
        )

    def locate(self, snapshot: Snapshot, file: ModelFile) -> Http:
        """Raises CredentialMissing or Gated before the first byte of a gated model."""
        repo, commit = _repo_of(snapshot.table, snapshot.ref)
        if snapshot.gated != "no":
            self._pass_gate(repo)
        hub = self._hub(repo.endpoint)
        # The listing's own spelling: ours is NFC, theirs may not be.
        url = repo.file_url(commit, file.extra.get("path", file.path))

        def explain(status: int, headers: Mapping[str, str], start: str) -> ModelbayError:
            answer = Answer(status, url, start.encode("utf-8", "replace"), headers)
            return file_refused(answer, hub, repo, file.path, variable=self._variable(repo))

        return Http(url, credential=hub.credential, explain=explain)

    def locate_at(self, mirror: str, snapshot: Snapshot, file: ModelFile) -> Http:
        """An entry's own credentials are for its own host."""
        repo, commit = _repo_of(snapshot.table, snapshot.ref)
        there = replace(repo, endpoint=refs.normal_endpoint(mirror))
        credential = self._means.credentials.find(self.name, there.endpoint, auth={})
        url = there.file_url(commit, file.extra.get("path", file.path))
        return Http(url, credential=credential)

    def account(self, url: str, credential: Credential) -> Account | None:
        endpoint = refs.normal_endpoint(url)
        try:
            whose = Hub(self._means.client, endpoint, credential).whoami()
        except Refusal as refusal:
            if refusal.status in _NO_SUCH_ROUTE:
                return None
            raise account_refused(refusal, endpoint, credential) from refusal
        return Account(whose.name, whose.token, whose.role, whose.organisations)

    def _pass_gate(self, repo: Repo) -> None:
        """Asks once per repository: whoever may read one file may read them all."""
        if (repo.endpoint, repo.id) in self._granted:
            return
        hub = self._hub(repo.endpoint)
        if hub.credential is None:
            raise gated(repo, hub, self._variable(repo))
        try:
            hub.check_access(repo)
        except Refusal as refusal:
            if refusal.status not in _NO_SUCH_ROUTE:
                raise self._explained(refusal, hub, repo) from refusal
        self._granted.add((repo.endpoint, repo.id))

    def _hub(self, endpoint: str) -> Hub:
        credential = self._means.credentials.find(self.name, endpoint)
        return Hub(self._means.client, endpoint, credential)

    def _variable(self, repo: Repo) -> str:
        return self._means.credentials.variable(self.name, repo.endpoint)

    def _explained(
        self, refusal: Refusal, hub: Hub, repo: Repo, revision: str | None = None
    ) -> ModelbayError:
        return explained(refusal, hub, repo, variable=self._variable(repo), revision=revision)

    def _warnings(self, hub: Hub) -> Iterator[str]:
        """What the Hub warned of, each once per process and not per model."""
        for warning in hub.warnings:
            if warning not in self._told:
                self._told.add(warning)
                yield f"the Hub says: {clean(warning, limit=300)}"

    def _hit(self, row: Found) -> Hit:
        repo = Repo(self._endpoint, row.id)
        return Hit(
            ref=refs.ref_to(repo, None, None, self._endpoint),
            title=row.id,
            author=row.id.partition("/")[0] if "/" in row.id else None,
            likes=row.likes,
            downloads=row.downloads,
            updated=row.updated,
            task=row.task,
            licence=next(iter(_licence_tags(row.tags)), None),
            gated=row.gated,
            private=row.private,
            tags=row.tags,
        )


def _search_params(query: Query) -> list[tuple[str, str]]:
    params = [("search", query.text)] if query.text else []
    params += [("author", query.author)] if query.author else []
    params += [("filter", tag) for tag in query.filters]
    params += [("pipeline_tag", query.task)] if query.task else []
    if query.gated is not None:
        params.append(("gated", "true" if query.gated else "false"))
    if query.sort is not None:
        if query.sort not in _SORTS:
            raise UsageError(
                f"the Hub does not sort by {clean(query.sort)!r}",
                hint="sort by one of " + ", ".join(_SORTS),
            )
        params.append(("sort", _SORTS[query.sort]))
    params.append(("limit", str(max(1, min(query.limit, _PAGE)))))
    return params + [("expand", name) for name in _EXPANDED]


def _facts(hub: Hub, repo: Repo, ref: ModelRef) -> tuple[ModelRef, RepoFacts]:
    """The facts, and the ref with a revision like `feature/x` put together again."""
    try:
        return ref, hub.facts(repo, ref.revision or "main")
    except Refusal as refusal:
        joined = None
        if refusal.kind == "revision" and ref.revision and ref.path:
            joined = _joined(ref, hub.refs(repo))
        if joined is None or joined.revision is None:
            raise
        return joined, hub.facts(repo, joined.revision)


def _joined(ref: ModelRef, known: tuple[str, ...]) -> ModelRef | None:
    """`@feature/x/file` read with the longest branch or tag that begins it."""
    whole = f"{ref.revision}/{ref.path}"
    fitting = [name for name in known if whole == name or whole.startswith(name + "/")]
    if not fitting:
        return None
    revision = max(fitting, key=len)
    return replace(ref, revision=revision, path=whole[len(revision) + 1 :] or None)


def _rows(hub: Hub, repo: Repo, commit: str) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """Every file, from the tree or, where a registry has none, from its model info (A10)."""
    try:
        return tuple(hub.tree(repo, commit)), ()
    except Refusal as refusal:
        if refusal.status not in _NO_SUCH_ROUTE:
            raise
    note = f"{host_of(repo)} lists no file tree: names and sizes come from its model info"
    return hub.facts(repo, commit, blobs=True).files, (note,)


def _files(rows: tuple[Row, ...]) -> tuple[ModelFile, ...]:
    files = tuple(sorted((_file(row) for row in rows), key=lambda file: file.path))
    refuse_clashes(file.path for file in files)
    return files


def _file(row: Row) -> ModelFile:
    path = SafeRelPath.parse(row.path)
    extra = {
        "xet": row.xet,
        "blob_id": row.oid,
        "pointer_size": None if row.pointer_size is None else str(row.pointer_size),
        "path": row.path if row.path != path else None,
    }
    digests: tuple[Digest, ...] = ()
    if row.sha256 is not None:
        digests = (Digest.sha256(row.sha256),)
    elif row.oid is not None:
        digests = (Digest("git-sha1", row.oid),)
    return ModelFile(
        path=path,
        size=row.size,
        digests=digests,
        lfs=row.sha256 is not None,
        extra={key: value for key, value in extra.items() if value is not None},
    )


def _licence(facts: RepoFacts, repo: Repo) -> Licence:
    """The card's word, else the tags'; `other` is known by the name the card gives it."""
    told = facts.card.get("license")
    names = [told] if isinstance(told, str) else told if isinstance(told, list) else []
    names = [name for name in names if isinstance(name, str)] or _licence_tags(facts.tags)
    if not names:
        return Licence()
    link = facts.card.get("license_link")
    if isinstance(link, str) and "://" not in link:
        link = f"{repo.page}/blob/main/{quote(link)}"
    named = facts.card.get("license_name")
    if names == ["other"] and isinstance(named, str):
        return Licence(None, named, link if isinstance(link, str) else None)
    known = [spdx_of(name) for name in names]
    spdx = " AND ".join(name for name in known if name) if all(known) else None
    return Licence(spdx, ", ".join(names), link if isinstance(link, str) else None)


def _licence_tags(tags: tuple[str, ...]) -> list[str]:
    return [tag.partition(":")[2] for tag in tags if tag.startswith("license:")]


def _table(repo: Repo, commit: str) -> dict[str, str]:
    table = {"endpoint": repo.endpoint, "repo": repo.id, "commit": commit}
    return table if repo.type == "model" else {**table, "type": repo.type}


def _repo_of(table: Mapping[str, str], ref: ModelRef) -> tuple[Repo, str]:
    """Repository and commit of a table, which a lock may have brought for `ref`."""
    repo, commit = table.get("repo", ""), table.get("commit", "")
    if not is_repo_id(repo) or not is_commit(commit):
        raise FormatError(
            f"{ref} is locked without a repo and a commit that could be asked for",
            hint="make the lock again from its provision file",
        )
    endpoint = refs.normal_endpoint(table.get("endpoint", PUBLIC))
    return Repo(endpoint, repo, refs.repo_type(table.get("type", "model"))), commit
