"""`rm`: which models a person means, what removing them does, and doing it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from modelbay import paths
from modelbay.bay.roots import base_of
from modelbay.bay.session import Session
from modelbay.errors import FileNotFound, ModelbayError, ModelNotFound, RefError
from modelbay.files import Usage, usage
from modelbay.library.hf_cache import repo_folder_name
from modelbay.library.hub_removal import of_revision, revisions
from modelbay.library.index import IndexedFile, IndexedModel
from modelbay.library.ollama_removal import of_store
from modelbay.library.records import Record, records_in
from modelbay.library.removal import Removal, Removed, carry_out, recorded
from modelbay.library.trash import Trash
from modelbay.plan import Action, Plan, Step
from modelbay.refs import ModelRef
from modelbay.safepath import SafeRelPath
from modelbay.snapshot import ModelFile, Snapshot
from modelbay.text import clean

_NAMES_COMPARED = 5_000


@dataclass(frozen=True, slots=True)
class Asked:
    """What one argument means: a model by its id in a lock, or a ref, perhaps with a path."""

    text: str
    ref: ModelRef | None
    models: tuple[IndexedModel, ...]


def removals(session: Session, texts: Sequence[str]) -> list[Removal]:
    """What removing the models, revisions or files called `texts` would do; nothing is
    touched. Raises ModelNotFound with near names, RefError, DiskError.
    """
    found: dict[tuple[Path, str, str], Removal] = {}
    for text in texts:
        several = list(_of(session, asked(session, text)))
        if not several:
            raise unknown(session, text)
        if not any(one.plan.steps for one in several):
            _refuse_absent(session, text)
        for one in several:
            key = (one.base, one.plan.snapshot.revision, _paths_of(one))
            found.setdefault(key, one)
    return list(found.values())


def remove(session: Session, chosen: Sequence[Removal]) -> list[Removed]:
    """Moves everything to the trash of its root, and tells the index. Raises DiskError."""
    trash: dict[Path, Trash] = {}
    done = [carry_out(one, trash.setdefault(one.base, Trash(one.base))) for one in chosen]
    for one in done:
        forget(session, one.removal, one.gone)
    return done


def forget(session: Session, removal: Removal, gone: Sequence[Path]) -> None:
    """Takes what went out of the index, also what an earlier removal that was stopped took
    away; a revision of the Hub's cache even where its blobs serve another one.
    """
    session.index.forget(gone)
    snapshot = removal.plan.snapshot
    for model in list(session.index.models(snapshot.ref.name.rpartition("/")[2])):
        if not model.attached or not model.root.is_relative_to(removal.base):
            continue
        revision = model.root / "snapshots" / model.revision
        if model.layout == "hf-cache" and not revision.exists():
            session.index.drop(model)
        else:
            files = session.index.files_of(model)
            session.index.forget([file.path for file in files if not file.path.exists()])


def freed(chosen: Sequence[Removal]) -> Usage:
    """What all of them free together: a file that two of them lead to counts once."""
    return usage(path for one in chosen for path in one.paths)


def asked(session: Session, text: str) -> Asked:
    """The models of the index that `text` means. Raises RefError."""
    exact = {text, f"file://{Path(text).absolute()}"}
    named = tuple(
        one
        for one in session.index.models(text)
        if one.model in exact and (one.named or one.ref.startswith("file:"))
    )
    if named:
        return Asked(text, None, named)
    ref = session.parse(text)
    found = tuple(
        one
        for one in session.index.models(ref.name.rpartition("/")[2])
        if is_of(session, one.ref, ref) and ref.revision in {None, *_names(session, one)}
    )
    return Asked(text, ref, found)


def is_of(session: Session, text: str, ref: ModelRef) -> bool:
    """Whether the ref `text` names the same thing as `ref`, at whatever revision."""
    try:
        other = session.parse(text)
    except RefError:
        return False
    return (other.source, other.name, other.options) == (ref.source, ref.name, ref.options)


def unknown(session: Session, text: str) -> ModelNotFound:
    """That nothing of that name is here, with the names that are near."""
    names = list(dict.fromkeys(one.ref for one in islice(session.index.models(), _NAMES_COMPARED)))
    shown = {_bare(name): name for name in names}
    near = get_close_matches(_bare(text), list(shown), n=3, cutoff=0.5)
    hint = "did you mean " + " or ".join(clean(shown[one]) for one in near) + "?"
    return ModelNotFound(
        f"{clean(text, limit=200)} is not in the library of this machine",
        hint=hint if near else "`modelbay ls` shows what is; `modelbay adopt` looks for more",
    )


def _refuse_absent(session: Session, text: str) -> None:
    """Raises FileNotFound, with near names, when `text` names a file that its model has not."""
    wanted = asked(session, text)
    path = wanted.ref.path if wanted.ref is not None else None
    if path is None:
        return
    names = [file.name for one in wanted.models for file in session.index.files_of(one)]
    near = get_close_matches(path, names, n=3, cutoff=0.5)
    raise FileNotFound(
        f"{clean(text, limit=200)} is not here: the model has no file {clean(path)}",
        hint="did you mean " + " or ".join(map(clean, near)) + "?"
        if near
        else "`modelbay ls --files` names the files of every model",
    )


def _bare(ref: str) -> str:
    """A ref without what people do not type."""
    return (ref.partition("://")[2] or ref).partition("?")[0]


def _names(session: Session, model: IndexedModel) -> Iterator[str]:
    """What the revision of `model` may be called."""
    yield model.revision
    revision = session.parse(model.ref).revision
    if revision is not None:
        yield revision


def _of(session: Session, wanted: Asked) -> Iterator[Removal]:
    ref = wanted.ref
    repos = _repos(session, wanted)
    for repo in repos:
        before: set[Path] = set()
        name = ref or session.parse(next(one.ref for one in wanted.models if one.root == repo))
        for revision in revisions(repo):
            meant = {one.revision for one in wanted.models if one.root == repo}
            by_ref = ref is not None and (ref.revision is None or revision.is_named(ref.revision))
            if by_ref or (ref is None and revision.commit in meant):
                path = ref.path if ref else None
                removal = of_revision(revision, name.at(None), path=path, before=before)
                before.update(removal.paths)
                yield removal
    for model in wanted.models:
        if model.root not in repos and model.attached:
            yield _of_model(session, model, ref)


def _repos(session: Session, wanted: Asked) -> list[Path]:
    """Folders of the Hub's cache; also one that the index does not know of."""
    found = {one.root for one in wanted.models if one.layout == "hf-cache" and one.attached}
    if wanted.ref is not None and wanted.ref.source == "huggingface":
        folder = repo_folder_name(wanted.ref.name)
        cache = paths.hub_cache(session.environ)
        if folder is not None and (cache / folder / "snapshots").is_dir():
            found.add((cache / folder).resolve())
    return sorted(found)


def _of_model(session: Session, model: IndexedModel, ref: ModelRef | None) -> Removal:
    path = ref.path if ref is not None else None
    base = base_of(model.root)
    record = _record(session, base, model) if base is not None else None
    if base is None or record is None:
        return _not_ours(session, model, path)

    others = _files_of_others(session, base, model)
    own = session.parse(record.ref)
    inside = path if path is None or own.path is None else None
    if model.layout == "ollama":
        return of_store(base, record, own, path=inside)
    return recorded(
        base,
        record,
        own,
        layout=model.layout,
        path=inside,
        needed=lambda file: others.get(file, ""),
    )


def _files_of_others(session: Session, base: Path, but: IndexedModel) -> dict[Path, str]:
    """The files of other models below `base`, with a ref of those that have them."""
    near = [
        one
        for one in session.index.models()
        if one.key != but.key and one.root.is_relative_to(base)
    ]
    return {file.path: one.ref for one in near for file in session.index.files_of(one)}


def _record(session: Session, base: Path, model: IndexedModel) -> Record | None:
    ref = session.parse(model.ref)
    for record in records_in(base):
        if is_of(session, record.ref, ref) and session.parse(record.ref).path == ref.path:
            return record
    return None


def _not_ours(session: Session, model: IndexedModel, path: str | None) -> Removal:
    """A model of another program: named, and left alone."""
    files = [one for one in session.index.files_of(model) if path in {None, one.name}]
    steps = tuple(_stays(one) for one in files)
    ref = _ref(session, model)
    snapshot = Snapshot(ref, model.revision, tuple(step.file for step in steps), fresh=False)
    return Removal(
        Plan(snapshot, model.layout, model.root, steps, model.model), model.root, (), Usage()
    )


def _stays(file: IndexedFile) -> Step:
    name = SafeRelPath(clean(file.name or file.path.name))
    known = ModelFile(name, file.size, file.digests)
    why = "modelbay did not put it there"
    return Step(known, Action.BLOCKED, file.path, file.path, file.path, 0, why)


def _ref(session: Session, model: IndexedModel) -> ModelRef:
    try:
        return session.parse(model.ref)
    except ModelbayError:
        return ModelRef(model.source or "path", "path", model.ref)


def _paths_of(removal: Removal) -> str:
    return "\0".join(str(path) for path in removal.paths)
