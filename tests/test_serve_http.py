"""The server under the Hub: requests as they come, ranges, large bodies, closing."""

import http.client
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from modelbay.serve import Generated, Hub, MemoryShelf, OnDisk
from modelbay.serve.content import Content
from tests.serve_client import ask

SIZE = 9 << 20
WEIGHTS = Generated(SIZE, "weights")
WHOLE = b"".join(WEIGHTS.pieces(0, SIZE))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory):
    on_disk: Path = tmp_path_factory.mktemp("shelf") / "disk.safetensors"
    on_disk.write_bytes(WHOLE)
    shelf = MemoryShelf()
    files: dict[str, bytes | str | Path | Content] = {
        "w.bin": WEIGHTS,
        "disk.bin": OnDisk(on_disk),
        "empty.txt": b"",
        "x.txt": "text",
    }
    shelf.add("org/m", files)
    with Hub(shelf, redirect=False) as one:
        yield one


def url(hub: Hub, path: str) -> str:
    return f"{hub.endpoint}/org/m/resolve/main/{path}"


def talk(hub: Hub, raw: bytes) -> bytes:
    """Sends `raw` as it is; gives all that comes back until the server closes."""
    parts = urlsplit(hub.endpoint)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("name", ["w.bin", "disk.bin"])
def test_a_whole_file_arrives(hub: Hub, name: str):
    got = ask(url(hub, name))

    assert got.status == 200
    assert got.headers["Content-Length"] == str(SIZE)
    assert got.body == WHOLE


@pytest.mark.parametrize("name", ["w.bin", "disk.bin"])
@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=1048570-3145740", 1048570, 3145741),
        (f"bytes={SIZE - 5}-", SIZE - 5, SIZE),
        (f"bytes={SIZE - 5}-{SIZE + 100}", SIZE - 5, SIZE),
        ("bytes=-7", SIZE - 7, SIZE),
        (f"bytes=-{SIZE + 1}", 0, SIZE),
    ],
)
def test_a_range_gives_those_bytes(hub: Hub, name: str, asked: str, start: int, stop: int):
    got = ask(url(hub, name), {"Range": asked})

    assert got.status == 206
    assert got.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert got.body == WHOLE[start:stop]


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", "bytes=-0"])
def test_a_range_of_nothing_is_416(hub: Hub, asked: str):
    got = ask(url(hub, "w.bin"), {"Range": asked})

    assert got.status == 416
    assert got.headers["Content-Range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize("asked", ["bytes=5-2", "lines=0-1", "bytes=0-1,4-5", "bytes=x-"])
def test_a_range_that_means_nothing_here_gives_the_whole(hub: Hub, asked: str):
    got = ask(url(hub, "x.txt"), {"Range": asked})

    assert (got.status, got.body) == (200, b"text")


def test_if_range_with_another_validator_gives_the_whole(hub: Hub):
    etag = ask(url(hub, "x.txt"), method="HEAD").headers["ETag"]

    same = ask(url(hub, "x.txt"), {"Range": "bytes=1-1", "If-Range": etag})
    other = ask(url(hub, "x.txt"), {"Range": "bytes=1-1", "If-Range": '"other"'})

    assert (same.status, same.body) == (206, b"e")
    assert (other.status, other.body) == (200, b"text")


def test_if_none_match_with_the_same_validator_gives_304(hub: Hub):
    etag = ask(url(hub, "x.txt"), method="HEAD").headers["ETag"]

    got = ask(url(hub, "x.txt"), {"If-None-Match": f'"older", W/{etag}'})

    assert (got.status, got.body) == (304, b"")


def test_head_says_the_length_and_sends_nothing(hub: Hub):
    got = ask(url(hub, "w.bin"), {"Range": "bytes=0-1"}, method="HEAD")

    assert got.status == 200
    assert got.headers["Content-Length"] == str(SIZE)


def test_an_empty_file_is_a_file(hub: Hub):
    got = ask(url(hub, "empty.txt"))

    assert (got.status, got.body) == (200, b"")
    assert got.headers["Content-Length"] == "0"


def test_one_connection_carries_many_requests(hub: Hub):
    connection = http.client.HTTPConnection(urlsplit(hub.endpoint).netloc, timeout=10)
    ports = set()
    try:
        for method in ("GET", "HEAD", "GET"):
            connection.request(method, "/org/m/resolve/main/x.txt")
            ports.add(connection.sock.getsockname())
            connection.getresponse().read()
    finally:
        connection.close()

    assert len(ports) == 1


def test_parallel_ranges_make_the_whole(hub: Hub):
    piece = 1 << 20
    gathered: dict[int, bytes] = {}

    def fetch(start: int) -> None:
        got = ask(url(hub, "w.bin"), {"Range": f"bytes={start}-{start + piece - 1}"})
        gathered[start] = got.body

    threads = [threading.Thread(target=fetch, args=(at,)) for at in range(0, SIZE, piece)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert b"".join(gathered[at] for at in sorted(gathered)) == WHOLE


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / SPDY/3\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nSpaced : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\ncut off", 400),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 70_000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", 413),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n", 413),
    ],
)
def test_what_cannot_be_read_is_refused_and_the_connection_closed(
    hub: Hub, raw: bytes, status: int
):
    answer = talk(hub, raw)

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ],
)
def test_who_asks_to_close_gets_one_answer(hub: Hub, raw: bytes):
    assert talk(hub, raw).count(b"HTTP/1.1 200 OK") == 1


def test_requests_sent_ahead_are_answered_in_order(hub: Hub):
    answer = talk(hub, b"GET / HTTP/1.1\r\n\r\nGET /no HTTP/1.1\r\n\r\n")

    assert answer.index(b"HTTP/1.1 200 OK") < answer.index(b"HTTP/1.1 404 Not Found")


def test_a_chunked_body_is_read(hub: Hub):
    chunks = b"7\r\npaths=x\r\n4;ext=1\r\n.txt\r\n0\r\nTrailer: 1\r\n\r\n"
    answer = talk(
        hub,
        b"POST /api/models/org/m/paths-info/main HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\n" + chunks,
    )

    assert b'"path":"x.txt"' in answer


def test_what_a_client_sends_cannot_begin_a_header(hub: Hub):
    got = ask(f"{hub.endpoint}/api/models/org/m/revision/a%0D%0ASet-Cookie:%20b")

    assert got.status == 404
    assert "Set-Cookie" not in got.headers


def test_the_log_keeps_the_newest_requests_and_shows_no_token():
    shelf = MemoryShelf()
    shelf.add("org/m", {"x.txt": "text"})
    with Hub(shelf, record=2) as hub:
        for number in range(3):
            ask(f"{hub.endpoint}/{number}", {"Authorization": "Bearer hf_secret"})
        kept = list(hub.log)

    assert [request.path for request in kept] == ["/1", "/2"]
    assert kept[0].headers["authorization"] == "Bearer hf_secret"
    assert "hf_secret" not in repr(kept)


def test_a_closed_hub_answers_nobody_and_cuts_who_is_there():
    shelf = MemoryShelf()
    shelf.add("org/m", {"x.txt": "text"})
    hub = Hub(shelf)
    parts = urlsplit(hub.endpoint)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as waiting:
        waiting.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert waiting.recv(12) == b"HTTP/1.1 200"

        hub.close()
        hub.close()

        assert b"".join(iter(lambda: waiting.recv(65536), b"")).endswith(b"\n")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((parts.hostname, parts.port), timeout=10)


def test_a_port_that_is_taken_is_an_error(hub: Hub):
    port = urlsplit(hub.endpoint).port
    assert port is not None

    with pytest.raises(OSError, match="in use"):
        Hub(MemoryShelf(), port=port)


def test_a_file_that_has_gone_is_500_and_not_a_crash(tmp_path: Path):
    path = tmp_path / "gone.txt"
    path.write_text("here")
    shelf = MemoryShelf()
    shelf.add("org/m", {"gone.txt": path})
    with Hub(shelf, redirect=False) as hub:
        path.unlink()

        got = ask(url(hub, "gone.txt"))

    assert got.status == 500
