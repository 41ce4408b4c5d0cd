"""Fetches one file as a process of its own, to be killed at any instant.

python -P child.py URL FOLDER SIZE SHA256 BANDWIDTH JOURNAL_SECONDS
"""

import sys
from pathlib import Path

from modelbay.digest import Digest
from modelbay.files import publish
from modelbay.http import Client
from modelbay.location import Http
from modelbay.transfer import Engine, Limits, journal
from modelbay.transfer.order import Order, Progress, Stop


def main(url: str, folder: str, size: str, sha256: str, *limits: str) -> None:
    bandwidth, journal_seconds = map(float, limits)
    order = Order(
        name="model.bin",
        size=int(size),
        digests=(Digest.sha256(sha256),),
        part=Path(folder, "model.part"),
        locate=lambda: Http(url),
    )
    with Client() as client:
        engine = Engine(client, Limits(bandwidth=bandwidth, journal_seconds=journal_seconds))
        fetched = engine.fetch(order, Progress(), Stop())
    publish(fetched.part, Path(folder, "model.bin"))
    journal.path_of(fetched.part).unlink(missing_ok=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
