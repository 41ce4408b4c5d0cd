"""All rows of a run in one sentence."""

from collections.abc import Sequence

from modelbay.output.pace import Pace
from modelbay.output.protocols import Row
from modelbay.output.words import Words, count, rough


def total_text(rows: Sequence[Row], pace: Pace, words: Words) -> str:
    """Files, what failed, bytes, rate, time left: `2 of 4 files  1.9 GB of 4.5 GB  …`."""
    done = sum(1 for row in rows if row.state == "done")
    failed = sum(1 for row in rows if row.state == "failed")
    sizes = [row.progress.size for row in rows]
    whole = sum(size or 0 for size in sizes)
    come = sum(_here(row) for row in rows)
    remaining = sum(
        (row.progress.size or 0) - _here(row) for row in rows if row.state not in {"done", "failed"}
    )
    parts = [f"{done:,} of {count(len(rows), 'file')}"]
    if failed:
        parts.append(f"{failed:,} failed")
    parts.append(f"{words.size(come)} of {words.size(whole)}{'+' if None in sizes else ''}")
    if remaining or None in sizes:
        left = None if None in sizes else pace.seconds_left(remaining)
        parts += [words.rate(pace.rate), f"{rough(left)} left"]
    elif done + failed < len(rows):
        parts.append("verifying")
    return "  ".join(parts)


def _here(row: Row) -> int:
    if row.state == "done":
        return row.progress.size or row.progress.received
    size = row.progress.size
    return row.progress.received if size is None else min(row.progress.received, size)
