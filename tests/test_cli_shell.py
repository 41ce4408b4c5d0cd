"""The command line as a shell meets it: usage, pipes, signals, terminals, completion."""

import fcntl
import io
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import click
import pytest

from modelbay.cli import COMMANDS, group, run
from tests.fakes import FakeBay

ROOT = Path(__file__).parent.parent
CHILD = """
import os, sys
from pathlib import Path
from modelbay.cli import run
from modelbay.plan import Action
from modelbay.snapshot import Hit
from tests.fakes import FakeBay, model_file, ref, snapshot

def step(run):
    for row in run.rows:
        row.state = "downloading"
        row.progress.received += 2_000
        row.progress.fetched += 2_000

model = snapshot("org/model", [model_file(f"file-{n}.bin", 10_000) for n in range(40)])
bay = FakeBay(
    Path(os.environ["HOME"]), {"org/model": model},
    hits=[Hit(ref(f"org/model-{n}"), "title") for n in range(20_000)],
    script=[step] * 3, endless="ENDLESS" in os.environ, hangs="HANGS" in os.environ,
    actions={"file-0.bin": Action(os.environ.get("ACTION", "fetch"))},
)
code = run(sys.argv[1:], environ=os.environ, open_bay=bay)
if code in (129, 130, 143):
    os._exit(code)
sys.exit(code)
"""


def environ(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(tmp_path), "PATH": os.defpath, "PYTHONPATH": str(ROOT), **more}


def child(*argv: str) -> list[str]:
    return [sys.executable, "-c", CHILD, *argv]


def ran(tmp_path: Path, *argv: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    bay = FakeBay(tmp_path)
    code = run(argv, environ={"HOME": str(tmp_path)}, open_bay=bay, out=out, err=err)
    return code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["gte"], "error: there is no command 'gte'\n  → did you mean `modelbay get`?\n"),
        (["frobnicate"], "error: there is no command 'frobnicate'\n  → see `modelbay --help`\n"),
        (["get"], "error: missing argument 'REF...'\n  → see `modelbay get --help`\n"),
        (["get", "a", "--layout", "x"], "error: invalid value for '--layout': 'x' is not one of"),
        (
            ["search", "q", "--limit", "0"],
            "error: invalid value for '--limit': 0 is not in the range",
        ),
        (["completion", "tcsh"], "error: invalid value for"),
        (["--nonsense"], "error: no such option"),
    ],
)
def test_usage_errors_exit_2_with_a_sentence_and_the_next_step(
    tmp_path: Path, argv: list[str], said: str
) -> None:
    code, out, err = ran(tmp_path, *argv)

    assert code == 2
    assert out == ""
    assert err.startswith(said)


def test_a_usage_error_with_json_is_a_document_too(tmp_path: Path) -> None:
    code, out, _ = ran(tmp_path, "get", "--json")

    assert code == 2
    assert '"code": "usage"' in out


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_with_examples_and_is_listed_as_it_says(name: str) -> None:
    command: click.Command = import_module(f"modelbay.commands.{name}").command
    with click.Context(
        command, info_name=name, parent=click.Context(group, info_name="modelbay")
    ) as context:
        shown = command.get_help(context)

    assert command.name == name
    assert "Examples:" in shown
    assert f"modelbay {name}" in shown
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert all(option.help or option.hidden for option in options)


def test_a_reader_that_goes_away_ends_the_program_quietly(tmp_path: Path) -> None:
    with subprocess.Popen(
        child("search", "q"), env=environ(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()

    assert first.startswith(b"hf://org/model-0 ")
    assert (said, process.returncode) == (b"", 0)


def test_a_closed_stderr_does_not_stop_the_work(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as broken:
        done = subprocess.run(
            child("get", "org/model"),
            env=environ(tmp_path),
            stdout=subprocess.PIPE,
            stderr=broken,
            check=False,
        )

    assert done.returncode == 0
    assert done.stdout == f"{tmp_path}/org--model\n".encode()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_stdout_is_an_error_of_its_own(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            child("show", "org/model"),
            env=environ(tmp_path),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )

    assert done.returncode == 7
    assert done.stderr == b"error: stdout could not be written: No space left on device\n"


@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "SIGHUP")],
)
def test_a_signal_stops_the_run_within_two_seconds_with_its_code(
    tmp_path: Path, number: signal.Signals, name: str
) -> None:
    with subprocess.Popen(
        child("get", "org/model"),
        env=environ(tmp_path, ENDLESS="1"),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        wait_for(process.stderr, "fetching 40 files")
        begun = time.monotonic()
        process.send_signal(number)
        said = process.stderr.read()
        code = process.wait(5)

    assert code == 128 + number
    assert time.monotonic() - begun < 2
    assert (
        said == f"error: stopped by {name}\n  → run the same command again: what arrived is kept\n"
    )


def test_a_run_that_will_not_stop_is_left_within_two_seconds(tmp_path: Path) -> None:
    with subprocess.Popen(
        child("get", "org/model"), env=environ(tmp_path, ENDLESS="1", HANGS="1"), stderr=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        assert process.stderr is not None
        wait_for(process.stderr, "fetching 40 files")
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(5)

    assert code == 143
    assert 1.5 < time.monotonic() - begun < 3


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    with subprocess.Popen(
        child("get", "org/model"), env=environ(tmp_path, ENDLESS="1", HANGS="1"), stderr=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        assert process.stderr is not None
        wait_for(process.stderr, "fetching 40 files")
        begun = time.monotonic()
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)

    assert process.returncode == 130
    assert time.monotonic() - begun < 1.5


def test_an_ignored_hangup_stays_ignored(tmp_path: Path) -> None:
    script = 'trap "" HUP; exec "$0" "$@"'
    with subprocess.Popen(
        ["sh", "-c", script, *child("get", "org/model")],
        env=environ(tmp_path, ENDLESS="1"), stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        wait_for(process.stderr, "fetching 40 files")
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
        code = process.wait(5)

    assert code == 143
    assert "SIGTERM" in said


def wait_for(stream: Iterable[str], text: str) -> None:
    for line in stream:
        if text in line:
            return
    raise AssertionError(f"{text!r} was never said")


def on_a_terminal(
    tmp_path: Path, rows: int, columns: int, *options: str, typed: bytes = b"", **more: str
) -> tuple[int, str]:
    """The exit code and everything that reached a terminal of that size."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    with subprocess.Popen(
        child("get", "org/model", *options), env=environ(tmp_path, TERM="xterm-256color", **more),
        stdin=theirs, stdout=theirs, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        os.write(ours, typed)
        shown = b""
        while True:
            with suppress(OSError):  # Linux says EIO when the other side is closed
                if got := os.read(ours, 65536):
                    shown += got
                    continue
            break
    os.close(ours)
    return process.returncode, shown.decode()


@pytest.mark.parametrize(("rows", "columns"), [(24, 80), (5, 20), (1, 1), (50, 200)])
def test_bars_are_drawn_on_terminals_of_every_size(tmp_path: Path, rows: int, columns: int) -> None:
    code, shown = on_a_terminal(tmp_path, rows, columns)

    assert code == 0
    assert "Traceback" not in shown
    assert "Got 1 model, 40 files" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1


def test_bars_have_colours_and_no_color_takes_them(tmp_path: Path) -> None:
    _, coloured = on_a_terminal(tmp_path, 24, 80)
    _, plain = on_a_terminal(tmp_path, 24, 80, NO_COLOR="1")

    assert re.search(r"\x1b\[[0-9;]*3[0-9]m", coloured)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", plain)
    assert "file-0.bin" in plain


def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path) -> None:
    _, shown = on_a_terminal(tmp_path, 24, 80, CI="1")

    assert "\x1b" not in shown
    assert "fetching 40 files" in shown


def test_replacing_is_asked_about_and_no_means_nothing_happens(tmp_path: Path) -> None:
    code, shown = on_a_terminal(tmp_path, 24, 80, typed=b"n\n", ACTION="replace")

    assert code == 130
    assert "put 1 old file into the trash? [y/N]: " in shown
    assert "error: nothing was fetched" in shown
    assert "Got" not in shown


@pytest.mark.parametrize(("options", "typed"), [((), b"y\n"), (("--yes",), b"")])
def test_yes_on_the_terminal_or_the_command_line_goes_on(
    tmp_path: Path, options: tuple[str, ...], typed: bytes
) -> None:
    code, shown = on_a_terminal(tmp_path, 24, 80, *options, typed=typed, ACTION="replace")

    assert code == 0
    assert ("[y/N]" in shown) is bool(typed)
    assert "1 replaced" in shown


def test_without_a_terminal_nobody_is_asked(tmp_path: Path) -> None:
    done = subprocess.run(
        child("get", "org/model"), env=environ(tmp_path, ACTION="replace"), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert "[y/N]" not in done.stderr
    assert "1 replaced" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_that_asks_modelbay(tmp_path: Path, shell: str) -> None:
    code, out, err = ran(tmp_path, "completion", shell)

    assert (code, err) == (0, "")
    assert f"_MODELBAY_COMPLETE={shell}_complete" in out


def test_completion_answers_with_commands_and_options(tmp_path: Path) -> None:
    def completed(words: str, position: int) -> list[str]:
        asked = environ(
            tmp_path, _MODELBAY_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(position)
        )
        done = subprocess.run(
            [sys.executable, "-m", "modelbay"],
            env=asked,
            capture_output=True,
            text=True,
            check=True,
        )
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert completed("modelbay s", 1) == ["search", "show", "sync"]
    assert "--dry-run" in completed("modelbay get --", 2)
    assert "hf-cache" in completed("modelbay get --layout ", 3)


def doctor(tmp_path: Path, **more: str) -> tuple[int, str]:
    out, err = io.StringIO(), io.StringIO()
    code = run(
        ["doctor"],
        environ={"HOME": str(tmp_path), **more},
        open_bay=FakeBay(tmp_path),
        out=out,
        err=err,
    )
    assert err.getvalue() == ""
    return code, out.getvalue()


def test_doctor_says_what_it_tried(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        code, out = doctor(tmp_path, HF_ENDPOINT=endpoint, HF_TOKEN="hf_abcdefgh", TERM="xterm",
                           HTTPS_PROXY="http://me:hunter2@proxy.example:3128",
                           HTTP_PROXY="me:hunter2@proxy.example:3128")  # fmt: skip

    assert code == 0
    assert re.search(
        r"^ok    endpoint huggingface  127\.0\.0\.1:\d+ answers in \d+ ms$", out, re.MULTILINE
    )
    assert f"from HF_TOKEN, sent to {endpoint} only" in out
    assert "HTTPS_PROXY=http://***@proxy.example:3128" in out
    assert "HTTP_PROXY=***@proxy.example:3128" in out
    assert re.search(
        r"^ok    hub cache +.*free; can .*hardlink, symlink, flock$", out, re.MULTILINE
    )
    assert "hf_" not in out
    assert "hunter2" not in out


def test_doctor_fails_with_the_network_code_when_the_hub_cannot_be_reached(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    code, out = doctor(tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{port}")

    assert code == 6
    assert f"127.0.0.1:{port} cannot be reached: Connection refused" in out


def test_doctor_asks_nobody_when_offline(tmp_path: Path) -> None:
    code, out = doctor(tmp_path, HF_HUB_OFFLINE="1")

    assert code == 0
    assert "not asked: offline ($HF_HUB_OFFLINE)" in out


def test_doctor_fails_with_the_disk_code_where_nothing_can_be_written(tmp_path: Path) -> None:
    code, out = doctor(tmp_path, HF_HUB_OFFLINE="1", MODELBAY_STATE_DIR="/proc/modelbay")

    assert code == 7
    assert re.search(r"^fail  state +/proc/modelbay/.* cannot be written: ", out, re.MULTILINE)
