"""What holds for every test."""

import os

# With either of these pytest prints the whole difference of two files that are not the same:
# minutes for some megabytes.
for _name in ("CI", "BUILD_NUMBER"):
    os.environ.pop(_name, None)
