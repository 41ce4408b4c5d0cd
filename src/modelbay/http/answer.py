"""A whole, small answer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from modelbay.errors import ServerTrouble
from modelbay.http.redact import without_secrets
from modelbay.location import Credential
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

    def unechoed(
        self, credential: Credential | None, headers: Mapping[str, str] | None = None
    ) -> "Answer":
        """The same; of a refusal nothing that was sent with `credential` and `headers`."""
        if self.status < 400:
            return self
        # In this encoding every byte is a character, and comes back as it was.
        body = without_secrets(self.body.decode("latin-1"), credential, headers)
        told = {k: without_secrets(v, credential, headers) for k, v in self.headers.items()}
        return Answer(self.status, self.url, body.encode("latin-1"), told)

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
