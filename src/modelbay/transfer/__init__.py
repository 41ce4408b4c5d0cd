"""The engine: one file at a time, over many connections, verified before it has a name.

Knows the four kinds of Location and no source.
"""

from modelbay.transfer.engine import Engine
from modelbay.transfer.journal import held_bytes
from modelbay.transfer.limits import Limits
from modelbay.transfer.order import Damaged, Fetched, Order, Progress, Stop

__all__ = ["Damaged", "Engine", "Fetched", "Limits", "Order", "Progress", "Stop", "held_bytes"]
