"""A key that does not show: not in a repr, a log or the locals of a traceback."""

from __future__ import annotations

import ipaddress
import os
from functools import cache
from typing import TYPE_CHECKING

import httpx2
import msgspec
import seedbed_schemas
from seedbed_schemas import local

from seedbed_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from seedbed_schemas import Schema


class Secret:
    """A text that only who asks for it gets to see.

    Args:
        text: The text.
    """

    __slots__ = ("_tell",)

    def __init__(self, text: str) -> None:
        # A closure, for tools that show objects look into their attributes, slots included.
        self._tell: Callable[[], str] = lambda: text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __bool__(self) -> bool:
        return bool(self._tell())

    def __reduce__(self) -> str:
        raise TypeError("A secret is not written anywhere.")

    def tell(self) -> str:
        """Return the text."""
        return self._tell()


class KeyAuth(httpx2.Auth):
    """Puts a key into its header when a request leaves, so that nothing on the way there holds it.

    Args:
        header: Name of the header.
        scheme: Word before the key.
        key: The key.
    """

    def __init__(self, header: str, scheme: str, key: Secret) -> None:
        self._header, self._scheme, self._key = header, scheme, key

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Yield the request with its key."""
        request.headers[self._header] = f"{self._scheme} {self._key.tell()}"
        yield request


def without_frames(error: BaseException, outer: BaseException | None) -> BaseException:
    """Return an error without the frames in which it came about, and so without the headers that stood there.

    Args:
        error: The error.
        outer: What was being handled before, by callers, which stays as it is.
    """
    seen: set[int] = {id(outer)}
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            waiting += [each.__cause__, each.__context__]
    return error


BASE_URL_VARIABLE = "SEEDBED_BASE_URL"
KEY_VARIABLE = "SEEDBED_API_KEY"

_LAST_PORT = 65_535


class ServiceEndpoint(msgspec.Struct, frozen=True):
    """A service, and a key to it.

    Attributes:
        base_url: Where the service is, without a slash at the end.
        api_key: The key.
        is_live: Whether calls cost money.
    """

    base_url: str
    api_key: Secret
    is_live: bool = False

    @property
    def auth(self) -> KeyAuth:
        """What puts the key into a request."""
        operation = seedbed_schemas.default_contract().operation
        return KeyAuth(operation.header, operation.scheme, self.api_key)

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, where no proxy of the environment leads."""
        host = httpx2.URL(self.base_url).host
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return host == "localhost"
        return address.is_loopback or address.is_unspecified


def local_endpoint(base_url: str | None, api_key: Secret) -> ServiceEndpoint:
    """Return a service that is not the paid one: the arguments, or the environment, or the local fake.

    Raises:
        ConfigurationError: The URL is none, or is that of the paid service.
    """
    chosen = base_url or os.environ.get(BASE_URL_VARIABLE) or local.BASE_URL
    url = _parsed(chosen)
    if url.host.rstrip(".") == httpx2.URL(seedbed_schemas.default_contract().operation.server).host:
        raise ConfigurationError(f"{chosen} is the paid service: say so with SeedreamClient.live(api_key) or --live.")
    return ServiceEndpoint(chosen.rstrip("/"), _checked(api_key or environment_key() or Secret(local.KEY)))


def live_endpoint(api_key: Secret) -> ServiceEndpoint:
    """Return the paid service.

    Raises:
        ConfigurationError: There is no key.
    """
    if not api_key:
        raise ConfigurationError(f"The paid service needs a key: pass one, or set {KEY_VARIABLE}.")
    return ServiceEndpoint(seedbed_schemas.default_contract().operation.server, _checked(api_key), is_live=True)


def environment_key() -> Secret:
    """Return the key that the environment has, an empty one where it has none."""
    return Secret(os.environ.get(KEY_VARIABLE, ""))


@cache
def _uri() -> Schema:
    return seedbed_schemas.Schema({"type": "string", "format": "uri"}, name="URL")


def _parsed(text: str) -> httpx2.URL:
    # httpx2 alone would mend what is not a URI rather than refuse it.
    url = httpx2.URL(text if _uri().accepts(text) else "")
    if url.userinfo:  # not shown, for it is secret
        raise ConfigurationError("The URL of a service has no user name or password in it; give the key by itself.")
    is_base = url.scheme in {"http", "https"} and url.host and not (url.query or url.fragment)
    if not is_base or (url.port or 0) > _LAST_PORT:
        raise ConfigurationError(f"{text!r} is not the URL of a service; one looks like {local.BASE_URL}.")
    return url


def _checked(api_key: Secret) -> Secret:
    if not (api_key.tell().isascii() and api_key.tell().isprintable()) or " " in api_key.tell():
        raise ConfigurationError("A key is made of visible ASCII characters without spaces.")
    return api_key
