"""Bytes that are not the file: rows 7, 9, 10, 24, 25, 26."""

import json
import time
import tracemalloc

import pytest

from modelbay.errors import (
    IntegrityError,
    LoginPage,
    ModelbayError,
    ServerTrouble,
    UpstreamChanged,
    WrongBytes,
)
from tests.faults import catalogue
from tests.faults.harness import LARGE, PIECE, SIZE, Fetching, refetched
from tests.faults.server import MIB, Content, FaultServer, noise, other_version

MIDDLING = Content(noise(5 * MIB, seed=4))
NEW = other_version(LARGE)
DISGUISED = other_version(LARGE, etag=LARGE.etag)


def test_wrong_bytes_once_cost_one_clean_restart(fetching: Fetching):
    fault = catalogue.on_resume(catalogue.first(1, catalogue.wrong_bytes()))
    with FaultServer(LARGE, fault) as server:
        outcome = fetching.get(server)

        assert outcome.bytes == LARGE.body
        assert refetched(server) <= SIZE + PIECE
        assert "start" in outcome.said


def test_a_flipped_bit_that_stays_is_refused_after_one_restart(fetching: Fetching):
    with FaultServer(LARGE, catalogue.wrong_bytes(offset=SIZE // 2 + 7)) as server:
        failure = fetching.get(server).failure

        assert isinstance(failure, WrongBytes)
        assert LARGE.sha256.hex in str(failure)
        assert server.sent <= 2 * SIZE + PIECE


def test_wrong_bytes_of_a_small_file_are_refused(fetching: Fetching):
    content = Content(noise(1000, seed=3))
    with FaultServer(content, catalogue.wrong_bytes(offset=500)) as server:
        assert isinstance(fetching.get(server, content).failure, WrongBytes)
        assert len(server.log) <= 2


def test_nothing_of_wrong_bytes_is_used_by_the_next_run(fetching: Fetching):
    with FaultServer(LARGE, catalogue.wrong_bytes(offset=SIZE // 2)) as server:
        assert fetching.get(server).error
    with FaultServer(LARGE) as server:
        outcome = fetching.get(server)

        assert outcome.bytes == LARGE.body
        assert outcome.progress.resumed == 0


def test_a_file_that_changes_midway_is_an_upstream_change_when_its_hash_is_pinned(
    fetching: Fetching,
):
    with FaultServer(LARGE, catalogue.after_bytes(SIZE // 4, catalogue.serves(NEW))) as server:
        assert isinstance(fetching.get(server).failure, UpstreamChanged)
        assert server.sent <= 2 * SIZE


def test_a_file_that_changes_midway_is_fetched_anew_when_nothing_is_pinned(fetching: Fetching):
    with FaultServer(LARGE, catalogue.after_bytes(SIZE // 4, catalogue.serves(NEW))) as server:
        outcome = fetching.get(server, digests=())

        assert outcome.bytes == NEW.body
        assert outcome.fetched is not None
        assert outcome.fetched.etag == NEW.etag
        assert "start" in outcome.said


def test_a_file_that_changed_between_two_runs_is_not_joined(fetching: Fetching):
    dies = catalogue.after_bytes(SIZE // 2, catalogue.status(503))
    with FaultServer(LARGE, dies) as server:
        assert fetching.get(server, digests=()).error
    with FaultServer(NEW) as server:
        assert fetching.get(server, NEW, digests=()).bytes == NEW.body


def test_a_change_under_the_same_etag_is_caught_by_the_hash(fetching: Fetching):
    fault = catalogue.after_bytes(SIZE // 4, catalogue.serves(DISGUISED))
    with FaultServer(LARGE, fault) as server:
        assert isinstance(fetching.get(server).failure, IntegrityError)


QUOTA = json.dumps({"error": "Too many\x1b[31m users"}).encode()


@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf", "model.bin", "model.ckpt"])
@pytest.mark.parametrize(
    ("page", "said"),
    [
        pytest.param(catalogue.page(), "Sign in", id="html"),
        pytest.param(catalogue.page(QUOTA, "application/json"), "Too many", id="json"),
    ],
)
def test_a_page_in_place_of_a_model_costs_one_request(fetching: Fetching, name, page, said):
    begun = time.monotonic()
    with FaultServer(LARGE, page) as server:
        failure = fetching.get(server, name=name).failure

        assert isinstance(failure, LoginPage)
        assert said in str(failure)
        assert len(server.log) == 1
        assert server.sent <= 64 * 1024
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("name", ["model.safetensors", "model.bin"])
def test_a_page_as_long_as_the_file_is_refused_by_its_first_64_kib(fetching: Fetching, name):
    with FaultServer(LARGE, catalogue.long_page(SIZE)) as server:
        failure = fetching.get(server, name=name).failure

        assert isinstance(failure, LoginPage)
        # One more where the page's 200 is first taken for a server without ranges.
        assert len(server.log) <= 2


def test_a_page_is_refused_where_no_size_and_no_hash_is_known(fetching: Fetching):
    with FaultServer(LARGE, catalogue.page()) as server:
        outcome = fetching.get(server, name="model.safetensors", size=None, digests=())

        assert isinstance(outcome.failure, LoginPage)


@pytest.mark.parametrize(
    ("name", "body", "kind"),
    [
        ("page.html", catalogue.PAGE, "text/html"),
        ("config.json", b'{"error": null}', "application/json"),
        ("tokenizer.json", b'{"a":"' + b"x" * 12 * MIB + b'"}', "application/json"),
        ("README.md", b"<html>may stand in a card</html>", "text/plain"),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_a_page_that_was_asked_for_is_fetched(fetching: Fetching, name, body, kind, known):
    content = Content(body, kind=kind)
    with FaultServer(content) as server:
        outcome = fetching.get(
            server,
            content,
            name=name,
            size=len(body) if known else None,
            digests=(content.sha256,) if known else (),
        )

        assert outcome.bytes == body


def test_an_encoded_file_is_refused_and_plain_bytes_were_asked_for(fetching: Fetching):
    with FaultServer(MIDDLING, catalogue.gzip_body) as server:
        assert isinstance(fetching.get(server, MIDDLING).failure, ModelbayError)
        assert {request.header("accept-encoding") for request in server.log} == {"identity"}
        assert len(server.log) == 1


def test_an_encoded_file_without_hash_or_size_is_refused(fetching: Fetching):
    with FaultServer(MIDDLING, catalogue.gzip_body) as server:
        outcome = fetching.get(server, MIDDLING, size=None, digests=())

        assert isinstance(outcome.failure, ModelbayError)


def test_an_answer_that_unpacks_without_end_is_cut_at_32_mib(fetching: Fetching):
    with FaultServer(LARGE, catalogue.gzip_bomb(128 * MIB)) as server:
        tracemalloc.start()
        try:
            with pytest.raises(ServerTrouble, match="32 MiB"):
                fetching.client.ask(server.url("/api/models"))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert peak < 96 * MIB
