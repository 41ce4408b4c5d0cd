"""What a lock says of files whose digests nobody told: they are in place now, and are read."""

from modelbay import files
from modelbay.bay.session import Session
from modelbay.bay.unpacking import locked_members
from modelbay.digest import Algorithm, Digest
from modelbay.plan import Plan
from modelbay.provision import LockedModel
from modelbay.provision.making import Wanted, locked


def locked_as(session: Session, one: Wanted, plan: Plan | None) -> LockedModel:
    """The locked model of `one`, after `plan` brought what of it was unknown. Raises
    IntegrityError when that is not what was pinned, DiskError.
    """
    if one.entry.extracts and plan is not None:
        return locked_members(one, session.layout_of(plan))
    return locked(one, _observed(session, plan))


def _observed(session: Session, plan: Plan | None) -> dict[str, tuple[int, tuple[Digest, ...]]]:
    """Size and digests of every file of `plan`, as they are in place now."""
    found: dict[str, tuple[int, tuple[Digest, ...]]] = {}
    if plan is None:
        return found
    records = session.layout_of(plan).records(plan.snapshot)
    for step in plan.steps:
        names: list[Algorithm] = ["sha256", *(one.algorithm for one in step.file.digests)]
        with files.disk_errors(step.blob):
            digests = records.observe(step.blob, dict.fromkeys(names))
            found[step.file.path] = (step.blob.stat().st_size, digests)
    return found
