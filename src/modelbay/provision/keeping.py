"""Whether a locked model still is what its entry asks for."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from modelbay.library import folders
from modelbay.provision.canonical import plain
from modelbay.provision.document import Provision
from modelbay.provision.entry import Entry
from modelbay.provision.lockfile import Lock, LockedModel
from modelbay.provision.making import placed, refuse_denied_gate, with_alternates
from modelbay.refs import ModelRef
from modelbay.text import clean

_AROUND: Final = frozenset({"hash", "gated", "urls", "filename"})
"""Keys that choose no bytes: a change of theirs moves no pin."""


def asks_the_same(entry: Entry, model: LockedModel) -> bool:
    """Whether `model` may stay: the entry chooses the same bytes as it did."""
    return entry.source == model.source and _choice(entry.original) == _choice(model.original)


def _choice(original: Mapping[str, object]) -> object:
    return plain({key: value for key, value in original.items() if key not in _AROUND})


def kept(
    entry: Entry,
    model: LockedModel,
    ref: ModelRef,
    *,
    application: folders.Application,
    categories: Mapping[str, str],
) -> LockedModel:
    """`model` with its pin, its credentials' names and its place as `entry` has them now.
    `ref` is what the entry means, not asked of its source. Raises UsageError, IntegrityError,
    Gated.
    """
    refuse_denied_gate(entry, model.gated, str(ref))
    named = replace(ref, name=model.table.get("repo", ref.name))
    place, names = placed(entry, model.files, named, application, categories)
    if place.layout == model.place.layout == "hf-cache":
        place = model.place
    same = replace(
        model,
        original=entry.original,
        place=place,
        names=names,
        files=model.files if model.archives else with_alternates(entry, model.files),
        archives=tuple(
            replace(one, file=with_alternates(entry, (one.file,))[0]) for one in model.archives
        ),
        auth=entry.lockable_auth,
    )
    same.check_pin()
    return same


def satisfies(
    lock: Lock,
    provision: Provision,
    folders_of: str = "sdnext",
    more: Mapping[str, str] | None = None,
) -> list[str]:
    """Sentences for everything in which `lock` is not what `provision` asks for; none when it
    is up to date. No source is asked. `folders_of` is the application where the file names
    none, `more` are the user's own categories.
    """
    return list(_differences(lock, provision, folders_of, more or {}))


def _differences(
    lock: Lock, provision: Provision, folders_of: str, more: Mapping[str, str]
) -> Iterator[str]:
    locked = {model.id: model for model in lock.models}
    asked = {entry.id for entry in provision.entries} | {one.id for one in provision.later}
    for one in provision.later:
        if one.id not in locked:
            yield f"{clean(one.id)} is not in the lock"
    application = folders.application(provision.folders or folders_of)
    categories = {**more, **provision.categories}
    for entry in provision.entries:
        model = locked.get(entry.id)
        if model is None:
            yield f"{clean(entry.id)} is not in the lock"
        else:
            yield from _unlike(entry, model, application, categories)
    for ident in locked:
        if ident not in asked:
            yield f"{clean(ident)} is in the lock and not in the provision file"
    allow = [
        list(policy) if policy is not None else None
        for policy in (lock.license_allow, provision.license_allow)
    ]
    if allow[0] != allow[1]:
        yield "license_allow is another than the lock was made with"


def _unlike(
    entry: Entry,
    model: LockedModel,
    application: folders.Application,
    categories: Mapping[str, str],
) -> Iterator[str]:
    ident = clean(entry.id)
    if entry.source != model.source:
        yield f"{ident} is from {entry.source}, and the lock has it from {clean(model.source)}"
        return
    asked, was = plain(entry.original), plain(model.original)
    changed = sorted(key for key in {*asked, *was} if asked.get(key) != was.get(key))
    if changed:
        named = ", ".join(clean(key, limit=80) for key in changed)
        yield f"{ident} was locked with another {named}"
    if plain(entry.lockable_auth) != plain(model.auth):
        yield f"{ident} was locked with another auth"
    where = model.place
    if entry.layout != where.layout:
        yield f"{ident} goes to the layout {entry.layout}, and the lock says {clean(where.layout)}"
    elif entry.layout == "dir" and entry.dir != where.dir:
        yield f"{ident} goes to {clean(entry.dir)}, and the lock says {clean(where.dir)}"
    elif entry.layout == "folders":
        yield from _elsewhere(entry, model, application, categories)


def _elsewhere(
    entry: Entry,
    model: LockedModel,
    application: folders.Application,
    categories: Mapping[str, str],
) -> Iterator[str]:
    where = model.place
    if where.folders != application.name:
        yield (
            f"{clean(entry.id)} goes to the folders of {application.name}, and the lock says "
            f"{clean(where.folders)}"
        )
        return
    folder = application.folder(entry.category, model.table.get("repo", ""), categories)
    own = (
        f"{folder}/{entry.name}"
        if (model.archives or len(model.files) > 1) and not application.by_publisher
        else folder
    )
    if not application.by_publisher and own != where.dir:
        yield f"{clean(entry.id)} goes to {clean(own)}, and the lock says {clean(where.dir)}"
