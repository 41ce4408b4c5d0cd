"""Words, paces, frames and codes: what is shown, without a terminal."""

import io
import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelbay import errors
from modelbay.output.exits import BUG, bug, error_lines, exit_code, scrub, worst
from modelbay.output.face import Face
from modelbay.output.follow import (
    JsonWatch,
    LiveWatch,
    PlainWatch,
    Silent,
    Wanted,
    follow,
    watch_for,
)
from modelbay.output.frame import Frame
from modelbay.output.pace import Pace
from modelbay.output.plans import plan_lines, question, short, total_line
from modelbay.output.words import Words, count, duration, rough
from modelbay.plan import Action, Plan
from modelbay.transfer.order import Progress
from tests.fakes import (
    COMMIT,
    FakeBay,
    FakeEvent,
    FakeReport,
    FakeRow,
    FakeRun,
    model_file,
    snapshot,
)

WORDS = Words()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def face(tmp_path: Path, *, terminal: bool = False, **environ: str) -> tuple[Face, io.StringIO]:
    err = Terminal() if terminal else io.StringIO()
    environ = {"HOME": str(tmp_path), **environ}
    return Face(environ, FakeBay(tmp_path), io.StringIO(), err), err


def plan(tmp_path: Path, *, files: int = 1, size: int | None = 1000) -> Plan:
    names = [model_file(f"file-{n:04}.bin", size) for n in range(files)]
    bay = FakeBay(tmp_path)
    model = snapshot("org/model", names)
    return bay.plan(bay.select(model), bay.layout(None, model.ref))


def rows(plan: Plan, *states: str, received: int = 500) -> list[FakeRow]:
    return [
        FakeRow(
            step.file.path,
            plan,
            Progress(
                size=step.file.size, received=received, fetched=received, hashed=received // 2
            ),
            state,
        )
        for step, state in zip(plan.steps, states, strict=True)
    ]


def picture(frame: Frame, found: list[FakeRow], now: float, width: int, height: int) -> list[str]:
    return ["".join(part for part, _ in line) for line in frame.lines(found, now, width, height)]


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1200, "1.2 kB"),
        (58_200_000_000, "58.2 GB"),
        (None, "?"),
    ],
)
def test_sizes_are_decimal_and_short(amount: int | None, shown: str) -> None:
    assert WORDS.size(amount) == shown


def test_sizes_are_binary_when_asked() -> None:
    assert Words(binary=True).size(1 << 30) == "1.0 GiB"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "--"),
        (0, "0.0 s"),
        (12.34, "12.3 s"),
        (70, "1 min 10 s"),
        (120, "2 min"),
        (7500, "2 h 5 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_durations_are_read_aloud(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown


def test_counts_agree_with_their_noun() -> None:
    assert [count(n, "file") for n in (0, 1, 2000)] == ["0 files", "1 file", "2,000 files"]


def every_error(
    kind: type[errors.ModelbayError] = errors.ModelbayError,
) -> list[type[errors.ModelbayError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in every_error(child))]


def test_every_kind_of_error_has_the_exit_code_of_its_family() -> None:
    families: dict[type, int] = {
        errors.UsageError: 2, errors.AccessError: 3, errors.PolicyError: 4, errors.IntegrityError: 5,
        errors.NetworkError: 6, errors.DiskError: 7, errors.NotFound: 8, errors.TargetTaken: 9,
        errors.Interrupted: 130,
    }  # fmt: skip

    for kind in every_error(errors.ModelbayError)[1:]:
        family = next(family for family in families if issubclass(kind, family))
        assert exit_code(kind("x")) == families[family]


def test_what_is_not_ours_is_a_bug() -> None:
    assert exit_code(ValueError("x")) == BUG
    assert exit_code(errors.ModelbayError("x")) == BUG


def test_several_failures_give_the_first_code_in_order() -> None:
    order = [5, 4, 3, 8, 9, 7, 6, 70]

    for number in range(len(order)):
        assert worst(reversed(order[number:])) == order[number]
    assert worst([]) == 0


def test_an_error_is_a_sentence_and_its_next_step() -> None:
    error = errors.NotFound("hf://a is \x1b[31mgone\nfor ever", hint="ask \u202eanother")

    assert error_lines(error, WORDS) == [
        "error: hf://a is ␛[31mgone for ever",
        "  → ask ‹U+202E›another",
    ]
    assert error_lines(errors.NotFound("gone"), WORDS) == ["error: gone"]


def test_a_bug_is_logged_without_the_secrets_of_the_environment(tmp_path: Path) -> None:
    environ = {"MODELBAY_STATE_DIR": str(tmp_path), "HF_TOKEN": "hf_secret", "PATH": "/usr/bin"}

    error = bug(ValueError("refused hf_secret in /usr/bin"), environ)

    log = next(tmp_path.rglob("modelbay.log"))
    assert str(log) in error.hint
    assert "refused *** in /usr/bin" in log.read_text(encoding="utf-8")
    assert "hf_secret" not in str(error) + log.read_text(encoding="utf-8")


def test_a_bug_without_a_place_for_the_log_is_still_said() -> None:
    error = bug(ValueError(), {"MODELBAY_STATE_DIR": "/dev/null"})

    assert "ValueError" in str(error)
    assert error.hint == "its details could not be logged"


def test_short_values_are_not_scrubbed() -> None:
    assert scrub("key a1", {"SOME_KEY": "a1"}) == "key a1"


def test_a_pace_says_nothing_for_three_seconds_and_then_the_rate() -> None:
    pace = Pace()

    said = []
    for tick in range(13):
        pace.sample(tick * 250_000, tick * 0.25)
        said.append(pace.rate)

    assert said[:12] == [None] * 12
    assert said[12] == pytest.approx(1_000_000)
    assert pace.seconds_left(10_000_000) == pytest.approx(10)


def test_a_pace_forgets_an_old_rate_within_some_seconds() -> None:
    pace = Pace()
    for second in range(20):
        pace.sample(second * 1000, second)
    for second in range(20, 40):
        pace.sample(19_000, second)

    assert pace.rate is not None
    assert pace.rate < 20


@given(st.lists(st.tuples(st.integers(0, 10**12), st.floats(0.05, 2.0)), min_size=2, max_size=60))
def test_time_left_is_never_negative_and_never_jumps(samples: list[tuple[int, float]]) -> None:
    pace, now = Pace(), 0.0
    spoken: list[float] = []
    for total, passed in samples:
        now += passed
        pace.sample(total, now)
        left = pace.seconds_left(10**12)
        if left is not None:
            spoken.append(left)

    for before, left in pairwise(spoken):
        assert left >= 0
        assert before <= 1 or before / 2.0001 <= left <= before * 2.0001


def test_a_frame_shows_rows_on_their_way_and_the_total(tmp_path: Path) -> None:
    found = rows(
        plan(tmp_path, files=6), "waiting", "downloading", "verifying", "retrying", "done", "failed"
    )
    found[3].progress.retry_at, found[3].progress.note = 112.0, "503 from the host"
    frame = Frame(Words(ascii=True))

    lines = picture(frame, found, 100.0, 100, 20)

    assert lines == [
        "file-0001.bin                      ##############-------------  50%  500 B of 1.0 kB  --",
        "file-0002.bin                      #######--------------------  25%  1.0 kB  verifying",
        "file-0003.bin                      ##############-------------  50%  retrying in 12 s",
        "1 of 6 files  1 failed  3.5 kB of 6.0 kB  --  -- left",
    ]


def test_a_narrow_frame_keeps_the_ends_of_names_and_the_percents(tmp_path: Path) -> None:
    found = rows(plan(tmp_path, files=2), "downloading", "verifying")

    assert picture(Frame(WORDS), found, 0.0, 20, 5) == [
        "…000.bin  50%  --",
        "…001.bin  25%",
        "0 of 2 files  1.0 …",
    ]


def test_a_thousand_rows_fill_the_screen_and_no_more(tmp_path: Path) -> None:
    found = rows(plan(tmp_path, files=1000), *["downloading"] * 1000)

    lines = picture(Frame(WORDS), found, 0.0, 80, 24)

    assert len(lines) == 23
    assert lines[-1].startswith("0 of 1,000 files")


@pytest.mark.parametrize("width", [1, 2, 5, 10, 20, 33, 60, 80, 200])
@pytest.mark.parametrize("height", [1, 2, 5, 24])
def test_a_frame_fits_every_terminal(tmp_path: Path, width: int, height: int) -> None:
    from rich.cells import cell_len

    found = rows(plan(tmp_path, files=4), "downloading", "verifying", "retrying", "connecting")
    found[0].name = "模型" * 30 + "\x1b[2J.safetensors"
    found[1].progress.size = None
    found[2].progress.retry_at = 5.0

    lines = picture(Frame(WORDS), found, 0.0, width, height)

    assert len(lines) <= max(1, height - 1)
    assert max(map(cell_len, lines)) <= max(0, width - 1)
    assert "\x1b" not in "".join(lines)


def test_a_verifying_row_shows_its_own_progress(tmp_path: Path) -> None:
    found = rows(plan(tmp_path), "verifying", received=1000)

    assert " 50%" in picture(Frame(WORDS), found, 0.0, 80, 24)[0]


def test_a_plan_says_first_where_it_goes(tmp_path: Path) -> None:
    made = plan(tmp_path)

    assert (
        plan_lines(made, WORDS)[0]
        == f"hf://org/model goes to {made.root} (hf-cache, revision 0123456789ab)"
    )


def test_a_long_plan_is_cut_in_conversation(tmp_path: Path) -> None:
    lines = plan_lines(plan(tmp_path, files=2000), WORDS, most=30)

    assert len(lines) == 32
    assert lines[-1] == "  and 1,970 more files"


def test_unknown_sizes_are_question_marks(tmp_path: Path) -> None:
    made = plan(tmp_path, size=None)

    assert plan_lines(made, WORDS)[1] == "  fetch    ?  file-0000.bin"
    assert "0 B to come and 1 file of unknown size" in total_line([made], WORDS)


def test_a_plan_that_does_not_fit_is_asked_about(tmp_path: Path) -> None:
    asked = question([plan(tmp_path, size=10**18)], WORDS)

    assert asked is not None
    assert "1.0 EB to come and only" in asked
    assert question([plan(tmp_path)], WORDS) is None


def test_only_commits_are_shortened() -> None:
    assert (short(COMMIT), short("v1.0"), short("g" * 40)) == ("0123456789ab", "v1.0", "g" * 40)


@pytest.mark.parametrize(
    ("terminal", "wanted", "environ", "kind"),
    [
        (True, "auto", {"TERM": "xterm"}, LiveWatch),
        (True, "auto", {}, PlainWatch),
        (True, "auto", {"TERM": "dumb"}, PlainWatch),
        (True, "auto", {"TERM": "xterm", "CI": "true"}, PlainWatch),
        (True, "auto", {"TERM": "xterm", "CI": "false"}, LiveWatch),
        (True, "auto", {"TERM": "xterm", "DISABLE_PROGRESS": "true"}, Silent),
        (False, "auto", {"TERM": "xterm"}, PlainWatch),
        (False, "none", {}, Silent),
        (True, "json", {"TERM": "xterm", "DISABLE_PROGRESS": "true"}, JsonWatch),
    ],
)
def test_progress_is_shown_as_the_terminal_and_the_environment_say(
    tmp_path: Path, terminal: bool, wanted: Wanted, environ: dict[str, str], kind: type
) -> None:
    shown, _ = face(tmp_path, terminal=terminal, **environ)

    assert type(watch_for(shown, wanted)) is kind


def scripted(made: Plan, *, ticks: int) -> FakeRun:
    found = rows(made, *["downloading"] * len(made.steps), received=0)

    def more(run: FakeRun) -> None:
        for row in run.rows:
            row.progress.received += 100
            row.progress.fetched += 100

    return FakeRun(found, FakeReport([]), [more] * ticks)


def test_without_a_terminal_there_is_a_heartbeat_every_ten_seconds(tmp_path: Path) -> None:
    shown, err = face(tmp_path)
    seconds = iter(range(1000))

    follow(
        scripted(plan(tmp_path, size=10_000), ticks=25),
        PlainWatch(shown),
        lambda: float(next(seconds)),
    )

    assert err.getvalue().splitlines() == [
        "fetching 1 file",
        "0 of 1 file  1.0 kB of 10.0 kB  100 B/s  1 min 30 s left",
        "0 of 1 file  2.0 kB of 10.0 kB  100 B/s  1 min 20 s left",
    ]


def test_json_progress_is_one_event_a_line_with_a_message(tmp_path: Path) -> None:
    shown, err = face(tmp_path)
    run = scripted(plan(tmp_path, size=1000), ticks=1)
    run.said = [FakeEvent("verified", "a\x1b.bin", "a.bin is what was promised")]
    seconds = iter(range(10))

    follow(run, JsonWatch(shown), lambda: float(next(seconds)))

    assert "\x1b" not in err.getvalue()
    assert [json.loads(line) for line in err.getvalue().splitlines()] == [
        {"event": "progress", "message": "0 of 1 file  0 B of 1.0 kB  --  -- left", "received": 0, "size": 1000, "rate": None, "files": 1, "done": 0, "failed": 0},
        {"event": "verified", "message": "a.bin is what was promised", "name": "a\x1b.bin"},
        {"event": "progress", "message": "0 of 1 file  100 B of 1.0 kB  --  -- left", "received": 100, "size": 1000, "rate": None, "files": 1, "done": 0, "failed": 0},
    ]  # fmt: skip


def test_a_failure_is_said_when_it_happens(tmp_path: Path) -> None:
    shown, err = face(tmp_path)
    run = scripted(plan(tmp_path), ticks=0)
    run.said = [
        FakeEvent("failed", "a.bin", "the bytes are wrong"),
        FakeEvent("placed", "b.bin", "there"),
    ]

    follow(run, Silent(shown))

    assert err.getvalue() == "failed: a.bin: the bytes are wrong\n"


def test_time_that_is_an_estimate_has_no_tenths() -> None:
    assert [rough(0.4), rough(59.7), rough(3601)] == ["0 s", "1 min", "1 h 0 min"]


def test_a_plan_row_names_action_size_name_and_reason(tmp_path: Path) -> None:
    bay = FakeBay(tmp_path, actions={"b.bin": Action.RESUME, "c.json": Action.LINK})
    model = snapshot(
        "o/m", [model_file("a.bin", 10**9), model_file("b.bin", 4000), model_file("c.json", 5)]
    )

    lines = plan_lines(bay.plan(bay.select(model), bay.layout(None, model.ref)), WORDS)

    assert lines[1:] == [
        "  fetch    1.0 GB  a.bin",
        "  resume   4.0 kB  b.bin   1.0 kB here already",
        "  link        5 B  c.json  the same bytes as hf://org/other",
    ]
