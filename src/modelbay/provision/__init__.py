"""What a person asked for (a provision file) and what it became (a lock), as values.

Knows sources only through what it is told of them (`Known`); the wiring is Bay's.
"""

from modelbay.provision.document import Provision, provision_of, read_provision
from modelbay.provision.entry import Entry
from modelbay.provision.factories import Known
from modelbay.provision.lockfile import Lock, LockedArchive, LockedModel, Place, snapshot_of
from modelbay.provision.lockreading import parse_lock, read_lock
from modelbay.provision.lockwriting import written
from modelbay.provision.policy import judge

__all__ = [
    "Entry",
    "Known",
    "Lock",
    "LockedArchive",
    "LockedModel",
    "Place",
    "Provision",
    "judge",
    "parse_lock",
    "provision_of",
    "read_lock",
    "read_provision",
    "snapshot_of",
    "written",
]
