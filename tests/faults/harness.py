"""Drives the engine against a fault server, as a command would: fetch, then publish."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from modelbay.digest import Digest
from modelbay.errors import ModelbayError
from modelbay.files import publish
from modelbay.http import Client, Hosts
from modelbay.http.hosts import Patience
from modelbay.location import Http, Location
from modelbay.transfer import Engine, Limits, journal
from modelbay.transfer.order import Fetched, Order, Progress, Stop
from tests.faults.server import MIB, Content, FaultServer, noise

SIZE = 16 * MIB
"""Large enough for several connections, and for a dozen pieces of the sizes below."""
CUT = 300_001
"""Where an answer breaks off: inside every piece, on no boundary."""
LARGE = Content(noise(SIZE))
SMALL = Content(noise(2 * MIB, seed=2))

QUICK = Limits(
    connections=4,
    jobs=8,
    bandwidth=None,
    stall=0.4,
    floor_rate=1024,
    floor_seconds=0.5,
    first_byte=0.4,
    backoff=0.02,
    backoff_cap=0.1,
    tries=4,
    wait_cap=5.0,
    piece_max=2 * MIB,
    piece_min=MIB // 2,
    piece_start=MIB,
    journal_seconds=0.1,
    relocate_seconds=0.1,
    progress=MIB // 8,
)
"""As patient as a test can be."""

PIECE = QUICK.piece_max


@dataclass
class Outcome:
    """What came of one order. Exactly one of `fetched` and `error` is set."""

    final: Path
    progress: Progress
    fetched: Fetched | None = None
    error: ModelbayError | None = None

    @property
    def bytes(self) -> bytes:
        """What stands under the final name. Raises the failure when there was one."""
        if self.error is not None:
            raise self.error
        return self.final.read_bytes()

    @property
    def said(self) -> str:
        """Everything that a person was told of a fetch that succeeded."""
        notes = self.fetched.notes if self.fetched else ()
        return " ".join([*notes, self.progress.note])

    @property
    def failure(self) -> ModelbayError:
        """The error, once it is seen that nothing stands where readers look."""
        assert self.error is not None, "the fetch succeeded"
        assert list(self.final.parent.iterdir()) == []
        assert self.error.hint
        assert "\x1b" not in f"{self.error} {self.error.hint}"
        return self.error


@dataclass
class Fetching:
    """One client and one engine, and the folder they work in."""

    folder: Path
    limits: Limits = field(default_factory=lambda: replace(QUICK))
    engine: Engine = field(init=False)
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        limits = self.limits
        patience = Patience(limits.backoff, limits.backoff_cap, limits.tries, limits.wait_cap)
        self.client = Client(hosts=Hosts(patience), first_byte=limits.first_byte)
        self.engine = Engine(self.client, limits)

    def order(
        self,
        locate: Callable[[], Location],
        content: Content,
        *,
        name: str = "model.bin",
        size: int | None = -1,
        digests: tuple[Digest, ...] | None = None,
    ) -> Order:
        """An order for `content`: its size and sha256 are known unless said otherwise."""
        parts = self.folder / "parts"
        parts.mkdir(exist_ok=True)
        return Order(
            name=name,
            size=len(content.body) if size == -1 else size,
            digests=(content.sha256,) if digests is None else digests,
            part=parts / f"{name}.part",
            locate=locate,
            suffix=Path(name).suffix,
        )

    def run(self, order: Order, progress: Progress | None = None) -> Outcome:
        finals = self.folder / "models"
        finals.mkdir(exist_ok=True)
        outcome = Outcome(finals / order.name, progress or Progress())
        try:
            outcome.fetched = self.engine.fetch(order, outcome.progress, Stop())
        except ModelbayError as error:
            outcome.error = error
        else:
            publish(outcome.fetched.part, outcome.final)
            journal.path_of(outcome.fetched.part).unlink(missing_ok=True)
        return outcome

    def get(
        self,
        server: FaultServer,
        content: Content = LARGE,
        *,
        name: str = "model.bin",
        size: int | None = -1,
        digests: tuple[Digest, ...] | None = None,
    ) -> Outcome:
        url = server.url(f"/{name}")
        return self.run(
            self.order(lambda: Http(url), content, name=name, size=size, digests=digests)
        )


def refetched(server: FaultServer, content: Content = LARGE) -> int:
    """Bytes that the server sent beyond the file's own."""
    return server.sent - len(content.body)


def conditional(server: FaultServer) -> bool:
    """Whether every request past byte 0 named the version it continues."""
    later = [request for request in server.gets if request.start]
    return bool(later) and all(request.header("if-range") for request in later)
