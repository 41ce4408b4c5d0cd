"""Manners towards hosts: what an answer asks to wait, how long trouble is borne, who may try."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelbay.errors import RateLimited, ServerTrouble
from modelbay.http import Client, Hosts
from modelbay.http.hosts import Patience, asked_wait
from tests.scripted import Asked, Reply, Scripted

QUICK = Patience(backoff=0.02, backoff_cap=0.1, tries=4, wait_cap=5.0)
URL = "http://host.test/model"


def _noting(waited: list[float]) -> Callable[[float], None]:
    def wait(seconds: float) -> None:
        waited.append(seconds)
        time.sleep(seconds)

    return wait


def date(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


# What an answer asks for.


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "17"}, 17),
        ({"retry-after": " 17 "}, 17),
        ({"retry-after": "9" * 5000}, 999_999_999),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Wed, 11 Nov 2020 08:00:00 GMT"}, 0),
        ({"retry-after": "Wed, 11 Nov 2020 08:00:00 -0000"}, 0),
        ({"retry-after": "Wed, 99 Nov 2020 08:00:00 GMT"}, None),
        ({"retry-after": "Wed, 11 Nov 99999999999 08:00:00 GMT"}, None),
        ({"retry-after": "Wed, 11 Nov 2020 08:00:00 +9999999999"}, None),
        ({"ratelimit": '"api";r=0;t=17'}, 18),
        ({"ratelimit": '"api"; r=0; t=17'}, 18),
        ({"ratelimit": '"api";t=17;r=0'}, 18),
        ({"ratelimit": '"api";r=3;t=17'}, None),
        ({"ratelimit": '"api";r=0'}, None),
        ({"ratelimit": "limit=100, remaining=0, reset=17"}, None),
        ({"retry-after": "4", "ratelimit": '"api";r=0;t=17'}, 4),
    ],
)
def test_the_wait_that_an_answer_asks_for_is_read(headers, seconds):
    assert asked_wait(headers) == seconds


def test_a_date_ahead_is_the_seconds_until_then():
    wait = asked_wait({"retry-after": date(90)})

    assert wait is not None
    assert 88 <= wait <= 90


@given(st.text(st.characters(max_codepoint=255), max_size=60), st.text(max_size=40))
def test_no_header_breaks_the_reading_and_no_wait_is_negative(after: str, rate: str):
    wait = asked_wait({"retry-after": after, "ratelimit": rate})

    assert wait is None or wait >= 0


@pytest.mark.parametrize(
    ("headers", "waits"),
    [
        ({"ratelimit": '"api";r=0;t=0'}, True),
        ({"ratelimit": '"api";r=0;t=0', "age": "0"}, True),
        ({"ratelimit": '"api";r=0;t=1', "age": "7"}, False),
        ({"ratelimit": '"api";r=5;t=1'}, False),
        ({"ratelimit": "nonsense"}, False),
        ({}, False),
    ],
)
def test_an_exhausted_limit_is_obeyed_unless_a_cache_repeats_it(headers, waits: bool):
    hosts = Hosts(QUICK)
    waited: list[float] = []

    hosts.note_rate(URL, headers)
    with hosts.visit(URL, _noting(waited)):
        pass

    assert bool(waited) is waits


# How long trouble is borne.


def test_pauses_double_up_to_their_cap_and_are_jittered():
    patience = Patience(backoff=1.0, backoff_cap=60.0)

    for failures, whole in [(1, 1), (2, 2), (3, 4), (7, 60), (1000, 60)]:
        pauses = {patience.pause(failures) for _ in range(50)}
        assert all(0.75 * whole <= pause <= 1.25 * whole for pause in pauses)
        assert len(pauses) > 1


def test_several_failures_within_one_pause_count_as_one():
    hosts = Hosts(Patience(backoff=10.0))

    pauses = [hosts.trouble(URL) for _ in range(5)]

    assert max(pauses) <= 12.5
    assert pauses == sorted(pauses, reverse=True)


def test_a_host_is_the_same_in_any_case_and_with_any_user_name():
    hosts = Hosts(Patience(backoff=0.05))
    waited: list[float] = []
    hosts.trouble("http://Host.test/a")

    with hosts.visit("http://me:pw@host.TEST/b", _noting(waited)):
        pass

    assert waited


def test_another_host_or_port_is_not_made_to_wait():
    hosts = Hosts(Patience(backoff=10.0))
    waited: list[float] = []
    hosts.trouble(URL)

    for other in ("http://host.test:81/", "http://other.test/"):
        with hosts.visit(other, waited.append):
            pass

    assert waited == []


def test_a_visitor_that_is_stopped_while_waiting_gives_his_place_back():
    hosts = Hosts(Patience(backoff=10.0), connections=1)
    hosts.trouble(URL)

    def stop(_: float) -> None:
        raise InterruptedError

    for _ in range(2):
        with pytest.raises(InterruptedError), hosts.visit(URL, stop):
            pytest.fail("the pause was not kept")


def test_no_more_visitors_than_connections_are_let_in():
    hosts, inside, most = Hosts(QUICK, connections=3), [], []

    def visit() -> None:
        with hosts.visit(URL, time.sleep):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    visitors = [threading.Thread(target=visit) for _ in range(12)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()

    assert len(most) == 12
    assert max(most) <= 3


# Through the client.


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504])
def test_trouble_that_passes_costs_one_more_request(status: int):
    answers = iter([Reply(status), Reply(200, b"{}")])
    with Scripted({"/": lambda _: next(answers)}) as server, Client(hosts=Hosts(QUICK)) as client:
        assert client.ask(f"{server.url}/").status == 200
        assert len(server.asked) == 2


def test_trouble_that_stays_ends_after_the_tries():
    with (
        Scripted({"/": Reply(503)}) as server,
        Client(hosts=Hosts(QUICK)) as client,
        pytest.raises(ServerTrouble, match="answered 503"),
    ):
        client.ask(f"{server.url}/")

    assert len(server.asked) == QUICK.tries


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416, 451, 501])
def test_any_other_status_is_the_callers_to_judge(status: int):
    with Scripted({"/": Reply(status)}) as server, Client(hosts=Hosts(QUICK)) as client:
        assert client.ask(f"{server.url}/").status == status
        assert len(server.asked) == 1


def test_a_429_is_waited_for_as_it_asks():
    answers = iter([Reply(429, headers={"Retry-After": "1"}), Reply(200)])
    with Scripted({"/": lambda _: next(answers)}) as server, Client(hosts=Hosts(QUICK)) as client:
        began = time.monotonic()
        assert client.ask(f"{server.url}/").status == 200

    assert time.monotonic() - began >= 0.99


@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_beyond_the_cap_is_not_begun(status: int):
    late = Reply(status, headers={"Retry-After": "3600"})
    with (
        Scripted({"/": late}) as server,
        Client(hosts=Hosts(QUICK)) as client,
        pytest.raises(RateLimited, match="60 minutes") as caught,
    ):
        client.ask(f"{server.url}/")

    assert len(server.asked) == 1
    assert not caught.value.transient
    assert caught.value.retry_after == 3600


def test_an_exhausted_limit_holds_the_next_request_back():
    times: list[float] = []

    def note(_: Asked) -> Reply:
        times.append(time.monotonic())
        return Reply(200, headers={"RateLimit": '"api";r=0;t=0'})

    with Scripted({"/": note}) as server, Client(hosts=Hosts(QUICK)) as client:
        client.ask(f"{server.url}/")
        client.ask(f"{server.url}/")

    assert times[1] - times[0] >= 0.95
