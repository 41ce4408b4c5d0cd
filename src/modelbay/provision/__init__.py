"""What a person asked for (a provision file) and what it became (a lock), as values.

Knows sources only through what it is told of them (`Known`); the wiring is Bay's.
"""

from modelbay.provision.document import Provision, read_provision
from modelbay.provision.entry import Entry
from modelbay.provision.factories import Known
from modelbay.provision.lockfile import Lock, LockedModel, Place, read_lock, snapshot_of, written
from modelbay.provision.policy import judge

__all__ = [
    "Entry",
    "Known",
    "Lock",
    "LockedModel",
    "Place",
    "Provision",
    "judge",
    "read_lock",
    "read_provision",
    "snapshot_of",
    "written",
]
