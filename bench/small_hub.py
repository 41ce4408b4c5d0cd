"""The least of a Hub that real clients need to download one LFS file from somewhere else."""

import hashlib
import json
from typing import Self

from tests.faults.server import Content, Exchange, FaultServer, Reply, path_of

REPO = "org/model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class SmallHub:
    """Answers for `REPO` with one file, and redirects its bytes to `address`.

    The shapes are those of the public Hub: model info, tree, and 302 from `resolve` with
    `X-Repo-Commit`, `X-Linked-ETag` (the sha256) and `X-Linked-Size`.
    """

    def __init__(self, content: Content, name: str, address: str) -> None:
        self._content = content
        self._name = name
        self._address = address
        self._server = FaultServer(content, self._answer)

    @property
    def endpoint(self) -> str:
        return self._server.url("")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _answer(self, exchange: Exchange) -> None:
        path = path_of(exchange.request)
        if path.startswith(f"/{REPO}/resolve/") and path.endswith(f"/{self._name}"):
            self._redirect(exchange)
        elif path.startswith((f"/api/models/{REPO}/tree/", f"/api/models/{REPO}/paths-info/")):
            _json(exchange, 200, [self._row()])
        elif path in {f"/api/models/{REPO}", f"/api/models/{REPO}/revision/main"} or path.endswith(
            COMMIT
        ):
            _json(exchange, 200, self._about())
        else:
            _json(exchange, 404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})

    def _redirect(self, exchange: Exchange) -> None:
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Size": str(len(self._content.body)),
            "X-Linked-ETag": f'"{self._content.sha256.hex}"',
            "ETag": f'"{self._content.sha256.hex}"',
            "Location": self._address,
        }
        exchange.deliver(Reply(302, headers, memoryview(b"")))

    def _pointer(self) -> str:
        """The git id of the LFS pointer, which is what `oid` means for such a file."""
        size = len(self._content.body)
        text = "version https://git-lfs.github.com/spec/v1\n"
        text += f"oid sha256:{self._content.sha256.hex}\nsize {size}\n"
        return hashlib.sha1(f"blob {len(text)}\0{text}".encode()).hexdigest()

    def _row(self) -> dict[str, object]:
        size = len(self._content.body)
        lfs = {"oid": self._content.sha256.hex, "size": size, "pointerSize": 134}
        return {
            "type": "file",
            "oid": self._pointer(),
            "size": size,
            "path": self._name,
            "lfs": lfs,
        }

    def _about(self) -> dict[str, object]:
        size = len(self._content.body)
        lfs = {"sha256": self._content.sha256.hex, "size": size, "pointerSize": 134}
        sibling = {
            "rfilename": self._name,
            "size": size,
            "blobId": self._pointer(),
            "lfs": lfs,
        }
        return {
            "_id": "621ffdc136468d709f17ea62",
            "id": REPO,
            "modelId": REPO,
            "author": REPO.partition("/")[0],
            "sha": COMMIT,
            "private": False,
            "gated": False,
            "disabled": False,
            "downloads": 1,
            "likes": 1,
            "tags": ["license:mit"],
            "cardData": {"license": "mit"},
            "siblings": [sibling],
        }


def _json(
    exchange: Exchange, status: int, answer: object, headers: dict[str, str] | None = None
) -> None:
    shown = {"Content-Type": "application/json; charset=utf-8", "X-Repo-Commit": COMMIT}
    body = memoryview(json.dumps(answer).encode())
    exchange.deliver(Reply(status, {**shown, **(headers or {})}, body))
