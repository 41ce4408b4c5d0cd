"""Every setting, declared once, and all of them with their values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

Kind = Literal["integer", "flag", "text", "choice", "path", "list", "table", "bandwidth", "reserve"]


@dataclass(frozen=True, slots=True)
class Reserve:
    """Room that downloads leave free: a share of the file system, or bytes."""

    percent: float = 0
    bytes: int = 0

    def of(self, total: int) -> int:
        """Bytes to leave free on a file system of `total` bytes."""
        return self.bytes + int(total * self.percent / 100)


@dataclass(frozen=True, slots=True)
class Key:
    """One setting, declared once for the file, the environment, the views and the docs."""

    name: str
    kind: Kind
    help: str
    choices: tuple[str, ...] = ()
    lowest: int = 0
    highest: int = 1 << 31
    variables: tuple[str, ...] = ()
    """Environment variables that set it, besides `MODELBAY_<NAME>`."""
    later: str = ""
    """Why it is kept and nothing comes of it in this version."""


_APP: Final = "the app reads it, which is not in this version yet"
FOLDERS: Final = ("sdnext", "comfyui", "a1111", "forge", "lmstudio", "plain")
KEYS: Final = (
    Key("jobs", "integer", "large files fetched at once", lowest=1, highest=64),
    Key("connections", "integer", "connections for each large file", lowest=1, highest=16),
    Key("bandwidth", "bandwidth", 'most bytes a second for everything together, "20MB/s"'),
    Key("reserve", "reserve", 'room left free on every disk, "1%" or "20GB"'),
    Key(
        "background_on_quit",
        "choice",
        "what happens to downloads on quit",
        ("ask", "keep", "pause"),
        later=_APP,
    ),
    Key("trash_days", "integer", "days until the trash is emptied", highest=36500),
    Key(
        "links",
        "choice",
        "how a file that is here already is shared",
        ("auto", "reflink", "hardlink", "symlink", "copy"),
    ),
    Key("folders", "choice", "whose folders models are laid out for", FOLDERS),
    Key("workspace", "path", "where folder layouts begin", variables=("WORKSPACE",)),
    Key("root", "path", "the models' folder itself, in place of <workspace>/…"),
    Key("license_allow", "list", "SPDX ids that may be fetched; others are refused"),
    Key("formats", "choice", "file formats that may be fetched", ("any", "scanned", "no-pickle")),
    Key("mirrors", "list", "addresses asked before the source"),
    Key(
        "mirror_keys",
        "list",
        "keys that mirrors' manifests are signed with",
        later="this version reads no signed manifests yet",
    ),
    Key("theme", "text", "the app's theme", later=_APP),
    Key("units", "choice", "decimal (GB) or binary (GiB)", ("decimal", "binary")),
    Key("ascii", "flag", "draw with ASCII only"),
    Key("offline", "flag", "open no internet socket", variables=("HF_HUB_OFFLINE",)),
    Key("endpoints", "table", "where each source is asked, for registries of one's own"),
    Key("categories", "table", "folders for categories of one's own"),
    Key("sources", "table", "source factories, usable as NAME: in a ref"),
    Key("keys", "table", "key bindings by action", later=_APP),
)
ENDPOINT_VARIABLES: Final = {
    "huggingface": ("HF_ENDPOINT",),
    "mlflow": ("MLFLOW_TRACKING_URI",),
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "civitai": (),
    "ollama": (),
    "gdrive": (),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting with its value. `bandwidth` in bytes a second, None for no limit."""

    jobs: int = 5
    connections: int = 4
    bandwidth: int | None = None
    reserve: Reserve = Reserve(percent=1)
    background_on_quit: str = "ask"
    trash_days: int = 14
    links: str = "auto"
    folders: str = "sdnext"
    workspace: Path | None = None
    root: Path | None = None
    license_allow: tuple[str, ...] | None = None
    """None: no licence policy. An empty list refuses everything."""
    formats: str = "any"
    mirrors: tuple[str, ...] = ()
    mirror_keys: tuple[str, ...] = ()
    theme: str | None = None
    units: str = "decimal"
    ascii: bool | None = None
    """None: decided from the terminal and the locale."""
    offline: bool = False
    endpoints: Mapping[str, str] = field(default_factory=dict)
    categories: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    """Where each value comes from: `command line`, `$JOBS`, `/…/config.toml:3:1`.
    Absent for a default. Endpoints are listed as `endpoints.<source>`."""
    file: Path | None = None
    warnings: tuple[str, ...] = ()
    """Sentences about keys that nobody knows, for the person."""

    def origin(self, name: str) -> str:
        return self.origins.get(name, "default")
