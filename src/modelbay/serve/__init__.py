"""A read-only Hub over a shelf of models: for a company, for the demo, for tests."""

from modelbay.serve.access import Account
from modelbay.serve.content import Generated, OnDisk
from modelbay.serve.hub import Hub
from modelbay.serve.models import demo_shelf
from modelbay.serve.shelf import Facts, MemoryShelf, Shelf

__all__ = ["Account", "Facts", "Generated", "Hub", "MemoryShelf", "OnDisk", "Shelf", "demo_shelf"]
