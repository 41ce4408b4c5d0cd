"""CivitAI: models for image generators, in versions of one or more files.

A ref names one file: the primary one of a version, or the one whose number follows a `+`.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from modelbay.errors import FileNotFound, FormatError, ModelbayError, PolicyError, UsageError
from modelbay.location import Credential, Http
from modelbay.refs import ModelRef, RawRef
from modelbay.safepath import SafeRelPath
from modelbay.snapshot import Hit, Licence, ModelFile, Query, Snapshot
from modelbay.sources import civitai_refs as refs
from modelbay.sources.base import Account, Means, Option
from modelbay.sources.civitai_errors import (
    About,
    archived,
    key_refused,
    no_model,
    no_version,
    refused,
    when,
)
from modelbay.sources.civitai_kinds import category_of
from modelbay.sources.civitai_search import hit_of, params_of, wanted
from modelbay.text import clean
from modelbay.wire.civitai import PUBLIC, Civitai, Refusal, refusal_of, turned_away
from modelbay.wire.civitai_answers import File, Model, Terms, Version

_MOST_TOLD: Final = 5
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,14}")
_NO_FILES: Final = frozenset({"Archived", "TakenDown"})
_DANGEROUS: Final = "Danger"


class CivitAI:
    """Implements `Source`. One per process; safe to share between threads."""

    name = "civitai"
    schemes = (refs.SCHEME,)
    layout = "folders"
    options: tuple[Option, ...] = (
        Option("version_id", "number of a version, after modelVersionId= in its page's address"),
        Option("model_id", "number of a model, in place of version_id: its newest version"),
        Option("file_id", "number of another file of that version than its primary one"),
        Option("endpoint", "address of a registry that answers like CivitAI"),
    )

    def __init__(self, means: Means) -> None:
        self._means = means
        self._endpoint = refs.normal_endpoint(means.endpoint or PUBLIC)

    def read_ref(self, raw: RawRef) -> ModelRef:
        return refs.read_ref(raw, self._endpoint)

    def recognise(self, text: str) -> ModelRef | None:
        return refs.recognise(text, self._endpoint)

    def ref_of(self, keys: dict[str, object]) -> ModelRef:
        version, model, file = (_number(keys, f"{one}_id") for one in ("version", "model", "file"))
        if (version is None) is (model is None):
            raise UsageError(
                "an entry of civitai names "
                + ("no version" if version is None else "a version and a model"),
                hint='write version_id = "58390", or model_id for whatever version is newest',
            )
        if model is not None and file is not None:
            raise UsageError(
                "an entry of civitai has a file_id and no version_id, and files are of a version",
                hint="write version_id in place of model_id",
            )
        told = keys.get("endpoint")
        endpoint = self._endpoint if told is None else refs.normal_endpoint(str(told))
        return refs.ref_to(endpoint, self._endpoint, version=version, model=model, file=file)

    def keys_of(self, ref: ModelRef) -> dict[str, object]:
        named = refs.named(ref, self._endpoint)
        told = {"version_id": named.version, "model_id": named.model, "file_id": named.file}
        keys: dict[str, object] = {key: str(value) for key, value in told.items() if value}
        endpoint = ref.option("endpoint")
        return keys if endpoint is None else {**keys, "endpoint": endpoint}

    def ref_in(self, table: Mapping[str, str], asked: ModelRef) -> ModelRef:
        """`asked` where it names that version; its version where it names a model or chooses a
        file by a query, which only CivitAI could answer.
        """
        endpoint, version, file = _located(table, asked)
        named = refs.named(asked, self._endpoint)
        changed = named.version not in {None, version} or named.file not in {None, file}
        if changed or named.model not in {None, _in(table, "model-id", asked)}:
            raise FormatError(
                f"{asked} is locked to the version {version} and its file {file}, which are others",
                hint="make the lock again from its provision file",
            )
        if named.version is not None and not named.chosen and named.endpoint == endpoint:
            return asked
        chosen = file if named.chosen else named.file
        return refs.ref_to(endpoint, self._endpoint, version=version, file=chosen, path=asked.path)

    def search(self, query: Query) -> Iterator[Hit]:
        """Models, in CivitAI's own order unless `sort` says otherwise; only what is fit for
        everybody unless `nsfw` is among the filters.
        """
        params = params_of(query)
        api = self._api(self._endpoint)
        found = (model for model in api.search(params) if wanted(model, query))
        try:
            for model in islice(found, query.limit):
                yield hit_of(model, self._endpoint)
        except Refusal as refusal:
            raise refused(refusal, self._about(api, "its search")) from refusal

    def resolve(self, ref: ModelRef) -> Snapshot:
        named = refs.named(ref, self._endpoint)
        api = self._api(named.endpoint)
        version, model = self._asked(api, named)
        page = f"{api.endpoint}/models/{version.model_id}?modelVersionId={version.id}"
        about = self._about(api, _called(version), page)
        if model is not None and model.mode in _NO_FILES:
            raise archived(about)
        if version.usage != "Download":
            raise refused(Refusal("disabled", 200), about)
        file = _chosen(version, named, ref)
        table = {
            "model-id": str(version.model_id),
            "version-id": str(version.id),
            "file-id": str(file.id),
        }
        precise = file.id if named.chosen else named.file
        return Snapshot(
            ref=refs.ref_to(
                api.endpoint, self._endpoint, version=version.id, file=precise, path=ref.path
            ),
            revision=f"{version.id}+{file.id}",
            files=(_model_file(file),),
            table=table if api.endpoint == PUBLIC else {"endpoint": api.endpoint, **table},
            licence=_licence(model.terms if model is not None else None),
            gated="manual" if _in_early_access(version) else "no",
            page=page,
            notes=tuple(_notes(version, file, newest=named.model is not None)),
            category=category_of(version.type, file.type),
        )

    def locate(self, snapshot: Snapshot, file: ModelFile) -> Http:
        """Raises PolicyError for a file that was found to be harmful."""
        if file.danger:
            raise PolicyError(
                f"{snapshot.ref} is not fetched: {clean(file.danger, limit=300)}",
                hint="take another file or version of that model",
            )
        endpoint, version, number = _located(snapshot.table, snapshot.ref)
        api = self._api(endpoint)
        what = f"{clean(file.path)} of version {version}"
        page = snapshot.page or f"{endpoint}/model-versions/{version}"
        about = self._about(api, what, page)

        def explain(status: int, headers: Mapping[str, str], start: str) -> ModelbayError:
            return refused(refusal_of(status, headers.get("content-type", ""), start), about)

        def away(target: str) -> ModelbayError | None:
            kind = turned_away(target)
            return None if kind is None else refused(Refusal(kind, 307), about)

        return Http(
            api.file_url(version, number),
            credential=api.credential,
            explain=explain,
            turned_away=away,
        )

    def account(self, url: str, credential: Credential) -> Account | None:
        """Elsewhere a key that is nobody's is no error, and its bearer is anonymous (C)."""
        api = Civitai(self._means.client, refs.normal_endpoint(url), credential)
        try:
            return Account(api.username())
        except Refusal as refusal:
            if refusal.kind == "missing":
                return None
            raise key_refused(refusal, self._about(api, "the account")) from refusal

    def _asked(self, api: Civitai, named: refs.Named) -> tuple[Version, Model | None]:
        """The version that is named, and its model where CivitAI tells of it."""
        about = self._about(api, f"model {named.model}")
        try:
            if named.version is not None:
                return self._version(api, named.version)
            model = api.model(named.model or 0)
            if model.mode in _NO_FILES:
                raise archived(about)
            if not model.versions:
                raise no_model(model.id, about)
            return api.version(model.versions[0].id), model
        except Refusal as refusal:
            if refusal.kind == "missing" and named.model is not None:
                raise no_model(named.model, about) from refusal
            raise refused(refusal, about) from refusal

    def _version(self, api: Civitai, number: int) -> tuple[Version, Model | None]:
        about = self._about(api, f"version {number}")
        try:
            version = api.version(number)
        except Refusal as refusal:
            if refusal.kind == "missing":
                raise no_version(number, about, _maybe_model(api, number)) from refusal
            raise refused(refusal, about) from refusal
        return version, _maybe_model(api, version.model_id)

    def _api(self, endpoint: str) -> Civitai:
        credential = self._means.credentials.find(self.name, endpoint)
        return Civitai(self._means.client, endpoint, credential)

    def _about(self, api: Civitai, what: str, page: str | None = None) -> About:
        variable = self._means.credentials.variable(self.name, api.endpoint)
        return About(what, api.endpoint, page or api.endpoint, api.credential, variable)


def _maybe_model(api: Civitai, number: int) -> Model | None:
    try:
        return api.model(number)
    except Refusal:
        return None


def _number(keys: Mapping[str, object], key: str) -> int | None:
    value = keys.get(key)
    if value is None:
        return None
    if not _NUMBER.fullmatch(str(value)):
        raise UsageError(
            f"an entry of civitai has {key} = {clean(repr(value), limit=80)}, "
            "a number was expected",
            hint=f'write {key} = "58390"; the number of a version stands after modelVersionId= in '
            "the address of its page",
        )
    return int(str(value))


def _in(table: Mapping[str, str], key: str, ref: ModelRef) -> int:
    value = table.get(key, "")
    if not _NUMBER.fullmatch(value):
        raise FormatError(
            f"{ref} is locked to the {key} {clean(value, limit=80)!r}, which is no number",
            hint="make the lock again from its provision file",
        )
    return int(value)


def _located(table: Mapping[str, str], ref: ModelRef) -> tuple[str, int, int]:
    """Endpoint, version and file of a table, which a lock may have brought for `ref`."""
    endpoint = refs.normal_endpoint(table.get("endpoint", PUBLIC))
    return endpoint, _in(table, "version-id", ref), _in(table, "file-id", ref)


def _called(version: Version) -> str:
    return f"{clean(version.model_name, limit=100)}, version {clean(version.name, limit=100)}"


def _chosen(version: Version, named: refs.Named, ref: ModelRef) -> File:
    """The file that is named by its number, its name or a query, else the primary one."""
    files: list[File] = list(version.files)
    if named.file is not None:
        files = [one for one in files if one.id == named.file]
    elif ref.path is not None:
        files = [one for one in files if one.name == ref.path]
    elif named.chosen:
        files = [one for one in files if _fits(one, named.chosen)]
    else:
        weights = [one for one in files if one.type in {"Model", "Pruned Model"}]
        files = [one for one in files if one.primary] or weights or files
    if not files:
        told = ", ".join(_told(version, one) for one in version.files[:_MOST_TOLD])
        raise FileNotFound(
            f"{_called(version)} ({version.id}) has no such file"
            if version.files
            else f"{_called(version)} ({version.id}) has no files",
            hint=f"its files: {told}" if told else "its creator may add them later",
        )
    return files[0]


def _fits(file: File, chosen: Mapping[str, str]) -> bool:
    facts = {**file.facts, "type": file.type}
    return all(facts.get(key, "").casefold() == value.casefold() for key, value in chosen.items())


def _told(version: Version, file: File) -> str:
    return f"civitai://{version.id}+{file.id} ({clean(file.name, limit=100)})"


def _model_file(file: File) -> ModelFile:
    return ModelFile(
        path=SafeRelPath.component(file.name),
        size=file.size,
        digests=() if file.digest is None else (file.digest,),
        danger=_danger(file),
    )


def _danger(file: File) -> str:
    scans = {"virus": file.virus_scan, "pickle": file.pickle_scan}
    found = [name for name, result in scans.items() if result == _DANGEROUS]
    if not found:
        return ""
    says = f" ({clean(file.scan_says, limit=200)})" if file.scan_says else ""
    return f"{' and '.join(found)} scan: Danger{says}"


def _in_early_access(version: Version) -> bool:
    ends = version.early_access_ends
    if version.early_access or ends is None:
        return version.early_access
    try:
        moment = datetime.fromisoformat(ends)
    except ValueError:
        return False
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) > datetime.now(UTC)


def _licence(terms: Terms | None) -> Licence:
    """CivitAI has no licences but four answers of the creator, which no SPDX id stands for."""
    if terms is None:
        return Licence()
    said = []
    if terms.commercial is not None:
        said.append("commercial use: " + (", ".join(terms.commercial) or "None"))
    for answer, yes, no in (
        (terms.without_credit, "no credit needed", "credit needed"),
        (terms.derivatives, "derivatives allowed", "no derivatives"),
        (terms.other_licence, "other terms for derivatives", "same terms for derivatives"),
    ):
        if answer is not None:
            said.append(yes if answer else no)
    return Licence(None, "CivitAI: " + "; ".join(said)) if said else Licence()


def _notes(version: Version, file: File, *, newest: bool) -> Iterator[str]:
    if newest:
        yield (
            f"the newest version of model {version.model_id} is "
            f"{clean(version.name, limit=100)}, civitai://{version.id}"
        )
    kind = f"{version.type or 'a model'} for {version.base_model or 'no told base model'}"
    yield f"{_called(version)}: {clean(kind, limit=160)}"
    if _in_early_access(version):
        ends = version.early_access_ends
        yield "it is in early access" + (f" until {when(ends)}" if ends else "")
    yield from _warnings(version, file)
    others = [one for one in version.files if one is not file]
    if others:
        told = ", ".join(_told(version, one) for one in others[:_MOST_TOLD])
        more = f" and {len(others) - _MOST_TOLD} more" if len(others) > _MOST_TOLD else ""
        yield f"other files of that version: {told}{more}"


def _warnings(version: Version, file: File) -> Iterator[str]:
    name = clean(file.name, limit=160)
    if danger := _danger(file):
        yield f"{name} is refused: {danger}"
    for scan, result in (("viruses", file.virus_scan), ("pickle imports", file.pickle_scan)):
        if result not in {None, "Success", _DANGEROUS}:
            yield f"{name} was not scanned for {scan} ({clean(result, limit=40)})"
    if file.facts.get("format") == "PickleTensor":
        safe = [one for one in version.files if one.facts.get("format") == "SafeTensor"]
        instead = f": {_told(version, safe[0])} cannot" if safe else ""
        yield f"{name} is a pickle, which can run code when it is loaded{instead}"
    if file.digest is None:
        yield f"CivitAI tells no digest of {name}: nothing says whether its bytes are right"
    elif file.digest.algorithm == "autov2":
        yield f"CivitAI tells only how the sha256 of {name} begins ({file.digest.hex})"
