"""Files that lie where they should, as their records say: one `lstat` each, and nothing read."""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from modelbay.errors import TargetTaken
from modelbay.files import folder_below
from modelbay.library.records import Records
from modelbay.snapshot import ModelFile


def unchanged(
    records: Records, root: Path, wanted: Iterable[tuple[str, ModelFile]]
) -> Iterator[ModelFile]:
    """Of `wanted`, each a name below `root` and the file that should have it, those that are as
    they were when their bytes were read, with every digest that they should have.
    """
    plain = Plain(root)
    base = os.fspath(root)
    for name, file in wanted:
        if not file.digests or not plain.leads_to(name):
            continue
        try:
            status = os.lstat(f"{base}/{name}")
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode) and records.vouch(name, status, file.digests):
            yield file


class Plain:
    """Which folders below `root` are no links, each looked at once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, bool] = {}

    def leads_to(self, name: str) -> bool:
        """Whether no link is on the way to `name`, whose folder is there."""
        folder = name.rpartition("/")[0]
        if folder not in self._known:
            self._known[folder] = self._is_plain(folder)
        return self._known[folder]

    def _is_plain(self, folder: str) -> bool:
        try:
            with folder_below(self._root, folder.split("/") if folder else ()):
                return True
        except (OSError, TargetTaken):
            return False
