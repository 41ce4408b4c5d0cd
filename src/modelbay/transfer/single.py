"""A file in one go, hashed as it comes: small ones, and those whose servers know no ranges."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelbay import files
from modelbay.errors import ModelbayError, NetworkError, UpstreamChanged
from modelbay.http import Reply
from modelbay.location import Stream
from modelbay.text import clean
from modelbay.transfer import journal
from modelbay.transfer.bucket import Bucket
from modelbay.transfer.front import Buffers, Hasher
from modelbay.transfer.inspection import LOOK, inspect
from modelbay.transfer.limits import BUFFER, Limits
from modelbay.transfer.order import Fetched, Order, Progress, Stop
from modelbay.transfer.patience import Tries
from modelbay.transfer.ranged import Floor, ended_early
from modelbay.transfer.remote import Remote


@dataclass
class Single:
    """What one file in one go needs of the engine."""

    order: Order
    progress: Progress
    stop: Stop
    limits: Limits
    bucket: Bucket
    buffers: Buffers
    tries: Tries

    def fetch_http(self, remote: Remote) -> Fetched:
        """Blocks until the part is whole, hashed and fsynced; starts over after trouble.

        Raises Changed, Interrupted, ModelbayError.
        """
        while True:
            try:
                with (
                    self.stop.calling(remote.cut.fall),
                    remote.request(0, None, ranged=False) as reply,
                ):
                    self.progress.connections = 1
                    return self._whole(remote, reply)
            except NetworkError as error:
                self.tries.failed(error, 0, self.progress, self.stop)
            finally:
                self.progress.connections = 0

    def _whole(self, remote: Remote, reply: Reply) -> Fetched:
        size = remote.size if remote.size is not None else reply.length
        hasher = Hasher({digest.algorithm for digest in self.order.digests}, size)
        self.progress.state, self.progress.received = "downloading", 0
        buffer = self.buffers.take()
        descriptor = fresh_part(self.order.part)
        try:
            with files.disk_errors(self.order.part):
                self._drain(reply, descriptor, hasher, buffer, size)
                if size is not None and hasher.position < size:
                    raise ended_early(self.order.name)
                files.sync_file(descriptor)
        finally:
            files.close(descriptor)
            self.buffers.give(buffer)
        return Fetched(
            self.order.part, hasher.position, hasher.observed(), hasher.sums(), remote.etag
        )

    def _drain(
        self, reply: Reply, descriptor: int, hasher: Hasher, buffer: bytearray, size: int | None
    ) -> None:
        view, filled = memoryview(buffer), 0
        floor = Floor(self.limits)
        while True:
            room = self.bucket.bite(len(view) - filled)
            count = reply.read_into(view[filled : filled + room], self.limits.stall)
            self.progress.fetched += count
            filled += count
            ended = not count or hasher.position + filled == size
            if ended or filled >= LOOK:
                self._keep(view[:filled], descriptor, hasher, reply, size)
                filled = 0
            if ended:
                return
            trouble = floor.judge(count, time.monotonic(), self.order.name)
            if trouble is not None:
                raise trouble
            self.bucket.spend(count, self.stop.wait)
            self.stop.check()

    def _keep(
        self, view: memoryview, descriptor: int, hasher: Hasher, reply: Reply, size: int | None
    ) -> None:
        if hasher.position == 0:
            inspect(
                bytes(view[:LOOK]),
                suffix=self.order.suffix,
                name=self.order.name,
                url=reply.url,
                content_type=reply.headers.get("content-type", ""),
            )
        self._fits(hasher.position + len(view), size)
        files.write_at(descriptor, view, hasher.position)
        hasher.feed(view)
        self.progress.received = self.progress.hashed = hasher.position

    def _fits(self, end: int, size: int | None) -> None:
        if size is not None and end > size:
            raise UpstreamChanged(
                f"{clean(self.order.name)} is longer than the {size} bytes that were expected",
                hint="nothing was published; look at the model's page",
            )

    def fetch_stream(self, stream: Stream, identity: str) -> Fetched:
        """The same for bytes from a generator, continued from where an earlier run ended."""
        held = self._held(identity)
        hasher = Hasher({digest.algorithm for digest in self.order.digests}, self.order.size)
        descriptor = files.open_part(self.order.part) if held else fresh_part(self.order.part)
        try:
            with files.disk_errors(self.order.part):
                self._rehash(descriptor, hasher, held)
                self._pour(stream, descriptor, hasher, identity)
                files.truncate(descriptor, hasher.position)
                files.sync_file(descriptor)
        finally:
            files.close(descriptor)
        return Fetched(self.order.part, hasher.position, hasher.observed(), hasher.sums())

    def _held(self, identity: str) -> int:
        found = journal.read(self.order.part)
        # Nothing but a digest or a validator tells that the bytes to come are of the same file.
        provable = bool(self.order.digests or self.order.validator)
        if found is None or not provable or found.identity != identity or not found.spans:
            return 0
        start, end = found.spans[0]
        return end if start == 0 else 0

    def _rehash(self, descriptor: int, hasher: Hasher, held: int) -> None:
        self.progress.state, self.progress.resumed = "verifying", held
        buffer = self.buffers.take()
        try:
            while hasher.position < held:
                view = memoryview(buffer)[: min(BUFFER, held - hasher.position)]
                count = files.read_at(descriptor, view, hasher.position)
                if not count:
                    break
                hasher.feed(view[:count])
                self.progress.received = self.progress.hashed = hasher.position
                self.stop.check()
        finally:
            self.buffers.give(buffer)

    def _pour(self, stream: Stream, descriptor: int, hasher: Hasher, identity: str) -> None:
        self.progress.state = "downloading"
        journaled = time.monotonic()
        try:
            for chunk in self._chunks(stream, hasher.position):
                self._fits(hasher.position + len(chunk), self.order.size)
                files.write_at(descriptor, chunk, hasher.position)
                hasher.feed(chunk)
                self.progress.received = self.progress.hashed = hasher.position
                self.progress.fetched += len(chunk)
                self.bucket.spend(len(chunk), self.stop.wait)
                self.stop.check()
                if time.monotonic() - journaled >= self.limits.journal_seconds:
                    journaled = time.monotonic()
                    self._write_journal(descriptor, hasher.position, identity)
        except ModelbayError:
            self._write_journal(descriptor, hasher.position, identity)
            raise

    def _chunks(self, stream: Stream, offset: int) -> Iterator[memoryview]:
        for chunk in stream.open(offset):
            view = memoryview(chunk)
            while view:
                yield view[: self.bucket.bite(BUFFER)]
                view = view[self.bucket.bite(BUFFER) :]

    def _write_journal(self, descriptor: int, held: int, identity: str) -> None:
        files.sync_data(descriptor)
        size = self.order.size if self.order.size is not None else held
        journal.write(self.order.part, journal.Journal(size, identity, ((0, held),)))


def fresh_part(part: Path) -> int:
    """A new, empty part. An older one is unlinked and not truncated: another process may be
    about to publish that very inode.
    """
    with files.disk_errors(part):
        journal.remove(part)
    return files.open_part(part)
