"""Defaults of the local mock server, and the HTTP headers that only the mock server uses."""

from typing import Final

HOST: Final = "127.0.0.1"
PORT: Final = 8721
KEY: Final = "seedbed-key"
"""API key that the mock server accepts if no other key is configured."""
BASE_URL: Final = f"http://{HOST}:{PORT}"
BASE_URL_VARIABLE: Final = "SEEDBED_BASE_URL"
"""Environment variable with the URL of the server that the commands and the client call."""

MARK_HEADER: Final = "X-Seedbed"
"""Response header of the mock server; the real service never sends it."""
FAULT_HEADER: Final = "X-Seedbed-Fault"
"""Request header with a fault rule for this request."""
CONTROL_ROOT: Final = "/__seedbed"
"""Path of the control API."""
SPACE_HEADER: Final = "X-Seedbed-Space"
"""Request header that selects a space: separate accounts, tasks and journal."""
