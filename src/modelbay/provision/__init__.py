"""What a person asked for (a provision file) and what it became (a lock), as values.

Knows sources only through the two functions it is given; the wiring is Bay's.
"""

from modelbay.provision.entries import Entry, read_provision
from modelbay.provision.lockfile import LockedModel, Place, read_lock, snapshot_of, written

__all__ = [
    "Entry",
    "LockedModel",
    "Place",
    "read_lock",
    "read_provision",
    "snapshot_of",
    "written",
]
