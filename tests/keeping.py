"""A machine with a library: the real command line, the real Bay, a Hub of ours."""

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelbay.cli import run
from modelbay.serve import Hub, MemoryShelf

WEIGHTS = b"weights" * 20_000
FILES = {"config.json": b"{}", "model.bin": WEIGHTS}


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@dataclass
class Desk:
    hub: Hub
    shelf: MemoryShelf
    home: Path

    @property
    def environ(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "HF_ENDPOINT": self.hub.endpoint,
            "MODELBAY_STATE_DIR": str(self.home / "state"),
            "WORKSPACE": str(self.home / "workspace"),
        }

    def run(self, *argv: str, **environ: str) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        code = run(argv, environ={**self.environ, **environ}, out=out, err=err)
        return Ran(code, out.getvalue(), err.getvalue())

    def get(self, ref: str, *options: str) -> Path:
        """Fetches a model and gives where it lies."""
        ran = self.run("get", ref, "--progress", "none", *options)
        assert ran.code == 0, ran.err
        return Path(ran.out.splitlines()[0])

    @property
    def repo(self) -> Path:
        return self.home / ".cache/huggingface/hub/models--org--model"

    def listed(self) -> list[str]:
        """Refs that the library holds, without the endpoint."""
        models = self.run("ls", "--json").document["models"]
        return [model["ref"].partition("?")[0] for model in models]


@contextmanager
def desk(home: Path) -> Iterator[Desk]:
    """org/model on the Hub, and another revision of it that shares its weights."""
    shelf = MemoryShelf()
    shelf.add("org/model", FILES)
    shelf.add("org/model", {**FILES, "config.json": b'{"dev": 1}'}, branch="dev")
    shelf.add("org/other", {"lora.bin": b"lora" * 500})
    with Hub(shelf) as hub:
        yield Desk(hub, shelf, home)
