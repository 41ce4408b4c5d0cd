"""A machine of one's own for `modelbay sync`: its folders, its environment, its command line."""

import io
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from modelbay.bay import Bay
from modelbay.cli import run
from modelbay.serve import Hub


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        return self.err.splitlines()[-1]


@dataclass
class Machine:
    """What one user has below `home`; `more` is added to his environment."""

    hub: Hub | None
    home: Path
    more: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)

    @property
    def workspace(self) -> Path:
        return self.home / "workspace"

    @property
    def cache(self) -> Path:
        return self.home / "hub"

    @property
    def environ(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "HF_HUB_CACHE": str(self.cache),
            "HF_ENDPOINT": self.hub.endpoint if self.hub else "http://127.0.0.1:9",
            "WORKSPACE": str(self.workspace),
            "MODELBAY_STATE_DIR": str(self.home / "state"),
            "DISABLE_PROGRESS": "1",
            **self.more,
        }

    def run(self, *words: str | Path) -> Said:
        """One command line, carried out in this process."""
        out, err = io.StringIO(), io.StringIO()
        code = run([str(word) for word in words], environ=self.environ, out=out, err=err)
        return Said(code, out.getvalue(), err.getvalue())

    def start(self, *words: str | Path) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "modelbay", *map(str, words)],
            env={**self.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def bay(self) -> Bay:
        return Bay.open(environ=self.environ)

    def write(self, name: str, text: str) -> Path:
        path = self.home / name
        path.write_text(text)
        return path

    def files(self) -> dict[str, bytes]:
        """What readers find below the workspace."""
        found = (path for path in self.workspace.rglob("*") if path.is_file())
        return {
            name.as_posix(): (self.workspace / name).read_bytes()
            for name in sorted(path.relative_to(self.workspace) for path in found)
            if ".modelbay" not in name.parts
        }

    def trash(self) -> dict[str, bytes]:
        """What lies in any trash of the workspace, by its old path below the root."""
        found = (path for path in self.workspace.glob("**/.modelbay/trash/*/**/*"))
        return {
            path.relative_to(
                next(p for p in path.parents if p.parent.name == "trash")
            ).as_posix(): (path.read_bytes())
            for path in found
            if path.is_file() and ".modelbay/meta" not in path.as_posix().split("/trash/")[1]
        }
