"""The engine alone, as a command: URL FINAL SIZE SHA256 TOKEN."""

import sys
from pathlib import Path

from modelbay.digest import Digest
from modelbay.errors import ModelbayError
from modelbay.files import publish
from modelbay.http import Client
from modelbay.http.redact import origin_of
from modelbay.location import Credential, Http
from modelbay.text import Secret
from modelbay.transfer import Engine, Limits
from modelbay.transfer.order import Order, Progress, Stop


def main(url: str, final: str, size: str, sha256: str, token: str) -> int:
    place = Path(final)
    credential = Credential("Authorization", Secret(f"Bearer {token}"), frozenset({origin_of(url)}))
    order = Order(
        name=place.name,
        size=int(size),
        digests=(Digest.sha256(sha256),),
        part=place.parent.parent / f"{place.name}.part",
        locate=lambda: Http(url, credential=credential),
        suffix=place.suffix,
    )
    with Client() as client:
        try:
            fetched = Engine(client, Limits()).fetch(order, Progress(), Stop())
        except ModelbayError as error:
            print(f"{type(error).__name__}: {error}\n{error.hint}", file=sys.stderr)
            return 5
    publish(fetched.part, place)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
