"""What every source gives, and nothing that moves bytes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from modelbay.credentials import Credentials
from modelbay.http import Client
from modelbay.location import Credential, Location
from modelbay.refs import ModelRef, RefForm
from modelbay.snapshot import Hit, ModelFile, Query, Snapshot


@dataclass(frozen=True, slots=True)
class Option:
    """One key a source understands, declared once for TOML, command line, settings, docs."""

    name: str
    help: str
    type: Literal["text", "integer", "flag", "list", "table"] = "text"
    required: bool = False


@dataclass(frozen=True, slots=True)
class Means:
    """What a source is made from: everything it may use of the outside world."""

    client: Client
    credentials: Credentials
    endpoint: str | None = None
    """The endpoint the user configured for this source; None means its public one."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What an entry adds to requests for its own address."""


class Source(RefForm, Protocol):
    """Describes: search, resolve, locate. Constructed with one `Means`."""

    options: tuple[Option, ...]
    """The TOML keys of this source (formats.md §2)."""

    def ref_of(self, keys: dict[str, object]) -> ModelRef:
        """The ref that an entry's TOML keys mean. Raises UsageError naming the key."""
        ...

    def keys_of(self, ref: ModelRef) -> dict[str, object]:
        """The TOML keys that mean `ref`: `ref_of` gives it back, but for a path in it."""
        ...

    def ref_in(self, table: Mapping[str, str], asked: ModelRef) -> ModelRef:
        """The ref whose files a lock's `table` locates, at the revision that was `asked` for.
        Asks nobody. Raises FormatError for a table that locates nothing.
        """
        ...

    def search(self, query: Query) -> Iterator[Hit]:
        """Hits as they come. Raises NoSearch where the service has none."""
        ...

    def resolve(self, ref: ModelRef) -> Snapshot:
        """The snapshot that `ref` means now. Raises NotFound, AccessError, NetworkError."""
        ...

    def locate(self, snapshot: Snapshot, file: ModelFile) -> Location:
        """Where its bytes can be had, as of now. Called late, and again when it expires."""
        ...


@runtime_checkable
class Placed(Protocol):
    """A source whose models have a usual place; those of any other go to a plain folder."""

    layout: str
    """The layout that `get` chooses when nobody says: `hf-cache`, `folders`, `ollama`."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whose a token is, in the words of its service."""

    name: str
    token: str = ""
    """What its owner called the token."""
    role: str = ""
    """What it may do: `read`, `write`."""
    organisations: tuple[str, ...] = ()


@runtime_checkable
class Identifying(Protocol):
    """A source whose service tells whose a token is."""

    def account(self, url: str, credential: Credential) -> Account | None:
        """Whose `credential` is at `url`; None where that service does not tell. Raises
        CredentialRefused, NetworkError.
        """
        ...


@runtime_checkable
class Mirrored(Protocol):
    """A source whose files other endpoints may have under the same names."""

    def locate_at(self, mirror: str, snapshot: Snapshot, file: ModelFile) -> Location:
        """Where `file` would be at the endpoint `mirror`. Raises UsageError for no endpoint."""
        ...
