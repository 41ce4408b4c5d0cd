"""`modelbay get`: resolve, choose, plan, carry."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from modelbay.errors import Interrupted, ModelbayError, UsageError
from modelbay.output.asking import Asking
from modelbay.output.face import Face
from modelbay.output.follow import Wanted, follow, watch_for
from modelbay.output.plans import (
    ROWS_IN_CONVERSATION,
    free_bytes,
    plan_document,
    plan_lines,
    plan_summary,
    question,
    total_line,
)
from modelbay.output.protocols import Report
from modelbay.output.results import (
    Failure,
    code_of,
    failures_document,
    failures_of,
    last_line,
    planned_code,
    report_document,
    say_blocked,
    say_failures,
    whole_paths,
)
from modelbay.output.words import count
from modelbay.plan import Plan
from modelbay.refs import ModelRef

if TYPE_CHECKING:
    from modelbay.bay import Bay

LAYOUTS = ("hf-cache", "folders", "ollama", "dir")
_EPILOG = """\b
Without --layout, --to or --category: Hub models go to the Hub's cache, CivitAI's to the
application's folder for their type, anything else to the current directory. The first line
of the plan says where.

\b
Examples:
  modelbay get Qwen/Qwen3-0.6B
  modelbay get hf://org/name@main --include '*.safetensors' --exclude 'onnx/'
  modelbay get hf://org/name-GGUF --variant Q4_K_M --to ./models
  modelbay get https://example.com/model.safetensors --to ./models
  modelbay get civitai://58390
  modelbay get hf://org/name --dry-run --json
"""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted of every ref, and where it should go."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    variant: str | None = None
    layout: str | None = None
    to: Path | None = None
    category: str | None = None
    replace: bool = False

    def check(self) -> None:
        """Raises UsageError when two places are named."""
        named = [
            option
            for option, value in (
                ("--layout", self.layout if self.layout != "dir" else None),
                ("--to", self.to),
                ("--category", self.category if self.layout != "folders" else None),
            )
            if value is not None
        ]
        if len(named) > 1:
            raise UsageError(
                f"{' and '.join(named)} each name a place, and one was expected",
                hint="keep one of them",
            )


@click.command(name="get", epilog=_EPILOG)
@click.argument("refs", metavar="REF...", nargs=-1, required=True)
@click.option("--include", metavar="GLOB", multiple=True, help="Only files like this; repeatable.")
@click.option("--exclude", metavar="GLOB", multiple=True, help="No files like this; repeatable.")
@click.option("--variant", metavar="V", help="One quantisation or precision, as Q4_K_M.")
@click.option("--layout", type=click.Choice(LAYOUTS), help="Whose way of laying files out.")
@click.option(
    "--to", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="A plain folder."
)
@click.option("--category", metavar="C", help="An application's folder: checkpoints, lora, vae, …")
@click.option(
    "--replace",
    is_flag=True,
    help="Put files that are not modelbay's into the trash, if in the way.",
)
@click.option("--dry-run", is_flag=True, help="Show the plan and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "json", "none"]),
    default="auto",
    show_default=True,
    help="Bars on a terminal, JSON events on stderr, or nothing.",
)
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
@click.pass_obj
def command(
    face: Face,
    /,
    *,
    refs: Sequence[str],
    dry_run: bool,
    as_json: bool,
    progress: Wanted,
    yes: bool,
    **wish: object,
) -> int:
    """Fetch models, verify every byte, and put them where programs look for them.

    A file that is here already is linked or kept; one that was interrupted goes on where it
    stopped; a file that is not modelbay's is never overwritten.
    """
    wanted = Wish(**wish)  # type: ignore[arg-type]
    wanted.check()
    with face.bay() as bay:
        parsed = list(dict.fromkeys(bay.parse(text) for text in refs))
        with bay.together(), Asking(face, bay, f"asking about {count(len(parsed), 'model')}"):
            plans, failures = _planned(bay, parsed, wanted)
        if dry_run:
            return _show_plans(face, plans, failures, as_json=as_json)
        _say_plans(face, plans)
        if not yes:
            _ask(face, plans)
        report = follow(bay.carry(plans), watch_for(face, progress)) if plans else None
    return _show_report(face, report, failures, as_json=as_json)


def _planned(bay: "Bay", refs: Sequence[ModelRef], wish: Wish) -> tuple[list[Plan], list[Failure]]:
    """A plan for each ref that has one. Raises the error of an only ref, or of the last."""
    plans: list[Plan] = []
    failures: list[Failure] = []
    for ref in refs:
        try:
            plans.append(_plan(bay, ref, wish))
        except Interrupted:
            raise
        except ModelbayError as error:
            if len(refs) == 1:
                raise
            failures.append(Failure(str(ref), error))
    return plans, failures


def _plan(bay: "Bay", ref: ModelRef, wish: Wish) -> Plan:
    snapshot = bay.resolve(ref)
    layout = bay.layout(
        wish.layout, snapshot.ref, to=wish.to, category=wish.category, told=snapshot.category
    )
    selection = bay.select(
        snapshot,
        include=wish.include,
        exclude=wish.exclude,
        variant=wish.variant,
        path=ref.path,
    )
    return bay.plan(selection, layout, replacing=wish.replace)


def _show_plans(
    face: Face, plans: Sequence[Plan], failures: Sequence[Failure], *, as_json: bool
) -> int:
    words = face.words
    if as_json:
        face.give_json(
            {
                "models": [plan_document(plan) for plan in plans],
                **failures_document(failures),
                "bytes_to_fetch": sum(plan.bytes_to_fetch for plan in plans),
                "free": free_bytes(plans),
            }
        )
    else:
        for plan in plans:
            face.give(*plan_lines(plan, words))
        face.give(total_line(plans, words))
    say_failures(face, failures)
    return planned_code(plans, failures)


def _say_plans(face: Face, plans: Sequence[Plan]) -> None:
    words = face.words
    for plan in plans:
        lines = plan_lines(plan, words, most=ROWS_IN_CONVERSATION)
        face.notice("plan", *lines, **plan_summary(plan))
    if plans:
        face.notice("planned", total_line(plans, words), free=free_bytes(plans))


def _ask(face: Face, plans: Sequence[Plan]) -> None:
    asked = question(plans, face.words)
    if asked is not None and face.asks() and not click.confirm(asked, err=True):
        raise Interrupted("nothing was fetched", hint="choose less with --include or --variant")


def _show_report(
    face: Face, report: Report | None, before: Sequence[Failure], *, as_json: bool
) -> int:
    if report is None:
        if as_json:
            face.give_json({"models": [], **failures_document(before)})
        say_failures(face, before)
        return planned_code((), before)
    words = face.words
    failures = [*before, *failures_of(report, face.environ)]
    if as_json:
        face.give_json(report_document(report, failures))
    else:
        face.give(*whole_paths(report))
    say_blocked(face, report)
    say_failures(face, failures)
    code = code_of(report, failures)
    face.notice("done", last_line("Got", report, words, unplanned=len(before)), exit=code)
    return code
