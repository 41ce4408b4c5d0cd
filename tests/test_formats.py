"""`formats` of the settings: what may run code when it is loaded is refused by its name."""

import io
from pathlib import Path

import pytest

from modelbay.bay import Bay
from modelbay.cli import run
from modelbay.config import Settings
from modelbay.errors import PolicyError
from modelbay.provision.formats import judge_formats
from modelbay.safepath import SafeRelPath
from modelbay.snapshot import ModelFile


def judged(name: str, formats: str) -> None:
    judge_formats("llm/x", [ModelFile(SafeRelPath.parse(name))], formats)


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "a/b/v1-5.ckpt", "X.CKPT",
        "x.pt", "x.pth", "x.pkl", "x.pickle", "x.joblib", "x.npy", "x.pkl.gz", "x.pt.zst",
    ],
)  # fmt: skip
@pytest.mark.parametrize("formats", ["no-pickle", "scanned"])
def test_names_that_are_loaded_as_pickles_are_refused(name: str, formats: str) -> None:
    with pytest.raises(PolicyError, match="which can run code when loaded"):
        judged(name, formats)


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "m.gguf", "config.json", "bin", "bin/README.md", "x.tar.gz"],
)
def test_names_that_nobody_unpickles_may_come(name: str) -> None:
    judged(name, "no-pickle")


def test_any_refuses_nothing() -> None:
    judged("x.ckpt", "any")


def ran(home: Path, *argv: str) -> tuple[int, str]:
    err = io.StringIO()
    environ = {"HOME": str(home), "MODELBAY_FORMATS": "no-pickle"}
    return run(argv, environ=environ, out=io.StringIO(), err=err), err.getvalue()


MIXED = "mock://org/m?files=a.safetensors,b.bin,c.ckpt"


def test_get_exits_4_and_says_what_to_leave_out(tmp_path: Path) -> None:
    code, err = ran(tmp_path, "get", MIXED, "--to", str(tmp_path / "to"))

    assert code == 4
    assert f"{MIXED} has b.bin and 1 more, which can run code when loaded (pickle)" in err
    assert "leave them out: --exclude '*.bin' --exclude '*.ckpt'" in err
    assert not (tmp_path / "to").exists()


def test_get_brings_the_rest_when_they_are_left_out(tmp_path: Path) -> None:
    to = tmp_path / "to"
    code, err = ran(
        tmp_path, "get", MIXED, "--exclude", "*.bin", "--exclude", "*.ckpt", "--to", str(to)
    )

    assert code == 0, err
    assert [path.name for path in to.glob("[!.]*")] == ["a.safetensors"]


def test_a_lock_made_elsewhere_is_judged_by_the_settings_of_this_machine(tmp_path: Path) -> None:
    asked, lock = tmp_path / "a.toml", tmp_path / "a.lock.toml"
    asked.write_text('[models.llm.x]\nsource = "mock"\nfiles = ["x.ckpt"]\n')
    environ = {"HOME": str(tmp_path / "one")}
    with Bay.open(settings=Settings(), environ=environ) as bay:
        bay.lock(asked, lock)

    environ = {"HOME": str(tmp_path / "two")}
    with (
        Bay.open(settings=Settings(formats="no-pickle"), environ=environ) as bay,
        pytest.raises(PolicyError, match=r"llm/x has x\.ckpt"),
    ):
        bay.plans_of(lock)
