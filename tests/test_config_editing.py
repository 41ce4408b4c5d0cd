"""A person's TOML edited: one key changes, and every other byte stays as it was."""

import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelbay.config.editing import with_table, with_value, without
from modelbay.config.rewriting import rewrite
from modelbay.errors import FormatError, NotWritable, UsageError
from modelbay.provision.editing import add_entry, remove_entry, set_key

WRITTEN = """\
# My settings; ask me before you touch them.

jobs = 2            # the disk is old
license_allow = [
  "mit",            # ours
  "apache-2.0",
]

# Where we work.
workspace = '~/models'


# The company's mirror
[endpoints]
huggingface = "https://hub.company.com"

[sources.company]   # everybody's
type = "s3"
auth = { token_env = "COMPANY" }

# keys of the left hand
[keys]
quit = "ctrl+q"
"""


def test_a_value_changes_where_it_stands_and_its_comment_stays():
    after = with_value(WRITTEN, ("jobs",), 8)

    assert after == WRITTEN.replace("jobs = 2 ", "jobs = 8 ")


def test_a_new_key_comes_below_the_last_one_of_its_table_and_above_the_next_ones_comment():
    after = with_value(WRITTEN, ("sources", "company", "bucket"), "models")

    line = 'auth = { token_env = "COMPANY" }\n'
    assert after == WRITTEN.replace(line, line + 'bucket = "models"\n')


def test_a_new_key_of_no_table_comes_before_the_first_table():
    after = with_value(WRITTEN, ("links",), "copy")

    line = "workspace = '~/models'\n"
    assert after == WRITTEN.replace(line, line + 'links = "copy"\n')


def test_a_new_table_comes_below_its_kin():
    after = with_value(WRITTEN, ("sources", "other", "type"), "url")

    line = 'auth = { token_env = "COMPANY" }\n'
    assert after == WRITTEN.replace(line, line + '\n[sources.other]\ntype = "url"\n')


def test_a_key_in_an_inline_table_is_set_there():
    after = with_value(WRITTEN, ("sources", "company", "auth", "token_env"), "OTHER")

    assert after == WRITTEN.replace('"COMPANY" }', '"OTHER" }')


def test_a_key_goes_with_all_its_lines_and_nothing_else():
    after = without(WRITTEN, ("license_allow",))

    start, end = WRITTEN.index("license_allow"), WRITTEN.index("\n# Where we work")
    assert after == WRITTEN[:start] + WRITTEN[end:]


def test_a_table_goes_and_the_comment_of_the_next_one_stays():
    after = without(WRITTEN, ("sources", "company"))

    start, end = WRITTEN.index("[sources"), WRITTEN.index("# keys of")
    assert after == WRITTEN[:start] + WRITTEN[end:]


def test_lines_that_end_as_windows_ends_them_stay_so():
    after = with_value("jobs = 2\r\n\r\n[keys]\r\n", ("links",), "copy")

    assert after == 'jobs = 2\r\nlinks = "copy"\r\n\r\n[keys]\r\n'


def test_a_last_line_without_an_end_gets_one_before_another_follows():
    assert with_value("jobs = 2", ("links",), "copy") == 'jobs = 2\nlinks = "copy"\n'


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "\n\n"])
def test_an_empty_text_takes_a_key_and_a_table(text: str):
    after = with_value(with_value(text, ("jobs",), 3), ("endpoints", "civitai"), "https://c")

    assert tomllib.loads(after) == {"jobs": 3, "endpoints": {"civitai": "https://c"}}
    assert after.startswith(text.rstrip("\n"))


def test_what_looks_like_a_table_inside_a_text_is_no_table():
    text = 'about = """\n[keys]\nquit = "x"\n"""\n\n[keys]\nquit = "q"\n'

    assert with_value(text, ("keys", "help"), "h") == text + 'help = "h"\n'


def test_a_key_below_what_is_no_table_is_refused():
    with pytest.raises(FormatError, match="endpoints is no table"):
        with_value("endpoints = 3\n", ("endpoints", "civitai"), "https://c")


NAMES = st.sampled_from(["a", "b", "c", "d.e", "ü", ""])
VALUES = st.one_of(
    st.integers(-5, 5), st.booleans(), st.text(max_size=8), st.lists(st.text(max_size=3))
)
COMMENTS = st.sampled_from(["", "\n", "# why\n", "\n# [a]\n\n", "# x = 1\n"])


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Tables of keys with comments between them."""
    lines = [draw(COMMENTS)]
    for table in draw(st.lists(NAMES, unique=True, max_size=3)):
        body = with_table("", ("t", table), draw(st.dictionaries(NAMES, VALUES, max_size=3)))
        lines += [body, draw(COMMENTS)]
    return "".join(lines)


@given(texts(), NAMES, NAMES, VALUES)
def test_whatever_is_set_is_read_again_and_no_other_line_changes(text, table, name, value):
    before = tomllib.loads(text)

    after = with_value(text, ("t", table, name), value)

    held = before.get("t", {}).get(table, {})
    assert tomllib.loads(after)["t"][table] == {**held, name: value}
    if name not in held:
        there = iter(after.splitlines())
        assert all(line in there for line in text.splitlines())


@given(texts(), NAMES, NAMES, VALUES)
def test_what_was_set_and_taken_out_again_leaves_what_was_there(text, table, name, value):
    before = tomllib.loads(text)
    if table in before.get("t", {}) and name not in before["t"][table]:
        set_and_out = without(with_value(text, ("t", table, name), value), ("t", table, name))

        assert set_and_out.rstrip("\n") == text.rstrip("\n")


def plain(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def changed(file: Path, to: str) -> bool:
    return rewrite(file, plain, lambda _: to, hint="make it writable")


def test_a_new_file_and_its_folder_are_this_users_alone(tmp_path: Path):
    file = tmp_path / "modelbay" / "config.toml"
    changed(file, "jobs = 1\n")

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_file_keeps_its_mode_and_a_link_its_name(tmp_path: Path):
    file, link = tmp_path / "dotfiles.toml", tmp_path / "config.toml"
    file.write_text("a = 1\n")
    file.chmod(0o664)
    link.symlink_to(file.name)

    changed(link, "a = 2\n")

    assert (link.is_symlink(), file.read_text()) == (True, "a = 2\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o664
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml", "dotfiles.toml"]


def test_a_read_only_file_stays_though_its_folder_could_be_written(tmp_path: Path):
    file = tmp_path / "config.toml"
    file.write_text("a = 1\n")
    file.chmod(0o444)

    with pytest.raises(NotWritable, match="is read-only"):
        changed(file, "a = 2\n")
    assert file.read_text() == "a = 1\n"


def test_what_goes_wrong_while_changing_leaves_the_file_and_no_other(tmp_path: Path):
    file = tmp_path / "config.toml"
    file.write_text("a = 1\n")

    def change(_: str) -> str:
        raise UsageError("no")

    with pytest.raises(UsageError):
        rewrite(file, plain, change, hint="")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("config.toml", "a = 1\n")]


CHILD = """
import sys
from pathlib import Path
from modelbay.provision.editing import add_entry
for number in range(10):
    add_entry(Path(sys.argv[1]), f"llm/{sys.argv[2]}-{number}", {"source": "mock"})
"""


def test_programs_that_edit_at_the_same_time_lose_no_change_of_each_other(tmp_path: Path):
    file = tmp_path / "a.toml"
    environ = {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "PATH": os.environ["PATH"]}
    children = [
        subprocess.Popen([sys.executable, "-P", "-c", CHILD, str(file), name], env=environ)
        for name in "abc"
    ]
    for child in children:
        assert child.wait(60) == 0

    models = tomllib.loads(file.read_text())["models"]["llm"]
    assert len(models) == 30


PROVISION = """\
folders = "comfyui"   # as everybody here

# The base
[models.checkpoints.base]
source = "huggingface"
repo = "org/base"     # the small one

# Adapters
[models.lora]
short = "hf://org/lora/x.safetensors"
"""


def test_an_entry_comes_below_those_of_its_category(tmp_path: Path):
    file = tmp_path / "a.toml"
    file.write_text(PROVISION)
    add_entry(file, "checkpoints/xl", {"source": "huggingface", "repo": "org/xl"})

    new = '\n[models.checkpoints.xl]\nsource = "huggingface"\nrepo = "org/xl"\n'
    line = 'repo = "org/base"     # the small one\n'
    assert file.read_text() == PROVISION.replace(line, line + new)


def test_a_key_of_an_entry_is_added_and_changed(tmp_path: Path):
    file = tmp_path / "a.toml"
    file.write_text(PROVISION)
    set_key(file, "checkpoints/base", "revision", "v1")
    set_key(file, "checkpoints/base", "repo", "org/other")

    line = 'repo = "org/base"     # the small one\n'
    changed_line = 'repo = "org/other"     # the small one\nrevision = "v1"\n'
    assert file.read_text() == PROVISION.replace(line, changed_line)


def test_an_entry_goes_and_the_comments_stay(tmp_path: Path):
    file = tmp_path / "a.toml"
    file.write_text(PROVISION)
    remove_entry(file, "checkpoints/base")

    start, end = PROVISION.index("[models.checkpoints"), PROVISION.index("\n# Adapters")
    assert file.read_text() == PROVISION[:start] + PROVISION[end:]


def test_the_short_form_of_an_entry_goes_too(tmp_path: Path):
    file = tmp_path / "a.toml"
    file.write_text(PROVISION)
    remove_entry(file, "lora/short")

    assert file.read_text() == PROVISION.replace('short = "hf://org/lora/x.safetensors"\n', "")


@pytest.mark.parametrize(
    ("ident", "sentence"),
    [("checkpoints/base", "has a model checkpoints/base already"), ("base", "is no id of a model")],
)
def test_an_entry_that_cannot_be_added_leaves_the_file(tmp_path: Path, ident: str, sentence: str):
    file = tmp_path / "a.toml"
    file.write_text(PROVISION)

    with pytest.raises(UsageError, match=sentence):
        add_entry(file, ident, {"source": "mock"})
    assert file.read_text() == PROVISION


def test_a_key_of_an_entry_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="has no model lora/none"):
        set_key(tmp_path / "a.toml", "lora/none", "repo", "org/x")


def test_a_broken_file_is_told_with_its_line_and_stays(tmp_path: Path):
    file = tmp_path / "a.toml"
    file.write_text("[models\n")

    with pytest.raises(FormatError, match=r"a\.toml:1:8: "):
        add_entry(file, "llm/x", {"source": "mock"})
    assert file.read_text() == "[models\n"
