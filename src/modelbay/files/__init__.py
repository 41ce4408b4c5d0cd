"""The file system: durable names, positioned writes, links, locks, hashing, space.

The rule all of modelbay rests on: a final name appears once, by rename, after its bytes
were hashed and fsynced; then its folder is fsynced. POSIX is called by name here only.
"""

from modelbay.files.durable import (
    disk_error,
    disk_errors,
    free_space,
    make_dir,
    open_part,
    publish,
    reserve,
    same_volume,
    sync_data,
    sync_dir,
    write_at,
    write_atomic,
)
from modelbay.files.hashing import hash_file
from modelbay.files.links import Way, clone
from modelbay.files.locks import LockUnsupported, holder, locked
from modelbay.files.names import folder_below, point, publish_new, taken_by

__all__ = [
    "LockUnsupported",
    "Way",
    "clone",
    "disk_error",
    "disk_errors",
    "folder_below",
    "free_space",
    "hash_file",
    "holder",
    "locked",
    "make_dir",
    "open_part",
    "point",
    "publish",
    "publish_new",
    "reserve",
    "same_volume",
    "sync_data",
    "sync_dir",
    "taken_by",
    "write_at",
    "write_atomic",
]
