"""Access control: no web page may call the server, and the control API takes programs on this machine or the token.

A web page on this machine can send requests to a local server. The checks of Host, Origin and Sec-Fetch-Site keep it
out, even if it uses DNS rebinding, where the name of an attacker resolves to this machine.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from hmac import compare_digest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import Scope


# DNS cannot give these names to another machine. Connections to 0.0.0.0 and :: lead to this machine as well.
_OWN_NAMES = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "::")  # noqa: S104 (compared, not bound to)


_ANY = "*"


class ForbiddenError(Exception):
    """The caller has no access.

    Args:
        status: HTTP status of the response.
        message: Reason and remedy in one sentence.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check_origin(
    server: tuple[str, int | None],
    headers: Iterable[tuple[bytes, bytes]],
    names: frozenset[str],
    *,
    is_strict: bool = True,
) -> None:
    """Check that a request names this server and does not come from a web page of another origin.

    Args:
        server: Address of the server.
        headers: Headers of the request, with names in lower case.
        names: Host names of the server besides its address and localhost, in lower case; ``*`` for any.
        is_strict: Whether Host must give the port and one of these names. Otherwise it is enough that the name cannot
            be that of a web page: an address, a name without a dot, as containers have, or a name under localhost.

    Raises:
        ForbiddenError: The request names another host, or comes from another origin.
    """
    if _ANY in names:
        return
    own, sent = own_hosts(server, names), tuple(headers)
    hosts = _values(sent, b"host")
    if len(hosts) != 1 or not (hosts[0].lower() in own or (not is_strict and _is_no_page(hosts[0].lower()))):
        raise ForbiddenError(
            421,
            "The Host header does not name this server; use its address or localhost, or start it with --allow-host.",
        )
    origins = {f"http://{name}" for name in own} | {f"https://{name}" for name in names}
    if not origins.issuperset(map(str.lower, _values(sent, b"origin"))):
        raise ForbiddenError(403, "Web pages of other origins may not call the server; see --allow-host.")
    if not {"none", "same-origin"}.issuperset(_values(sent, b"sec-fetch-site")):
        raise ForbiddenError(403, "Web pages of other sites may not call the server; see --allow-host.")


def _is_no_page(host: str) -> bool:
    """Return whether a value of Host cannot come from DNS that an attacker controls."""
    name = re.sub(r":\d*$", "", host)
    return "." not in name or name.endswith(".localhost") or bool(re.fullmatch(r"[\d.]+|\[[\da-f:.]+\]", name))


@lru_cache(64)
def own_hosts(server: tuple[str, int | None], names: frozenset[str]) -> frozenset[str]:
    """Return the values of Host that name this server."""
    host, port = server
    suffix = "" if port is None else f":{port}"
    own = {f"[{name}]{suffix}" if ":" in name else f"{name}{suffix}" for name in (*_OWN_NAMES, host.lower(), *names)}
    # Clients leave out the default port, and a name may be that of a proxy with another port.
    return frozenset(own | {each.removesuffix(":80") for each in own} | names)


def check_access(scope: Scope, token: str, names: frozenset[str] = frozenset()) -> None:
    """Check that the caller may use the control API.

    Args:
        scope: ASGI scope of the request.
        token: Token that the caller must send; empty to admit callers on this machine without one.
        names: Host names of the server besides its address and localhost, in lower case; ``*`` for any.

    Raises:
        ForbiddenError: The caller has no access.
    """
    check_origin(scope["server"], scope["headers"], names)
    if not token:
        if not _is_local(scope):
            raise ForbiddenError(403, "Callers on other machines need a token; start the server with --control-token.")
        return
    # compare_digest takes the same time wherever the tokens differ, so that a caller cannot guess one step by step.
    scheme, _, sent = "".join(_values(scope["headers"], b"authorization")[:1]).partition(" ")
    if scheme.lower() != "bearer" or not compare_digest(sent.strip().encode(), token.encode()):
        raise ForbiddenError(
            401, "The control token is missing or wrong; send Authorization: Bearer TOKEN, as set by --control-token."
        )


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    """Return all values of a header: servers and browsers differ in which of several they use."""
    return [value.decode("latin-1").strip(" \t") for found, value in headers if found == name]


def _is_local(scope: Scope) -> bool:
    client = scope.get("client")
    if client is None:
        return True  # An application in the same process, or a Unix socket.
    try:
        address = ipaddress.ip_address(client[0].partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
