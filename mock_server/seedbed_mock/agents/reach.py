"""What tools can reach: servers on this machine, and never one that costs money.

A URL is taken only if its host is a loopback address or ``localhost``. It is not looked up: the connection goes to the
loopback address itself, so that neither DNS nor the file of hosts can lead it elsewhere. ``http.client`` follows no
redirects and reads no proxy variables.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

import anyio
import msgspec
from anyio import to_thread
from seedbed_schemas import default_contract, job_api, local, shipped_contracts

from seedbed_mock.agents.answers import ToolError
from seedbed_mock.control.api import OPERATIONS
from seedbed_mock.control.client import ControlError, open_connection, read_response
from seedbed_mock.in_process import call_in_process
from seedbed_mock.settings import CONTROL_ROOT, netloc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from seedbed_schemas import Contract
    from starlette.applications import Starlette
    from starlette.types import Scope

    from seedbed_mock.state import Service


_LONGEST_URL: Final = 2000
_PATH: Final = re.compile(r"(/[\w.~-]+)*/?", re.ASCII)
_CONNECT_SECONDS: Final = 2.0
_RESPONSE_SECONDS: Final = 60.0
_LARGEST_RESPONSE: Final = 8 * 1024 * 1024
_LOCALHOST: Final = "localhost"
_FIX: Final = f"Pass the URL of a server on this machine, such as {local.BASE_URL}, or omit it."


@dataclass(frozen=True, slots=True)
class LoopbackUrl:
    """A base URL on this machine.

    Attributes:
        scheme: ``http`` or ``https``.
        addresses: Addresses of its host, the usual one first.
        port: Its port.
        path: Its path, without a slash at the end.
    """

    scheme: str
    addresses: tuple[str, ...]
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> LoopbackUrl:
        """Return the parts of a URL.

        Raises:
            ToolError: It is not the URL of a server on this machine.
        """
        # Programs disagree on what these mean, so that a check could see another host than the one that is called.
        if not url.isascii() or not url.isprintable() or len(url) > _LONGEST_URL or set(url) & set(" \\@?#%"):
            raise ToolError(
                "The URL is not plain: it must not have a user, a query, a fragment, blanks, or characters that are"
                " encoded or not ASCII.",
                fix=_FIX,
            )
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ToolError("The URL is not valid.", fix=_FIX) from None
        if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
            raise ToolError("The URL is not that of an HTTP server.", fix=_FIX)
        if not _PATH.fullmatch(parts.path) or ".." in parts.path.split("/"):
            raise ToolError("The path of the URL is not plain.", fix=_FIX)
        addresses = _loopback_addresses(parts.hostname)
        return cls(parts.scheme, addresses, port or (443 if parts.scheme == "https" else 80), parts.path.rstrip("/"))

    async def connected(self) -> str:
        """Return the base URL with an address at which a server accepts connections.

        Raises:
            ToolError: None does.
        """
        for address in self.addresses:
            try:
                with anyio.fail_after(_CONNECT_SECONDS):
                    await (await anyio.connect_tcp(address, self.port)).aclose()
            except (OSError, TimeoutError):
                continue
            return f"{self.scheme}://{netloc(address)}:{self.port}{self.path}"
        raise ToolError(f"No server accepts connections on port {self.port}.", fix="Start it, or call start_server.")


def _loopback_addresses(host: str) -> tuple[str, ...]:
    """Return the addresses of a host on this machine.

    Raises:
        ToolError: The host is not certainly on this machine.
    """
    if host == _LOCALHOST or host.endswith(f".{_LOCALHOST}"):
        return ("127.0.0.1", "::1")
    domains = (*job_api().domains, urlsplit(default_contract().operation.server).hostname or "")
    if any(f".{host}".rstrip(".").endswith(f".{domain}") for domain in domains):
        raise ToolError("This is the host of the paid service, where calls cost money. Nothing was sent.", fix=_FIX)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ToolError(
            "The host is not an address of this machine: no other name than localhost is looked up, since a name can"
            " lead to a host that costs money. Nothing was sent.",
            fix="Write the address as 127.0.0.1, [::1] or localhost.",
        ) from None
    address = getattr(address, "ipv4_mapped", None) or address
    if not address.is_loopback or "%" in host:
        raise ToolError("The host is not this machine, and may cost money. Nothing was sent.", fix=_FIX)
    return (str(address),)


@dataclass(frozen=True, slots=True)
class Reply:
    """A response.

    Attributes:
        status: HTTP status.
        headers: Headers, with names in lower case.
        body: Body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Door(ABC):
    """A mock server, as the tools call it.

    Args:
        url: Base URL.
        key: API key that it accepts, as far as is known.
        contracts: Contracts of its models that differ from the shipped ones.

    Attributes:
        contracts: The contracts of its models, by model, as far as they are known.
    """

    def __init__(self, url: str, key: str, contracts: Sequence[Contract] = ()) -> None:
        self.url = url
        self.key = key
        self.contracts = {each.model: each for each in (*shipped_contracts(), *contracts)}

    @abstractmethod
    async def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> Reply:
        """Send a request to a path below the base URL, and return the response.

        Raises:
            ToolError: There is none.
        """

    @abstractmethod
    def control_headers(self) -> dict[str, str]:
        """Return the headers that the control API requires."""

    async def control(self, method: str, path: str, body: object = None, **query: object) -> dict[str, Any]:
        """Call the control API and return its response.

        Raises:
            ToolError: It refuses the call, or there is no such API.
        """
        known = {name: value for name, value in query.items() if value is not None}
        target = f"{CONTROL_ROOT}/{path}{'?' if known else ''}{urlencode(known)}"
        content = b"" if body is None else msgspec.json.encode(body)
        reply = await self.send(method, target, self.control_headers(), content)
        try:
            found = read_response(reply.status, reply.body)
            operation = next(each for each in OPERATIONS if each.matches(method, f"/{path}"))
            msgspec.convert(found, operation.response)
        except ControlError as error:
            fix = "untrusted.reason says what is wrong."
            if error.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                fix = "The user sets the token of this server with seedbed mcp --control-token."
            raise ToolError(f"The server refuses this with HTTP {error.status}.", fix=fix, reason=str(error)) from error
        except ValueError as error:
            raise ToolError(f"The server at {self.url} is not a mock server of this version.", fix=_FIX) from error
        return found


class HttpDoor(Door):
    """A server at a loopback address.

    Args:
        url: Base URL, as :meth:`LoopbackUrl.connected` returns it.
        key: API key that it accepts.
        token: Its control token, empty for none.
        contracts: Contracts of its models that differ from the shipped ones.
    """

    def __init__(self, url: str, key: str = local.KEY, token: str = "", contracts: Sequence[Contract] = ()) -> None:
        super().__init__(url, key, contracts)
        self._token = token

    def control_headers(self) -> dict[str, str]:
        """Return the headers that the control API requires."""
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    async def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> Reply:
        """Send a request in a thread, which ends with the timeout of its connection if it is cancelled."""

        def exchange() -> Reply:
            connection = open_connection(self.url, _RESPONSE_SECONDS)
            try:
                connection.request(method, f"{urlsplit(self.url).path}{target}", body or None, dict(headers))
                response = connection.getresponse()
                content = response.read(_LARGEST_RESPONSE)
                return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, content)
            finally:
                connection.close()

        try:
            with anyio.fail_after(_RESPONSE_SECONDS):
                return await to_thread.run_sync(exchange, abandon_on_cancel=True)
        except (OSError, http.client.HTTPException) as error:  # also of a timeout
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise ToolError(f"The server at {self.url} does not respond ({reason}).", fix="Start it again.") from error

    async def check_mock_server(self) -> None:
        """Check that calls to this server cost nothing.

        Raises:
            ToolError: It is not a mock server, or it passes calls on to another service.
        """
        if await self.passes_on() is None:
            raise ToolError(f"The server at {self.url} is not a mock server of Seedbed.", fix=_FIX)

    async def passes_on(self) -> bool | None:
        """Return ``False`` for a mock server, and ``None`` for a server that is none.

        Raises:
            ToolError: It passes calls on to another service, where they may cost credits.
        """
        reply = await self.send("GET", f"{CONTROL_ROOT}/health", self.control_headers())
        if local.MARK_HEADER.lower() not in reply.headers:
            return None
        is_proxy = False
        with contextlib.suppress(ValueError, AttributeError):
            is_proxy = reply.status == HTTPStatus.OK and json.loads(reply.body).get("upstream") is not False
        if is_proxy:
            raise ToolError(
                f"The server at {self.url} passes calls on to another service, where they may cost credits."
                " Nothing was sent to it.",
                fix="Use a server of start_server or seedbed serve instead.",
            )
        return False


class AppDoor(Door):
    """The server in which the endpoint for agents runs, called without a socket.

    Args:
        app: The application of the server.
        scope: Scope of the request that calls a tool, of which the address and the names are taken.
        url: Base URL that the caller used.
    """

    def __init__(self, app: Starlette, scope: Scope, url: str) -> None:
        service: Service = app.state.service
        models = service.catalogue.models.values()
        super().__init__(url, service.options.accounts[0].key, tuple(each.contract for each in models))
        self._app = app
        kept = {"type", "asgi", "http_version", "scheme", "server", "client", "root_path"}
        self._connection = {name: value for name, value in scope.items() if name in kept}
        self._token = service.options.control_token or ""

    def control_headers(self) -> dict[str, str]:
        """Return the headers that the control API requires; the caller has shown the token already."""
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    async def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> Reply:
        """Send a request to the application."""
        own = {"host": urlsplit(self.url).netloc, **headers, "content-length": str(len(body))}
        try:
            response = await call_in_process(self._app, self._connection, method, target, headers=own, body=body)
        except ConnectionError as error:
            raise ToolError(str(error), fix="A fault rule may do this.") from error
        found = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
        return Reply(response.status, found, response.body)


def path_part(text: str) -> str:
    """Return a text as one part of a path."""
    return quote(text, safe="")
