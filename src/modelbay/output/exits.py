"""What a failure means to the shell, to a program that reads JSON, and to a person.

The table is formats.md §4.
"""

import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from modelbay import paths
from modelbay.errors import (
    AccessError,
    DiskError,
    IntegrityError,
    Interrupted,
    ModelbayError,
    NetworkError,
    NotFound,
    PolicyError,
    TargetTaken,
    UsageError,
)
from modelbay.output.words import Words
from modelbay.text import clean

DONE: Final = 0
DIFFERS: Final = 1
USAGE: Final = 2
TARGET_TAKEN: Final = 9
BUG: Final = 70
LARGEST_LOG: Final = 1 << 20
_CODES: Final = (
    (UsageError, USAGE),
    (AccessError, 3),
    (PolicyError, 4),
    (IntegrityError, 5),
    (NetworkError, 6),
    (DiskError, 7),
    (NotFound, 8),
    (TargetTaken, TARGET_TAKEN),
    (Interrupted, 130),
)
_ORDER: Final = (130, 5, 4, 3, 8, 9, 7, 6, BUG, USAGE)
_SECRET_NAMES: Final = ("TOKEN", "SECRET", "PASSWORD", "KEY", "AUTH")


def exit_code(error: BaseException) -> int:
    return next((code for kind, code in _CODES if isinstance(error, kind)), BUG)


def worst(codes: Iterable[int]) -> int:
    """The one code for several failures; DONE for none."""
    found = set(codes)
    return next((code for code in _ORDER if code in found), DONE)


def error_lines(error: ModelbayError, words: Words) -> list[str]:
    return [f"error: {clean(error)}", *hint_lines(error, words)]


def hint_lines(error: ModelbayError, words: Words) -> list[str]:
    return [f"  {words.arrow} {clean(error.hint)}"] if error.hint else []


def error_document(error: ModelbayError) -> dict[str, Any]:
    return {"code": error.code, "message": clean(error), "hint": clean(error.hint)}


def bug(error: BaseException, environ: Mapping[str, str]) -> ModelbayError:
    """The error that stands for a bug, after its traceback was written to the log."""
    what = f"{type(error).__name__}: {scrub(str(error), environ)}" if str(error) else repr(error)
    trace = "".join(traceback.format_exception(error))
    log = _logged(scrub(trace, environ), environ)
    found = ModelbayError(
        f"a bug in modelbay: {clean(what, limit=400)}",
        hint=f"the log with its details: {log}" if log else "its details could not be logged",
    )
    found.__cause__ = error
    return found


def scrub(text: str, environ: Mapping[str, str]) -> str:
    """`text` without the values of variables whose names say that they are secret."""
    for name, value in environ.items():
        if len(value) >= 6 and any(mark in name.upper() for mark in _SECRET_NAMES):
            text = text.replace(value, "***")
    return text


def _logged(text: str, environ: Mapping[str, str]) -> Path | None:
    try:
        log = paths.log_file(environ)
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > LARGEST_LOG:
            log.replace(log.with_suffix(".log.1"))
        with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(clean(text, lines=True, limit=LARGEST_LOG) + "\n")
    except (OSError, UsageError):
        return None
    return log
