"""Files in place, read again."""

from collections.abc import Sequence

from modelbay import files
from modelbay.digest import disagreement
from modelbay.errors import WrongBytes
from modelbay.plan import Plan
from modelbay.text import clean


def verify(plans: Sequence[Plan]) -> int:
    """Reads every file of `plans` again and compares it with its digests; how many bytes.
    Raises WrongBytes for the first that differs.
    """
    total = 0
    for step in (step for plan in plans for step in plan.steps):
        names = tuple(digest.algorithm for digest in step.file.digests)
        wrong = disagreement(step.file.digests, files.hash_file(step.target, names, follow=True))
        if wrong is not None:
            raise WrongBytes(
                f"{clean(step.target)} has other bytes than its lock says: expected "
                f"{wrong[0]}, found {wrong[1]}",
                hint="delete it, then run the same command again",
            )
        total += step.file.size or 0
    return total
