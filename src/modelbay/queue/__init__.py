"""What is wanted, and who carries it. Rows live in memory for now, behind `Rows`."""

from modelbay.queue.alternates import Mirrors
from modelbay.queue.carry import Carrier, Run
from modelbay.queue.report import Report
from modelbay.queue.rows import Event, MemoryRows, Row, Rows

__all__ = ["Carrier", "Event", "MemoryRows", "Mirrors", "Report", "Row", "Rows", "Run"]
