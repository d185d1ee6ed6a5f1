"""``python -m seedbed_mock`` is ``seedbed serve``; the command ``seedbed`` begins here, too."""

import gc
import sys


def command(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code.

    Args:
        arguments: The words after ``seedbed``; those of this process where there are none.
    """
    # Nothing of what a start imports is garbage, and to look for some takes a sixth of it.
    gc.disable()
    try:
        from seedbed_mock.cli import main  # noqa: PLC0415 (imported after that)

        return main(arguments)
    finally:
        gc.enable()


if __name__ == "__main__":
    sys.exit(command(["serve", *sys.argv[1:]]))
