"""A client of the control API, for the command line.

It uses ``http.client``, since loading another HTTP client takes 100 ms.
"""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from seedbed_mock.settings import CONTROL_ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping


_TIMEOUT_SECONDS = 60


class ControlError(Exception):
    """The control API refused a request; the message is the reason that it gives.

    Attributes:
        status: HTTP status of the response.
    """

    status = 0


def call_control_api(  # noqa: PLR0917 (the order of the parts of a request)
    url: str, token: str, method: str, path: str, body: object = None, query: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Call the control API and return the body of its response.

    Args:
        url: Base URL of the server.
        token: Control token of the server, empty for none.
        method: HTTP method.
        path: Path below ``/__seedbed/``.
        body: Value to send as JSON.
        query: Query parameters.

    Raises:
        ControlError: The control API refuses the request.
        OSError: The server cannot be reached.
        ValueError: The server is not a mock server, or the URL is invalid.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_SECONDS)
    target = f"{CONTROL_ROOT}/{path}{'?' if query else ''}{urlencode(query or {})}"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        connection.request(method, target, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return read_response(response.status, response.read())
    finally:
        connection.close()


def read_response(status: int, body: bytes) -> dict[str, Any]:
    """Return the content of a response of the control API.

    Raises:
        ControlError: The control API refuses the request.
        ValueError: The response is not one of the control API.
    """
    content: dict[str, Any] = json.loads(body)
    if status >= http.client.BAD_REQUEST:
        # A server that has no control API responds in the form of the service, whose messages are in "msg".
        error = ControlError(content.get("error") or content.get("msg", ""))
        error.status = status
        raise error
    return content
