"""modelbay: find, fetch, verify, lay out and lock AI models.

`Bay` is the door for Python programs; it is imported on first use, so that
`import modelbay` costs nothing.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Bay", "__version__"]

if TYPE_CHECKING:
    from modelbay.bay import Bay


def __getattr__(name: str) -> Any:
    if name == "Bay":
        from modelbay.bay import Bay

        return Bay
    raise AttributeError(f"module 'modelbay' has no attribute {name!r}")
