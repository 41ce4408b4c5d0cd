"""Settings: what a person chose, and where he chose it."""

from modelbay.config.keys import ENDPOINT_VARIABLES, KEYS, Key, Reserve, Settings
from modelbay.config.reading import read_settings
from modelbay.config.values import read_bytes

__all__ = [
    "ENDPOINT_VARIABLES",
    "KEYS",
    "Key",
    "Reserve",
    "Settings",
    "read_bytes",
    "read_settings",
]
