"""`modelbay completion`: the script a shell needs."""

from pathlib import PurePath

import click
from click.shell_completion import get_completion_class

from modelbay.errors import UsageError
from modelbay.output.face import Face

SHELLS = ("bash", "zsh", "fish")
_EPILOG = """\b
Examples:
  modelbay completion bash > ~/.local/share/bash-completion/completions/modelbay
  modelbay completion zsh  > "${fpath[1]}/_modelbay"
  modelbay completion fish > ~/.config/fish/completions/modelbay.fish
"""


@click.command(name="completion", epilog=_EPILOG)
@click.argument("shell", metavar="[bash|zsh|fish]", type=click.Choice(SHELLS), required=False)
@click.pass_context
def command(context: click.Context, *, shell: str | None) -> int:
    """Print the completion script of a shell, by default of the one in $SHELL."""
    face = context.find_object(Face)
    root = context.find_root()
    if face is None:
        raise RuntimeError("a command is run through modelbay.cli")
    named = shell or PurePath(face.environ.get("SHELL", "")).name
    found = get_completion_class(named) if named in SHELLS else None
    if found is None:
        raise UsageError(
            f"there is no completion for the shell {named!r}",
            hint="name one: `modelbay completion bash`, zsh or fish",
        )
    face.give(found(root.command, {}, "modelbay", "_MODELBAY_COMPLETE").source().strip())
    return 0
