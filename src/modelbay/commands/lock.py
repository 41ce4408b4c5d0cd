"""`modelbay lock`: a provision file becomes a lock, which any machine can carry out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from modelbay.errors import UsageError
from modelbay.output.asking import Asking
from modelbay.output.exits import DIFFERS, exit_code, worst
from modelbay.output.face import Face
from modelbay.output.follow import Wanted, follow, watch_for
from modelbay.output.locks import change_document, change_line, lock_document, lock_line
from modelbay.output.plans import ROWS_IN_CONVERSATION, free_bytes
from modelbay.output.results import Failure, failures_document, logged, say_failures
from modelbay.output.syncs import sync_lines
from modelbay.output.words import count
from modelbay.provision.lockdiff import changes
from modelbay.text import clean

if TYPE_CHECKING:
    from modelbay.bay import Bay
    from modelbay.bay.locking import Failures
    from modelbay.bay.relocking import Locking, Made
    from modelbay.queue import Run

_ALL: Final = "*"
_EPILOG: Final = """\b
foo.toml locks to foo.lock.toml beside it. What is locked already stays as it is until
--upgrade moves it. Files that no source tells a sha256 of are fetched into place, so that
a sync afterwards keeps them.

\b
Marks of what changes: + new   ~ other   - gone

\b
Examples:
  modelbay lock models.toml
  modelbay lock models.toml --check
  modelbay lock models.toml --upgrade llm/qwen --upgrade vae/sdxl
  modelbay lock models.toml --upgrade
  modelbay lock models.toml --print-hash llm/qwen
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """The flags of one command line."""

    provision: str
    out: Path | None = None
    check: bool = False
    upgrade: Sequence[str] = ()
    no_fetch: bool = False
    print_hash: str | None = None
    as_json: bool = False
    progress: Wanted = "auto"

    def refuse(self) -> None:
        """Raises UsageError for what does not go together."""
        moving = {
            "--upgrade": bool(self.upgrade),
            "--no-fetch": self.no_fetch,
            "--print-hash": self.print_hash is not None,
        }
        for flag, given in moving.items():
            if self.check and given:
                raise UsageError(
                    f"--check asks no source and changes nothing, so {flag} has no meaning with it",
                    hint=f"leave {flag} or --check out",
                )
        if self.print_hash is not None and self.upgrade:
            raise UsageError(
                "--print-hash writes no lock, so --upgrade has no meaning with it",
                hint="run the one, then the other",
            )


@click.command(name="lock", epilog=_EPILOG)
@click.argument("provision", metavar="PROVISION")
@click.option(
    "-o",
    "--output",
    "out",
    metavar="LOCK",
    type=click.Path(path_type=Path),
    help="Where the lock goes.",
)
@click.option("--check", is_flag=True, help="Only compare: exit 1 if the lock is not up to date.")
@click.option(
    "--upgrade",
    metavar="[ID]",
    is_flag=False,
    flag_value=_ALL,
    multiple=True,
    help="Ask again what this model, or every one, is now; repeatable.",
)
@click.option("--no-fetch", is_flag=True, help="Leave out what has to be fetched: exit 1.")
@click.option("--print-hash", metavar="ID", help="Print what `hash` may say of this model.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "json", "none"]),
    default="auto",
    show_default=True,
    help="Bars on a terminal, JSON events on stderr, or nothing.",
)
@click.pass_obj
def command(face: Face, /, **given: Any) -> int:
    """Resolve every model of a provision file and write down its revision and digests.

    A model that fails stops no other, and the lock that is there stays untouched until every
    one is known.
    """
    asked = Asked(**given)
    asked.refuse()
    with face.bay() as bay:
        if asked.check:
            return _check(face, bay, asked)
        if asked.print_hash is not None:
            return _print_hash(face, bay, asked, asked.print_hash)
        upgrade = None if _ALL in asked.upgrade else asked.upgrade
        with Asking(face, bay, f"asking about the models of {clean(asked.provision)}"):
            locking = bay.prepare_lock(
                asked.provision, out=asked.out, upgrade=upgrade, fetch=not asked.no_fetch
            )
        run = _carried(face, locking, asked)
        return _end(face, locking, locking.finish(run), asked)


def _check(face: Face, bay: "Bay", asked: Asked) -> int:
    found = bay.check_lock(asked.provision, out=asked.out)
    code = DIFFERS if found else 0
    if asked.as_json:
        face.give_json({"differences": list(found), "exit": code})
    else:
        face.give(*found)
    said = count(len(found), "difference") if found else "up to date"
    face.notice("done", f"Checked the lock of {clean(asked.provision)}: {said}", exit=code)
    return code


def _print_hash(face: Face, bay: "Bay", asked: Asked, ident: str) -> int:
    found = bay.locked_hash(asked.provision, ident, out=asked.out)
    if found is None:
        with Asking(face, bay, f"asking about {clean(ident)}"):
            locking = bay.prepare_hash(asked.provision, ident, fetch=not asked.no_fetch)
        made = locking.made(_carried(face, locking, asked))
        if made.lock is None or not made.lock.models:
            failures = _failures(face, made.failures)
            say_failures(face, failures)
            _say_missing(face, locking)
            return worst(exit_code(one.error) for one in failures) or DIFFERS
        found = made.lock.models[0].printed_hash
    if asked.as_json:
        face.give_json({"id": ident, "hash": found})
    else:
        face.give(found)
    face.notice("done", f'{clean(ident)} may have hash = "{found}"')
    return 0


def _carried(face: Face, locking: "Locking", asked: Asked) -> "Run | None":
    """The run that fetched what had to be, shown before; None where there was nothing, or
    something failed already.
    """
    draft, words = locking.draft, face.words
    for note in draft.notes:
        face.notice("note", f"note: {clean(note)}")
    if draft.failures or not draft.unknown:
        return None
    face.notice("plan", "no source tells a sha256 of these, so they are fetched into place:")
    for line in sync_lines(draft.unknown, (), words, most=ROWS_IN_CONVERSATION):
        face.notice("plan", line, free=free_bytes(draft.unknown))
    run = locking.carry()
    follow(run, watch_for(face, asked.progress))
    return run


def _end(face: Face, locking: "Locking", made: "Made", asked: Asked) -> int:
    failures = _failures(face, made.failures)
    missing = locking.draft.missing
    code = worst(exit_code(failure.error) for failure in failures) or (DIFFERS if missing else 0)
    changed = list(changes(locking.draft.before, made.lock)) if made.lock is not None else []
    if asked.as_json:
        face.give_json(
            {
                "lock": str(locking.place),
                "written": made.written,
                "models": lock_document(made.lock) if made.lock is not None else [],
                "changes": [change_document(change) for change in changed],
                "left_out": [{"id": ident, "files": list(names)} for ident, names in missing],
                **failures_document(failures),
                "exit": code,
            }
        )
    elif made.lock is not None:
        face.give(str(locking.place))
    for change in changed:
        face.notice("change", change_line(change, face.words))
    _say_missing(face, locking)
    say_failures(face, failures)
    face.notice("done", "; ".join(_last(face, locking, made, changed)), exit=code)
    return code


def _last(face: Face, locking: "Locking", made: "Made", changed: Sequence[Any]) -> Iterator[str]:
    place = clean(locking.place)
    if made.lock is None:
        yield (
            f"{place} was not written" if locking.draft.before is None else f"{place} is as it was"
        )
        return
    yield lock_line(made.lock, changed, face.words)
    yield f"written to {place}" if made.written else f"{place} is up to date"


def _say_missing(face: Face, locking: "Locking") -> None:
    for ident, names in locking.draft.missing:
        shown = ", ".join(clean(name) for name in names[:3]) + (", …" if len(names) > 3 else "")
        line = f"left out: {clean(ident)}: nobody tells a sha256 of {shown}"
        face.notice("left-out", line, id=ident, files=list(names))


def _failures(face: Face, failures: "Failures") -> list[Failure]:
    return [Failure(ident, logged(error, face.environ)) for ident, error in failures]
