"""``python -m seedbed_mock`` is ``seedbed serve``."""

import sys

from seedbed_mock.cli import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
