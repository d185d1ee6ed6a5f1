"""Access control: no web page may call the server, and the control API takes programs on this machine or the token.

A web page on this machine can send requests to a local server. The checks of Host, Origin and Sec-Fetch-Site keep it
out, even if it uses DNS rebinding, where the name of an attacker resolves to this machine.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from hmac import compare_digest
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from seedbed_mock.settings import base_url, netloc, split_host

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import Scope


# DNS cannot give these names to another machine. Connections to 0.0.0.0 and :: lead to this machine as well.
_OWN_NAMES = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "::")  # noqa: S104 (compared, not bound to)


_ANY = "*"
_LOCALHOST = "localhost"
_LONGEST_HOST = 300
_DEFAULT_PORTS = {"http": 80, "https": 443}


class ForbiddenError(Exception):
    """The caller has no access.

    Args:
        status: HTTP status of the response.
        message: Reason and remedy in one sentence.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def address_of(scope: Scope) -> tuple[str, int | None]:
    """Return the host and the port at which a request arrived; those of a Unix socket are ``localhost`` without one."""
    host, port = scope.get("server") or (_LOCALHOST, None)
    return (_LOCALHOST, None) if host.startswith(("/", "\0")) else (host, port)


def url_called(server: tuple[str, int | None], host: bytes, names: frozenset[str], scheme: str, root_path: str) -> str:
    """Return the base URL at which a client called the server.

    This is the address in the Host header if it is one of this machine, the address of the server or one of its names,
    so that it also works behind a port mapping. Otherwise it is that of the socket: anyone can write anything there.

    Args:
        server: Address at which the request arrived.
        host: Value of its Host header.
        names: Host names of the server besides its address and localhost, in lower case; ``*`` for any.
        scheme: Scheme of the request.
        root_path: Path below which the server is mounted.
    """
    # A longer value is no host, and would stay in the cache.
    return _url_called(server, host if len(host) <= _LONGEST_HOST else b"", names, scheme, root_path)


@lru_cache(256)
def _url_called(server: tuple[str, int | None], host: bytes, names: frozenset[str], scheme: str, root_path: str) -> str:
    parts = split_host(host.decode("latin-1"))
    if parts is None or not (is_loopback(parts[0]) or parts[0] == server[0] or is_named(parts, names)):
        return base_url(*server, scheme, root_path)
    name, port = parts
    return base_url(name, None if port == _DEFAULT_PORTS.get(scheme) else port, scheme, root_path)


class CalledPlace(NamedTuple):
    """Where a request reached the server.

    Attributes:
        server: Address at which it arrived.
        url: Base URL that its client called; see :func:`url_called`.
        is_named: Whether its Host header gives an address or a name of this server.
    """

    server: tuple[str, int | None]
    url: str
    is_named: bool


def place_of(scope: Scope, host: bytes, called: frozenset[str], names: frozenset[str]) -> CalledPlace:
    """Return where a request reached the server; the latest results are remembered.

    Args:
        scope: ASGI scope of the request.
        host: Value of its Host header.
        called: Names that the URLs in responses may have.
        names: Host names of the server besides its address and localhost.
    """
    host = host if len(host) <= _LONGEST_HOST else b""
    return _place_of(address_of(scope), host, called, names, scope.get("scheme", "http"), scope.get("root_path", ""))


@lru_cache(256)
def _place_of(  # noqa: PLR0917 (the key of the cache)
    server: tuple[str, int | None],
    host: bytes,
    called: frozenset[str],
    names: frozenset[str],
    scheme: str,
    root_path: str,
) -> CalledPlace:
    url = url_called(server, host, called, scheme, root_path)
    return CalledPlace(server, url, host.decode("latin-1") in own_hosts(server, names))


def is_own_url(base: str, called: str, sent: bytes, server: tuple[str, int | None], names: frozenset[str]) -> bool:
    """Return whether a base URL leads to the server under one of its names.

    Args:
        base: The base URL.
        called: Base URL at which a client called the server.
        sent: Value of its Host header, which was accepted.
        server: Address at which that request arrived.
        names: Host names of the server besides its address and localhost, in lower case; ``*`` for any.
    """
    if base == called:
        return True
    here = urlsplit(called)
    scheme, _, rest = base.partition("://")
    host, slash, path = rest.partition("/")
    # A server that speaks TLS also speaks plain HTTP, but not the other way round.
    if scheme not in {"http", here.scheme} or f"{slash}{path}" != here.path:
        return False
    parts = split_host(host)
    is_own = host.encode() == sent or host in own_hosts(server, frozenset())
    return is_own or bool(parts and is_named(parts, names))


def is_loopback(name: str) -> bool:
    """Return whether a host name or an address without brackets always leads to this machine."""
    if name in _OWN_NAMES or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def is_named(host: tuple[str, int | None], names: frozenset[str]) -> bool:
    """Return whether a host and port are among the names of a server; a name without a port has any."""
    name, port = host
    return _ANY in names or name in names or (port is not None and netloc(name, port) in names)


def check_origin(
    server: tuple[str, int | None],
    headers: Iterable[tuple[bytes, bytes]],
    names: frozenset[str],
    *,
    is_strict: bool = True,
    is_trusted: bool = False,
    pages: frozenset[str] = frozenset(),
) -> None:
    """Check that a request names this server and does not come from a web page of another origin.

    Args:
        server: Address of the server.
        headers: Headers of the request, with names in lower case.
        names: Host names of the server besides its address and localhost, in lower case; ``*`` for any.
        is_strict: Whether Host must give the port and one of these names. Otherwise it is enough that the name cannot
            be that of a web page: an address, a name without a dot, as containers have, or a name under localhost.
        is_trusted: Whether the caller has shown a secret that no web page has, so that any host will do.
        pages: Origins whose web pages may call the server; ``*`` for any.

    Raises:
        ForbiddenError: The request names another host, or comes from another origin.
    """
    if _ANY in names:
        return
    own, sent = own_hosts(server, names), tuple(headers)
    hosts = [value.lower() for value in _values(sent, b"host")]
    if len(hosts) != 1 or not (
        hosts[0] in own or _is_accepted(hosts[0], names, is_strict=is_strict, is_trusted=is_trusted)
    ):
        raise ForbiddenError(
            421,
            "The Host header does not name this server; use its address or localhost, or start it with --allow-host.",
        )
    found = {origin.lower() for origin in _values(sent, b"origin")}
    if found and (_ANY in pages or found <= pages):
        return
    origins = {f"http://{name}" for name in own} | {f"https://{name}" for name in names}
    if not origins.issuperset(found):
        raise ForbiddenError(403, "Web pages of other origins may not call the server; see --allow-host.")
    if not {"none", "same-origin"}.issuperset(_values(sent, b"sec-fetch-site")):
        raise ForbiddenError(403, "Web pages of other sites may not call the server; see --allow-host.")


def _is_accepted(host: str, names: frozenset[str], *, is_strict: bool, is_trusted: bool) -> bool:
    parts = split_host(host)
    return bool(parts and (is_trusted or is_named(parts, names))) or (not is_strict and _is_no_page(host))


def _is_no_page(host: str) -> bool:
    """Return whether a value of Host cannot come from DNS that an attacker controls."""
    name = re.sub(r"\.?(:\d*)?$", "", host)
    return "." not in name or name.endswith(".localhost") or bool(re.fullmatch(r"[\d.]+|\[[\da-f:.]+\]", name))


@lru_cache(64)
def own_hosts(server: tuple[str, int | None], names: frozenset[str]) -> frozenset[str]:
    """Return the values of Host that name this server."""
    host, port = server
    suffix = "" if port is None else f":{port}"
    own = {f"{netloc(name)}{suffix}" for name in (*_OWN_NAMES, host.lower(), *names) if not name.endswith("]")}
    # Clients leave out the default port, and a name may be that of a proxy with another port.
    return frozenset(own | {each.removesuffix(":80").removesuffix(":443") for each in own} | names)


def check_access(scope: Scope, token: str, names: frozenset[str] = frozenset()) -> None:
    """Check that the caller may use the control API.

    Args:
        scope: ASGI scope of the request.
        token: Token that the caller must send; empty to admit callers on this machine without one.
        names: Host names of the server besides its address and localhost, in lower case; ``*`` for any.

    Raises:
        ForbiddenError: The caller has no access.
    """
    # compare_digest takes the same time wherever the tokens differ, so that a caller cannot guess one step by step.
    scheme, _, sent = "".join(_values(scope["headers"], b"authorization")[:1]).partition(" ")
    has_token = bool(token) and scheme.lower() == "bearer" and compare_digest(sent.strip().encode(), token.encode())
    check_origin(address_of(scope), scope["headers"], names, is_trusted=has_token)
    if not token and not _is_local(scope):
        raise ForbiddenError(403, "Callers on other machines need a token; start the server with --control-token.")
    if token and not has_token:
        raise ForbiddenError(
            401, "The control token is missing or wrong; send Authorization: Bearer TOKEN, as set by --control-token."
        )


def check_loopback_access(scope: Scope, token: str, names: frozenset[str] = frozenset()) -> None:
    """Check that the caller may use the endpoint for agents: on this machine only, and with the token if there is one.

    The arguments are those of :func:`check_access`. Neither the token nor ``*`` among the names admits any host: the
    endpoint runs commands.

    Raises:
        ForbiddenError: The caller has no access.
    """
    check_origin(address_of(scope), scope["headers"], names - {_ANY})
    if not _is_local(scope):
        raise ForbiddenError(403, "The endpoint for agents takes callers on this machine only.")
    check_access(scope, token, names - {_ANY})


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    """Return all values of a header: servers and browsers differ in which of several they use."""
    return [value.decode("latin-1").strip(" \t") for found, value in headers if found == name]


def _is_local(scope: Scope) -> bool:
    client = scope.get("client")
    # Without a client, the caller is an application in the same process, or at a Unix socket.
    return client is None or is_loopback(client[0].partition("%")[0])
