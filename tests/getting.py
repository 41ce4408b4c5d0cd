"""`modelbay get` of one model as a process of its own, from a Hub of ours, for tests that end
it in unfriendly ways.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from modelbay.serve import Generated, Hub, MemoryShelf
from modelbay.transfer import journal

MIB = 1 << 20
REPO = "org/model"
NAME = "model.bin"


def whole(content: Generated) -> bytes:
    return b"".join(content.pieces(0, content.size))


@dataclass
class Getting:
    """The model's one large file `content` and a small one, from `hub` into `folder`."""

    hub: Hub
    content: Generated
    folder: Path
    state: Path
    body: bytes = field(init=False, repr=False)
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        self.body = whole(self.content)
        self.sha256 = hashlib.sha256(self.body).hexdigest()

    @property
    def final(self) -> Path:
        return self.folder / NAME

    @property
    def part(self) -> Path:
        return self.folder / ".modelbay/parts" / f"{self.sha256}.part"

    @property
    def command(self) -> list[str]:
        get = [*("get", REPO, "--to", str(self.folder)), *("--progress", "none")]
        return [sys.executable, "-P", "-B", "-m", "modelbay", *get]

    def environment(self, bandwidth: str | None = None) -> Mapping[str, str]:
        limits = {"MODELBAY_BANDWIDTH": bandwidth} if bandwidth else {}
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "HOME": str(self.state),
            "HF_ENDPOINT": self.hub.endpoint,
            "MODELBAY_STATE_DIR": str(self.state),
            **limits,
        }

    def start(self, *before: str, bandwidth: str | None = None) -> "subprocess.Popen[str]":
        """A child under the program `before`, if one is given."""
        return subprocess.Popen(
            [*before, *self.command],
            env=self.environment(bandwidth),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *before: str, bandwidth: str | None = None) -> tuple[int, str]:
        """Exit code and stderr of a child that is left alone."""
        with self.start(*before, bandwidth=bandwidth) as process:
            _, said = process.communicate(timeout=120)
        return process.returncode, said

    def held(self) -> tuple[tuple[int, int], ...]:
        """What the journal claims, once every byte of it is seen to be in the part."""
        found = journal.read(self.part)
        if found is None:
            return ()
        there = self.part.read_bytes()
        for start, end in found.spans:
            assert there[start:end] == self.body[start:end], f"the journal lies on {start}-{end}"
        return found.spans

    def finals_are_absent_or_whole(self) -> bool:
        """Whether every name that readers look at is right; True when there is none."""
        expected = {NAME: self.body, "config.json": b"{}"}
        if not self.folder.is_dir():
            return True
        found = {path.name: path for path in self.folder.iterdir() if path.name != ".modelbay"}
        return all(path.read_bytes() == expected[name] for name, path in found.items())

    def resumes(self) -> None:
        """Runs once more to the end, and sees that no byte in front that was held is asked for."""
        held, before = self.held(), len(self.hub.cdn_log)
        front = held[0][1] if held and held[0][0] == 0 else 0
        published = self.final.exists()

        code, said = self.run()

        assert code == 0, said
        assert self.final.read_bytes() == self.body
        starts = [first_byte(request.headers) for request in list(self.hub.cdn_log)[before:]]
        assert not starts if published else min(starts, default=front) >= front, starts
        # A cut right after publication leaves a journal or a lock file of some hundred bytes.
        left = [path for path in self.part.parent.iterdir() if path.stat().st_size > 4096]
        assert not left


def first_byte(headers: Mapping[str, str]) -> int:
    """Where the range of a request begins."""
    return int(headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0])


@contextmanager
def getting(folder: Path, state: Path, *, size: int) -> Iterator[Getting]:
    content = Generated(size, seed="getting")
    shelf = MemoryShelf()
    shelf.add(REPO, {"config.json": b"{}", NAME: content})
    with Hub(shelf) as hub:
        yield Getting(hub, content, folder, state)
