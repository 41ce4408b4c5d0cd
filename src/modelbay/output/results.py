"""What became of a run: the last lines for people, the document for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelbay.errors import ModelbayError
from modelbay.output.exits import (
    BUG,
    TARGET_TAKEN,
    bug,
    error_document,
    exit_code,
    hint_lines,
    worst,
)
from modelbay.output.face import Face
from modelbay.output.plans import plan_document
from modelbay.output.protocols import Outcome, Report
from modelbay.output.words import Words, count, duration
from modelbay.plan import Action, Plan
from modelbay.text import clean

FAILURES_NAMED = 20


@dataclass(frozen=True, slots=True)
class Failure:
    """Something asked for that is not there now: a model, or one file of it."""

    ref: str
    error: ModelbayError
    path: str | None = None

    @property
    def name(self) -> str:
        return self.ref if self.path is None else f"{self.ref} {self.path}"

    def document(self) -> dict[str, Any]:
        return {"ref": self.ref, "path": self.path, "error": error_document(self.error)}


def failures_of(report: Report, environ: Mapping[str, str]) -> list[Failure]:
    """Each once: an error that several files share is their model's (a gate that is shut). A
    bug is written to the log.
    """
    found: list[Failure] = []
    seen: set[int] = set()
    for outcome in report.outcomes:
        ref = str(outcome.plan.snapshot.ref)
        errors = [row.error for row in outcome.failed]
        for row in outcome.failed:
            if row.error is None or id(row.error) in seen:
                continue
            seen.add(id(row.error))
            shared = sum(error is row.error for error in errors) > 1
            error = logged(row.error, environ) if len(found) < FAILURES_NAMED else row.error
            found.append(Failure(ref, error, None if shared else row.name))
    return found


def logged(error: ModelbayError, environ: Mapping[str, str]) -> ModelbayError:
    """`error`; the one that stands for a bug where it is one, its traceback in the log."""
    cause = error.__cause__
    return bug(cause, environ) if exit_code(error) == BUG and cause is not None else error


def say_failures(face: Face, failures: Sequence[Failure]) -> None:
    """Each with its code and its exit code; a long tail is counted."""
    for failure in failures[:FAILURES_NAMED]:
        error = failure.error
        code = f"{error.code}, exit {exit_code(error)}"
        line = f"failed: {clean(failure.name)} ({code}): {clean(error)}"
        hint = hint_lines(error, face.plain_words())
        face.notice("failed", line, *hint, **failure.document())
    if len(failures) > FAILURES_NAMED:
        line = f"failed: {len(failures) - FAILURES_NAMED:,} more"
        face.notice("failed", line)


def say_blocked(face: Face, report: Report) -> None:
    """The files that stayed as they were because they are not ours."""
    plans = [outcome.plan for outcome in report.outcomes]
    blocked = [(plan, step) for plan in plans for step in plan.of(Action.BLOCKED)]
    for plan, step in blocked[:FAILURES_NAMED]:
        name = f"{clean(plan.snapshot.ref)} {clean(step.file.path)}"
        why = clean(step.reason) or f"{clean(step.target)} is not modelbay's"
        face.notice("blocked", f"blocked: {name}: {why}", target=str(step.target))
    if len(blocked) > FAILURES_NAMED:
        face.notice("blocked", f"blocked: {len(blocked) - FAILURES_NAMED:,} more")


def whole_paths(report: Report) -> list[str]:
    """Where each complete model lies: its only file, else its folder."""
    return [
        str(plan.steps[0].target if len(plan.steps) == 1 else plan.root)
        for outcome in report.outcomes
        if not outcome.failed and not outcome.blocked
        for plan in (outcome.plan,)
    ]


def last_line(
    verb: str, report: Report, words: Words, *, unplanned: int = 0, removed: int = 0
) -> str:
    """`Got 1 model, 4 files, 58.2 GB: 2 fetched, 1 linked, 1 kept in 12.3 s (812 MB/s)`.

    `unplanned` models failed before there was a plan for them.
    """
    outcomes = report.outcomes
    asked = len(outcomes) + unplanned
    whole = sum(1 for outcome in outcomes if not outcome.failed and not outcome.blocked)
    models = count(asked, "model") if whole == asked else f"{whole} of {count(asked, 'model')}"
    files = sum(len(outcome.plan.steps) for outcome in outcomes)
    size = words.size(sum(outcome.plan.size for outcome in outcomes))
    line = f"{verb} {models}, {count(files, 'file')}, {size}"
    parts = _parts(outcomes) + ([f"{removed:,} removed"] if removed else [])
    if parts:
        line += ": " + ", ".join(parts)
    line += f" in {duration(report.seconds)}"
    if report.bytes and report.seconds > 0:
        line += f" ({words.rate(report.bytes / report.seconds)})"
    return line


def _parts(outcomes: Sequence[Outcome]) -> list[str]:
    numbers = {
        "fetched": sum(outcome.fetched for outcome in outcomes),
        "linked": sum(outcome.linked for outcome in outcomes),
        "replaced": sum(outcome.replaced for outcome in outcomes),
        "kept": sum(outcome.kept for outcome in outcomes),
        "blocked": sum(outcome.blocked for outcome in outcomes),
        "failed": sum(len(outcome.failed) for outcome in outcomes),
    }
    return [f"{number:,} {word}" for word, number in numbers.items() if number]


def code_of(report: Report, failures: Sequence[Failure]) -> int:
    codes = [exit_code(failure.error) for failure in failures]
    if any(outcome.blocked for outcome in report.outcomes):
        codes.append(TARGET_TAKEN)
    return worst(codes)


def planned_code(plans: Sequence[Plan], failures: Sequence[Failure]) -> int:
    """The exit code that running these plans would have at best."""
    codes = [exit_code(failure.error) for failure in failures]
    if any(plan.of(Action.BLOCKED) for plan in plans):
        codes.append(TARGET_TAKEN)
    return worst(codes)


def deciding(failures: Sequence[Failure]) -> ModelbayError | None:
    """The failure that gives the exit code."""
    code = worst(exit_code(failure.error) for failure in failures)
    return next((f.error for f in failures if exit_code(f.error) == code), None)


def report_document(report: Report, failures: Sequence[Failure]) -> dict[str, Any]:
    """Every model with its plan and what became of it."""
    return {
        "models": [outcome_document(outcome) for outcome in report.outcomes],
        **failures_document(failures),
        "bytes": report.bytes,
        "seconds": round(report.seconds, 3),
        "exit": code_of(report, failures),
    }


def failures_document(failures: Sequence[Failure]) -> dict[str, Any]:
    document: dict[str, Any] = {"failed": [failure.document() for failure in failures]}
    first = deciding(failures)
    if first is not None:
        document["error"] = error_document(first)
    return document


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    return {
        **plan_document(outcome.plan),
        "fetched": outcome.fetched,
        "linked": outcome.linked,
        "kept": outcome.kept,
        "replaced": outcome.replaced,
        "blocked": outcome.blocked,
        "failed": [row.name for row in outcome.failed],
    }
