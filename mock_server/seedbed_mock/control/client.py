"""A question to the control API of a server that runs, from a test or from the command line."""

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
    """The control API refused; the message is the sentence in which it says why.

    Attributes:
        status: HTTP status of the refusal.
    """

    status = 0


def ask(  # noqa: PLR0917 (in the order in which a request has them)
    url: str, token: str, method: str, path: str, body: object = None, query: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Call the control API and return what it answers.

    Args:
        url: Base URL of the server.
        token: What the server wants to be shown, empty where it wants nothing.
        method: HTTP method.
        path: Path below ``/__seedbed/``.
        body: What to tell it.
        query: What to ask for.

    Raises:
        ControlError: It refused.
        OSError: There is no server.
        ValueError: The server is another one, or the URL none.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_SECONDS)
    target = f"{CONTROL_ROOT}/{path}{'?' if query else ''}{urlencode(query or {})}"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        connection.request(method, target, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        content: dict[str, Any] = json.loads(answer.read())
    finally:
        connection.close()
    if answer.status >= http.client.BAD_REQUEST:
        refusal = ControlError(content.get("error") or content.get("msg", ""))
        refusal.status = answer.status
        raise refusal
    return content
