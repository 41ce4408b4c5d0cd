"""A child process whose name service is made up: `NAMES` says what a name is known as, answer
after answer. Prints what a sync of the address in its first argument ended with.
"""

import json
import os
import socket
import sys
from collections import Counter
from typing import Any

from modelbay.bay.session import Session
from modelbay.bay.syncing import sync
from modelbay.config import read_settings
from modelbay.errors import ModelbayError
from modelbay.transfer import Limits

NAMES = {
    "inside.example": ["127.0.0.1"],
    "127.0.0.1.nip.example": ["127.0.0.1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "metadata.example": ["169.254.169.254"],
    # Public when it is looked at, private when it is connected to.
    "rebinding.example": ["93.184.216.34", "127.0.0.1"],
    "public.example": ["93.184.216.34"],
}
"""One answer after the other; the last one stays."""
asked: Counter[str] = Counter()
tried: list[str] = []


def found(host: str | None, port: Any, *_: Any, **__: Any) -> list[Any]:
    name = str(host)
    answers = NAMES.get(name, [name])
    address = answers[min(asked[name], len(answers) - 1)]
    asked[name] += 1
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return [(family, socket.SOCK_STREAM, 6, "", (address, int(port or 0)))]


class Watched(socket.socket):
    """Says where it was asked to connect; only this machine is there."""

    def connect(self, address: Any, /) -> None:
        tried.append(str(address[0]))
        if address[0] == "127.0.0.1":
            super().connect(address)
            return
        raise ConnectionRefusedError(111, "Connection refused")


def main(where: str) -> None:
    socket.getaddrinfo = found  # type: ignore[assignment]
    socket.socket = Watched  # type: ignore[misc]
    session = Session(read_settings(os.environ), os.environ, limits=Limits(backoff=0.01, tries=2))
    try:
        sync(session, where, allow_http=True)
        said = ["", ""]
    except ModelbayError as error:
        said = [error.code, str(error)]
    session.close()
    print(json.dumps({"said": said, "tried": tried, "asked": asked}))


if __name__ == "__main__":
    main(sys.argv[1])
