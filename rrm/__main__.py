"""`rrm`, and `python -m rrm`, also for torchrun.

Who takes the signals is settled before anything else is imported, which takes a while.
"""

from __future__ import annotations

import sys

from rrm.command.terminating import ended_by_sigterm, last_word


def main() -> None:
    """The command line."""
    with last_word(), ended_by_sigterm():
        try:
            from rrm.command.cli import app

            app()
        except KeyboardInterrupt:
            print("Stopped before it began. To begin, give the same command again.", file=sys.stderr)
            sys.exit(130)


if __name__ == "__main__":
    main()
