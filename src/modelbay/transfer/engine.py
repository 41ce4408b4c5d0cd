"""One file, perfectly: fetch, resume, verify. Blocking; threads are the caller's and ours."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from modelbay import files
from modelbay.digest import disagreement, find
from modelbay.errors import LoginPage, ModelbayError, UpstreamChanged, WrongBytes
from modelbay.http import Client
from modelbay.http.hosts import Patience
from modelbay.location import Http, Local, Location, Stream
from modelbay.text import clean
from modelbay.transfer import journal
from modelbay.transfer.bucket import Bucket
from modelbay.transfer.effort import Effort
from modelbay.transfer.front import Buffers
from modelbay.transfer.limits import BUFFER, SMALL, Limits
from modelbay.transfer.order import Fetched, Order, Progress, Stop
from modelbay.transfer.patience import Tries
from modelbay.transfer.pieces import PieceMap
from modelbay.transfer.ranged import Ranged
from modelbay.transfer.remote import Changed, NoRanges, Remote, Unsatisfied
from modelbay.transfer.repair import CutShort, Repair, pieces_told
from modelbay.transfer.single import Single

_CLEAN_RESTARTS = 1
_LONGEST_SIZE = 18


class Engine:
    """Moves bytes for everybody in this process. Holds the bandwidth bucket and the buffers."""

    def __init__(self, client: Client, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.bucket = Bucket(self.limits.bandwidth)
        self._client = client
        self._buffers = Buffers(self.limits.buffers)
        self._effort = Effort()
        limits_ = self.limits
        client.hosts.patience = Patience(
            limits_.backoff, limits_.backoff_cap, limits_.tries, limits_.wait_cap
        )

    def fetch(self, order: Order, progress: Progress, stop: Stop) -> Fetched:
        """The bytes of `order` in its part: whole, hashed, equal to every claimed digest, and
        fsynced. Resumes what an earlier run left. The journal stays until the part is
        published, so that a death in between costs no byte.

        Raises Interrupted (the part is kept), WrongBytes and UpstreamChanged (the wrong bytes
        lie in quarantine), AccessError, NotFound, NetworkError, DiskError.
        """
        progress.size = order.size
        course = _Course()
        tries = Tries(self._client.hosts.patience, self.limits.progress, most=order.tries)
        mended = self._mended(order, progress, stop, course)
        while mended is None:
            stop.check()
            progress.state = "connecting"
            try:
                location = order.locate()
                with _pages_explained(location):
                    fetched = self._once(
                        order, location, progress, stop, tries, ranged=course.ranged
                    )
                fetched = _seen_whole(order, fetched)
                self._verify(order, fetched)
            except NoRanges:
                course.ranged = False
                course.say(progress, "its server gives no parts of it: from the start, in one go")
            except Changed as change:
                course.say(progress, f"{change}: from the start again")
                self._start_over(order, progress)
                course.after_change(order, change)
            except _Wrong as wrong:
                self._quarantine(order)
                course.after_wrong(wrong.error)
                course.say(progress, "wrong bytes came: from the start again")
                self._start_over(order, progress)
            else:
                self._release_quarantine(order)
                mended = fetched
        return replace(mended, notes=tuple(course.notes))

    def _mended(
        self, order: Order, progress: Progress, stop: Stop, course: "_Course"
    ) -> Fetched | None:
        """What the damaged file of `order` became with its bad pieces fetched again; None
        where all that the part lacks has to come the ordinary way.
        """
        sums = pieces_told(order)
        if order.damaged is None or not sums or order.size is None:
            return None
        stop.check()
        location = order.locate()
        if not isinstance(location, Http):
            return None
        files.make_dir(order.part.parent, private=True)
        remote = Remote(self._client, order, self.limits, progress, stop, location, size=order.size)
        tries = Tries(self._client.hosts.patience, self.limits.progress)
        one = Repair(
            order, order.damaged, sums, order.size, remote, tries, self.bucket, _identity(order)
        )
        try:
            fetched = _seen_whole(order, one.mend())
            self._verify(order, fetched)
        except CutShort:
            return None
        except NoRanges:
            course.ranged = False
            course.say(progress, "its server gives no parts of it: all of it is fetched again")
            return None
        except Changed as change:
            course.say(progress, f"{change}: what is not right yet is fetched from there")
            return None
        except _Wrong as wrong:
            raise wrong.error from None
        return fetched

    def _once(
        self,
        order: Order,
        location: Location,
        progress: Progress,
        stop: Stop,
        tries: Tries,
        *,
        ranged: bool,
    ) -> Fetched:
        files.make_dir(order.part.parent, private=True)
        single = Single(order, progress, stop, self.limits, self.bucket, self._buffers, tries)
        match location:
            case Stream():
                return single.fetch_stream(location, _identity(order))
            case Local(path):
                return single.fetch_stream(Stream(_reader(path)), _identity(order))
            case Http():
                remote = Remote(
                    self._client, order, self.limits, progress, stop, location, size=order.size
                )
                size = self._known_size(order, location, stop) if ranged else order.size
                if not ranged or size is None or size < SMALL:
                    return single.fetch_http(remote)
                remote.size = progress.size = size
                return self._ranged(remote, single, size)
        raise TypeError(f"{location!r} was not followed to its end")

    def _known_size(self, order: Order, location: Http, stop: Stop) -> int | None:
        if order.size is not None:
            return order.size
        answer = self._client.probe(
            location.url,
            headers=location.headers,
            credential=location.credential,
            wait=stop.wait,
        )
        total = (answer.header("content-range") or "").rpartition("/")[2]
        told = answer.status == 206 and total.isascii() and total.isdigit()
        return int(total) if told and len(total) <= _LONGEST_SIZE else None

    def _ranged(self, remote: Remote, single: Single, size: int) -> Fetched:
        order, progress = remote.order, remote.progress
        pieces = PieceMap(size, self.limits.run_ahead())
        found = journal.read(order.part)
        identity = _identity(order)
        if found is not None and _continues(found, order, size, identity):
            pieces.here = list(found.spans)
            pieces.kept = pieces.front()
            remote.etag = found.validator
            progress.resumed = progress.received = found.held
            descriptor = files.open_part(order.part)
        else:
            with files.disk_errors(order.part):
                journal.remove(order.part)
            descriptor = files.open_part(order.part)
        run = Ranged(
            remote,
            order,
            progress,
            single.stop,
            self.limits,
            self.bucket,
            self._buffers,
            single.tries,
            self._effort,
            descriptor,
            pieces,
            identity,
        )
        try:
            fetched = run.fetch()
            with files.disk_errors(order.part):
                files.sync_file(descriptor)
            run.write_journal()
            return fetched
        finally:
            run.close()

    def _verify(self, order: Order, fetched: Fetched) -> None:
        """Raises _Wrong unless the bytes are what was claimed."""
        differing = disagreement(order.digests, fetched.digests)
        if differing is not None:
            claimed, observed = differing
            raise _Wrong(
                WrongBytes(
                    f"{clean(order.name)} arrived with other bytes than promised: expected "
                    f"{claimed}, found {observed}",
                    hint="nothing was published, the wrong bytes lie in .modelbay/quarantine; "
                    "look at the model's page, or try another mirror",
                )
            )
        if order.size is not None and fetched.size != order.size:
            raise _Wrong(
                WrongBytes(
                    f"{clean(order.name)} arrived with {fetched.size} bytes, "
                    f"{order.size} were expected",
                    hint="nothing was published; look at the model's page",
                )
            )

    def _start_over(self, order: Order, progress: Progress) -> None:
        with files.disk_errors(order.part):
            journal.remove(order.part)
        progress.received = progress.hashed = progress.resumed = 0

    def _quarantine(self, order: Order) -> None:
        """Moves the wrong bytes aside, one file for each part name."""
        kept = _quarantined(order.part)
        if kept is None:
            return
        with files.disk_errors(kept):
            files.make_dir(kept.parent, private=True)
            journal.path_of(order.part).unlink(missing_ok=True)
            order.part.replace(kept)

    def _release_quarantine(self, order: Order) -> None:
        kept = _quarantined(order.part)
        if kept is not None:
            kept.unlink(missing_ok=True)


@contextmanager
def _pages_explained(location: Location) -> Iterator[None]:
    """Raises what a page in place of the file means to the source, where it can tell."""
    try:
        yield
    except LoginPage as page:
        if isinstance(location, Http) and location.page is not None:
            raise location.page(page) from page
        raise


@dataclass(slots=True)
class _Course:
    """How one fetch goes: with parts or in one go, and what it was started over for."""

    ranged: bool = True
    restarts: int = 0
    change: Changed | None = None
    notes: list[str] = field(default_factory=list)

    def say(self, progress: Progress, sentence: str) -> None:
        """For the person, now and at the end: a later trouble does not take it away."""
        progress.note = sentence
        self.notes.append(sentence)

    def after_change(self, order: Order, change: Changed) -> None:
        """Raises UpstreamChanged when it was started over for that before."""
        if self.restarts >= _CLEAN_RESTARTS:
            if isinstance(change, Unsatisfied) and self.ranged:
                self.ranged = False
                return
            raise UpstreamChanged(
                f"{clean(order.name)} keeps changing on its server while it is read ({change})",
                hint="nothing was published; try again when its publisher is done",
            ) from change
        self.restarts += 1
        self.change = change

    def after_wrong(self, error: ModelbayError) -> None:
        """Raises `error` when it was started over before."""
        if self.change is not None:
            raise UpstreamChanged(
                f"{error}; while it was read, {self.change}", hint=error.hint
            ) from None
        if self.restarts >= _CLEAN_RESTARTS:
            raise error
        self.restarts += 1


class _Wrong(Exception):
    def __init__(self, error: ModelbayError) -> None:
        super().__init__(str(error))
        self.error = error


def _quarantined(part: Path) -> Path | None:
    if part.parent.name != "parts":
        return None
    return part.parent.parent / "quarantine" / part.name


def _seen_whole(order: Order, fetched: Fetched) -> Fetched:
    """`fetched` with every claimed algorithm observed: git's own begins with the size, which
    may have become known only at the end.
    """
    claimed = (digest.algorithm for digest in order.digests)
    unseen = [name for name in claimed if find(fetched.digests, name) is None]
    if not unseen:
        return fetched
    return replace(fetched, digests=(*fetched.digests, *files.hash_file(fetched.part, unseen)))


def _continues(found: journal.Journal, order: Order, size: int, identity: str) -> bool:
    """Whether the bytes of an earlier run are of the same content."""
    provable = bool(order.digests) or found.validator is not None
    return provable and found.size == size and found.identity == identity


def _identity(order: Order) -> str:
    """What a part's journal names its bytes by: a digest if one is known, else the validator."""
    if order.digests:
        return str(order.digests[0])
    return f"validator:{order.validator}" if order.validator else "unvalidated"


def _reader(path: Path) -> Callable[[int], Iterator[bytes]]:
    def read(offset: int) -> Iterator[bytes]:
        with files.disk_errors(path), path.open("rb") as stream:
            stream.seek(offset)
            while chunk := stream.read(BUFFER):
                yield chunk

    return read
