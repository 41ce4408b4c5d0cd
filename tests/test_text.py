import pickle
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelbay.text import Secret, clean


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred", "␛[31mred"),
        ("\x1b]8;;http://evil\x07link", "␛]8;;http://evil␇link"),
        ("\x9b2J", "‹U+009B›2J"),
        ("model\u202egnp.exe", "model‹U+202E›gnp.exe"),
        ("a\ud800b", "a‹U+D800›b"),
        ("zero\u200bwidth", "zero‹U+200B›width"),
        ("del\x7f", "del␡"),
        ("nul\x00", "nul␀"),
        ("non\xa0breaking", "non breaking"),
        ("two\nlines\ttab\r", "two lines tab"),
        ("plain – naïve 模型", "plain – naïve 模型"),
    ],
)
def test_what_could_steer_a_terminal_is_shown_as_a_picture(hostile, shown):
    assert clean(hostile) == shown


def test_lines_stay_where_lines_are_wanted():
    assert clean("a\r\nb\tc\x1b", lines=True) == "a\nb\tc␛"


def test_a_long_text_ends_in_an_ellipsis():
    assert clean("x" * 20, limit=5) == "xxxxx…"


@given(st.text(alphabet=st.characters(), max_size=200))
def test_nothing_cleaned_holds_a_control_a_surrogate_or_a_direction_mark(text):
    shown = clean(text)

    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(st.text(max_size=200))
def test_cleaning_twice_changes_nothing_more(text):
    assert clean(clean(text)) == clean(text)


def test_a_secret_shows_stars_however_it_is_printed():
    secret = Secret("hf_abc\n")

    assert {str(secret), repr(secret), f"{secret}", f"{secret:>3}"} == {"***"}
    assert secret.reveal() == "hf_abc"


@pytest.mark.parametrize("broken", ["", "  \n", "two\nlines", "bell\x07"])
def test_a_secret_of_several_lines_is_refused_without_being_quoted(broken):
    with pytest.raises(ValueError, match="one line of printable characters") as raised:
        Secret(broken)

    assert not broken.strip() or broken not in str(raised.value)


def test_a_secret_cannot_be_pickled():
    with pytest.raises(TypeError, match="not written down"):
        pickle.dumps(Secret("hf_abc"))
