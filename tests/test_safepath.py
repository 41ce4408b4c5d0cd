import os
import random
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelbay.errors import UnsafeName
from modelbay.safepath import DEEPEST, SafeRelPath, refuse_clashes

PIECES = [
    "..", ".", "", "/", "//", "\\", "..\\", "C:", "c:\\", "\\\\host\\share", "CON", "nul.txt", "COM1",
    "lpt9.safetensors", "a", "model.safetensors", " ", ".", "...", "\x00", "\n", "\x1b[2J", "~", "%2e%2e",
    "%2f", "\u202e", "‥", "．．", "∕", "⁄", "﹨", "\ud800", "é", "e\u0301", ".modelbay", ".MODELBAY",
    "x" * 256, "-rf", "a:stream", "*", "?", '"', "|", "<", ">", "LPT¹", "conin$", "\x7f", "\x85", "\u2028",
]  # fmt: skip


def test_ten_thousand_hostile_names_never_leave_the_folder(tmp_path):
    chance = random.Random(20261120)
    root = str(tmp_path)
    refused = 0
    for _ in range(10_000):
        text = "".join(chance.choices([*PIECES, "/"], k=chance.randint(1, 6)))
        try:
            path = SafeRelPath.parse(text)
        except UnsafeName:
            refused += 1
            continue
        landed = os.path.normpath(f"{root}/{path}")
        assert landed == f"{root}/{path}", text
        assert not PureWindowsPath(path).drive, text
        assert not PureWindowsPath(path).is_absolute(), text
        assert not {".", ".."} & set(PurePosixPath(path).parts), text

    assert 5_000 < refused < 10_000


@given(st.text(max_size=40))
def test_a_name_that_passes_can_be_written_and_is_found_under_that_name(text):
    try:
        path = SafeRelPath.parse(text)
    except UnsafeName:
        return

    assert SafeRelPath.parse(path) == path == unicodedata.normalize("NFC", text)
    assert path.isprintable()
    os.fsencode(path)


@pytest.mark.parametrize(
    "name",
    [
        "config.json", "unet/model.fp16.safetensors", ".gitattributes", "naïve 模型.gguf", "a..b", "-rf",
        "comfort.txt", "coreml/x.mlpackage/Data/weight.bin", "%2e%2e/x", "file@2x.png", "#1+.bin",
    ],
)  # fmt: skip
def test_ordinary_names_pass_unchanged(name):
    assert SafeRelPath.parse(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "", "/etc/passwd", "../x", "a/../b", "a/./b", "a//b", "a/", "a\\b", "C:x", "con", "AUX.json",
        "com¹.bin", "x.", "x ", " x", "a /b", "line\nbreak", "\x1b[31m", "rlo\u202e", "zero\u200bwidth", "\ud800",
        ".modelbay/x", "x/.ModelBay", "a" * 256, "é" * 128, "/".join("a" * (DEEPEST + 1)), "x?y", "tab\t",
    ],
)  # fmt: skip
def test_a_name_that_no_disk_should_see_is_refused(name):
    with pytest.raises(UnsafeName) as raised:
        SafeRelPath.parse(name)

    assert str(raised.value).isprintable()


def test_a_component_has_no_slash():
    with pytest.raises(UnsafeName):
        SafeRelPath.component("a/b")


@pytest.mark.parametrize(
    "names",
    [
        ("README.md", "readme.MD"),
        ("STRASSE", "straße"),
        ("a", "a/b"),
        ("A", "a/b/c"),
        ("same", "same"),
    ],
)
def test_two_names_that_some_disk_takes_for_one_are_refused(names):
    with pytest.raises(UnsafeName):
        refuse_clashes([SafeRelPath.parse(name) for name in names])


def test_names_that_differ_are_no_clash(tmp_path: Path):
    paths = [SafeRelPath.parse(name) for name in ("a/b", "a/c", "ab", "b")]

    refuse_clashes(paths)
    for path in paths:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()

    assert sum(file.is_file() for file in tmp_path.rglob("*")) == 4


def test_the_extension_is_told_in_lower_case():
    assert SafeRelPath.parse("x/Model.GGUF").suffix == ".gguf"
    assert SafeRelPath.parse(".gitattributes").suffix == ""
