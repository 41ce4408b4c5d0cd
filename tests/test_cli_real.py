"""The command line over the real Bay: models made on the spot, folders on this disk."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modelbay.cli import run


def ran(tmp_path: Path, *argv: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = run(argv, environ={"HOME": str(tmp_path)}, out=out, err=err)
    return code, out.getvalue(), err.getvalue()


def test_get_brings_what_show_promised_and_a_second_get_keeps_it(tmp_path: Path) -> None:
    models = tmp_path / "models"
    _, shown, _ = ran(tmp_path, "show", "mock://org/model", "--json")
    promised = {file["path"]: file["digests"]["sha256"] for file in json.loads(shown)["files"]}

    code, out, err = ran(tmp_path, "get", "mock://org/model", "--to", str(models))
    again, _, kept = ran(tmp_path, "get", "mock://org/model", "--to", str(models))

    found = {name: hashlib.sha256((models / name).read_bytes()).hexdigest() for name in promised}
    assert (code, out) == (0, f"{models}\n")
    assert found == promised
    assert err.splitlines()[-1].startswith("Got 1 model, 3 files, 70.1 kB: 3 fetched in ")
    assert again == 0
    assert kept.splitlines()[-1].startswith("Got 1 model, 3 files, 70.1 kB: 3 kept in ")


def test_get_of_two_models_with_one_bad_choice_brings_the_other(tmp_path: Path) -> None:
    code, out, err = ran(
        tmp_path, "get", "mock://org/a", "mock://org/b?files=only.bin",
        "--include", "only.bin", "--to", str(tmp_path / "models"), "--progress", "none",
    )  # fmt: skip

    assert code == 8
    assert out == f"{tmp_path}/models/only.bin\n"
    assert "failed: mock://org/a (file-not-found, exit 8): " in err


def test_a_file_that_is_not_ours_stays_and_exits_9(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "config.json").write_text("mine", encoding="utf-8")

    code, out, err = ran(
        tmp_path, "get", "mock://org/model", "--to", str(models), "--json", "--progress", "none"
    )

    assert code == 9
    assert json.loads(out)["exit"] == 9
    assert "blocked: mock://org/model config.json: " in err
    assert (models / "config.json").read_text(encoding="utf-8") == "mine"
    assert (models / "tokenizer.json").exists()


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    code, _, _ = ran(
        tmp_path, "get", "mock://org/model", "--to", str(tmp_path / "models"), "--dry-run"
    )

    assert code == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_get_keeps_what_arrived_and_leaves_no_final_name(
    tmp_path: Path, number: int
) -> None:
    models = tmp_path / "models"
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "modelbay", "get", "mock://org/big?files=big.bin&content=random:4000000000:1",
         "--to", str(models), "--progress", "json"],
        env={"HOME": str(tmp_path), "PATH": os.defpath}, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if json.loads(line).get("received", 0) > 0:
                break
        process.send_signal(number)
        said = process.stderr.read()
        code = process.wait(5)

    assert code == 128 + number
    assert '"interrupted"' in said
    assert [path.name for path in models.iterdir()] == [".modelbay"]
    assert any((models / ".modelbay/parts").iterdir())
