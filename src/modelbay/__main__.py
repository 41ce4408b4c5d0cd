"""The door: `--version` at once, everything else through the command line."""

import gc
import os
import sys

from modelbay import __version__

STOPPED_BY_SIGNAL = frozenset({129, 130, 143})


def main() -> None:
    """Runs the command and ends the process with its exit code."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        sys.stdout.write(f"modelbay {__version__}\n")
        return
    # Imports make objects that stay: looking through them again and again cost 5 % of a start.
    gc.disable()
    from modelbay.cli import run

    gc.freeze()
    # A command makes many values and hardly a cycle: of a lock of 10,000 files a tenth of the time.
    gc.set_threshold(50_000, 20, 20)
    gc.enable()
    code = run(sys.argv[1:] or ["--help"], environ=os.environ)
    if code in STOPPED_BY_SIGNAL:
        # Threads may still hold sockets open; none is waited for.
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
