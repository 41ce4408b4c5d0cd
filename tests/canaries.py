"""Twelve secrets, and looking for any of them in what a run leaves.

As a program (`python -m tests.canaries KEYRING ARGV…`) it is modelbay with every library's log
at DEBUG on stderr, and the JSON file KEYRING as the login's keyring; without ARGV it carries out
what stands on stdin, a JSON object a line.
"""

import base64
import io
import json
import logging
import os
import random
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

LETTERS = "GHJKLMNPQRSTUVWXYZghjkmnpqrstuvwxyz"
"""No hexadecimal digit among them: no digest has eight of them in a row."""
NAMES = (
    "hf", "civitai", "s3-id", "s3-secret", "mlflow-password", "mlflow-token", "proxy-password",
    "userinfo", "signed-query", "toml-header", "keyring", "lock-header",
)  # fmt: skip
PIECE = 8
CODE = "exit code: "


def made(seed: int) -> dict[str, str]:
    """A secret of each kind, with two characters that an address would encode."""
    chance = random.Random(seed)
    return {
        name: "".join(chance.choices(LETTERS, k=20)) + "+/" + "".join(chance.choices(LETTERS, k=11))
        for name in NAMES
    }


def forms(secret: str) -> Iterator[tuple[str, bytes]]:
    """Everything that would give `secret`, or a piece of it, away."""
    for start in range(len(secret) - PIECE + 1):
        yield "piece", secret[start : start + PIECE].encode()
    yield "url", quote(secret, safe="").encode()
    yield "hex", secret.encode().hex().encode()
    yield "HEX", secret.encode().hex().upper().encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for offset in range(3):
            whole = encode(b"\0" * offset + secret.encode())
            # What shares its bits with a neighbour is left out.
            yield f"base64 at {offset}", whole[(0, 2, 3)[offset] : len(whole) // 4 * 4 - 4]


def leaks(secrets: Mapping[str, str], artefacts: Mapping[str, bytes]) -> list[tuple[str, str, str]]:
    """Which secret stands where, in which form."""
    wanted = [(name, *form) for name, secret in secrets.items() for form in forms(secret)]
    return [
        (name, form, where)
        for where, content in artefacts.items()
        for name, form, bytes_ in wanted
        if bytes_ in content
    ]


def left_below(root: Path) -> dict[str, bytes]:
    """Names and contents of all files, and where links lead."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        link = os.fsencode(path.readlink()) if path.is_symlink() else b""
        content = path.read_bytes() if path.is_file() and not link else b""
        found[name] = name.encode() + b"\0" + link + b"\0" + content
    return found


class FileKeyring:
    """What stands in a JSON file, as a backend."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def get_password(self, service: str, username: str, /) -> str | None:
        return self._read().get(f"{service} {username}")

    def set_password(self, service: str, username: str, password: str, /) -> None:
        self._file.write_text(json.dumps(self._read() | {f"{service} {username}": password}))

    def delete_password(self, service: str, username: str, /) -> None:
        kept = self._read()
        del kept[f"{service} {username}"]
        self._file.write_text(json.dumps(kept))

    def _read(self) -> dict[str, str]:
        kept: dict[str, str] = json.loads(self._file.read_text() or "{}")
        return kept


def main(keyring: str, *argv: str) -> int:
    from modelbay.bay import Bay
    from modelbay.cli import run
    from modelbay.config import Settings, read_settings
    from modelbay.keyrings import Keyring
    from modelbay.tokens import Tokens

    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    logging.getLogger().debug("the log is at DEBUG")
    backend = Keyring(FileKeyring(Path(keyring)), "a file of a test")

    def open_bay(
        *,
        settings: Settings | None = None,
        environ: Mapping[str, str] | None = None,
        workspace: Path | None = None,
        root: Path | None = None,
    ) -> Bay:
        environ = os.environ if environ is None else environ
        if environ.get("CRASH"):
            raise RuntimeError(f"a bug with {environ['HF_TOKEN']} in its text")
        tokens = Tokens(environ, keyring=lambda: backend)
        chosen = settings or read_settings(environ)
        return Bay(chosen, environ, workspace=workspace, root=root, tokens=tokens)

    if argv:
        return run(argv, environ=os.environ, open_bay=open_bay)
    for line in sys.stdin.readlines():
        asked = json.loads(line)
        sys.stdin = io.StringIO(asked["stdin"])
        code = run(asked["argv"], environ={**os.environ, **asked["more"]}, open_bay=open_bay)
        print(f"\n{CODE}{code}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
