"""A whole, small answer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from modelbay.errors import ServerTrouble
from modelbay.text import clean


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole, small answer. `url` is where it came from after redirects."""

    status: int
    url: str = field(repr=False)
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def header(self, name: str) -> str | None:
        return self.headers.get(name.lower())

    def json(self) -> Any:
        """The body as JSON. Raises ServerTrouble that names the host."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            host = clean(urlsplit(self.url).hostname, limit=200)
            raise ServerTrouble(
                f"{host} answered {self.status} with something that is not JSON "
                f"({clean(self.body[:60].decode('utf-8', 'replace'))!r})",
                hint="check the endpoint's address; a portal or proxy may stand in between",
            ) from error
