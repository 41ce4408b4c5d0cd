"""`hash` pins: a digest that a person wrote down for a model."""

import re
from dataclasses import dataclass
from typing import Final

from modelbay.digest import Digest
from modelbay.errors import FormatError, IntegrityError
from modelbay.text import clean

_PLACEHOLDER = re.compile(r"sha256-(\.{3}|…|A{43}=)?")
_NIX_BASE32 = re.compile(r"(sha256:)?[0-9a-df-np-sv-z]{52}")
NIX: Final = "hashes from Nix are of an archive it makes (NAR) and cannot be compared with ours"


@dataclass(frozen=True, slots=True)
class Pin:
    """`digest` is of the one file, or the tree-hash of several. `sri` tells how it was
    written, since Nix writes its own like that.
    """

    digest: Digest
    sri: bool

    def check(self, model: str, found: str) -> None:
        """Raises IntegrityError with both values when `found` (`sha256:…`) is another."""
        if found == str(self.digest):
            return
        note = f"{NIX}; " if self.sri else ""
        raise IntegrityError(
            f"{clean(model)} is not what its hash says: expected {self.digest}, found {found}",
            hint=f"{note}ours is hash = {found!r}".replace("'", '"')
            + ", if these are the bytes that you want",
        )


def read_pin(text: str) -> Pin:
    """`sha256-<base64>` or `sha256:<hex>`. Raises FormatError that says what else it is."""
    text = text.strip()
    if _PLACEHOLDER.fullmatch(text):
        raise FormatError(
            f"hash = {clean(text)!r} is the placeholder from a document, not a hash",
            hint='take it out, or write hash = "sha256:<64 hexadecimal digits>"',
        )
    if _NIX_BASE32.fullmatch(text):
        raise FormatError(
            f"hash = {clean(text)!r} is in the base 32 that only Nix writes",
            hint=f'{NIX}: take it out, or write hash = "sha256:<64 hexadecimal digits>"',
        )
    digest = Digest.parse(text)
    if digest.algorithm != "sha256":
        raise FormatError(
            f"hash = {clean(text, limit=140)!r} is a {digest.algorithm}, a sha256 was expected",
            hint='write hash = "sha256:<64 hexadecimal digits>"',
        )
    return Pin(digest, sri="-" in text.partition(":")[0])
