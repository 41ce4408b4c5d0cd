"""`modelbay token`: tokens in the OS keyring. No value is ever shown, or taken from argv."""

import getpass
import sys
from typing import TYPE_CHECKING, Any

import click

from modelbay.errors import UsageError
from modelbay.output.face import Face
from modelbay.output.tables import Column, table
from modelbay.text import Secret, clean

if TYPE_CHECKING:
    from modelbay.bay.tokens import Listed, Named, Tested

LARGEST = 64 << 10
_EPILOG = """\b
SOURCE is a source (huggingface, url, ...) or a [sources.NAME] of the settings; NAME tells
several tokens of one host apart: auth = { keyring = "NAME" } in a provision file.
A token is sent to the host it was stored for, and to no other. The entry's own auth comes
first, then the environment, then the keyring, then files of other tools.

\b
Examples:
  modelbay token set huggingface
  modelbay token set huggingface/work < token.txt
  modelbay token set url --host https://models.company.com
  modelbay token ls
  modelbay token test huggingface
  modelbay token rm huggingface/work
"""
_FREE = {"allow_extra_args": True}
"""What is too much is refused by us: click would print it, and it may be a token."""
_NAME = click.argument("name", metavar="SOURCE[/NAME]")
_HOST = click.option(
    "--host", metavar="URL", help="Whose token; where SOURCE is asked when left out."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


class _Actions(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            raise UsageError(
                "a token can be " + ", ".join(self.commands),
                hint="write `modelbay token set SOURCE`; the token is then asked for",
            )
        return super().resolve_command(ctx, args)


@click.group(name="token", cls=_Actions, epilog=_EPILOG, invoke_without_command=True)
@_JSON
@click.pass_context
def command(context: click.Context, *, as_json: bool) -> int:
    """Keep tokens in the OS keyring: set, ls, rm, test. Without an action they are listed."""
    if context.invoked_subcommand is None:
        return int(context.invoke(ls, as_json=as_json) or 0)
    return 0


@command.command(name="set", context_settings=_FREE, epilog=_EPILOG)
@_NAME
@_HOST
@click.option("--user", metavar="USER", help="For a user with a password in place of a token.")
@_JSON
@click.pass_context
def set_(
    context: click.Context, name: str, *, host: str | None, user: str | None, as_json: bool
) -> int:
    """Store a token; it comes from a prompt, or from stdin."""
    _refuse_rest(context)
    face: Face = context.obj
    with face.bay() as bay:
        named = bay.tokens.named(name, host)
        keyring = bay.tokens.keep(named, _asked(face, named, user), user=user)
        first = bay.tokens.first(named)
    if as_json:
        face.give_json({**_document(named), "keyring": keyring, "first": first or None})
    shown = clean(named.token.shown)
    face.notice("done", f"stored {shown} in {keyring}: sent to {clean(named.token.host)} only")
    if named.url.startswith("http:"):
        face.notice("note", "note: plain http: whoever carries a request can read the token")
    if named.by_name:
        face.notice("note", f'note: an entry uses it with auth = {{ keyring = "{_last(named)}" }}')
    elif first:
        face.notice("note", f"note: {clean(first)} is set, and comes before the keyring")
    return 0


@command.command(name="ls")
@_JSON
@click.pass_obj
def ls(face: Face, *, as_json: bool = False) -> int:
    """List the tokens there are, where each is kept and which host it is for."""
    with face.bay() as bay:
        found = bay.tokens.listed()
    if as_json:
        face.give_json({"tokens": [_row(one) for one in found]})
        return 0
    if not found:
        face.say("there is no token; store one with `modelbay token set SOURCE`")
        return 0
    rows = table(
        face,
        Column("TOKEN", 20),
        Column("HOST", 24, stretches=True),
        Column("KEPT IN", 12),
        Column("STATE", 8),
        Column("FINGERPRINT", 11),
    )
    face.give(rows.heading())
    for one in found:
        cells = (one.token.shown, one.token.host, one.kept, one.state, one.fingerprint)
        face.give(rows.line(tuple(clean(cell, limit=200) for cell in cells)))
    for trouble in dict.fromkeys(one.trouble for one in found if one.trouble):
        face.notice("warning", f"warning: not read: {clean(trouble)}")
    return 0


@command.command(name="rm", context_settings=_FREE)
@_NAME
@_HOST
@_JSON
@click.pass_context
def rm(context: click.Context, name: str, *, host: str | None, as_json: bool) -> int:
    """Take a token out of the keyring."""
    _refuse_rest(context)
    face: Face = context.obj
    with face.bay() as bay:
        named = bay.tokens.named(name, host)
        bay.tokens.forget(named)
        first = bay.tokens.first(named)
    if as_json:
        face.give_json({**_document(named), "first": first or None})
    shown, where = clean(named.token.shown), clean(named.token.host)
    face.notice("done", f"the keyring has no token {shown} for {where} any more")
    if first:
        face.notice("note", f"note: {clean(first)} is still used there")
    return 0


@command.command(name="test", context_settings=_FREE)
@_NAME
@_HOST
@_JSON
@click.pass_context
def test(context: click.Context, name: str, *, host: str | None, as_json: bool) -> int:
    """Ask the service whose the token is that would be sent."""
    _refuse_rest(context)
    face: Face = context.obj
    with face.bay() as bay:
        named = bay.tokens.named(name, host)
        tested = bay.tokens.test(named)
    if as_json:
        face.give_json(_tested(named, tested))
        return 0
    sent = ", ".join(clean(origin) for origin in tested.origins)
    face.give(f"{clean(named.token.shown)}: from {clean(tested.label)}, sent to {sent} only")
    if tested.account is None:
        face.give(f"  {clean(named.token.source)} does not tell whose it is")
        return 0
    account = tested.account
    called = f", token {clean(account.token, limit=80)!r}" if account.token else ""
    role = f", may {clean(account.role, limit=40)}" if account.role else ""
    face.give(f"  it is of {clean(account.name, limit=200)}{called}{role}")
    if account.organisations:
        face.give("  in " + ", ".join(clean(one, limit=80) for one in account.organisations))
    return 0


def _refuse_rest(context: click.Context) -> None:
    """Raises UsageError that does not quote what is too much: it may be the token."""
    if context.args:
        raise UsageError(
            "there is more on the command line than SOURCE[/NAME]; if it was the token, other "
            "users of this machine could read it there",
            hint=f"`modelbay token {context.info_name} SOURCE` asks for it, or reads it from "
            "stdin; make a new token if that one was real",
        )


def _asked(face: Face, named: "Named", user: str | None) -> Secret:
    """The value, typed blind or read from stdin. Raises UsageError."""
    if sys.stdin.isatty():
        what = "password" if user is not None else "token"
        try:
            text = getpass.getpass(f"{what} for {clean(named.token.host)}: ", stream=face.err)
        except EOFError:
            text = ""
    else:
        # As bytes: what is not UTF-8 must not end up in the text of an error.
        stream = getattr(sys.stdin, "buffer", None)
        read = sys.stdin.read(LARGEST + 1) if stream is None else stream.read(LARGEST + 1)
        text = read.decode("utf-8", "replace") if isinstance(read, bytes) else read
    try:
        secret = Secret(text) if len(text) <= LARGEST and text.isascii() else None
    except ValueError:
        secret = None
    if secret is None:
        raise UsageError(
            "no token was given: one line of plain ASCII characters was expected",
            hint=f"pipe it in, `modelbay token set {clean(named.token.shown)} < FILE`, or type it "
            "at the prompt",
        )
    return secret


def _last(named: "Named") -> str:
    return clean(named.token.name)


def _document(named: "Named") -> dict[str, Any]:
    token = named.token
    return {"source": token.source, "name": token.name, "host": token.host}


def _row(one: "Listed") -> dict[str, Any]:
    return {
        "source": one.token.source,
        "name": one.token.name,
        "host": one.token.host,
        "kept": one.kept,
        "state": one.state,
        "fingerprint": one.fingerprint or None,
        "trouble": one.trouble or None,
    }


def _tested(named: "Named", tested: "Tested") -> dict[str, Any]:
    account = tested.account
    whose = account and {
        "name": account.name,
        "token": account.token or None,
        "role": account.role or None,
        "organisations": list(account.organisations),
    }
    return {
        **_document(named),
        "kept": tested.label,
        "origins": list(tested.origins),
        "account": whose,
    }
