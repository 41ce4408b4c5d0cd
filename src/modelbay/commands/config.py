"""`modelbay config`: every setting, where it comes from, and choosing another."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from typing import Any

import click

from modelbay import paths
from modelbay.config import KEYS, Settings
from modelbay.config.choosing import Change, keys_of, set_setting, unset_setting
from modelbay.config.editing import shown
from modelbay.errors import UsageError
from modelbay.output.face import Face
from modelbay.output.settings import Shown, setting_lines, shown_settings, text_of
from modelbay.text import clean

_EPILOG = """\b
Settings, the first that says something counts: the command line, the environment
(MODELBAY_<NAME>), config.toml, the default.

\b
Examples:
  modelbay config
  modelbay config get workspace
  modelbay config set bandwidth 20MB/s
  modelbay config set endpoints.huggingface https://hub.company.com
  modelbay config set sources.company.type huggingface
  modelbay config unset bandwidth
"""
_SET_EPILOG = """\b
Examples:
  modelbay config set jobs 8
  modelbay config set license_allow mit,apache-2.0
  modelbay config set sources.company.type huggingface
"""
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
_TABLES = tuple(key.name for key in KEYS if key.kind == "table")


class _Actions(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            near = get_close_matches(args[0], self.commands, n=1)
            meant = f"`modelbay config {near[0]}`" if near else "`modelbay config get`"
            raise UsageError(f"config cannot {args[0]!r}", hint=f"did you mean {meant}?")
        return super().resolve_command(ctx, args)


@click.group(name="config", cls=_Actions, epilog=_EPILOG, invoke_without_command=True)
@_JSON
@click.pass_context
def command(context: click.Context, *, as_json: bool) -> int:
    """Show or change settings; comments in config.toml stay as they are.

    Without an action every setting is shown with its value and where it comes from.
    """
    if context.invoked_subcommand is None:
        _show(context.obj, None, as_json=as_json)
    return 0


@command.command(name="path", epilog="\b\nExamples:\n  modelbay config path")
@click.pass_obj
def path(face: Face) -> int:
    """Print where config.toml is, or would be."""
    face.give(str(paths.config_file(face.environ)))
    return 0


@command.command(
    name="get", epilog="\b\nExamples:\n  modelbay config get\n  modelbay config get jobs"
)
@click.argument("key", metavar="[KEY]", required=False)
@_JSON
@click.pass_obj
def get(face: Face, *, key: str | None, as_json: bool) -> int:
    """Print the value of one setting, or every setting with its default and its origin."""
    _show(face, key, as_json=as_json)
    return 0


@command.command(name="set", epilog=_SET_EPILOG)
@click.argument("key")
@click.argument("value")
@_JSON
@click.pass_obj
def set_(face: Face, *, key: str, value: str, as_json: bool) -> int:
    """Write one setting into config.toml, once it is known to be valid."""

    def check(name: str, table: Mapping[str, Any]) -> None:
        with face.open_bay(settings=Settings(), environ=face.environ) as bay:
            bay.check_factory(name, table)

    change = set_setting(face.environ, key, value, check_factory=check)
    is_new = change.before is None or change.before == change.after
    was = "" if is_new else f" (it was {text_of(change.before)})"
    face.say(f"{change.key} = {text_of(change.after)} in {clean(change.file)}{was}")
    _say_without_effect(face, change)
    if as_json:
        face.give_json(_change_document(change))
    return 0


@command.command(name="unset", epilog="\b\nExamples:\n  modelbay config unset jobs")
@click.argument("key")
@_JSON
@click.pass_obj
def unset(face: Face, *, key: str, as_json: bool) -> int:
    """Take one setting, or a table of them, out of config.toml."""
    change = unset_setting(face.environ, key)
    if change.before is None:
        face.say(f"{change.key} is not in {clean(change.file)}")
    else:
        face.say(f"{change.key} is no longer in {clean(change.file)}")
    if as_json:
        face.give_json(_change_document(change))
    return 0


def _change_document(change: Change) -> dict[str, Any]:
    document = asdict(change)
    return {**document, "file": str(change.file), "changed": change.before != change.after}


def _say_without_effect(face: Face, change: Change) -> None:
    """The environment comes before the file, which a person may have forgotten; and some
    settings are kept for what is to come.
    """
    table = change.key.partition(".")[0]
    origin = face.settings.origin(change.key if table == "endpoints" else table)
    if origin.startswith("$"):
        face.say(f"warning: {clean(origin)} comes before the file, so that this does not count yet")
    later = next((key.later for key in KEYS if key.name == table), "")
    if later:
        face.say(f"note: {table} is kept, and {later}")


def _show(face: Face, name: str | None, *, as_json: bool) -> None:
    rows = shown_settings(face.settings)
    if name is not None:
        rows = _chosen(rows, name)
    if as_json:
        file = str(paths.config_file(face.environ))
        face.give_json({"file": file, "settings": [asdict(row) for row in rows]})
    elif name is not None and [row.key for row in rows] == [name]:
        face.give(rows[0].text)
    else:
        face.give(*setting_lines(rows))


def _chosen(rows: Sequence[Shown], name: str) -> list[Shown]:
    """The setting called `name`, or those of the table called so. Raises UsageError."""
    keys = keys_of(name, within=dict.fromkeys(_TABLES))
    wanted = shown(keys) + "."
    found = [row for row in rows if (row.key + ".").startswith(wanted)]
    if not found and len(keys) > 1:
        raise UsageError(
            f"{clean(name, limit=80)} is not set",
            hint=f"`modelbay config set {clean(name, limit=80)} VALUE`",
        )
    return found
