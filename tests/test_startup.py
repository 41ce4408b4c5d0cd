"""What is loaded and how long it takes before anything is asked for."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "textual", "rich", "httpx2", "httpcore2", "huggingface_hub", "keyring", "tomlkit", "platformdirs",
    "boto3", "botocore", "blake3", "humanize", "asyncio", "ssl", "sqlite3",
}  # fmt: skip
SOURCES = {"huggingface", "url", "mock", "civitai", "ollama", "s3"}
LOADED = """
import contextlib, io, json, sys
sys.argv = ["modelbay", *sys.argv[1:]]
from modelbay.__main__ import main
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
    main()
print(json.dumps([out.getvalue(), sorted(sys.modules)]))
"""


def loaded_by(tmp_path: Path, *argv: str) -> tuple[str, set[str]]:
    """What a clean interpreter printed, and the modules it had then."""
    ran = subprocess.run(
        [sys.executable, "-P", "-c", LOADED, *argv],
        env={"HOME": str(tmp_path), "PATH": os.defpath},
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    printed, modules = json.loads(ran.stdout)
    return printed, set(modules)


def test_version_loads_no_command_line(tmp_path: Path) -> None:
    printed, modules = loaded_by(tmp_path, "--version")

    assert printed.startswith("modelbay 0.")
    assert modules & {"click", "modelbay.cli", "modelbay.config", *HEAVY} == set()


@pytest.mark.parametrize("argv", [["--help"], [], ["get", "--help"], ["search", "--help"]])
def test_help_loads_no_library_and_no_source(tmp_path: Path, argv: list[str]) -> None:
    printed, modules = loaded_by(tmp_path, *argv)

    assert "Usage: modelbay" in printed
    assert modules & HEAVY == set()
    assert {name for name in modules if name.startswith("modelbay.sources.")} == set()
    assert "modelbay.bay" not in modules
    assert "modelbay.http" not in modules


def test_help_of_the_group_loads_no_command(tmp_path: Path) -> None:
    _, modules = loaded_by(tmp_path, "--help")

    assert {name for name in modules if name.startswith("modelbay.commands.")} == set()


def cpu_seconds(*argv: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-P", "-m", "modelbay", *argv], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_version_takes_at_most_150_ms_of_cpu() -> None:
    best = min(cpu_seconds("--version") for _ in range(3))

    print(f"--version: {best:.3f} s of CPU")
    assert best <= 0.15


def test_importing_the_package_loads_nothing_of_it(tmp_path: Path) -> None:
    code = "import sys, modelbay; print([n for n in sys.modules if n.startswith('modelbay.')])"

    ran = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=30
    )

    assert ran.stdout == "[]\n"
