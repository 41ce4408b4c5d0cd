"""The command line: one group, its commands loaded when they are asked for."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import click

from modelbay import __version__
from modelbay.config import Settings
from modelbay.errors import Interrupted, ModelbayError, UsageError
from modelbay.output.exits import DONE, bug, error_document, error_lines, exit_code
from modelbay.output.face import Face, forget
from modelbay.output.protocols import OpenBay
from modelbay.output.signals import Stopped, stopping

if TYPE_CHECKING:
    from modelbay.bay import Bay

COMMANDS: Final = {
    "search": "Find models in every source.",
    "show": "Show a model's revision, licence, files and what would be fetched.",
    "get": "Fetch models to where programs look for them.",
    "lock": "Write down what a provision file's models are: revisions, sizes, digests.",
    "sync": "Bring every model of a provision file or a lock into place.",
    "provision": "The same at the start of a container, with a log.",
    "export": "Write the library to a provision file, a lock or sha256 sums.",
    "ls": "List the models that are here, whoever brought them.",
    "du": "Show what the library takes of every disk.",
    "rm": "Remove models, revisions or files: they go to the trash.",
    "trash": "Show what was removed, bring it back, or delete it for good.",
    "prune": "Take away what nobody needs: partials, wrong bytes, stale locks.",
    "why": "Tell who needs a file, and where it came from.",
    "outdated": "Ask the sources whether they have something newer.",
    "token": "Keep tokens in the OS keyring: set, ls, rm, test.",
    "config": "Show or change settings; comments in config.toml stay.",
    "adopt": "Find and index the models that this machine already holds.",
    "verify": "Read every file again, name what is damaged, and mend it.",
    "doctor": "Check this machine: folders, links, endpoints, tokens, terminal.",
    "demo": "See the main job done against a small Hub inside this process.",
    "completion": "Print the script that completes commands in your shell.",
}
"""Every command with its short help, so that `--help` loads none of them."""

COMPLETE_VARIABLE: Final = "_MODELBAY_COMPLETE"
_EPILOG: Final = """\b
Examples:
  modelbay search qwen3 --source huggingface
  modelbay show Qwen/Qwen3-0.6B
  modelbay get Qwen/Qwen3-0.6B
  modelbay get hf://org/name --variant Q4_K_M --to ./models

\b
Exit codes:
  0 done             4 policy        8 not found
  1 differs          5 wrong bytes   9 target taken by a file that is not ours
  2 usage            6 network      70 a bug: the log's path is printed
  3 access refused   7 disk        129, 130, 143 stopped by a signal
"""


class _Lazy(click.Group):
    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"modelbay.commands.{name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            near = get_close_matches(args[0], COMMANDS, n=1)
            raise UsageError(
                f"there is no command {args[0]!r}",
                hint=f"did you mean `modelbay {near[0]}`?" if near else "see `modelbay --help`",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_Lazy,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
)
@click.version_option(__version__, "-V", "--version", message="modelbay %(version)s")
def group() -> None:
    """Find, fetch, verify, lay out and lock AI models.

    stdout is data, stderr is conversation: `--json` prints one document, and an error is a
    sentence with the next step.
    """


def open_bay(
    *,
    settings: Settings | None = None,
    environ: Mapping[str, str] | None = None,
    workspace: Path | None = None,
    root: Path | None = None,
) -> "Bay":
    """The real one."""
    from modelbay.bay import Bay  # brings the HTTP library, which --help must not

    return Bay.open(settings=settings, environ=environ, workspace=workspace, root=root)


def run(
    argv: Sequence[str],
    *,
    environ: Mapping[str, str],
    open_bay: OpenBay = open_bay,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> int:
    """Runs one command line. Gives its exit code and raises nothing."""
    face = Face(environ, open_bay, out or sys.stdout, err or sys.stderr, _wants_events(argv))
    for stream in (face.out, face.err):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if COMPLETE_VARIABLE in environ:
        return _complete(environ[COMPLETE_VARIABLE])
    try:
        with stopping():
            return _flushed(face, _invoked(argv, face))
    except BrokenPipeError:
        forget(face.out)
        return DONE
    except Stopped as stopped:
        _tell(face, stopped.as_error(), as_json="--json" in argv)
        return stopped.code
    except ModelbayError as error:
        return _tell(face, error, as_json="--json" in argv)


def _wants_events(argv: Sequence[str]) -> bool:
    """Known before the command line is read, since reading it may be what fails."""
    return "--progress=json" in argv or ("--progress", "json") in pairwise(argv)


def _invoked(argv: Sequence[str], face: Face) -> int:
    """The command's exit code. Raises ModelbayError for everything that is no success."""
    try:
        with group.make_context("modelbay", list(argv), obj=face) as context:
            code = group.invoke(context)
    except click.exceptions.Exit as left:
        return left.exit_code
    except click.Abort as abort:
        raise Interrupted("nobody answered, so nothing was done", hint="add --yes") from abort
    except click.ClickException as refused:
        raise _usage(refused) from refused
    except (ModelbayError, BrokenPipeError):
        raise
    except Exception as error:
        raise bug(error, face.environ) from error
    return code if isinstance(code, int) else DONE


def _usage(refused: click.ClickException) -> UsageError:
    context = getattr(refused, "ctx", None)
    path = context.command_path if context is not None else "modelbay"
    message = refused.format_message().rstrip(".")
    return UsageError(message[:1].lower() + message[1:], hint=f"see `{path} --help`")


def _flushed(face: Face, code: int) -> int:
    try:
        face.out.flush()
    except BrokenPipeError:
        forget(face.out)
    except OSError as error:
        forget(face.out)
        face.say(f"error: stdout could not be written: {error.strerror}")
        return code or 7
    return code


def _tell(face: Face, error: ModelbayError, *, as_json: bool) -> int:
    document = error_document(error)
    face.notice("error", *error_lines(error, face.plain_words()), error=document)
    if as_json:
        with suppress(OSError):
            face.give_json({"error": document})
            face.out.flush()
    return exit_code(error)


def _complete(instruction: str) -> int:
    from click.shell_completion import shell_complete

    return shell_complete(group, {}, "modelbay", COMPLETE_VARIABLE, instruction)
