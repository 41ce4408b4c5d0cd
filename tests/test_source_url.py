from collections.abc import Iterator

import pytest

from modelbay.credentials import Credentials
from modelbay.errors import (
    CredentialMissing,
    CredentialRefused,
    LoginPage,
    ModelNotFound,
    RateLimited,
    ServerTrouble,
    UsageError,
)
from modelbay.http import Client, Hosts
from modelbay.http.hosts import Patience
from modelbay.location import Http
from modelbay.refs import parse
from modelbay.snapshot import ModelFile, Query, Snapshot
from modelbay.sources.base import Means, Source
from modelbay.sources.url import Url
from tests.scripted import Asked, Reply, Scripted

CLIENT = Client(hosts=Hosts(Patience(backoff=0.01, tries=2)))
CONTENT = b"GGUF" + bytes(996)
DATES = {"Last-Modified": "Tue, 03 Nov 2026 10:00:00 GMT", "Date": "Fri, 20 Nov 2026 10:00:00 GMT"}


@pytest.fixture(scope="module", autouse=True)
def _closed_client() -> Iterator[None]:
    yield
    CLIENT.close()


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted() as scripted:
        yield scripted


def source(environ: dict[str, str] | None = None) -> Url:
    return Url(Means(CLIENT, Credentials(environ or {})))


def resolved(url: str, environ: dict[str, str] | None = None) -> Snapshot:
    made = source(environ)
    return made.resolve(parse(url, [made]))


def ranged(**headers: str) -> Reply:
    told = {"Content-Range": f"bytes 0-0/{len(CONTENT)}", **headers}
    return Reply(206, CONTENT[:1], {name.replace("_", "-"): value for name, value in told.items()})


def only(snapshot: Snapshot) -> ModelFile:
    (file,) = snapshot.files
    return file


def test_it_is_a_source():
    made: Source = source()

    assert made.recognise("https://host/file") is None


def test_one_byte_is_asked_for_and_tells_the_whole_size(server):
    server.answers["/m/model.gguf"] = ranged(ETag='"abc"', **DATES)

    snapshot = resolved(f"{server.url}/m/model.gguf")

    assert (only(snapshot).path, only(snapshot).size, only(snapshot).etag) == (
        "model.gguf",
        1000,
        "abc",
    )
    assert (snapshot.revision, snapshot.table) == (
        'etag "abc"',
        {"url": f"{server.url}/m/model.gguf"},
    )
    assert server.asked[0].headers["range"] == "bytes=0-0"
    assert server.asked[0].headers["accept-encoding"] == "identity"


def test_a_server_without_ranges_is_read_no_further_than_its_headers(server):
    server.answers["/m.bin"] = Reply(200, bytes(30_000_000), {"ETag": '"x"'})

    snapshot = resolved(f"{server.url}/m.bin")

    assert only(snapshot).size == 30_000_000
    assert "gives no ranges" in snapshot.notes[0]


@pytest.mark.parametrize(
    ("headers", "size"),
    [
        ({"Content-Range": "bytes 0-0/*"}, None),
        ({"Content-Range": "bytes 0-0/x1"}, None),
        ({}, None),
        ({"Content-Range": "bytes 0-0/123456789012"}, 123456789012),
    ],
)
def test_a_size_is_only_what_the_server_says_plainly(server, headers, size):
    server.answers["/m.bin"] = Reply(206, b"x", headers)

    assert only(resolved(f"{server.url}/m.bin")).size == size


def test_the_length_of_an_encoded_body_is_not_the_size(server):
    server.answers["/m.txt"] = Reply(200, b"xxxx", {"Content-Encoding": "gzip"})

    assert only(resolved(f"{server.url}/m.txt")).size is None


def test_an_empty_file_answers_416_and_is_a_file(server):
    server.answers["/empty.txt"] = Reply(416, b"", {"Content-Range": "bytes */0"})

    assert only(resolved(f"{server.url}/empty.txt")).size == 0


@pytest.mark.parametrize(
    ("headers", "etag", "revision"),
    [
        ({"ETag": '"abc"'}, "abc", 'etag "abc"'),
        ({"ETag": 'W/"abc"'}, None, 'etag W/"abc"'),
        ({"ETag": "unquoted"}, None, "etag unquoted"),
        (DATES, None, "modified 2026-11-03 10:00:00 UTC"),
        ({"Last-Modified": DATES["Date"], "Date": DATES["Date"]}, None, "unversioned"),
        ({"Last-Modified": "yesterday", "Date": DATES["Date"]}, None, "unversioned"),
        ({"Date": DATES["Date"]}, None, "unversioned"),
    ],
)
def test_the_revision_follows_from_the_validator(server, headers, etag, revision):
    server.answers["/m.bin"] = Reply(
        206, b"x", {"Content-Range": "bytes 0-0/5", "Server": "x", **headers}
    )

    snapshot = resolved(f"{server.url}/m.bin")

    assert (only(snapshot).etag, snapshot.revision) == (etag, revision)


@pytest.mark.parametrize(
    ("target", "disposition", "name"),
    [
        ("/m.bin", 'attachment; filename="true name.safetensors"', "true name.safetensors"),
        ("/m.bin", "attachment; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("/a%20b.bin", None, "a b.bin"),
        ("/a%2Fb.bin", None, "b.bin"),
        ("/caf%E9.bin", None, "caf\xe9.bin"),
        ("/get?filename=model.gguf", None, "model.gguf"),
        (
            "/get?response-content-disposition=attachment%3B%20filename%3D%22q.gguf%22",
            None,
            "q.gguf",
        ),
        ("/noext", None, "noext"),
        ("/folder/", None, "folder"),
        ("/", None, "download"),
    ],
)
def test_the_name_comes_from_the_header_or_the_address(server, target, disposition, name):
    server.answers[target] = ranged(**({"Content_Disposition": disposition} if disposition else {}))

    assert only(resolved(server.url + target)).path == name


def test_after_a_redirect_the_given_address_names_the_file_and_stays_the_source(server):
    server.answers["/model.gguf"] = Reply(302, headers={"Location": "/blob/0f3a.dat?sig=secret"})
    server.answers["/short"] = Reply(302, headers={"Location": "/blob/0f3a.dat?sig=secret"})
    server.answers["/blob/0f3a.dat"] = ranged()

    named, short = resolved(f"{server.url}/model.gguf"), resolved(f"{server.url}/short")

    assert (only(named).path, only(short).path) == ("model.gguf", "0f3a.dat")
    assert named.table == {"url": f"{server.url}/model.gguf"}
    assert "secret" not in repr(named)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, CredentialMissing),
        (403, CredentialMissing),
        (404, ModelNotFound),
        (410, ModelNotFound),
        (405, ServerTrouble),
        (416, ServerTrouble),
        (451, ServerTrouble),
        (429, RateLimited),
        (503, ServerTrouble),
    ],
)
def test_a_refusal_becomes_a_sentence_without_the_query(server, status, kind):
    server.answers["/m.bin"] = Reply(status, b"no")

    with pytest.raises(kind) as raised:
        resolved(f"{server.url}/m.bin?user=hidden")

    assert "hidden" not in str(raised.value)
    assert raised.value.hint


def test_without_a_token_the_hint_names_its_variable(server):
    server.answers["/m.bin"] = Reply(401)

    with pytest.raises(CredentialMissing) as raised:
        resolved(f"{server.url}/m.bin")

    assert "MODELBAY_TOKEN_127_0_0_1" in raised.value.hint


def test_the_hosts_token_is_sent_and_a_refused_one_is_named_but_not_shown(server):
    def guarded(asked: Asked) -> Reply:
        return ranged() if asked.headers.get("authorization") == "Bearer good" else Reply(403)

    server.answers["/m.bin"] = guarded
    url = f"{server.url}/m.bin"

    assert only(resolved(url, {"MODELBAY_TOKEN_127_0_0_1": "good"})).size == 1000
    with pytest.raises(CredentialRefused, match="MODELBAY_TOKEN_127_0_0_1") as raised:
        resolved(url, {"MODELBAY_TOKEN_127_0_0_1": "stale-secret"})
    assert "stale-secret" not in str(raised.value) + raised.value.hint


def test_a_web_page_in_place_of_a_file_is_refused(server):
    server.answers["/m.safetensors"] = Reply(
        200, b"<html>sign in</html>", {"Content-Type": "text/html; charset=utf-8"}
    )

    with pytest.raises(LoginPage):
        resolved(f"{server.url}/m.safetensors")


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/page.html", b"<html>", {}),
        ("/m.bin", b"<html>", {"Content-Disposition": "attachment; filename=page.bin"}),
        ("/m.bin", b"\x80binary", {}),
    ],
)
def test_html_that_was_asked_for_is_a_file(server, path, body, headers):
    server.answers[path] = Reply(200, body, {"Content-Type": "text/html", **headers})

    assert only(resolved(server.url + path)).size == len(body)


def test_a_file_is_located_by_its_own_address_and_checked_by_its_etag(server):
    server.answers["/m.bin"] = ranged(ETag='"v1"')
    made = source({"MODELBAY_TOKEN_127_0_0_1": "t"})
    snapshot = made.resolve(parse(f"url:{server.url}/m.bin", [made]))

    place = made.locate(snapshot, only(snapshot))

    assert isinstance(place, Http)
    assert (place.url, place.etag) == (f"{server.url}/m.bin", "v1")
    assert place.credential is not None
    assert place.credential.origins == frozenset({server.url})
    assert place.explain is not None
    assert type(place.explain(404, {}, "gone")) is ModelNotFound


def test_plain_addresses_cannot_be_searched():
    with pytest.raises(UsageError):
        source().search(Query("x"))
