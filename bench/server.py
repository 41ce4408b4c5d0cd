"""An nginx on 127.0.0.1 behind a certificate of our own, with files and a Hub made of files.

Every answer is static, so that what is measured is the client. The shape of the Hub's answers
(revision, tree in pages of 1,000 rows with `Link`, `X-Repo-Commit`, `ETag` = git blob id, the
307 to resolve-cache, the 302 to another origin for LFS) is that of huggingface.co in 2026.
"""

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from measure import BenchFailed
from peers import Peers

COMMIT = hashlib.sha1(b"bench").hexdigest()
PAGE_ROWS = 1000
EIGHT = 8
SMALL_BYTES = 4096
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Server:
    hub: str
    """The origin, `https://127.0.0.1:port`, of the Hub."""
    files: str
    """That of the plain files, which the Hub's LFS answers lead to."""
    ca: Path
    sha256: str
    """Of `one.bin`, of each of the eight, and of the file in `bench/large`."""
    size: int
    small: dict[str, bytes]
    """`bench/many` and `bench/hopped`: path to sha256."""

    def url(self, name: str) -> str:
        return f"{self.files}/files/{name}"


@contextlib.contextmanager
def serving(peers: Peers, root: Path, *, mebibytes: int, small_files: int) -> Iterator[Server]:
    """An nginx over files made in `root`, stopped by its pid at the end."""
    root.chmod(0o755)
    hub_port, files_port = _free_ports()
    hub, files = (f"https://127.0.0.1:{port}" for port in (hub_port, files_port))
    ca = _make_certificates(peers.openssl, root / "tls")
    sha256 = _make_large(root / "files", mebibytes)
    small = _make_small(root / "small", small_files)
    _write_hub(root / "api", small, sha256, mebibytes * MIB)
    config = root / "nginx.conf"
    config.write_text(_config(root, hub, files, small, sha256))
    (root / "tmp").mkdir()
    nginx = subprocess.Popen(
        [peers.nginx, "-p", str(root), "-e", str(root / "error.log"), "-c", str(config)],
        stdin=subprocess.DEVNULL,
    )
    try:
        _wait_for(hub_port, nginx, root / "error.log")
        digests = {path: hashlib.sha256(content).digest() for path, content in small.items()}
        yield Server(hub, files, ca, sha256, mebibytes * MIB, digests)
    finally:
        nginx.terminate()
        nginx.wait()


def _free_ports() -> tuple[int, int]:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        return one.getsockname()[1], two.getsockname()[1]


def _wait_for(port: int, nginx: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if nginx.poll() is not None:
            raise BenchFailed("nginx did not start:\n" + log.read_text("utf-8", "replace"))
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.05)
    raise BenchFailed("nginx does not answer after 20 s")


def _make_certificates(openssl: str, tls: Path) -> Path:
    """An authority that lives as long as the folder, and a P-256 certificate for loopback."""
    tls.mkdir()
    (tls / "leaf.ext").write_text(
        "subjectAltName = IP:127.0.0.1, DNS:localhost\n"
        "basicConstraints = CA:FALSE\nextendedKeyUsage = serverAuth\n"
    )
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for argv in (
        ["req", "-x509", *key, "-days", "2", "-subj", "/CN=bench CA", "-keyout", "ca.key", "-out", "ca.pem",
         "-addext", "keyUsage=critical,keyCertSign,cRLSign"],
        ["req", *key, "-subj", "/CN=127.0.0.1", "-keyout", "leaf.key", "-out", "leaf.csr"],
        ["x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
         "-days", "2", "-extfile", "leaf.ext", "-out", "leaf.pem"],
    ):  # fmt: skip
        made = subprocess.run(
            [openssl, *argv], cwd=tls, capture_output=True, text=True, check=False
        )
        if made.returncode != 0:
            raise BenchFailed(f"openssl {argv[0]} failed: {made.stderr}")
    return tls / "ca.pem"


def _make_large(files: Path, mebibytes: int) -> str:
    """One file of noise; the eight are further names of it, which a client cannot see."""
    files.mkdir()
    whole = hashlib.sha256()
    with (files / "one.bin").open("wb") as out:
        for _ in range(mebibytes):
            block = os.urandom(MIB)
            whole.update(block)
            out.write(block)
    for number in range(1, EIGHT + 1):
        os.link(files / "one.bin", files / f"part-{number}.bin")
    return whole.hexdigest()


def _make_small(folder: Path, count: int) -> dict[str, bytes]:
    """Distinct JSON documents of exactly 4 KiB, a hundred to a folder."""
    small: dict[str, bytes] = {}
    for number in range(count):
        head = f'{{"number": {number}, "noise": "'.encode()
        noise = os.urandom(SMALL_BYTES).hex().encode()[: SMALL_BYTES - len(head) - 3]
        small[f"part-{number // 100:02}/file-{number:04}.json"] = head + noise + b'"}\n'
    for path, content in small.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return small


def _blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _write_hub(api: Path, small: dict[str, bytes], sha256: str, size: int) -> None:
    api.mkdir()
    folders = sorted({path.partition("/")[0] for path in small})
    rows = [
        {"type": "directory", "oid": _blob_id(f.encode()), "size": 0, "path": f} for f in folders
    ]
    rows += [
        {"type": "file", "oid": _blob_id(content), "size": len(content), "path": path}
        for path, content in small.items()
    ]
    pointer = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
    )
    lfs = {"oid": sha256, "size": size, "pointerSize": len(pointer)}
    large = {
        "type": "file",
        "oid": _blob_id(pointer),
        "size": size,
        "lfs": lfs,
        "path": "model.bin",
    }
    for repo, tree in (("many", rows), ("hopped", rows), ("large", [large])):
        for page, start in enumerate(range(0, len(tree), PAGE_ROWS), 1):
            (api / f"{repo}-tree-{page}.json").write_text(
                json.dumps(tree[start : start + PAGE_ROWS])
            )
        (api / f"{repo}.json").write_text(json.dumps(_model(repo, tree, blobs=False)))
        (api / f"{repo}-blobs.json").write_text(json.dumps(_model(repo, tree, blobs=True)))


def _model(repo: str, tree: list[dict], *, blobs: bool) -> dict:
    siblings = []
    for row in tree:
        if row["type"] != "file":
            continue
        sibling = {"rfilename": row["path"]}
        if blobs:
            sibling |= {"size": row["size"], "blobId": row["oid"]}
            if "lfs" in row:
                lfs = row["lfs"]
                sibling["lfs"] = {
                    "sha256": lfs["oid"],
                    "size": lfs["size"],
                    "pointerSize": lfs["pointerSize"],
                }
        siblings.append(sibling)
    return {
        "_id": hashlib.sha1(repo.encode()).hexdigest()[:24],
        "id": f"bench/{repo}",
        "modelId": f"bench/{repo}",
        "author": "bench",
        "sha": COMMIT,
        "lastModified": "2026-01-01T00:00:00.000Z",
        "createdAt": "2026-01-01T00:00:00.000Z",
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 1,
        "likes": 1,
        "tags": ["license:mit", "region:us"],
        "cardData": {"license": "mit"},
        "siblings": siblings,
    }


def _config(root: Path, hub: str, files: str, small: dict[str, bytes], sha256: str) -> str:
    """What a careful site runs: all cores, sendfile, keep-alive, session cache, TLS 1.2 and 1.3."""
    pages = (len(small) + len({p.partition("/")[0] for p in small}) - 1) // PAGE_ROWS + 1
    oids = "\n".join(f'    "{path}" {_blob_id(content)};' for path, content in small.items())
    links = "\n".join(
        f'    "{repo} {page}" \'<{hub}/api/models/bench/{repo}/tree/{COMMIT}'
        f'?recursive=true&expand=false&limit={PAGE_ROWS}&cursor={page + 1}>; rel="next"\';'
        for repo in ("many", "hopped")
        for page in range(1, pages)
    )
    cursors = "\n".join(f"    {page} {page};" for page in range(1, pages + 1))
    user = "user root;" if os.geteuid() == 0 else ""
    return f"""
daemon off;
{user}
pid {root}/nginx.pid;
worker_processes auto;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_timeout 65;
  default_type application/octet-stream;
  types {{ application/json json; }}
  absolute_redirect off;
  client_body_temp_path {root}/tmp/body; proxy_temp_path {root}/tmp/proxy;
  fastcgi_temp_path {root}/tmp/fastcgi; uwsgi_temp_path {root}/tmp/uwsgi; scgi_temp_path {root}/tmp/scgi;
  ssl_certificate {root}/tls/leaf.pem;
  ssl_certificate_key {root}/tls/leaf.key;
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_session_cache shared:tls:10m;
  map_hash_max_size 16384;
  map_hash_bucket_size 256;
  map $path $oid {{
{oids}
  }}
  map $arg_cursor $page {{
    default 1;
{cursors}
  }}
  map "$repo $page" $next_page {{
    default "";
{links}
  }}
  map $arg_blobs $blobs {{ default ""; true "-blobs"; }}

  server {{
    listen {hub.removeprefix("https://")} ssl;
    location ~ ^/api/models/bench/(?<repo>many|hopped|large)(?:/revision/(?:main|{COMMIT}))?$ {{
      alias {root}/api/$repo$blobs.json;
      default_type application/json;
    }}
    location ~ ^/api/models/bench/(?<repo>many|hopped|large)/tree/(?:main|{COMMIT})$ {{
      alias {root}/api/$repo-tree-$page.json;
      default_type application/json;
      add_header Link $next_page;
    }}
    location ~ ^/bench/many/resolve/(?:main|{COMMIT})/(?<path>.+)$ {{
      alias {root}/small/$path;
      etag off;
      add_header ETag '"$oid"';
      add_header X-Repo-Commit {COMMIT};
    }}
    location ~ ^/bench/hopped/resolve/(?:main|{COMMIT})/(?<path>.+)$ {{
      add_header X-Repo-Commit {COMMIT};
      return 307 /api/resolve-cache/models/bench/hopped/{COMMIT}/$path?etag=%22$oid%22;
    }}
    location ~ ^/api/resolve-cache/models/bench/hopped/{COMMIT}/(?<path>.+)$ {{
      alias {root}/small/$path;
      etag off;
      add_header ETag '"$oid"';
      add_header X-Repo-Commit {COMMIT};
    }}
    location ~ ^/bench/large/resolve/(?:main|{COMMIT})/model\\.bin$ {{
      add_header X-Repo-Commit {COMMIT};
      add_header X-Linked-Size {(root / "files/one.bin").stat().st_size};
      add_header X-Linked-ETag '"{sha256}"';
      return 302 {files}/files/one.bin;
    }}
  }}
  server {{
    listen {files.removeprefix("https://")} ssl;
    location /files/ {{ root {root}; }}
  }}
}}
"""
