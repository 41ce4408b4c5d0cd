"""The file system: durable names, positioned writes, links, locks, hashing, space.

The rule all of modelbay rests on: a final name appears once, by rename, after its bytes
were hashed and fsynced; then its folder is fsynced. POSIX is called by name here only.
"""

from modelbay.files.durable import (
    append,
    close,
    disk_error,
    disk_errors,
    free_space,
    make_dir,
    may_write,
    open_part,
    open_read,
    publish,
    read_at,
    room,
    standing,
    sync_data,
    sync_dir,
    sync_file,
    sync_folder,
    truncate,
    write_at,
    write_atomic,
)
from modelbay.files.hashing import cores, hash_file, read_through
from modelbay.files.links import clone, reflink
from modelbay.files.locks import LockUnsupported, locked
from modelbay.files.mounts import Mount, mount_of, mounts
from modelbay.files.names import create, folder_below, point, publish_new, publish_over, taken_by
from modelbay.files.private import is_private
from modelbay.files.usage import Usage, below, usage
from modelbay.files.volume import probe

__all__ = [
    "LockUnsupported",
    "Mount",
    "Usage",
    "append",
    "below",
    "clone",
    "close",
    "cores",
    "create",
    "disk_error",
    "disk_errors",
    "folder_below",
    "free_space",
    "hash_file",
    "is_private",
    "locked",
    "make_dir",
    "may_write",
    "mount_of",
    "mounts",
    "open_part",
    "open_read",
    "point",
    "probe",
    "publish",
    "publish_new",
    "publish_over",
    "read_at",
    "read_through",
    "reflink",
    "room",
    "standing",
    "sync_data",
    "sync_dir",
    "sync_file",
    "sync_folder",
    "taken_by",
    "truncate",
    "usage",
    "write_at",
    "write_atomic",
]
