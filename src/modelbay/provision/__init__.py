"""What a person asked for (a provision file) and what it became (a lock), as values.

Knows sources only through what it is told of them (`Known`); the wiring is Bay's. Programs find
`ProvisioningSystem` here too, which is Bay's as well and is imported on first use.
"""

from typing import TYPE_CHECKING, Any

from modelbay.provision.document import Provision, provision_of, read_provision
from modelbay.provision.entry import Entry
from modelbay.provision.factories import Known
from modelbay.provision.lockfile import Lock, LockedArchive, LockedModel, Place, snapshot_of
from modelbay.provision.lockreading import parse_lock, read_lock
from modelbay.provision.lockwriting import written
from modelbay.provision.policy import judge

if TYPE_CHECKING:
    from modelbay.bay.provisioning import ProvisioningSystem

__all__ = [
    "Entry",
    "Known",
    "Lock",
    "LockedArchive",
    "LockedModel",
    "Place",
    "Provision",
    "ProvisioningSystem",
    "judge",
    "parse_lock",
    "provision_of",
    "read_lock",
    "read_provision",
    "snapshot_of",
    "written",
]


def __getattr__(name: str) -> Any:
    if name == "ProvisioningSystem":
        from modelbay.bay.provisioning import ProvisioningSystem

        return ProvisioningSystem
    raise AttributeError(f"module 'modelbay.provision' has no attribute {name!r}")
