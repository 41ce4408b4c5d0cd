"""Refusals, waits and redirects: rows 13, 16, 17, 21, 22, 23."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from threading import Thread

import pytest

from modelbay.errors import AccessError, NotFound, RateLimited, RedirectRefused
from modelbay.http.redact import origin_of
from modelbay.location import Credential, Http
from modelbay.text import Secret
from modelbay.transfer.order import Progress
from tests.faults import catalogue
from tests.faults.certificates import Authority
from tests.faults.harness import LARGE, PIECE, SIZE, SMALL, Fetching, Outcome, refetched
from tests.faults.server import FaultServer

CANARY = "hf_canaryCANARYcanary"


def test_a_429_in_seconds_is_waited_for_and_shown(fetching: Fetching):
    with FaultServer(SMALL, catalogue.first(1, catalogue.rate_limited("1"))) as server:
        url = server.url()
        order = fetching.order(lambda: Http(url), SMALL)
        outcomes: list[Outcome] = []
        shown: list[float] = []
        begun = time.monotonic()
        progress = Progress()
        thread = Thread(target=lambda: outcomes.append(fetching.run(order, progress)))
        thread.start()
        while thread.is_alive():
            if progress.retry_at is not None:
                shown.append(progress.retry_at - begun)
            thread.join(timeout=0.02)

        assert outcomes[0].bytes == SMALL.body
        assert time.monotonic() - begun >= 1
        assert shown
        assert 0.9 < shown[0] < 1.5


@pytest.mark.parametrize(("ahead", "least", "most"), [(2, 0.9, 3.0), (-3600, 0.0, 0.8)])
def test_a_429_with_a_date_is_waited_for_unless_it_is_past(fetching, ahead, least, most):
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
    begun = time.monotonic()
    with FaultServer(SMALL, catalogue.first(1, catalogue.rate_limited(when))) as server:
        assert fetching.get(server, SMALL).bytes == SMALL.body
    assert least <= time.monotonic() - begun < most


def test_a_429_for_a_day_is_not_waited_for(fetching: Fetching):
    begun = time.monotonic()
    with FaultServer(LARGE, catalogue.rate_limited("86400")) as server:
        failure = fetching.get(server).failure

        assert isinstance(failure, RateLimited)
        assert any(word in str(failure) for word in ("1440 minutes", "24 hours", "1 day"))
        assert len(server.log) == 1
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize(
    ("status", "kind"), [(401, AccessError), (403, AccessError), (404, NotFound), (410, NotFound)]
)
def test_a_refusal_is_not_asked_again_and_its_words_are_cleaned(fetching, status, kind):
    body = b"Access to this model is \x1b[31mrestricted"
    with FaultServer(LARGE, catalogue.status(status, body)) as server:
        failure = fetching.get(server).failure

        assert isinstance(failure, kind)
        # One more may ask for a fresh address: signed ones expire with 403.
        assert len(server.log) <= 2


def test_a_signed_address_that_dies_is_asked_for_anew_and_no_byte_is_lost(fetching: Fetching):
    signed = catalogue.SignedUrls(life=SIZE // 4)
    with FaultServer(LARGE, signed) as server:
        later = time.monotonic() + 3600
        outcome = fetching.run(
            fetching.order(lambda: Http(server.url(signed.issue()), expires=later), LARGE)
        )

        assert outcome.bytes == LARGE.body
        assert 2 <= signed.issued <= 8
        assert refetched(server) <= PIECE


def test_a_redirect_to_an_address_that_dies_is_asked_again_and_no_byte_is_lost(
    fetching: Fetching,
):
    signed = catalogue.SignedUrls(life=SIZE // 4, path="/signed.bin")
    with FaultServer(LARGE, catalogue.at({"/signed.bin": signed}, signed.redirect)) as server:
        outcome = fetching.get(server)

        assert outcome.bytes == LARGE.body
        # Connections that meet the dead address together may each be led to a fresh one.
        assert 2 <= signed.issued <= 4 + fetching.limits.connections * 4
        assert refetched(server) <= PIECE


def test_addresses_that_are_dead_from_the_start_are_not_asked_for_without_end(fetching: Fetching):
    signed = catalogue.SignedUrls(life=0)
    with FaultServer(LARGE, signed) as server:
        later = time.monotonic() + 3600
        outcome = fetching.run(
            fetching.order(lambda: Http(server.url(signed.issue()), expires=later), LARGE)
        )

        assert isinstance(outcome.failure, AccessError)
        assert signed.issued <= 3


@pytest.mark.parametrize("ring", [1, 2, 50])
def test_a_redirect_loop_is_named_after_eleven_requests_at_most(fetching: Fetching, ring: int):
    with FaultServer(LARGE, catalogue.redirect_loop(ring)) as server:
        failure = fetching.get(server).failure

        assert isinstance(failure, RedirectRefused)
        assert len(server.log) <= 11


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("userinfo", ["", "someone:else@"])
def test_a_redirect_to_another_port_carries_no_credential(fetching, code, userinfo):
    with FaultServer(LARGE) as other:
        target = other.url(host=f"{userinfo}127.0.0.1")
        with FaultServer(LARGE, catalogue.redirect(target, code)) as first:
            outcome = _with_secrets(fetching, first.url())

            assert outcome.bytes == LARGE.body
            _assert_knows(first)
        _assert_knows_nothing(other)


def test_a_redirect_to_another_name_of_the_host_carries_no_credential(fetching: Fetching):
    with FaultServer(LARGE) as server:
        away = catalogue.redirect(server.url("/moved.bin", host="localhost"))
        server.fault = catalogue.at({"/model.bin": away})
        outcome = _with_secrets(fetching, server.url())

        assert outcome.bytes == LARGE.body
        moved = [request for request in server.log if request.target == "/moved.bin"]
        assert moved
        assert not [request for request in moved if CANARY in str(request.headers)]


def test_a_redirect_on_the_same_origin_keeps_the_credential(fetching: Fetching):
    with FaultServer(LARGE) as server:
        server.fault = catalogue.at({"/model.bin": catalogue.redirect("/moved.bin")})
        outcome = _with_secrets(fetching, server.url())

        assert outcome.bytes == LARGE.body
        assert all(request.header("authorization") for request in server.log)


def test_a_redirect_from_https_to_http_is_refused(fetching, authority: Authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    with FaultServer(LARGE) as plain:
        down = catalogue.redirect(plain.url())
        with FaultServer(LARGE, down, tls=authority.server()) as secure:
            outcome = _with_secrets(fetching, secure.url())

            assert isinstance(outcome.failure, RedirectRefused)
        assert plain.log == []


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "data:,x",
        "//",
        "http://",
        "javascript:1",
        "http://[x",
    ],
)
def test_a_redirect_to_what_is_no_web_address_is_refused(fetching: Fetching, target: str):
    with FaultServer(LARGE, catalogue.redirect(target)) as server:
        failure = fetching.get(server).failure

        assert isinstance(failure, RedirectRefused)
        assert len(server.log) == 1


def _with_secrets(fetching: Fetching, url: str) -> Outcome:
    credential = Credential(
        "Authorization", Secret(f"Bearer {CANARY}"), frozenset({origin_of(url)})
    )
    headers = {"X-Api-Key": CANARY, "Cookie": f"session={CANARY}", "X-Own": CANARY}
    return fetching.run(fetching.order(lambda: Http(url, headers, credential), LARGE))


def _assert_knows(server: FaultServer) -> None:
    assert server.log
    assert all(CANARY in (request.header("authorization") or "") for request in server.log)
    assert all(request.header("x-own") == CANARY for request in server.log)


def _assert_knows_nothing(server: FaultServer) -> None:
    assert server.log
    assert not [request for request in server.log if request.secrets]
    assert not [request for request in server.log if CANARY in str(request.headers)]
