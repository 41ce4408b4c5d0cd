"""The programs that take part: found, or installed, and named with their versions."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

from measure import BenchFailed

# Debian's names. All of them are in its main archive, and in Ubuntu's.
PACKAGES = {"nginx": "nginx-light", "aria2c": "aria2", "curl": "curl", "openssl": "openssl"}
ASK_VERSION = {"nginx": "-v", "openssl": "version"}
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/homebrew/bin"


@dataclass(frozen=True, slots=True)
class Peers:
    nginx: str
    aria2c: str
    curl: str
    openssl: str
    hf: str

    def versions(self) -> dict[str, str]:
        return {field.name: _version(getattr(self, field.name)) for field in fields(self)}


def find_peers() -> Peers:
    """All of them as absolute paths, after installing what was missing."""
    missing = [name for name in PACKAGES if _find(name) is None]
    if missing:
        _install_packages([PACKAGES[name] for name in missing])
    if not beside_python("hf").exists():
        _call([sys.executable, "-m", "pip", "install", "huggingface_hub>=2.4,<3"])
    return Peers(**{name: _must_find(name) for name in PACKAGES}, hf=str(beside_python("hf")))


def beside_python(name: str) -> Path:
    """A program of the environment this very Python belongs to."""
    return Path(sys.executable).absolute().parent / name


def _find(name: str) -> str | None:
    return shutil.which(name, path=SYSTEM_PATH)


def _must_find(name: str) -> str:
    found = _find(name)
    if found is None:
        raise BenchFailed(f"{name} is missing: install the package {PACKAGES[name]}")
    return found


def _install_packages(names: list[str]) -> None:
    apt = _find("apt-get")
    if apt is None:
        raise BenchFailed(f"{', '.join(names)} is missing and there is no apt-get: install by hand")
    sudo = [] if os.geteuid() == 0 else [_find("sudo") or "sudo"]
    print("installing " + " ".join(names), flush=True)
    _call([*sudo, apt, "update", "-q"])
    _call([*sudo, apt, "install", "-y", "-q", "--no-install-recommends", *names])


def _call(argv: list[str]) -> None:
    ended = subprocess.run(argv, stdin=subprocess.DEVNULL, check=False)
    if ended.returncode != 0:
        raise BenchFailed(f"{' '.join(argv)} ended with {ended.returncode}")


def _version(program: str) -> str:
    option = ASK_VERSION.get(Path(program).name, "--version")
    said = subprocess.run([program, option], capture_output=True, text=True, check=True, timeout=60)
    number = re.search(r"\d+\.\d+[\w.]*", said.stdout + said.stderr)
    return number.group() if number else "unknown"
