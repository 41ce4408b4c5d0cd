"""Locks written so that the same lock is always the same bytes (formats.md §3)."""

from collections.abc import Mapping

from modelbay.provision.canonical import key_of, toml
from modelbay.provision.lockfile import (
    FILE_FACTS,
    VERSION,
    Lock,
    LockedModel,
    Place,
    sha256_of,
    table_of,
)
from modelbay.snapshot import Licence, ModelFile


def written(lock: Lock) -> bytes:
    """The canonical text: LF, sorted by id, then by path; no times, no paths, no secrets."""
    policy = None if lock.license_allow is None else {"license_allow": lock.license_allow}
    top = {
        "lock-version": VERSION,
        "revision": lock.revision,
        "created-by": lock.created_by,
        "manifest-hash": lock.manifest_hash,
        "policy": policy,
    }
    lines = _lines(_merged(top, lock.more))
    for model in sorted(lock.models, key=lambda model: model.id):
        lines += ["", "[[model]]", *_model_lines(model, judged=policy is not None)]
    return ("\n".join(lines) + "\n").encode()


def _model_lines(model: LockedModel, *, judged: bool) -> list[str]:
    known = {
        "id": model.id,
        "tree-hash": model.tree_hash,
        "size": model.size,
        "license": _licence(model.licence, judged=judged),
        "gated": model.gated,
        "original": {"source": model.source, **model.original},
        table_of(model.source): model.table,
        "auth": model.auth or None,
        "place": _place(model.place),
    }
    lines = _lines(_merged(known, model.more))
    for file in sorted(model.files, key=lambda file: file.path):
        facts = _file(model, file)
        more = model.more_of.get(file.path, {})
        lines += ["", "  [[model.file]]", *_lines(_merged(facts, more), "  ")]
    for archive in sorted(model.archives, key=lambda archive: archive.file.path):
        facts = _fetched(archive.file)
        lines += ["", "  [[model.archive]]", *_lines(_merged(facts, archive.more), "  ")]
    return lines


def _licence(licence: Licence, *, judged: bool) -> dict[str, object] | None:
    table = _told(
        {"spdx": licence.spdx, "raw": licence.raw, "verdict": "allow" if judged else None}
    )
    return table or None


def _place(place: Place) -> dict[str, object]:
    return _told(
        {
            "layout": place.layout,
            "folders": place.folders,
            "category": place.category,
            "ref": place.ref,
            "dir": place.dir,
        }
    )


def _file(model: LockedModel, file: ModelFile) -> dict[str, object]:
    name = model.names.get(file.path)
    fetched = _fetched(file)
    urls = fetched.pop("urls")
    return {
        "path": fetched.pop("path"),
        "name": None if name is None else str(name),
        **fetched,
        "lfs": True if file.lfs else None,
        "from": model.members.get(file.path),
        **{key: file.extra[key] for key in FILE_FACTS if key in file.extra},
        "urls": urls,
    }


def _fetched(file: ModelFile) -> dict[str, object]:
    others = {digest.algorithm: digest.hex for digest in file.digests}
    others.pop("sha256", None)
    hashes = {"sha256": sha256_of(file), **dict(sorted(others.items()))}
    return {
        "path": str(file.path),
        "size": file.size,
        "hashes": hashes,
        "urls": file.urls or None,
    }


def _told(table: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in table.items() if value is not None}


def _merged(known: Mapping[str, object], more: Mapping[str, object]) -> dict[str, object]:
    """`known`, then what a newer revision says besides, in the order in which it does."""
    table = _told(known)
    for key, value in more.items():
        held = table.get(key)
        both = isinstance(held, Mapping) and isinstance(value, Mapping)
        table[key] = {**held, **value} if both else value  # type: ignore[dict-item]
    return table


def _lines(table: Mapping[str, object], indent: str = "") -> list[str]:
    return [f"{indent}{key_of(key)} = {toml(value)}" for key, value in table.items()]
