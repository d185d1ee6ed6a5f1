"""The local fake, as all rooms know it: where it listens, which key it takes, and the headers it alone has."""

from typing import Final

HOST: Final = "127.0.0.1"
PORT: Final = 8721
KEY: Final = "seedbed-key"
BASE_URL: Final = f"http://{HOST}:{PORT}"

MARK_HEADER: Final = "X-Seedbed"
"""Header of every answer of the fake; the real service does not send it."""
FAULT_HEADER: Final = "X-Seedbed-Fault"
"""Header of a call that a fault shall meet."""
SPACE_HEADER: Final = "X-Seedbed-Space"
"""Header of a call that shall have accounts, tasks and a journal of its own."""
