"""Nothing that opens a door is shown: addresses, headers, logs, errors and their causes."""

import io
import logging
import os
import re
import traceback
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelbay.errors import ModelbayError
from modelbay.http import Answer, Client, Hosts, Landing
from modelbay.http.client import Ask
from modelbay.http.hosts import Patience
from modelbay.http.redact import shown_header, shown_url
from modelbay.location import Credential, Http, origin_of
from modelbay.text import Secret
from tests.faults.server import Content, Exchange, FaultServer

CANARY = "hf_c4n4rydoNotShowThis"
QUICK = Patience(backoff=0.01, backoff_cap=0.02, tries=2, wait_cap=0.1)


@pytest.fixture(autouse=True)
def plain_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


# Addresses.


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/a/b", "https://host/a/b"),
        ("https://host:8443/a", "https://host:8443/a"),
        ("https://[::1]:80/a", "https://[::1]:80/a"),
        (f"https://{CANARY}@host/a", "https://host/a"),
        (f"https://me:{CANARY}@host/a", "https://host/a"),
        (f"https://me:a@{CANARY}@host/a", "https://host/a"),
        (f"https://host/a?token={CANARY}&x=1", "https://host/a?…"),
        (f"https://host/a#{CANARY}", "https://host/a"),
        (f"https://host/a?x#{CANARY}", "https://host/a?…"),
        (f"https://me:{CANARY}@host:x/a", "an unreadable address"),
        (f"https://me:{CANARY}@[x/a", "an unreadable address"),
        (f"https:me:{CANARY}@host/a", "an unreadable address"),
        (f"https:/me:{CANARY}@host/a", "an unreadable address"),
        (f"me:{CANARY}@host/a", "an unreadable address"),
        (f"https:\\\\me:{CANARY}@host/a", "an unreadable address"),
        ("https://host/\x1b[2J", "https://host/␛[2J"),
        ("https://host/" + "a" * 500, "https://host/" + "a" * 287 + "…"),
    ],
)
def test_an_address_is_shown_without_what_opens_doors(url: str, shown: str):
    assert shown_url(url) == shown


_TEXT = st.text(st.characters(exclude_characters="/?#\\", min_codepoint=33), max_size=20)


@given(_TEXT, _TEXT, st.text(max_size=30))
def test_no_user_name_no_password_and_no_query_is_ever_shown(user: str, host: str, query: str):
    shown = shown_url(f"https://{user}:{CANARY}@{host}/path?key={CANARY}{query}#{CANARY}")

    assert CANARY not in shown
    assert len(shown) <= 301


@given(st.text(max_size=80))
def test_any_text_is_shown_as_one_line_that_steers_nothing(url: str):
    shown = shown_url(url)

    assert "\n" not in shown
    assert "\x1b" not in shown


# Headers.


@pytest.mark.parametrize(
    "name",
    [
        *("Authorization", "authorization", "Proxy-Authorization", "Cookie", "Set-Cookie"),
        *("X-Api-Key", "X-Auth-Token", "X-Amz-Security-Token", "X-Secret", "X-Signature"),
    ],
)
def test_a_header_whose_name_says_secret_is_not_shown(name: str):
    assert shown_header(name, CANARY) == "***"


def test_another_header_is_shown_cleaned():
    assert shown_header("ETag", '"one"\x1b') == '"one"␛'


# The canary: everything that a whole way may leave behind.


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that any logger writes, at the loudest."""
    written = io.StringIO()
    listener = logging.StreamHandler(written)
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(listener)
    root.setLevel(logging.DEBUG)
    for name in ("httpx2", "httpcore2", "httpcore2.connection", "httpcore2.http11", "modelbay"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield written
    root.removeHandler(listener)
    root.setLevel(level)


def answers(exchange: Exchange) -> None:
    """The ways to fail, by path; every one of them names our secrets back to us."""
    told = exchange.request.header("authorization") or CANARY
    match exchange.request.target.partition("?")[0]:
        case "/fine":
            exchange.send_raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        case "/trouble":
            exchange.send_raw(b"HTTP/1.1 503 " + told.encode() + b"\r\nContent-Length: 0\r\n\r\n")
        case "/away":
            to = f"http://me:{CANARY}@127.0.0.1:{exchange.server.port}/fine?sig={CANARY}"
            head = f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"
            exchange.send_raw(head.encode())
        case "/ring":
            to = f"/ring?sig={CANARY}"
            head = f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"
            exchange.send_raw(head.encode())
        case "/dead":
            exchange.close()
        case "/reset":
            exchange.reset()
        case _:
            exchange.send_raw(b"nonsense\r\n\r\n")
            exchange.close()


def everything_of(error: BaseException | None) -> str:
    """An error with its causes, as text, as code and as a traceback."""
    found = "".join(traceback.format_exception(error)) if error else ""
    for _ in range(10):
        if error is None:
            break
        found += f"{error!s} {error!r} {getattr(error, 'hint', '')} {error.args!r}"
        error = error.__cause__ or error.__context__
    return found


@pytest.mark.parametrize("path", ["fine", "trouble", "away", "ring", "dead", "reset", "nonsense"])
@pytest.mark.parametrize("way", ["ask", "probe", "open"])
def test_no_log_and_no_error_shows_a_secret(log: io.StringIO, path: str, way: str):
    said = ""
    with (
        FaultServer(Content(b""), answers) as server,
        Client(hosts=Hosts(QUICK), first_byte=1.0) as client,
    ):
        url = server.url(f"/{path}?token={CANARY}")
        headers = {"X-Api-Key": CANARY, "Cookie": f"session={CANARY}"}
        credential = Credential(
            "Authorization", Secret(f"Bearer {CANARY}"), frozenset({origin_of(url)})
        )
        try:
            if way == "open":
                location = Http(url, headers, credential)
                with client.open(location, own={}, landed=None, cut=None) as reply:
                    said = repr(reply)
            else:
                answer = getattr(client, way)(url, headers=headers, credential=credential)
                said = f"{answer.status} {answer.headers}"
        except ModelbayError as error:
            said = everything_of(error)

        assert server.log
        assert all(CANARY in str(request.headers) for request in server.log)
        assert said
        assert CANARY not in said
        assert CANARY not in log.getvalue()


@pytest.mark.parametrize("way", ["ask", "probe"])
@pytest.mark.parametrize(
    "value",
    [f"{CANARY}\r\nX-Evil: 1", f"{CANARY}\nX", f"{CANARY}\0", f"{CANARY}’", f"{CANARY}\ud800"],
    ids=["crlf", "lf", "nul", "quote", "surrogate"],
)
def test_a_header_that_would_break_out_is_refused_once_and_not_quoted(way: str, value: str):
    with FaultServer(Content(b""), answers) as server, Client(hosts=Hosts(QUICK)) as client:
        with pytest.raises(ModelbayError, match="X-Own") as caught:
            getattr(client, way)(server.url("/fine"), headers={"X-Own": value})

        assert server.log == []
    assert CANARY not in everything_of(caught.value)


@pytest.mark.parametrize(
    "name", ["X Own", "X-Own:", "X-Own\r\nX-Evil: 1\r\nX", "", "Ключ"], ids=ascii
)
@pytest.mark.parametrize("way", ["ask", "probe"])
def test_a_header_name_that_is_none_is_refused(way: str, name: str):
    with FaultServer(Content(b""), answers) as server, Client(hosts=Hosts(QUICK)) as client:
        with pytest.raises(ModelbayError):
            getattr(client, way)(server.url("/fine"), headers={name: "x"})

        assert server.log == []


def test_the_loggers_of_the_library_would_show_it_but_for_us(log: io.StringIO):
    with FaultServer(Content(b""), answers) as server, Client(hosts=Hosts(QUICK)) as client:
        client.ask(server.url(f"/fine?token={CANARY}"))
        logging.getLogger("httpx2").debug(CANARY)
        logging.getLogger("httpcore2.http11").debug(CANARY)
        logging.getLogger("elsewhere").debug("heard")

    assert re.fullmatch(r"heard\n", log.getvalue())


def test_an_address_that_was_signed_is_in_no_repr():
    signed = f"https://cdn.example/file?Signature={CANARY}"
    answer = Answer(200, signed, CANARY.encode(), {"set-cookie": CANARY})
    held = (Http(signed), Landing(signed, guarded=True), Ask("GET", signed), answer)

    assert CANARY not in repr(held)


def test_a_refusal_that_repeats_what_it_was_sent_is_known_without_it():
    credential = Credential("Authorization", Secret("Bearer hf_C4n4ry"), frozenset())
    sent = {"X-Api-Key": "the-key-of-an-entry", "Accept": "text/plain"}
    told = {"x-error-message": "no hf_C4n4ry here", "content-type": "text/plain"}
    body = "é Bearer hf_C4n4ry, the-key-of-an-entry, text/plain".encode()

    refused = Answer(401, "https://h.example", body, told).unechoed(credential, sent)
    answered = Answer(200, "https://h.example", body, told).unechoed(credential, sent)

    assert refused.body.decode() == "é ***, ***, text/plain"
    assert refused.header("x-error-message") == "no *** here"
    assert answered.body == body
