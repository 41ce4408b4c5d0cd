"""What a lock costs that is carried out already: `sync` and `sync --check` of 10,000 files.

The machine is made once with the Hub of this package; what is timed is the command line, in
processes of its own, with the files and the parsed lock in the page cache.
"""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from measure import BenchFailed
from report import Figure

SIZES = (1_000, 10_000)
MODELS = 10
ROUNDS = 5

MAKE = """
import sys
from pathlib import Path
from modelbay.bay import Bay
from modelbay.serve import Hub, MemoryShelf

folder, files, models = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
shelf, text = MemoryShelf(), ['folders = "comfyui"']
for m in range(models):
    names = (f"part-{n // 50:02}/file-{n}.{'json' if n % 5 else 'bin'}" for n in range(files // models))
    shelf.add(f"org/model-{m}", {name: f"{m} {name}".encode() for name in names})
    text.append(f'[models.llm.model-{m}]\\nsource = "huggingface"\\nrepo = "org/model-{m}"')
(folder / "a.toml").write_text("\\n".join(text))
with Hub(shelf, record=10) as hub:
    environ = {"HOME": str(folder), "WORKSPACE": str(folder / "workspace"), "HF_ENDPOINT": hub.endpoint}
    with Bay.open(environ=environ) as bay:
        bay.sync(folder / "a.toml")
"""


def unchanged(python: str, modelbay: str, folder: Path) -> list[Figure]:
    """Prints a line for each size; gives the figures of the largest."""
    print(f"\na lock of {MODELS} models that is carried out already, from the command line")
    print(f"  {'files':>8} {'sync s':>8} {'--check s':>10} {'--check --deep s':>17}")
    told: dict[int, dict[str, float]] = {}
    for files in SIZES:
        home = folder / f"contract-{files}"
        home.mkdir()
        made = subprocess.run(
            [python, "-P", "-c", MAKE, str(home), str(files), str(MODELS)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode:
            raise BenchFailed(f"a lock of {files} files: {made.stderr[-500:]}")
        told[files] = one = {
            "sync": _took(modelbay, home),
            "check": _took(modelbay, home, "--check"),
            "deep": _took(modelbay, home, "--check", "--deep"),
        }
        print(f"  {files:8,} {one['sync']:8.2f} {one['check']:10.2f} {one['deep']:17.2f}")
    large = told[SIZES[-1]]
    return [
        Figure("lock of 10,000 files: sync, all kept", large["sync"], "s", 1.0, 0.6),
        Figure("lock of 10,000 files: sync --check", large["check"], "s", 1.0, 0.6),
    ]


def _took(modelbay: str, home: Path, *flags: str) -> float:
    """The median wall seconds, after one round that warms the caches."""
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(home), "WORKSPACE": str(home / "workspace")}
    seconds = []
    for number in range(ROUNDS + 1):
        began = time.perf_counter()
        done = subprocess.run(
            [modelbay, "sync", str(home / "a.lock.toml"), *flags],
            env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise BenchFailed(f"sync {' '.join(flags)} ended with {done.returncode}: {done.stderr}")
        if number:
            seconds.append(time.perf_counter() - began)
    return median(seconds)


def main() -> int:
    """By itself: `python bench/contract.py DIR`."""
    modelbay = str(Path(sys.executable).with_name("modelbay"))
    for figure in unchanged(sys.executable, modelbay, Path(sys.argv[1])):
        print(figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
