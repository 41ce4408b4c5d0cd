"""Source factories of the settings, checked when they are chosen."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from modelbay import sources
from modelbay.bay.session import Session
from modelbay.errors import FormatError, UsageError
from modelbay.provision.factories import Known, Sources
from modelbay.provision.keys import check_auth, check_headers, read_keys
from modelbay.provision.reading import Written

_PLACE: Final = re.compile(r"[^:]*:\d+:\d+: ")


def check_factory(session: Session, name: str, table: Mapping[str, Any]) -> None:
    """Raises UsageError, with the nearest valid word, for a factory that no provision file
    could use: without a type, of a type that nobody knows, with a key that its source has not.
    """
    at = ("sources", name)
    written = Written(Path("settings"), "", {"sources": {name: dict(table)}})
    known = Known(
        sources.names(), lambda kind: session.sources.get(kind).options, session.sources.parse
    )
    try:
        kind, keys = Sources.of(written, known).resolved(written, (), name)
        if kind in known.names:
            read = read_keys(written, at, keys, known.options(kind))
            if "auth" in read:
                check_auth(written, at, read["auth"])
            check_headers(written, at, read.get("headers", {}))
    except FormatError as error:
        raise UsageError(_PLACE.sub("", str(error), count=1), hint=error.hint) from error
