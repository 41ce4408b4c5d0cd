"""`modelbay verify`: read what is here again, name what is damaged, mend it when asked."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from modelbay.errors import DiskError, ModelbayError
from modelbay.output.exits import error_document, exit_code, worst
from modelbay.output.face import Face
from modelbay.output.follow import Wanted, follow, watch_for
from modelbay.output.results import Failure, say_failures
from modelbay.output.words import count, duration
from modelbay.text import clean

if TYPE_CHECKING:
    from modelbay.bay.mending import Mending
    from modelbay.bay.verifying import Finding, Verification

_EPILOG = """\b
Without REF or LOCK every file of the library is read. stdout names what is not as it should
be, one path a line, after what it is: damaged, changed, missing, unreached, taken, unreadable.

\b
--repair fetches only the bad pieces of a large file again, where the server gives parts of it;
the damaged file goes to the trash. Files that modelbay did not put there are named and left.

\b
Examples:
  modelbay verify
  modelbay verify Qwen/Qwen3-0.6B
  modelbay verify models.lock.toml
  modelbay verify --repair
  modelbay verify --json
"""


@click.command(name="verify", epilog=_EPILOG)
@click.argument("names", metavar="[REF|LOCK]...", nargs=-1)
@click.option("--repair", is_flag=True, help="Fetch the bad pieces of damaged files again.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "json", "none"]),
    default="auto",
    show_default=True,
    help="Bars on a terminal, JSON events on stderr, or nothing.",
)
@click.pass_obj
def command(
    face: Face, /, *, names: Sequence[str], repair: bool, as_json: bool, progress: Wanted
) -> int:
    """Read every file again and compare it with its digest.

    Exit 5 when any is damaged, with the command that mends it.
    """
    with face.bay() as bay:
        reading = bay.verification(names)
        for ref in reading.asked.detached:
            face.notice("detached", f"skipped: {clean(ref)}: its disk is not mounted", ref=ref)
        follow(reading.work.start(), watch_for(face, progress, doing="verifying"))
        reading.finish()
        mending = bay.mending(reading.findings if repair else ())
        _mend(face, mending, progress)
    return _show(face, reading, mending, as_json=as_json)


def _mend(face: Face, mending: "Mending", progress: Wanted) -> None:
    """Mends what can be. That there is no room to is a reason for each file."""
    if not mending.work.rows:
        return
    try:
        mending.check()
    except DiskError as error:
        for task in mending.work.rows:
            task.error = error
        return
    follow(mending.work.start(), watch_for(face, progress, doing="repairing"))


def _show(face: Face, reading: "Verification", mending: "Mending", *, as_json: bool) -> int:
    findings = reading.findings
    mended = set(mending.mended)
    left = [finding for finding in findings if finding.subject.path not in mended]
    failures = [_failure(finding, mending) for finding in left]
    code = worst(
        exit_code(error) for error in [one.error for one in left] + [one.error for one in failures]
    )
    if as_json:
        face.give_json(_document(reading, mending, failures, code))
    else:
        face.give(*(f"{finding.kind}\t{clean(finding.subject.path)}" for finding in left))
    say_failures(face, failures)
    last = _last_line(face, reading)
    facts = {"files": len(reading.asked.subjects), "bytes": reading.size}
    if not mending.mended:
        face.notice("done", last, exit=code, **facts)
        return code
    face.notice("verified", last, **facts)
    face.notice("done", _repaired_line(face, mending), exit=code, fetched=mending.fetched)
    return code


def _failure(finding: "Finding", mending: "Mending") -> Failure:
    """A finding that stays, or why it could not be mended."""
    error: ModelbayError = finding.error
    for other, why in mending.failures:
        if set(other.paths) & set(finding.paths):
            error = why
    return Failure(finding.subject.ref, error, finding.subject.name)


def _last_line(face: Face, reading: "Verification") -> str:
    words, work = face.words, reading.work
    models, files = count(reading.asked.models, "model"), count(len(reading.asked.subjects), "file")
    line = f"Verified {models}, {files}, {words.size(reading.size)} in {duration(work.seconds)}"
    if reading.size and work.seconds > 0:
        line += f" ({words.rate(reading.size / work.seconds)})"
    kinds = Counter(finding.kind for finding in reading.findings)
    told = ", ".join(f"{number:,} {kind}" for kind, number in sorted(kinds.items()))
    return f"{line}: {told or 'all as they should be'}"


def _repaired_line(face: Face, mending: "Mending") -> str:
    words = face.words
    return (
        f"Repaired {count(mending.repaired, 'file')}: {words.size(mending.fetched)} of "
        f"{words.size(mending.size)} fetched again"
    )


def _document(
    reading: "Verification", mending: "Mending", failures: Sequence[Failure], code: int
) -> dict[str, Any]:
    return {
        "models": reading.asked.models,
        "files": len(reading.asked.subjects),
        "bytes": reading.size,
        "seconds": round(reading.work.seconds, 3),
        "findings": [_finding_document(finding) for finding in reading.findings],
        "detached": list(reading.asked.detached),
        "repaired": [str(path) for path in mending.mended],
        "fetched": mending.fetched,
        "failed": [failure.document() for failure in failures],
        "exit": code,
    }


def _finding_document(finding: "Finding") -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "ref": finding.subject.ref,
        "file": finding.subject.name,
        "path": str(finding.subject.path),
        "names": [str(path) for path in finding.paths],
        "ours": finding.subject.placed,
        "error": error_document(finding.error),
    }
