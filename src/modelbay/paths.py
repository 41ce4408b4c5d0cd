"""Where state, settings, data and the workspace lie.

The environment is passed in, so that a test, a container and a second user in one
process each get their own answer.
"""

import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Final, Literal

from modelbay.errors import UsageError

APP: Final = "modelbay"
CONTAINER_WORKSPACE: Final = Path("/workspace")
_XDG: Final = {"state": ".local/state", "config": ".config", "data": ".local/share"}


def home(environ: Mapping[str, str]) -> Path:
    """The user's home. Raises UsageError where there is none (a container's bare uid)."""
    named = environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - leaves "~" instead of raising
    if not os.path.isabs(named):  # noqa: PTH117 - the text may still be "~"
        raise UsageError(
            "this user has no home directory, so there is no place for settings and state",
            hint="set HOME, or MODELBAY_STATE_DIR, MODELBAY_CONFIG and WORKSPACE",
        )
    return Path(named)


def expand(text: str, environ: Mapping[str, str]) -> Path:
    """`text` as a path, with a leading `~` as the user's home."""
    if text == "~" or text.startswith("~/"):
        return home(environ) / text[2:]
    return Path(text)


def state_dir(environ: Mapping[str, str]) -> Path:
    """Queue, index and logs of this host: `$MODELBAY_STATE_DIR` or the platform's, per host."""
    named = environ.get("MODELBAY_STATE_DIR")
    parent = expand(named, environ) if named else _user_dir("state", environ)
    return parent / _host()


def log_file(environ: Mapping[str, str]) -> Path:
    return state_dir(environ) / "modelbay.log"


def config_file(environ: Mapping[str, str]) -> Path:
    """The settings' file: `$MODELBAY_CONFIG` or `config.toml` where the platform keeps such."""
    named = environ.get("MODELBAY_CONFIG")
    return expand(named, environ) if named else _user_dir("config", environ) / "config.toml"


def data_dir(environ: Mapping[str, str]) -> Path:
    return _user_dir("data", environ)


def substituted(text: str, environ: Mapping[str, str]) -> Path:
    """`text` as the Hub's own tools read a path: `$NAME` and a leading `~` replaced."""
    return expand(Template(text).safe_substitute(environ), environ).absolute()


def hub_home(environ: Mapping[str, str]) -> Path:
    """Where the Hub's own tools keep cache and token (its `constants.py`)."""
    if named := environ.get("HF_HOME"):
        return substituted(named, environ)
    return substituted(environ.get("XDG_CACHE_HOME") or "~/.cache", environ) / "huggingface"


def hub_cache(environ: Mapping[str, str]) -> Path:
    """The Hub's cache, as huggingface_hub finds it."""
    if named := environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE"):
        return substituted(named, environ)
    return hub_home(environ) / "hub"


def ollama_models(environ: Mapping[str, str]) -> Path:
    """Ollama's store, as its own programs find it."""
    return expand(environ.get("OLLAMA_MODELS") or "~/.ollama/models", environ).absolute()


def workspace(
    environ: Mapping[str, str], *, asked: Path | None = None, setting: Path | None = None
) -> Path:
    """Where folder layouts begin.

    `--workspace` (`asked`), then `$WORKSPACE`, the settings, `/workspace` if it exists,
    the user's data directory.
    """
    if asked is not None:
        return asked
    if named := environ.get("WORKSPACE"):
        return expand(named, environ)
    if setting is not None:
        return setting
    if CONTAINER_WORKSPACE.is_dir():
        return CONTAINER_WORKSPACE
    return data_dir(environ)


def _user_dir(kind: Literal["state", "config", "data"], environ: Mapping[str, str]) -> Path:
    named = environ.get(f"XDG_{kind.upper()}_HOME", "")
    if os.path.isabs(named):  # noqa: PTH117 - the text may be empty
        return Path(named) / APP
    if sys.platform == "linux":
        # The same answer as platformdirs gives, from the environment that was passed in.
        return home(environ) / _XDG[kind] / APP
    import platformdirs

    theirs = Path(getattr(platformdirs, f"user_{kind}_dir")(APP, appauthor=False))
    return home(environ) / theirs.relative_to(Path.home())


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", platform.node()).strip(".-")[:64] or "localhost"
