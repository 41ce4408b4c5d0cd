"""Ollama's key: the one that its own client signs requests for a token with.

Facts: protocols-rest A4. A signature is over one address with a time and a nonce in it, so it
opens nothing else; it tells who one is, and is therefore given to few.
"""

import base64
import hashlib
import secrets
import time
from pathlib import Path
from typing import Final

from modelbay.errors import CredentialMissing
from modelbay.location import Credential, origin_of
from modelbay.text import Secret, clean
from modelbay.wire.oci import Challenge

_LARGEST: Final = 64 << 10
_NO_BODY: Final = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()


def signed(challenge: Challenge, key: Path) -> tuple[str, Credential]:
    """The address to ask for a token, and the header that goes with it. Raises
    CredentialMissing where `key` is none that can be used.
    """
    nonce = base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode()
    url = challenge.url({"ts": str(int(time.time())), "nonce": nonce})
    public, signature = _sign(f"GET,{url},{_NO_BODY}".encode(), key)
    value = Secret(f"{public}:{base64.b64encode(signature).decode()}")
    return url, Credential("Authorization", value, frozenset({origin_of(url)}), str(key))


def _sign(message: bytes, key: Path) -> tuple[str, bytes]:
    """The public key as OpenSSH writes its middle part, and the signature."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_ssh_private_key,
    )

    try:
        with key.open("rb") as file:
            found = load_ssh_private_key(file.read(_LARGEST), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unusable(key) from error
    if not isinstance(found, Ed25519PrivateKey):
        raise _unusable(key)
    line = found.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return line.split()[1].decode(), found.sign(message)


def _unusable(key: Path) -> CredentialMissing:
    return CredentialMissing(
        f"{clean(key, limit=300)} is no Ed25519 key without a passphrase, as Ollama keeps "
        "one there",
        hint="take it away, and let `ollama serve` make a new one",
    )
