"""The index as it grows: what noting, listing and finding cost with 10³ to 10⁵ files.

Each size runs in a process of its own, so that its memory is its own too.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from measure import BenchFailed
from report import Figure

SIZES = (1_000, 10_000, 100_000)
FILES_OF_A_MODEL = 10
LARGE_MODEL = 10_000

CHILD = """
import hashlib, json, resource, sys, time
from pathlib import Path
from modelbay.digest import Digest
from modelbay.library.index import Index, IndexedFile, IndexedModel

folder, files, each, large = Path(sys.argv[1]), *map(int, sys.argv[2:5])

def a_file(root, number):
    digest = Digest.sha256(hashlib.sha256(f"{root}{number}".encode()).hexdigest(), observed=True)
    name = f"file-{number:05}.safetensors"
    return IndexedFile(root / name, 1 << 20, number, number, (digest,), True, 1.0, name)

def a_model(ref):
    root = folder / ref
    return IndexedModel(f"hf://{ref}", "c" * 40, "dir", root, f"hf://{ref}", "mit", "huggingface")

def took(act):
    began = time.perf_counter()
    act()
    return time.perf_counter() - began

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

start = peak()
index = Index.open(folder / "library.db")
def fill():
    for start in range(0, files // each, 100):
        models = [a_model(f"org/model-{n:06}") for n in range(start, min(start + 100, files // each))]
        index.note_all((one, [a_file(one.root, n) for n in range(each)]) for one in models)
told = {"fill": took(fill)}
index.close()
def first():
    global index
    index = Index.open(folder / "library.db")
    rows = index.models()
    for _ in range(20):
        next(rows)
told["first"] = took(first)
told["all"] = took(lambda: sum(1 for _ in index.models()))
wanted = a_file(folder / "org/model-000007", 3)
told["find"] = took(lambda: [index.at(wanted.path) for _ in range(100)]) / 100
told["holders"] = took(lambda: [index.holders(wanted.digests) for _ in range(100)]) / 100
told["memory"] = peak()
told["grown"] = peak() - start
several = [a_file(folder / "large", n) for n in range(large)]
told["large"] = took(lambda: index.note(a_model("large"), several))
told["size"] = (folder / "library.db").stat().st_size
print(json.dumps(told))
"""


def growth(python: str, folder: Path) -> list[Figure]:
    """Prints a line for each size; gives the figures of the largest, and of its growth."""
    print(f"\nthe index, {FILES_OF_A_MODEL} files a model")
    print(f"  {'files':>8} {'filled s':>9} {'20 rows ms':>11} {'all rows s':>11} {'one path µs':>12}"
          f" {'one digest µs':>14} {'peak MB':>8} {'MB on disk':>11}")  # fmt: skip
    told: dict[int, dict[str, Any]] = {}
    for files in SIZES:
        told[files] = one = _measured(python, folder / f"index-{files}", files)
        print(f"  {files:8,} {one['fill']:9.2f} {one['first'] * 1e3:11.1f} {one['all']:11.2f}"
              f" {one['find'] * 1e6:12.0f} {one['holders'] * 1e6:14.0f} {one['memory'] / 1e6:8.0f}"
              f" {one['size'] / 1e6:11.1f}")  # fmt: skip
    small, large = told[SIZES[0]], told[SIZES[-1]]
    return [
        Figure("index of 100,000: first 20 rows", large["first"], "s", 0.3, 0.1),
        Figure("index of 100,000: a model of 10,000 noted", large["large"], "s", 1.0, 0.5),
        Figure("index of 100,000: peak memory", large["memory"] / 1e6, "MB", 200, 60),
        Figure("index: one path, 10⁵ ÷ 10³", large["find"] / small["find"], "×", 3.0),
        Figure("index of 100,000: memory beyond the start", large["grown"] / 1e6, "MB", 50, 10),
    ]


def _measured(python: str, folder: Path, files: int) -> dict[str, Any]:
    folder.mkdir()
    asked = subprocess.run(
        [python, "-P", "-c", CHILD, str(folder), str(files), str(FILES_OF_A_MODEL), str(LARGE_MODEL)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if asked.returncode:
        raise BenchFailed(f"the index with {files} files: {asked.stderr[-500:]}")
    found: dict[str, Any] = json.loads(asked.stdout)
    return found


def main() -> int:
    """By itself: `python bench/library.py DIR`."""
    for figure in growth(sys.executable, Path(sys.argv[1])):
        print(figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
