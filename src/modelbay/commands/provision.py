"""`modelbay provision`: what a container runs at its start; the same as `sync`, with a log."""

from typing import Any, Final

import click

from modelbay.commands.sync import Asked, checked, flags, synced
from modelbay.errors import UsageError
from modelbay.http.redact import shown_url
from modelbay.output.face import Face
from modelbay.output.log import Log
from modelbay.text import clean

VARIABLE: Final = "PROVISION_URL"
_EPILOG: Final = """\b
Without an argument the file or address in $PROVISION_URL is taken. Every event is a line in
<workspace>/logs/provision.log.

\b
Examples:
  modelbay provision /workspace/models.toml
  modelbay provision https://example.com/models.toml --workspace /workspace
  PROVISION_URL=https://example.com/models.toml modelbay provision
  modelbay provision models.toml --dry-run
"""


@click.command(name="provision", epilog=_EPILOG)
@click.argument("file", metavar="[FILE|URL]", required=False)
@flags
@click.pass_obj
def command(face: Face, /, *, file: str | None, **given: Any) -> int:
    """Bring every model of a provision file into place, as at the start of a container.

    The same as `modelbay sync`. Where there is no terminal, the plan of a file that
    $PROVISION_URL names is logged, and carried out.
    """
    asked = Asked(**given)
    asked.refuse()
    where = file or face.environ.get(VARIABLE, "").strip()
    if not where:
        raise UsageError(
            f"no provision file was named, and ${VARIABLE} is not set",
            hint=f"name one, or `export {VARIABLE}=https://…/models.toml`",
        )
    with asked.bay(face) as bay:
        if asked.check:
            return checked(face, bay, where, asked)
        if not asked.dry_run:
            face.log = Log(bay.workspace / "logs" / "provision.log", face.environ)
            shown = shown_url(where) if "://" in where else clean(where)
            face.notice("started", f"provisioning from {shown} into {clean(bay.workspace)}")
        code = synced(face, bay, where, asked, unasked=file is None)
    if face.log is not None and face.log.broken:
        face.say(f"note: the log could not be written: {face.log.broken}")
    return code
