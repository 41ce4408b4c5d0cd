"""Which file system a path lies on, so that a disk is known again wherever it is mounted.

Linux tells in `/proc/self/mountinfo` (proc(5)) and `/dev/disk/by-uuid`; elsewhere a file
system is known by where it is mounted.
"""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_BY_UUID = Path("/dev/disk/by-uuid")
_ESCAPED = re.compile(r"\\([0-7]{3})")
_REMOTE = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs"}
)
_CLONES = frozenset({"btrfs", "xfs", "bcachefs", "ocfs2", "zfs"})


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system, or the part of one, that is mounted at `point`.

    `key` is the same for the same one wherever it is mounted: its UUID where the system tells
    it, else its device or address, and the folder in it; its `point` where it has neither.
    """

    key: str
    point: Path
    kind: str = ""

    @property
    def is_remote(self) -> bool:
        """Whether other machines write to it, so that memory shared with them is not."""
        return self.kind in _REMOTE or self.kind.startswith("fuse")

    @property
    def may_clone(self) -> bool:
        """Whether it is of a kind that can share extents between files."""
        return self.kind in _CLONES


def mounts() -> tuple[Mount, ...]:
    """Everything that is mounted, in the order in which it was; empty where nobody tells."""
    try:
        lines = os.fsdecode(_MOUNTS.read_bytes()).splitlines()
    except OSError:
        return ()
    uuids = _uuids()
    return tuple(found for line in lines if (found := _mount(line, uuids)) is not None)


def mount_of(path: Path, among: Sequence[Mount]) -> Mount:
    """The one of `among` that the absolute `path`, in which no link is followed, lies on."""
    # What was mounted last hides what was mounted there before.
    points = {os.fspath(mount.point): mount for mount in among}
    name = os.fspath(path)
    while name not in points and name != "/":
        name = name.rpartition("/")[0] or "/"
    return points.get(name) or _unlisted(path)


def _unlisted(path: Path) -> Mount:
    while not os.path.ismount(path) and path != path.parent:
        path = path.parent
    return Mount(f"mount:{path}", path)


def _mount(line: str, uuids: Mapping[int, str]) -> Mount | None:
    before, separator, after = line.partition(" - ")
    fields, more = before.split(" "), after.split(" ")
    if not separator or len(fields) < 5 or len(more) < 2:
        return None
    root, point = _plain(fields[3]), _plain(fields[4])
    kind, source = more[0], _plain(more[1])
    uuid = uuids.get(_device(source))
    if uuid is not None:
        key = f"uuid:{uuid}:{root}"
    elif "/" in source or ":" in source:
        key = f"{kind}:{source}:{root}"
    else:
        key = f"{kind}:{source}:{root}@{point}"
    return Mount(key, Path(point), kind)


def _plain(field: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), field)


def _device(source: str) -> int:
    if source.startswith("/dev/"):
        with suppress(OSError):
            return Path(source).stat().st_rdev
    return -1


def _uuids() -> dict[int, str]:
    found: dict[int, str] = {}
    with suppress(OSError):
        for name in _BY_UUID.iterdir():
            with suppress(OSError):
                found[name.stat().st_rdev] = name.name
    return found
