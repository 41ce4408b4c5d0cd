"""Digests: full match when read, *claimed* or *observed* ever after.

A digest is claimed when somebody said so, and observed when we computed it from the
bytes. Locks, links and keeps rest on observed ones only.
"""

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Final, Literal, Self

from modelbay.errors import FormatError
from modelbay.text import clean

Algorithm = Literal["sha256", "git-sha1", "sha1", "blake3", "md5", "sha512", "autov2"]

_HEX_LENGTH: Final[dict[str, int]] = {
    "sha256": 64,
    "git-sha1": 40,
    "sha1": 40,
    "blake3": 64,
    "md5": 32,
    "sha512": 128,
    "autov2": 10,
}
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Digest:
    r"""An algorithm and a value in lower-case hex. Equal when both are, whoever said so.

    `git-sha1` is git's blob id: sha1 over `"blob <size>\0"` and the content. `autov2` is how a
    sha256 begins: too short to know content by, so it is claimed and never observed.
    """

    algorithm: Algorithm
    hex: str
    observed: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        wanted = _HEX_LENGTH.get(self.algorithm)
        if wanted is None:
            raise FormatError(
                f"{clean(self.algorithm)!r} is not a digest algorithm that modelbay knows",
                hint="use one of " + ", ".join(_HEX_LENGTH),
            )
        if len(self.hex) != wanted or not _HEX.fullmatch(self.hex):
            raise FormatError(
                f"{clean(self.hex, limit=140)!r} is not a {self.algorithm} digest: "
                f"expected {wanted} hexadecimal digits",
                hint=f"write it as {self.algorithm}:<{wanted} hexadecimal digits>",
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `sha256:<hex>` or the SRI form `sha256-<base64>`; hex of either case.

        Raises FormatError.
        """
        algorithm, colon, value = text.strip().partition(":")
        if colon:
            return cls(algorithm, value.lower())  # type: ignore[arg-type]
        algorithm, dash, value = text.strip().partition("-")
        try:
            raw = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if not dash or not raw:
            raise FormatError(
                f"{clean(text, limit=140)!r} is not a digest",
                hint="write it as sha256:<64 hexadecimal digits> or sha256-<base64>",
            )
        return cls(algorithm, raw.hex())  # type: ignore[arg-type]

    @classmethod
    def sha256(cls, value: str, *, observed: bool = False) -> Self:
        return cls("sha256", value.lower(), observed)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def find(digests: tuple[Digest, ...], algorithm: Algorithm) -> Digest | None:
    """The digest of that algorithm, if there is one, or a sha256 that tells it."""
    found = next((digest for digest in digests if digest.algorithm == algorithm), None)
    if found is None and algorithm == "autov2":
        whole = find(digests, "sha256")
        return Digest("autov2", whole.hex[:10], whole.observed) if whole else None
    return found


def disagreement(
    claimed: tuple[Digest, ...], observed: tuple[Digest, ...]
) -> tuple[Digest, Digest] | None:
    """The first pair of the same algorithm that differs, or None when none does."""
    for claim in claimed:
        fact = find(observed, claim.algorithm)
        if fact is not None and fact != claim:
            return claim, fact
    return None
