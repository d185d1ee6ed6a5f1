"""Where the local fake listens and which key it takes, unless told otherwise."""

from typing import Final

HOST: Final = "127.0.0.1"
PORT: Final = 8721
KEY: Final = "seedbed-key"
BASE_URL: Final = f"http://{HOST}:{PORT}"
