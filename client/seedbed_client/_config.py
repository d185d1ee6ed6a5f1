"""The service to call and the key to call it with, which must not leak into reprs, logs or tracebacks."""

from __future__ import annotations

import ipaddress
import os
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Final

import httpx2
import msgspec
import seedbed_schemas
from seedbed_schemas import local

from seedbed_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from seedbed_schemas import Contract, Schema


KEY_VARIABLE: Final = "SEEDBED_API_KEY"

_MAX_PORT: Final = 65_535


class Secret:
    """A text that is hidden unless it is requested.

    Args:
        text: The text.
    """

    __slots__ = ("_reveal",)

    def __init__(self, text: str) -> None:
        # A closure: tools that display objects look into attributes, slots included.
        self._reveal: Callable[[], str] = lambda: text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __bool__(self) -> bool:
        return bool(self._reveal())

    def __reduce__(self) -> str:
        raise TypeError("a secret cannot be pickled")

    def reveal(self) -> str:
        """Return the text."""
        return self._reveal()


class KeyAuth(httpx2.Auth):
    """Adds the API key to a request at the moment it is sent, so that no other object holds it.

    Args:
        header: Name of the header.
        scheme: Word before the key, or an empty text.
        key: The key.
    """

    def __init__(self, header: str, scheme: str, key: Secret) -> None:
        self._header, self._scheme, self._key = header, scheme, key

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Yield the request with its key."""
        request.headers[self._header] = f"{self._scheme} {self._key.reveal()}".strip()
        yield request


_CARRIERS: Final = frozenset(
    {"seedbed_client", "httpx2", "httpcore2", "h11", "anyio", "asyncio", "trio", "ssl", "socket", "contextlib"}
)
"""Packages that a request passes through as an object or as bytes, so that their frames may hold the key."""


def without_frames(error: BaseException, outer: BaseException | None) -> BaseException:
    """Return an error without the frames of its tracebacks that may hold the key; frames of the user's code stay.

    Args:
        error: The error.
        outer: The error that the caller was handling already, which keeps its traceback.
    """
    seen: set[int] = {id(outer)}
    pending: list[BaseException | None] = [error]
    while pending:
        each = pending.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            entries, entry = [], each.__traceback__
            while entry:
                if str(entry.tb_frame.f_globals.get("__name__")).partition(".")[0] not in _CARRIERS:
                    entries.append(entry)
                entry = entry.tb_next
            each.__traceback__ = None
            for kept in reversed(entries):
                each.__traceback__ = TracebackType(each.__traceback__, kept.tb_frame, kept.tb_lasti, kept.tb_lineno)
            pending += [each.__cause__, each.__context__]
            pending += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
    return error


class ServiceEndpoint(msgspec.Struct, frozen=True):
    """A service and a key for it.

    Attributes:
        base_url: URL of the service, without a trailing slash.
        api_key: API key.
        is_live: Whether tasks cost credits.
    """

    base_url: str
    api_key: Secret
    is_live: bool = False

    def auth(self, contract: Contract) -> KeyAuth:
        """Return the authentication of a request, as a contract documents it."""
        return KeyAuth(contract.operation.header, contract.operation.scheme, self.api_key)

    @property
    def is_local(self) -> bool:
        """Whether the service runs on this machine, where proxies of the environment do not apply."""
        return _is_local(httpx2.URL(self.base_url).host)


def _is_local(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified


def local_endpoint(base_url: str | None, api_key: Secret, contracts: Iterable[Contract] = ()) -> ServiceEndpoint:
    """Return the endpoint that the arguments name, or the environment, or the local mock server.

    Args:
        base_url: URL of the service, or ``None``.
        api_key: API key, or an empty one.
        contracts: Contracts in addition to the shipped one, whose servers are paid services too.

    Raises:
        ConfigurationError: The URL is invalid or that of the paid service, or the key is invalid.
    """
    text = base_url or os.environ.get(local.BASE_URL_VARIABLE) or local.BASE_URL
    url = _parsed(text)
    # A test that is misconfigured must not spend credits. A host name may end with a dot.
    servers = (each.operation.server for each in (seedbed_schemas.default_contract(), *contracts))
    if url.host.rstrip(".") in {httpx2.URL(server).host for server in servers} and not _is_local(url.host):
        raise ConfigurationError(f"{text} is the paid service; use SeedreamClient.live(api_key) or --live to call it")
    return ServiceEndpoint(text.rstrip("/"), _checked(api_key or environment_key() or Secret(local.KEY)))


def live_endpoint(api_key: Secret, contracts: Iterable[Contract] = ()) -> ServiceEndpoint:
    """Return the endpoint of the paid service.

    Args:
        api_key: API key.
        contracts: Contracts in addition to the shipped one. Their server takes the place of that of the shipped one.

    Raises:
        ConfigurationError: The key is missing or invalid, or the contracts name several servers.
    """
    if not api_key:
        raise ConfigurationError(f"the key of the paid service is missing; pass one or set {KEY_VARIABLE}")
    servers = {each.operation.server.rstrip("/") for each in contracts}
    if len(servers) > 1:
        # The key of one service must not be sent to another.
        raise ConfigurationError(
            f"the contracts name several servers, {', '.join(sorted(servers))}; make a client for each of them"
        )
    server = servers.pop() if servers else seedbed_schemas.default_contract().operation.server
    return ServiceEndpoint(server, _checked(api_key), is_live=True)


def environment_key() -> Secret:
    """Return the key from the environment, or an empty one."""
    return Secret(os.environ.get(KEY_VARIABLE, ""))


@cache
def _uri_schema() -> Schema:
    return seedbed_schemas.Schema({"type": "string", "format": "uri"}, name="URL")


def _parsed(text: str) -> httpx2.URL:
    # httpx2 repairs invalid URLs rather than refusing them.
    url = httpx2.URL(text if _uri_schema().accepts(text) else "")
    if url.userinfo:
        # The password is a secret, so the error does not show the URL.
        raise ConfigurationError("the URL must not contain a user name or password; pass the key separately")
    is_base = url.scheme in {"http", "https"} and url.host and not (url.query or url.fragment)
    if not is_base or (url.port or 0) > _MAX_PORT:
        raise ConfigurationError(f"invalid URL {text!r}; give the URL of a service, for example {local.BASE_URL}")
    return url


def _checked(api_key: Secret) -> Secret:
    if not (api_key.reveal().isascii() and api_key.reveal().isprintable()) or " " in api_key.reveal():
        raise ConfigurationError("invalid API key; a key consists of visible ASCII characters without spaces")
    return api_key
