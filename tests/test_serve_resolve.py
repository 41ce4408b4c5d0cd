"""From a file's address to its bytes: the redirects, the second origin, the gates."""

import hashlib
from urllib.parse import urlsplit

import pytest

from modelbay.serve import Account, Facts, Hub, MemoryShelf
from modelbay.text import Secret
from tests.serve_client import Got, ask, bearer

GRANTED = "hf_granted"
OUTSIDER = "hf_outsider"
TOKENS = {Secret(GRANTED): Account("ada", frozenset({"*"})), Secret(OUTSIDER): Account("bob")}
WEIGHTS = b"weights" * 1000
CONFIG = b'{"a": 1}'


@pytest.fixture(scope="module")
def shelf():
    shelf = MemoryShelf()
    files = {"model.safetensors": WEIGHTS, "sub/é config.json": CONFIG}
    commit = shelf.add("org/m", files)
    shelf.pull("org/m", 1, commit)
    shelf.add("org/gated", files, facts=Facts(gated="manual"))
    shelf.add("org/private", files, facts=Facts(private=True))
    shelf.add("org/disabled", files, facts=Facts(disabled=True))
    return shelf


@pytest.fixture(scope="module")
def hub(shelf: MemoryShelf):
    with Hub(shelf, tokens=TOKENS) as one:
        yield one


def resolve(hub: Hub, path: str, token: str | None = None, method: str = "GET") -> Got:
    return ask(f"{hub.endpoint}/{path}", bearer(token) if token else {}, method=method)


def commit_of(shelf: MemoryShelf) -> str:
    repo = shelf.repo("org/m")
    assert repo is not None
    return repo.commit


@pytest.mark.parametrize("prefix", ["", "/o/r/huggingface"])
def test_a_regular_file_comes_by_way_of_the_resolve_cache(shelf: MemoryShelf, prefix: str):
    git_sha1 = hashlib.sha1(b"blob 8\0" + CONFIG, usedforsecurity=False).hexdigest()
    with Hub(shelf, prefix=prefix) as hub:
        first = resolve(hub, "org/m/resolve/main/sub/%C3%A9%20config.json")
        location = first.headers["Location"]
        got = ask(hub.origin + location)

    commit = commit_of(shelf)
    assert first.status == 307
    assert location.startswith(f"{prefix}/api/resolve-cache/models/org/m/{commit}/sub/%C3%A9%20")
    assert f"&etag=%22{git_sha1}%22" in location
    assert first.headers["X-Repo-Commit"] == got.headers["X-Repo-Commit"] == commit
    assert (got.status, got.body) == (200, CONFIG)
    assert got.headers["ETag"] == f'"{git_sha1}"'
    assert got.headers["Content-Disposition"].startswith("inline; filename*=UTF-8''%C3%A9%20config")


def test_an_lfs_file_is_on_the_other_origin(hub: Hub, shelf: MemoryShelf):
    first = resolve(hub, "org/m/resolve/main/model.safetensors")
    location = first.headers["Location"]
    got = ask(location)

    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    assert first.status == 302
    assert first.headers["X-Linked-ETag"] == f'"{sha256}"'
    assert first.headers["X-Linked-Size"] == str(len(WEIGHTS))
    assert first.headers["X-Repo-Commit"] == commit_of(shelf)
    assert location.startswith(f"{hub.cdn}/")
    assert hub.cdn != hub.origin
    assert sha256 not in location
    assert (got.status, got.body) == (200, WEIGHTS)


def test_the_other_origin_serves_ranges(hub: Hub):
    location = resolve(hub, "org/m/resolve/main/model.safetensors").headers["Location"]

    part = ask(location, {"Range": "bytes=7-20"})
    beyond = ask(location, {"Range": f"bytes={len(WEIGHTS)}-"})
    stale = ask(location, {"Range": "bytes=7-20", "If-Range": '"something else"'})
    fresh = ask(location, {"Range": "bytes=7-20", "If-Range": part.headers["ETag"]})

    assert (part.status, part.body) == (206, WEIGHTS[7:21])
    assert beyond.status == 416
    assert (stale.status, fresh.status) == (200, 206)


def test_the_other_origin_refuses_a_token(hub: Hub):
    location = resolve(hub, "org/m/resolve/main/model.safetensors", GRANTED).headers["Location"]

    got = ask(location, bearer(GRANTED))

    assert got.status == 400
    assert b"Only one auth mechanism allowed" in got.body


def test_a_link_expires(shelf: MemoryShelf):
    times = [1000.0]
    with Hub(shelf, link_seconds=60, clock=lambda: times[0]) as hub:
        location = resolve(hub, "org/m/resolve/main/model.safetensors").headers["Location"]
        times[0] = 1060.0
        still = ask(location, {"Range": "bytes=0-1"})
        times[0] = 1061.0
        expired = ask(location, {"Range": "bytes=0-1"})
        again = resolve(hub, "org/m/resolve/main/model.safetensors").headers["Location"]
        renewed = ask(again, {"Range": "bytes=0-1"})

    assert (still.status, expired.status, renewed.status) == (206, 403, 206)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Expires=", "Expires=9"),
        ("Policy=", "Policy=W10"),
        ("Signature=", "Signature=é"),
        ("&Signature=", "&Unsigned="),
        ("/xet-bridge-us/", "/xet-bridge-eu/"),
    ],
)
def test_a_link_that_was_changed_opens_nothing(hub: Hub, old: str, new: str):
    location = resolve(hub, "org/m/resolve/main/model.safetensors").headers["Location"]
    assert old in location

    got = ask(location.replace(old, new).replace("é", "%C3%A9"))

    assert got.status == 403


def test_the_other_origin_is_read_only(hub: Hub):
    location = resolve(hub, "org/m/resolve/main/model.safetensors").headers["Location"]

    assert ask(location, method="PUT").status == 405


def test_without_redirect_every_byte_comes_from_the_endpoint(shelf: MemoryShelf):
    with Hub(shelf, redirect=False) as hub:
        weights = resolve(hub, "org/m/resolve/main/model.safetensors")
        config = resolve(hub, "org/m/resolve/main/sub/%C3%A9%20config.json")

    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    assert hub.cdn == hub.origin
    assert (weights.status, weights.body) == (200, WEIGHTS)
    assert weights.headers["ETag"] == weights.headers["X-Linked-ETag"] == f'"{sha256}"'
    assert weights.headers["X-Repo-Commit"] == commit_of(shelf)
    assert (config.status, config.body) == (200, CONFIG)


def test_a_file_that_is_not_there_says_where_it_is_not(hub: Hub, shelf: MemoryShelf):
    got = resolve(hub, "org/m/resolve/main/nope.txt")

    assert (got.status, got.body) == (404, b"Entry not found")
    assert got.headers["X-Error-Code"] == "EntryNotFound"
    assert got.headers["X-Repo-Commit"] == commit_of(shelf)
    assert got.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_a_revision_that_is_not_there_says_so(hub: Hub):
    got = resolve(hub, "org/m/resolve/nope/model.safetensors")

    assert (got.status, got.headers["X-Error-Code"]) == (404, "RevisionNotFound")


@pytest.mark.parametrize("revision", ["refs%2Fpr%2F1", "refs/pr/1"])
def test_a_pull_request_is_a_revision_escaped_or_not(hub: Hub, revision: str):
    assert resolve(hub, f"org/m/resolve/{revision}/model.safetensors").status == 302


def test_the_same_validator_is_304_before_any_redirect(hub: Hub):
    etag = resolve(hub, "org/m/resolve/main/model.safetensors").headers["X-Linked-ETag"]

    got = ask(f"{hub.endpoint}/org/m/resolve/main/model.safetensors", {"If-None-Match": etag})

    assert got.status == 304


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_gate_stands_before_the_bytes(hub: Hub, method: str):
    path = "org/gated/resolve/main/model.safetensors"

    anonymous = resolve(hub, path, method=method)
    outsider = resolve(hub, path, OUTSIDER, method)
    granted = resolve(hub, path, GRANTED, method)

    assert (anonymous.status, outsider.status, granted.status) == (401, 403, 302)
    assert anonymous.headers["X-Error-Code"] == outsider.headers["X-Error-Code"] == "GatedRepo"
    assert anonymous.headers["WWW-Authenticate"].startswith("Bearer realm=")
    assert "X-Repo-Commit" not in anonymous.headers
    assert "you are not in the authorized list" in outsider.headers["X-Error-Message"]


def test_the_resolve_cache_is_no_way_around_the_gate(hub: Hub):
    open_path = resolve(hub, "org/m/resolve/main/sub/%C3%A9%20config.json").headers["Location"]
    gated = resolve(hub, "org/gated/resolve/main/sub/%C3%A9%20config.json", GRANTED)

    got = ask(hub.origin + gated.headers["Location"])

    assert "/resolve-cache/" in open_path
    assert got.status == 401


def test_a_private_file_is_missing_to_others(hub: Hub):
    path = "org/private/resolve/main/model.safetensors"

    anonymous, outsider = resolve(hub, path), resolve(hub, path, OUTSIDER)

    assert anonymous.status == 401
    assert anonymous.body == b"Invalid username or password."
    assert "X-Error-Code" not in anonymous.headers
    assert (outsider.status, outsider.headers["X-Error-Code"]) == (404, "RepoNotFound")
    assert resolve(hub, path, GRANTED).status == 302


def test_a_disabled_model_gives_no_bytes(hub: Hub):
    got = resolve(hub, "org/disabled/resolve/main/model.safetensors", GRANTED)

    assert (got.status, got.body) == (403, b"Access to this resource is disabled.")


def test_an_anonymous_resolve_carries_the_hubs_warning(hub: Hub):
    path = "org/m/resolve/main/model.safetensors"

    assert resolve(hub, path).headers["X-HF-Warning"].startswith("unauthenticated; ")
    assert "X-HF-Warning" not in resolve(hub, path, GRANTED).headers


def test_both_origins_keep_their_own_log(shelf: MemoryShelf):
    with Hub(shelf, tokens=TOKENS) as hub:
        location = resolve(hub, "org/m/resolve/main/model.safetensors", GRANTED).headers["Location"]
        ask(location, {"Range": "bytes=0-1"})
        hub_log, cdn_log = list(hub.log), list(hub.cdn_log)

    assert [request.path for request in hub_log] == ["/org/m/resolve/main/model.safetensors"]
    assert hub_log[0].headers["authorization"] == f"Bearer {GRANTED}"
    assert [request.path for request in cdn_log] == [urlsplit(location).path]
    assert cdn_log[0].headers["range"] == "bytes=0-1"
