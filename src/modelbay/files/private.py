"""Folders that nobody but this user may look into or write to."""

import os
import stat
from pathlib import Path


def is_private(folder: Path) -> bool:
    """Whether `folder` itself, not a link to one, is this user's alone. Raises OSError."""
    status = folder.lstat()
    mine = status.st_uid == os.geteuid()
    return stat.S_ISDIR(status.st_mode) and mine and not status.st_mode & 0o077
