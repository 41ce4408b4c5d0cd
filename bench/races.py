"""Who takes part in which race, what each is told, and what must stand on disk afterwards."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from measure import BenchFailed, Contestant
from peers import SYSTEM_PATH, Peers
from server import EIGHT, Server

MODELBAY = "modelbay get"
ARIA2 = "aria2c -x4 --checksum"
ARIA2_NO_ALLOCATION = "… --file-allocation=none"
CURL = "curl"
CURL_OPENSSL = "curl, openssl dgst"
HF = "hf download"
MODELBAY_HOPPED = "modelbay get, 307 each"
HF_HOPPED = "hf download, 307 each"


@dataclass(frozen=True, slots=True)
class Field:
    """Where a race is run, and by whom."""

    peers: Peers
    modelbay: str | None
    server: Server
    medium: Path

    def env(self, base: Path) -> dict[str, str]:
        """The same for all: a home of its own, our authority, our Hub, nobody phoning home."""
        return {
            "PATH": SYSTEM_PATH,
            "LANG": "C.UTF-8",
            "HOME": str(base),
            "SSL_CERT_FILE": str(self.server.ca),
            "HF_ENDPOINT": self.server.hub,
            "HF_HOME": str(base / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "MODELBAY_CONFIG": str(base / "config.toml"),
            "MODELBAY_STATE_DIR": str(base / "state"),
        }

    def contestant(
        self, name: str, *commands: Iterable[str], check: Callable[[Path], None], settings: str = ""
    ) -> Contestant:
        """`{base}` in a command is the contestant's own folder."""
        base = self.medium / "".join(c if c.isalnum() else "-" for c in name)
        filled = [[word.replace("{base}", str(base)) for word in command] for command in commands]
        return Contestant(
            name, filled, self.env(base), base, {"config.toml": settings}, lambda: check(base)
        )


def large(field: Field) -> list[Contestant]:
    """One file, verified. `curl` alone and `hf download` verify nothing and are there to be seen."""
    url, sha256, peers = field.server.url("one.bin"), field.server.sha256, field.peers
    ca = str(field.server.ca)
    aria2 = [peers.aria2c, "--no-conf", "-q", "-x4", "-s4", f"--checksum=sha-256={sha256}",
             f"--ca-certificate={ca}", "-d", "{base}", "-o", "one.bin", url]  # fmt: skip
    curl = [peers.curl, "-q", "-sSf", "--cacert", ca, "-o", "{base}/one.bin", url]
    dgst = [peers.openssl, "dgst", "-sha256", "{base}/one.bin"]

    def whole(base: Path) -> None:
        _expect_file(base / "one.bin", field.server)

    def dgst_said(base: Path) -> None:
        whole(base)
        if sha256 not in (base / "bench.log").read_text():
            raise BenchFailed("openssl dgst printed another sum")

    racers = [
        field.contestant(ARIA2, aria2, check=whole),
        field.contestant(CURL_OPENSSL, curl, dgst, check=dgst_said),
        field.contestant(CURL, curl, check=whole),
        field.contestant(ARIA2_NO_ALLOCATION, [*aria2, "--file-allocation=none"], check=whole),
        field.contestant(
            HF,
            [peers.hf, "download", "bench/large"],
            check=lambda base: _expect_file(_snapshot(base, "large") / "model.bin", field.server),
        ),
    ]
    if field.modelbay:
        get = [field.modelbay, "get", "--yes", url, "--to", "{base}/to"]
        racers.insert(0, field.contestant(MODELBAY, get, check=lambda base: _verified(base, field)))
    return racers


def small(field: Field, *, hopped: bool) -> list[Contestant]:
    """Many small files into the Hub's cache; `hopped` is huggingface.co's own way, a 307 for each."""
    repo = "hopped" if hopped else "many"

    def same(base: Path) -> None:
        _expect_cache(base, repo, field.server.small)

    racers = [
        field.contestant(
            HF_HOPPED if hopped else HF, [field.peers.hf, "download", f"bench/{repo}"], check=same
        )
    ]
    if field.modelbay:
        name = MODELBAY_HOPPED if hopped else MODELBAY
        get = [field.modelbay, "get", "--yes", f"hf://bench/{repo}"]
        racers.insert(0, field.contestant(name, get, check=same))
    return racers


def eight(field: Field) -> Contestant:
    """Eight large files in one command, all of them at once."""
    names = [f"part-{number}.bin" for number in range(1, EIGHT + 1)]

    def whole(base: Path) -> None:
        for name in names:
            _expect_file(_only(base / "to", name), field.server)

    get = [str(field.modelbay), "get", "--yes", *map(field.server.url, names), "--to", "{base}/to"]
    return field.contestant(f"{MODELBAY} × {EIGHT}", get, check=whole, settings=f"jobs = {EIGHT}\n")


def wrapped(contestant: Contestant, wrapper: Sequence[str]) -> Contestant:
    """The same contestant, started by another program."""
    return replace(contestant, commands=[[*wrapper, *argv] for argv in contestant.commands])


def _verified(base: Path, field: Field) -> None:
    """The file is right, and the sum that modelbay wrote down is the one it should be."""
    _expect_file(_only(base / "to", "one.bin"), field.server)
    records = [base / "bench.log", *(base / "to").rglob(".modelbay/meta/*.json")]
    if not any(field.server.sha256 in record.read_text("utf-8", "replace") for record in records):
        raise BenchFailed("modelbay printed or recorded no sha256 of what it fetched")


def _only(folder: Path, name: str) -> Path:
    found = [path for path in folder.rglob(name) if ".modelbay" not in path.parts]
    if len(found) != 1:
        raise BenchFailed(f"{len(found)} files are called {name} in {folder}, 1 was expected")
    return found[0]


def _snapshot(base: Path, repo: str) -> Path:
    commit = (base / f"hf/hub/models--bench--{repo}/refs/main").read_text()
    return base / f"hf/hub/models--bench--{repo}/snapshots" / commit


def _expect_file(path: Path, server: Server) -> None:
    size = path.stat().st_size
    if size != server.size:
        raise BenchFailed(f"{path} has {size} bytes, {server.size} were expected")
    with path.open("rb") as content:
        if hashlib.file_digest(content, "sha256").hexdigest() != server.sha256:
            raise BenchFailed(f"{path} has the wrong bytes")


def _expect_cache(base: Path, repo: str, expected: dict[str, bytes]) -> None:
    """The Hub's cache holds exactly these files, through its snapshot's names."""
    snapshot = _snapshot(base, repo)
    found = {
        str(path.relative_to(snapshot)): hashlib.sha256(path.read_bytes()).digest()
        for path in snapshot.rglob("*")
        if path.is_file()
    }
    if found != expected:
        wrong = sorted(
            name for name in found.keys() | expected if found.get(name) != expected.get(name)
        )
        raise BenchFailed(f"{len(wrong)} files differ in {snapshot}, among them {wrong[:3]}")
