"""What a locked model is, when what was asked for and what it became are held side by side.

The bytes of a model come from its source's table. So its name comes from there too: a lock
that was changed by hand gives no model's name to another's bytes, and no credential to
another host.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from modelbay.bay.session import Session
from modelbay.errors import FormatError, PolicyError
from modelbay.http.redact import shown_url
from modelbay.provision import LockedModel
from modelbay.provision.trust import CACHES
from modelbay.refs import ModelRef
from modelbay.snapshot import Snapshot
from modelbay.text import clean

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_AGAIN: Final = "take the lock from version control again, or make it again"


def locked_ref(session: Session, model: LockedModel) -> ModelRef:
    """The ref of `model`, whose bytes its source gives for it. No source is asked.

    Raises FormatError for a lock whose parts contradict each other, PolicyError for one that
    is not trusted and was locked to another name than it was asked for under.
    """
    asked = session.sources.ref_of(model.source, model.original)
    found = session.sources.get(model.source).ref_in(model.table, asked)
    commit = model.table.get("commit", "")
    if _COMMIT.fullmatch(asked.revision or "") and asked.revision != commit:
        raise FormatError(
            f"{clean(model.id)} was changed by hand: it asks for the commit {asked.revision} and "
            f"is locked to {clean(commit, limit=80) or 'none'}",
            hint=_AGAIN,
        )
    _check_home(model, asked, found)
    if session.reach is None:
        return found
    _check_name(model, asked, found)
    # `main` means what the Hub says, and nobody has asked it.
    return found.at(commit) if model.place.layout in CACHES else found


def _check_home(model: LockedModel, asked: ModelRef, found: ModelRef) -> None:
    owner, _ = CACHES.get(model.place.layout, (model.source, ""))
    if owner != model.source:
        raise FormatError(
            f"{clean(model.id)} is of the source {clean(model.source, limit=80)}, and "
            f"{model.place.layout} holds models of {owner} alone",
            hint=_AGAIN,
        )
    sends = model.auth or model.original.get("headers")
    if sends and asked.address != found.address:
        raise FormatError(
            f"{clean(model.id)} was changed by hand, or locked with another endpoint: its "
            f"credentials are for {_home(asked)}, and it is locked to {_home(found)}",
            hint="write the endpoint into its entry, and lock it again",
        )


def _check_name(model: LockedModel, asked: ModelRef, found: ModelRef) -> None:
    """A name alone may have become `owner/name`, as the Hub answers it, and a prefix the folder
    that it is (`name/`); nothing else changes.
    """
    wanted, became = asked.name.casefold(), found.name.casefold()
    completed = ("/" not in wanted and became.endswith(f"/{wanted}")) or became == f"{wanted}/"
    if (wanted != became and not completed) or not _same_home(asked, found):
        raise PolicyError(
            f"{clean(model.id)} asks for {clean(asked)} and is locked to {clean(found)}; the lock "
            "is not trusted",
            hint="sync its provision file instead, or read the lock and trust it with --trust",
        )


def _same_home(asked: ModelRef, found: ModelRef) -> bool:
    """Whether an address that was asked for is the one that it became."""
    return asked.address in {None, found.address}


def _home(ref: ModelRef) -> str:
    return shown_url(ref.address) if ref.address else "its source's own host"


def noted(session: Session, snapshot: Snapshot, auth: Mapping[str, object]) -> Snapshot:
    """`snapshot` with a sentence for the person: where the credentials of its entry go."""
    if not auth:
        return snapshot
    named = [value for table in auth.values() for value in _values(table)]
    what = ", ".join(clean(name, limit=80) for name in named)
    public = session.credentials.home(snapshot.ref.source) or ""
    home = snapshot.ref.address or session.settings.endpoints.get(snapshot.ref.source) or public
    note = f"sends the credential in {what} to {_host(home)} and to no other host"
    return replace(snapshot, notes=(*snapshot.notes, note))


def _values(value: object) -> list[object]:
    return list(value.values()) if isinstance(value, Mapping) else [value]


def _host(address: str) -> str:
    """`https://host`, with the port where it is not the usual one."""
    found = urlsplit(shown_url(address))
    return f"{found.scheme}://{found.netloc}"
