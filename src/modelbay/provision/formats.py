"""Which file formats may be fetched, judged by names when a plan is made.

A pickle runs code when it is loaded. What its name promises is what a program loads it as, so
the names are judged; what a file is inside is the scanner's to say.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from modelbay.errors import PolicyError
from modelbay.snapshot import ModelFile
from modelbay.text import clean

PICKLES: Final = frozenset(
    {".bin", ".ckpt", ".dill", ".joblib", ".npy", ".npz", ".pickle", ".pk", ".pkl", ".pt"}
    | {".pt2", ".ptl", ".pth", ".t7", ".th"}
)
"""Endings of files that PyTorch, NumPy, joblib and their like load as pickles, or may."""
_PACKED: Final = frozenset({".bz2", ".gz", ".lz4", ".lzma", ".xz", ".z", ".zst"})
_WHY: Final = {
    "no-pickle": 'formats = "no-pickle" refuses them',
    "scanned": 'formats = "scanned" refuses what was not scanned, and this version has no scanner',
}


def judge_danger(model: str, files: Iterable[ModelFile]) -> None:
    """Raises PolicyError naming a file that its own service found to be harmful."""
    for file in files:
        if file.danger:
            raise PolicyError(
                f"{clean(model)} has {clean(file.path, limit=160)}, of which its service says: "
                f"{clean(file.danger, limit=300)}",
                hint="leave it out, and take another file or version of that model",
            )


def judge_formats(model: str, files: Iterable[ModelFile], formats: str) -> None:
    """Raises PolicyError naming the files that the setting `formats` refuses."""
    if formats == "any":
        return
    refused = [(file, ending) for file in files for ending in _pickle_endings(file)]
    if not refused:
        return
    first, more = refused[0][0].path, len(refused) - 1
    names = clean(first, limit=160) + (f" and {more} more" if more else "")
    globs = sorted({f"*{ending}" for _, ending in refused})
    options = " ".join(f"--exclude '{glob}'" for glob in globs)
    listed = ", ".join(f'"{glob}"' for glob in globs)
    raise PolicyError(
        f"{clean(model)} has {names}, which can run code when loaded (pickle); {_WHY[formats]}",
        hint=f"leave them out: {options}, in a provision file exclude = [{listed}]; or "
        "`modelbay config set formats any`",
    )


def _pickle_endings(file: ModelFile) -> Iterator[str]:
    """The ending that makes it a pickle, as a glob would name it; nothing for other files."""
    *_, before, last = ["", "", *(f".{part}" for part in file.path.name.split(".")[1:])]
    if last.lower() in PICKLES:
        yield last
    elif last.lower() in _PACKED and before.lower() in PICKLES:
        yield before + last
