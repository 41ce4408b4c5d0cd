"""From the library to a provision file, a lock, or a list that `sha256sum -c` reads."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from modelbay import files
from modelbay.bay.exported import (
    Held,
    Tables,
    There,
    describe,
    lock_text,
    merged,
    provision_text,
    sums_of,
)
from modelbay.bay.removing import asked, unknown
from modelbay.bay.session import Session
from modelbay.bay.work import Task, Work
from modelbay.digest import Algorithm, disagreement, find
from modelbay.errors import RefError, TargetTaken, WrongBytes
from modelbay.library.index import IndexedFile, IndexedModel
from modelbay.provision import editing
from modelbay.snapshot import ARCHIVE
from modelbay.text import clean
from modelbay.transfer import Stop

Form = Literal["toml", "lock", "sha256sums"]
_FORMS: Final = {"toml": "folder", "lock": "lock", "sha256sums": "list of sums"}


@dataclass(slots=True)
class Export:
    """What will be written. `unread` has to be read first: nobody vouches for its bytes."""

    session: Session
    file: Path
    form: Form
    replace: bool
    held: list[There]
    unread: list[IndexedFile]
    notes: list[str] = field(default_factory=list)

    def carry(self) -> Work[IndexedFile]:
        """Starts to read what is `unread`; write when it has ended."""
        tasks = [Task(file, file.name or file.path.name, file.size) for file in self.unread]
        return Work(tasks, self._read, threads=os.cpu_count() or 1).start()

    def _read(self, task: Task[IndexedFile], stop: Stop) -> None:
        file = task.item

        def tick(count: int) -> None:
            task.progress.hashed += count
            stop.check()

        names: list[Algorithm] = ["sha256", *(digest.algorithm for digest in file.digests)]
        task.progress.state = "verifying"
        found = files.hash_file(file.path, dict.fromkeys(names), tick=tick, follow=True)
        wrong = disagreement(file.digests, found)
        if wrong is not None:
            raise WrongBytes(
                f"{clean(file.path)} is said to be {wrong[0]}, and its bytes are {wrong[1]}",
                hint=f"`modelbay verify --repair {clean(file.path)}`",
            )
        self.session.index.saw(file.path, found, placed=file.placed)
        for held in self.held:
            if file.name in held.files and held.files[file.name].path == file.path:
                held.files[file.name] = replace(held.files[file.name], digests=found)

    def write(self) -> None:
        """Writes the file, whole or not at all. Raises TargetTaken, UsageError, DiskError."""
        if self.form == "sha256sums":
            self._write_new(b"".join(sums_of(self.held, self.file.parent)))
            return
        held = [one for one in self.held if isinstance(one, Held)]
        described = describe(self.session, held, pinned=self.form == "toml")
        self.notes += described.notes
        if self.form == "lock":
            self._write_new(lock_text(self.session, held, described))
        elif self.file.exists() and not self.replace:
            editing.edit(self.file, lambda text: merged(text, self.file, described))
        else:
            self._write_new(provision_text(described).encode())

    def _write_new(self, content: bytes) -> None:
        with files.disk_errors(self.file):
            files.write_atomic(self.file, content)


def prepare_export(
    session: Session, file: Path, names: Sequence[str], *, form: Form, replace: bool = False
) -> Export:
    """What of the library would be written to `file`: the models called `names`, or all.
    Raises ModelNotFound, RefError, TargetTaken where a file is there that is not edited.
    """
    if file.is_dir() or (form != "toml" and file.exists() and not replace):
        raise TargetTaken(
            f"{clean(file)} is there already, and a {_FORMS[form]} is not edited",
            hint="add --replace to write it anew, or name another file",
        )
    notes: list[str] = []
    held: list[There] = []
    for model in _models(session, names, notes):
        there = _there(session, model, notes)
        one = _held(session, model, there, form, notes) if there else None
        if one is not None:
            held.append(one)
    unread = {}
    if form != "toml":
        unread = {f.path: f for one in held for f in one.files.values() if not _is_read(f)}
    return Export(session, file, form, replace, held, list(unread.values()), notes)


def _models(session: Session, names: Sequence[str], notes: list[str]) -> Iterator[IndexedModel]:
    """Raises ModelNotFound, RefError."""
    chosen = {model.key: model for model in ([] if names else session.index.models())}
    for name in names:
        found = asked(session, name).models
        if not found:
            raise unknown(session, name)
        chosen.update((model.key, model) for model in found)
    for model in chosen.values():
        if model.attached:
            yield model
        else:
            notes.append(f"{clean(model.ref)} is left out: its disk is not mounted")


def _held(
    session: Session,
    model: IndexedModel,
    there: dict[str, IndexedFile],
    form: Form,
    notes: list[str],
) -> There | None:
    """None for a model that no entry can ask for, which only a list of sums takes."""
    try:
        held = Held(model, there, ref=session.sources.parse(model.ref))
        held.unpacked = ARCHIVE in (Tables().of(held) or {})
    except RefError:
        if form == "sha256sums":
            return There(model, there)
        notes.append(
            f"{clean(model.root)} is left out: nothing here could fetch {clean(model.ref)} again"
        )
        return None
    if held.unpacked and form == "lock":
        notes.append(
            f"{clean(model.root)} is left out: it was unpacked from an archive, which only "
            "`modelbay lock` can lock"
        )
        return None
    return held


def _there(session: Session, model: IndexedModel, notes: list[str]) -> dict[str, IndexedFile]:
    there: dict[str, IndexedFile] = {}
    for file in session.index.files_of(model):
        try:
            status = file.path.lstat()
        except OSError:
            notes.append(f"{clean(file.path)} of {clean(model.ref)} is left out: it is gone")
            continue
        if not file.matches(status):
            file = IndexedFile.seen(file.path, name=file.name, placed=file.placed)  # noqa: PLW2901
        there[file.name] = file
    return there


def _is_read(file: IndexedFile) -> bool:
    digest = find(file.digests, "sha256")
    return digest is not None and digest.observed
