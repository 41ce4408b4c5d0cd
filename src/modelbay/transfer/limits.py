"""The engine's numbers, measured (design.md §3) and changeable while it runs."""

import os
from dataclasses import dataclass

MIB = 1 << 20
GIB = 1 << 30
SMALL = 4 * MIB
"""Below this a file is one request and has slots of its own."""
BUFFER = 4 * MIB
"""Received, written and hashed as one: between two threads less is handed over less often."""
SUM_SIZE = 16 * MIB
"""At each of these the sha256 so far is kept, for repair."""


@dataclass(slots=True)
class Limits:
    """Sizes in bytes, times in seconds. `bandwidth` in bytes a second, None for no limit."""

    jobs: int = 5
    small_jobs: int = 8
    connections: int = 4
    bandwidth: float | None = None
    stall: float = 30.0
    floor_rate: float = 1024.0
    floor_seconds: float = 60.0
    first_byte: float = 30.0
    backoff: float = 1.0
    backoff_cap: float = 60.0
    tries: int = 8
    wait_cap: float = 600.0
    piece_min: int = MIB
    piece_start: int = 16 * MIB
    piece_max: int = 32 * MIB
    piece_seconds: float = 4.0
    buffers: int = 12
    """4 MiB buffers in all, the receiving ones included."""
    journal_seconds: float = 1.0
    relocate_seconds: float = 60.0
    progress: int = MIB
    """This many new durable bytes make a failure forgotten."""
    window: int | None = None

    def run_ahead(self) -> int:
        """How far data may run ahead of the hash front: min(1 GiB, RAM/8)."""
        if self.window is not None:
            return self.window
        try:
            memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (OSError, ValueError):
            return GIB
        return min(GIB, memory // 8)
