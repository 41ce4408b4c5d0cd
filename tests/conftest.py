"""What holds for every test."""

import os
import signal

from hypothesis import settings

# With either of these pytest prints the whole difference of two files that are not the same:
# minutes for some megabytes.
for _name in ("CI", "BUILD_NUMBER"):
    os.environ.pop(_name, None)

# A run under nohup, or in the background of a script, ignores them, and so would every child.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# How long an example takes says how busy the machine is.
settings.register_profile("modelbay", deadline=None)
settings.load_profile("modelbay")
