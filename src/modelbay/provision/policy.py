"""Which licences may be fetched, judged when a model is locked and again when it is synced."""

import re
from collections.abc import Sequence

from modelbay.errors import PolicyError
from modelbay.snapshot import Licence
from modelbay.text import clean


def allowed(licence: Licence, allow: Sequence[str]) -> bool:
    """Whether each licence of `licence` is one of the SPDX ids `allow`; an unknown one is not."""
    wanted = {name.casefold() for name in allow}
    if licence.spdx is None:
        return False
    return all(name.casefold() in wanted for name in re.split(r"\s+AND\s+", licence.spdx))


def judge(model: str, licence: Licence, *policies: Sequence[str] | None) -> None:
    """Raises PolicyError naming the model and its licence when one of `policies` refuses it."""
    for allow in policies:
        if allow is None or allowed(licence, allow):
            continue
        named = licence.spdx or licence.raw
        has = f"has the licence {clean(named, limit=100)}" if named else "names no licence"
        raise PolicyError(
            f"{clean(model)} {has}, and the policy allows "
            + (", ".join(clean(name, limit=80) for name in allow) or "none"),
            hint="leave the model out, or add its SPDX id to license_allow"
            if licence.spdx
            else "leave the model out: only licences with an SPDX id can be allowed",
        )
