"""`modelbay sync`: from a provision file or a lock to files in place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from modelbay import paths
from modelbay.digest import Digest
from modelbay.errors import FormatError, Interrupted, UsageError
from modelbay.output.asking import Asking
from modelbay.output.exits import DIFFERS, exit_code, worst
from modelbay.output.face import Face
from modelbay.output.follow import Wanted, follow, watch_for
from modelbay.output.log import Log, Logged
from modelbay.output.plans import ROWS_IN_CONVERSATION, free_bytes, question
from modelbay.output.results import (
    Failure,
    failures_document,
    last_line,
    logged,
    outcome_document,
    say_failures,
)
from modelbay.output.syncs import models_document, removals_document, sync_lines
from modelbay.output.words import count
from modelbay.text import clean

if TYPE_CHECKING:
    from modelbay.bay import Bay
    from modelbay.bay.checking import Checking
    from modelbay.bay.syncing import Failed, Finished, Syncing

Function = TypeVar("Function", bound=Callable[..., Any])
_EPILOG: Final = """\b
A provision file is locked first: foo.toml becomes foo.lock.toml beside it. A lock alone is
enough for an empty machine. Nothing is deleted unless --exact, and then to the trash.

\b
Marks of the plan: + fetch, link   ~ replace   = keep   - remove   ! blocked

\b
Examples:
  modelbay sync models.toml
  modelbay sync models.lock.toml --workspace /workspace --yes
  modelbay sync models.toml --dry-run
  modelbay sync models.lock.toml --check --deep
  modelbay sync https://example.com/models.toml --trust sha256:…
"""


def _digest(_ctx: click.Context, _option: click.Parameter, value: str | None) -> Digest | None:
    if value is None:
        return None
    try:
        digest = Digest.parse(value)
    except FormatError as error:
        raise click.BadParameter(str(error)) from error
    if digest.algorithm != "sha256":
        raise click.BadParameter(f"{clean(value, limit=140)} is no sha256")
    return digest


@dataclass(frozen=True, slots=True)
class Asked:
    """The flags of one command line."""

    dry_run: bool = False
    check: bool = False
    deep: bool = False
    locked: bool = False
    offline: bool = False
    exact: bool = False
    replace: bool = False
    workspace: Path | None = None
    root: Path | None = None
    mirror: Sequence[str] = ()
    trust: Digest | None = None
    allow_http: bool = False
    yes: bool = False
    background: bool = False
    as_json: bool = False
    progress: Wanted = "auto"

    def refuse(self) -> None:
        """Raises UsageError for what does not go together, or is not in this version."""
        if self.background:
            raise UsageError(
                "--background needs the queue that outlives a command, which is not in this "
                "version yet",
                hint="leave --background out",
            )
        if self.deep and not self.check:
            raise UsageError(
                "--deep says how --check looks, and --check was not given",
                hint="add --check, or leave --deep out",
            )
        moving = {"--exact": self.exact, "--replace": self.replace, "--dry-run": self.dry_run}
        for flag, given in moving.items():
            if self.check and given:
                raise UsageError(
                    f"--check changes nothing, so {flag} has no meaning with it",
                    hint=f"leave {flag} or --check out",
                )

    def bay(self, face: Face) -> "Bay":
        """Raises UsageError."""
        settings = replace(face.settings, offline=True) if self.offline else face.settings
        return face.open_bay(
            settings=settings, environ=face.environ, workspace=self.workspace, root=self.root
        )


_FOLDER = click.Path(path_type=Path, file_okay=False)


def flags(function: Function) -> Function:
    """The flags that `sync` and `provision` share."""
    for flag in reversed(
        (
            click.option("--dry-run", is_flag=True, help="Show the plan and write nothing."),
            click.option("--check", is_flag=True, help="Only compare: exit 1 if the disk differs."),
            click.option("--deep", is_flag=True, help="With --check: read every byte."),
            click.option("--locked", is_flag=True, help="Fail unless the lock fits the file."),
            click.option("--offline", is_flag=True, help="Open no internet socket."),
            click.option(
                "--exact",
                is_flag=True,
                help="What is modelbay's and not in the lock: to the trash.",
            ),
            click.option(
                "--replace",
                is_flag=True,
                help="Put files that are not modelbay's into the trash, if in the way.",
            ),
            click.option("--workspace", metavar="DIR", type=_FOLDER, help="Where folders begin."),
            click.option("--root", metavar="DIR", type=_FOLDER, help="The models' folder itself."),
            click.option(
                "--mirror",
                metavar="URL",
                multiple=True,
                help="An endpoint of the Hub to ask before the source; repeatable.",
            ),
            click.option(
                "--trust",
                metavar="DIGEST",
                callback=_digest,
                help="sha256:… of a file from an address: believe it like one's own.",
            ),
            click.option(
                "--allow-http", is_flag=True, help="Take the file from this machine over http."
            ),
            click.option("-y", "--yes", is_flag=True, help="Ask nothing."),
            click.option("--background", is_flag=True, help="Leave the work to the queue."),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
            click.option(
                "--progress",
                type=click.Choice(["auto", "json", "none"]),
                default="auto",
                show_default=True,
                help="Bars on a terminal, JSON events on stderr, or nothing.",
            ),
        )
    ):
        function = flag(function)
    return function


@click.command(name="sync", epilog=_EPILOG)
@click.argument("file", metavar="FILE|URL")
@flags
@click.pass_obj
def command(face: Face, /, *, file: str, **given: Any) -> int:
    """Bring every model of a provision file or a lock into place, verified.

    The plan is shown before anything moves. What is in place is kept; what is somewhere else on
    this machine is linked; one model's failure does not stop the others.
    """
    asked = Asked(**given)
    asked.refuse()
    with asked.bay(face) as bay:
        if asked.check:
            return checked(face, bay, file, asked)
        return synced(face, bay, file, asked)


def synced(face: Face, bay: "Bay", where: str, asked: Asked, *, unasked: bool = False) -> int:
    """`unasked`: where nobody can be asked, an untrusted file's plan is only shown."""
    with Asking(face, bay, f"asking about the models of {clean(where)}"):
        syncing = bay.prepare_sync(
            where,
            locked=asked.locked,
            exact=asked.exact,
            replace=asked.replace,
            trust=asked.trust,
            allow_http=asked.allow_http,
            mirrors=asked.mirror,
        )
    _say_notes(face, syncing)
    if asked.dry_run:
        return _show_plan(face, syncing, asked)
    _say_plan(face, syncing)
    if not asked.yes:
        _ask(face, syncing, unasked=unasked)
    if face.log is None:
        face.log = Log(paths.log_file(face.environ), face.environ)
    run = syncing.carry()
    follow(run, Logged(watch_for(face, asked.progress), face.log))
    return _end(face, syncing, syncing.finish(run), asked)


def _say_notes(face: Face, syncing: "Syncing") -> None:
    for note in syncing.notes:
        face.notice("note", f"note: {clean(note)}")
    if syncing.document.note:
        face.notice("untrusted", f"note: {syncing.document.note}")


def _show_plan(face: Face, syncing: "Syncing", asked: Asked) -> int:
    plans = syncing.plans
    removals = [one.plan for one in syncing.removals]
    failures = [_failure(face, one) for one in syncing.failures]
    errors = [*(one.error for one in failures), *(one.error for one in syncing.blocked)]
    code = worst(map(exit_code, errors))
    if asked.as_json:
        face.give_json(
            {
                "lock": str(syncing.lock) if syncing.lock else None,
                "models": models_document(plans),
                "remove": removals_document(removals),
                **failures_document(failures),
                "bytes_to_fetch": sum(plan.bytes_to_fetch for plan in plans),
                "free": free_bytes(plans),
                "exit": code,
            }
        )
    else:
        face.give(*sync_lines(plans, removals, face.words))
    say_failures(face, failures)
    return code


def _say_plan(face: Face, syncing: "Syncing") -> None:
    plans, words = syncing.plans, face.words
    removals = [one.plan for one in syncing.removals]
    *blocks, total = sync_lines(plans, removals, words, most=ROWS_IN_CONVERSATION)
    for line in blocks:
        face.notice("plan", line)
    face.notice("planned", total, free=free_bytes(plans))


def _ask(face: Face, syncing: "Syncing", *, unasked: bool) -> None:
    """Raises Interrupted where the person says no, UsageError where nobody can be asked about a
    file that is not trusted.
    """
    document = syncing.document
    if not document.trusted and not face.asks() and not unasked:
        raise UsageError(
            f"{document.name} is not trusted, and there is nobody to ask",
            hint=f"read the plan above, then add --yes, or --trust {document.sha256}",
        )
    questions = [_question(face, syncing)]
    if not document.trusted:
        questions.insert(0, f"{document.name} is not trusted: do what this plan says?")
    for asked in filter(None, questions):
        if face.asks() and not click.confirm(asked, err=True):
            raise Interrupted("nothing was changed", hint="`--dry-run` shows the plan alone")


def _question(face: Face, syncing: "Syncing") -> str | None:
    gone = sum(len(one.plan.steps) for one in syncing.removals)
    if gone:
        return f"put {count(gone, 'file')} that this lock does not name into the trash?"
    return question(syncing.plans, face.words)


def _end(face: Face, syncing: "Syncing", finished: "Finished", asked: Asked) -> int:
    report, words = finished.report, face.words
    failures = [_failure(face, one) for one in finished.failures]
    code = worst(exit_code(failure.error) for failure in failures)
    if asked.as_json:
        face.give_json(
            {
                "lock": str(syncing.lock) if syncing.lock else None,
                "models": [
                    {"id": outcome.plan.model, **outcome_document(outcome)}
                    for outcome in report.outcomes
                ],
                "removed": finished.removed,
                **failures_document(failures),
                "bytes": report.bytes,
                "seconds": round(report.seconds, 3),
                "exit": code,
            }
        )
    for note in finished.notes:
        face.notice("note", f"note: {note}")
    if syncing.relocked:
        face.notice("locked", f"locked: {syncing.document.name} as {clean(syncing.lock)}")
    say_failures(face, failures)
    line = last_line(
        "Synced", report, words, unplanned=len(syncing.failures), removed=finished.removed
    )
    face.notice("done", line, exit=code)
    return code


def _failure(face: Face, failed: "Failed") -> Failure:
    return Failure(failed.model, logged(failed.error, face.environ), failed.path)


def checked(face: Face, bay: "Bay", where: str, asked: Asked) -> int:
    checking = bay.check(where, deep=asked.deep, trust=asked.trust, allow_http=asked.allow_http)
    if checking.work is not None:
        follow(checking.work.start(), watch_for(face, asked.progress, doing="reading"))
    differences = checking.differences
    code = DIFFERS if differences else 0
    if asked.as_json:
        face.give_json(_check_document(checking, code))
    else:
        face.give(*(str(one) for one in differences))
    looked = f"{count(checking.models, 'model')}, {count(checking.files, 'file')}"
    size = face.words.size(checking.size)
    found = count(len(differences), "difference") if differences else "all as locked"
    way = "every byte read" if asked.deep else "names, sizes and known digests"
    face.notice("done", f"Checked {looked}, {size} ({way}): {found}", exit=code)
    return code


def _check_document(checking: "Checking", code: int) -> dict[str, Any]:
    return {
        "models": checking.models,
        "files": checking.files,
        "size": checking.size,
        "differences": [
            {
                "model": one.model or None,
                "path": one.path or None,
                "target": str(one.target) if one.target else None,
                "message": clean(one.what),
            }
            for one in checking.differences
        ],
        "exit": code,
    }
