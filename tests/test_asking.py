"""What a person sees while sources are asked."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelbay.config import Settings
from modelbay.http import Delay, Hosts
from modelbay.output.asking import Asking
from modelbay.output.face import Face
from tests.fakes import FakeBay


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def face(tmp_path: Path, err: io.StringIO) -> Face:
    bay: Any = FakeBay(tmp_path)
    return Face({"TERM": "xterm"}, bay, io.StringIO(), err, _settings=Settings())


class Waiting:
    """A Bay that waits for hosts."""

    def __init__(self, *delays: Delay) -> None:
        self._delays = list(delays)

    def delays(self) -> list[Delay]:
        return self._delays


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_terminal_says_what_is_asked_and_is_wiped_when_the_answer_came(tmp_path: Path):
    err, bay = Terminal(), Waiting()
    asked: Any = bay

    with Asking(face(tmp_path, err), asked, "asking about 3 models"):
        until(lambda: "asking about 3 models (1 s)" in err.getvalue())

    assert err.getvalue().endswith("\r\x1b[2K")


def test_an_answer_within_a_second_shows_nothing(tmp_path: Path):
    err = Terminal()
    asked: Any = Waiting()

    with Asking(face(tmp_path, err), asked, "asking"):
        pass

    assert err.getvalue() == ""


def test_a_host_in_trouble_is_named_with_the_reason_and_the_wait(tmp_path: Path):
    err = Terminal()
    asked: Any = Waiting(Delay("hub:443", "hub refused the connection", 12.2))

    with Asking(face(tmp_path, err), asked, "asking"):
        until(lambda: "again in 12 s: hub refused the connection" in err.getvalue())


def test_nothing_of_a_log_is_drawn_over(tmp_path: Path):
    err = io.StringIO()
    asked: Any = Waiting()

    with Asking(face(tmp_path, err), asked, "asking"):
        pass

    assert err.getvalue() == ""


def test_the_hosts_that_are_waited_for_say_why():
    hosts = Hosts()
    hosts.trouble("https://one.example/x", cause="it answered 503")
    hosts.fine("https://two.example/x")

    assert [(one.host, one.cause) for one in hosts.delays()] == [("one.example", "it answered 503")]
