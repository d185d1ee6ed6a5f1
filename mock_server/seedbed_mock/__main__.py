"""Entry point of the command ``seedbed``; ``python -m seedbed_mock`` is ``seedbed serve``."""

import gc
import sys


def command(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code.

    Args:
        arguments: Arguments after ``seedbed``, by default those of this process.
    """
    # Nothing that is imported at the start is garbage, and searching for some takes a sixth of the start.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        from seedbed_mock.cli import main  # after garbage collection is off

        return main(arguments)
    finally:
        if was_enabled:
            gc.enable()


if __name__ == "__main__":
    sys.exit(command(["serve", *sys.argv[1:]]))
