"""Certificates made by the openssl program, good and bad, for servers on loopback."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

_CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


@dataclass(frozen=True)
class Authority:
    """A private CA in `folder`; `ca` is what a client must trust."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def server(
        self, name: str = "good", *, host: str = "localhost", days: int = 30
    ) -> ssl.SSLContext:
        """A server context whose leaf names `host` (and 127.0.0.1 when that is localhost)."""
        key, request, leaf = (self.folder / f"{name}.{end}" for end in ("key", "csr", "pem"))
        names = f"DNS:{host},IP:127.0.0.1" if host == "localhost" else f"DNS:{host}"
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\n")
        _openssl("req", *_CURVE, "-keyout", key, "-out", request, "-subj", f"/CN={host}")
        signer = ["-CA", self.ca, "-CAkey", self.folder / "ca.key", "-CAcreateserial"]
        signed = ["-in", request, "-out", leaf, "-extfile", extensions, "-days", str(days)]
        _openssl("x509", "-req", *signer, *signed)
        return _context(leaf, key)

    def self_signed(self) -> ssl.SSLContext:
        """A server context that no authority vouches for."""
        key, leaf = self.folder / "lonely.key", self.folder / "lonely.pem"
        names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        _openssl(
            "req", "-x509", *_CURVE, "-keyout", key, "-out", leaf, "-subj", "/CN=localhost", *names
        )
        return _context(leaf, key)


def make_authority(folder: Path) -> Authority:
    authority = Authority(folder)
    key, subject = folder / "ca.key", "/CN=modelbay test authority"
    _openssl("req", "-x509", *_CURVE, "-keyout", key, "-out", authority.ca, "-subj", subject)
    return authority


def old_protocol(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same server as one that speaks TLS 1.1 at most."""
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.options |= ssl.OP_NO_TLSv1_2 | ssl.OP_NO_TLSv1_3
    return context


def _context(leaf: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf, key)
    return context


def _openssl(*arguments: object) -> None:
    command = ["openssl", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
