"""Whom the client calls, and with which key."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx2
from seedbed_schemas import Schema, default_contract, local

from seedbed_client.errors import ConfigurationError

if TYPE_CHECKING:
    from seedbed_schemas import Contract

BASE_URL_VARIABLE = "SEEDBED_BASE_URL"
KEY_VARIABLE = "SEEDBED_API_KEY"

_URI = Schema({"type": "string", "format": "uri"}, name="URL")
_LAST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A service, a key to it, and what it is asked for.

    Attributes:
        base_url: Where the service is, without a slash at the end.
        api_key: The key; not shown.
        contract: The contract of the model.
        is_live: Whether calls cost money.
    """

    base_url: str
    api_key: str = field(repr=False)
    contract: Contract
    is_live: bool = False


def local_endpoint(
    base_url: str | None = None, api_key: str | None = None, contract: Contract | None = None
) -> Endpoint:
    """Return a service that is not the paid one: the arguments, or the environment, or the local fake.

    Raises:
        ConfigurationError: The URL is none, or is that of the paid service.
    """
    chosen = base_url or os.environ.get(BASE_URL_VARIABLE) or local.BASE_URL
    url = _parsed(chosen)
    if url.host.rstrip(".") == httpx2.URL(default_contract().operation.server).host:
        raise ConfigurationError(f"{chosen} is the paid service: say so with SeedreamClient.live(api_key) or --live.")
    key = _checked(api_key or os.environ.get(KEY_VARIABLE) or local.KEY)
    return Endpoint(chosen.rstrip("/"), key, contract or default_contract())


def live_endpoint(api_key: str | None, contract: Contract | None = None) -> Endpoint:
    """Return the paid service.

    Raises:
        ConfigurationError: There is no key.
    """
    if not api_key:
        raise ConfigurationError(f"The paid service needs a key: pass one, or set {KEY_VARIABLE}.")
    chosen = contract or default_contract()
    return Endpoint(chosen.operation.server, _checked(api_key), chosen, is_live=True)


def _parsed(text: str) -> httpx2.URL:
    # httpx2 alone would mend what is not a URI rather than refuse it.
    url = httpx2.URL(text if _URI.accepts(text) else "")
    is_base = url.scheme in {"http", "https"} and url.host and not (url.query or url.fragment)
    if not is_base or (url.port or 0) > _LAST_PORT:
        raise ConfigurationError(f"{text!r} is not the URL of a service; one looks like {local.BASE_URL}.")
    return url


def _checked(api_key: str) -> str:
    if not (api_key.isascii() and api_key.isprintable()) or " " in api_key:
        raise ConfigurationError("A key is made of visible ASCII characters without spaces.")
    return api_key
