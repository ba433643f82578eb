"""The command `kvkit`, and `python -m kvkit`. Ctrl-C ends it in one line also where modules are still being read."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run one command and exit with its code: 3, could not finish, where it is interrupted and keeps nothing."""
    try:
        from kvkit.cli import main as run_command  # noqa: PLC0415 - Ctrl-C while modules are read ends well too

        run_command()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(3)


if __name__ == "__main__":
    main()
