"""A client of the control API, for the command line.

It uses ``http.client``, since loading another HTTP client takes 100 ms.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from seedbed_schemas import default_contract, local

from seedbed_mock.settings import CONTROL_ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


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
    connection = open_connection(url, _TIMEOUT_SECONDS)
    target = f"{urlsplit(url).path.rstrip('/')}{CONTROL_ROOT}/{path}{'?' if query else ''}{urlencode(query or {})}"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        connection.request(method, target, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return read_response(response.status, response.read())
    finally:
        connection.close()


def open_connection(
    url: str, timeout: float, uds: Path | None = None, ca: Path | None = None
) -> http.client.HTTPConnection:
    """Return a connection to a server, which connects with its first request.

    Args:
        url: Base URL of the server.
        timeout: Seconds that each step may take.
        uds: Path of its Unix socket, ``None`` for TCP.
        ca: PEM file with the certificate of its CA, ``None`` for those of the system.

    Raises:
        OSError: The file of the CA cannot be used.
        ValueError: The URL is invalid.
    """
    parts = urlsplit(url)
    if uds is not None:
        return _UnixConnection(uds, timeout)
    if parts.scheme != "https":
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    import ssl  # most servers are called without TLS

    context = ssl.create_default_context(cafile=ca)
    return http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout, context=context)


class _UnixConnection(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


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


_INVALID_INPUT = (http.client.UNPROCESSABLE_ENTITY, http.client.CONFLICT)


@dataclass(frozen=True, slots=True)
class ControlledServer:
    """A running server, as the options of a subcommand name it.

    Attributes:
        url: Base URL, ``None`` for that of the environment or the local mock server.
        token: Control token, empty for none.
    """

    url: str | None
    token: str

    @property
    def base_url(self) -> str:
        """Base URL of the server."""
        return os.environ.get(local.BASE_URL_VARIABLE) or local.BASE_URL if self.url is None else self.url

    def call(self, method: str, path: str, body: object = None, **query: object) -> dict[str, Any]:
        """Call the control API and return the body of its response.

        Raises:
            CommandError: The control API refuses the request, or cannot be reached.
        """
        from seedbed_schemas.commands import CommandError, ExitCode  # it loads cyclopts, which tests do without

        url = self.base_url
        query = {name: value for name, value in query.items() if value not in (None, "")}
        try:
            if not urlsplit(url).hostname:
                raise CommandError(f"{url!r} is not the URL of a server; pass --url, such as --url {local.BASE_URL}.")
            if urlsplit(url).hostname == urlsplit(default_contract().operation.server).hostname:
                sentence = f"{url} is the paid service, which has no {path.partition('/')[0]}; pass --url."
                raise CommandError(sentence)
            return call_control_api(url, self.token, method, path, body, query)
        except ControlError as error:
            code = ExitCode.USAGE if error.status in _INVALID_INPUT else ExitCode.NEGATIVE
            raise CommandError(str(error), code) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            sentence = f"cannot connect to {url} ({reason}); start the mock server with seedbed serve, or pass --url."
            raise CommandError(sentence, ExitCode.RETRY) from error
        except ValueError as error:
            sentence = f"The server at {url} is not a mock server; pass --url, such as --url {local.BASE_URL}."
            raise CommandError(sentence) from error
