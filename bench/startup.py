"""What it costs to start, and what a question for help draws in."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median

from measure import BenchFailed, run
from peers import SYSTEM_PATH

HTTP_LIBRARIES = {
    "httpx", "httpx2", "httpcore", "httpcore2", "h2", "h11", "requests", "urllib3", "aiohttp",
    "niquests", "boto3", "botocore", "huggingface_hub", "hf_xet", "http.client",
}  # fmt: skip

LIST_MODULES = """
import json, sys
sys.argv = ["modelbay", "--help"]
from modelbay.__main__ import main
try:
    main()
except SystemExit:
    pass
finally:
    with open("modules.json", "w") as out:
        json.dump(sorted(sys.modules), out)
"""


def environment(home: Path) -> dict[str, str]:
    return {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", "HOME": str(home)}


def starts(modelbay: str | None, home: Path, times: int) -> dict[str, float]:
    """Median CPU seconds of each way to start, asked in turn after one discarded round."""
    ways = {"python -c pass": [sys.executable, "-c", "pass"]}
    if modelbay:
        ways |= {
            "modelbay --version": [modelbay, "--version"],
            "modelbay --help": [modelbay, "--help"],
        }
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(times + 1):
        for name, argv in ways.items():
            cost = run(argv, environment(home), home, home / "start.log")
            if number:
                cpu[name].append(cost.cpu)
    return {name: median(seconds) for name, seconds in cpu.items()}


def needless_modules(home: Path) -> list[str]:
    """What `modelbay --help` imports though it needs neither a screen, a network nor a source."""
    asked = subprocess.run(
        [sys.executable, "-c", LIST_MODULES],
        env=environment(home), cwd=home, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if asked.returncode != 0:
        raise BenchFailed(f"modelbay --help ended with {asked.returncode}: {asked.stderr[-500:]}")
    loaded = json.loads((home / "modules.json").read_text())
    return [name for name in loaded if _is_needless(name)]


def _is_needless(name: str) -> bool:
    top = name.partition(".")[0]
    source = name.startswith("modelbay.sources.") and name != "modelbay.sources.base"
    return top == "textual" or source or bool({top, name} & HTTP_LIBRARIES)
