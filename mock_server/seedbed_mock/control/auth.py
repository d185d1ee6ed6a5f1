"""Access control of the control API: programs on this machine, or with the token, and never web pages.

A web page on this machine can send requests to a local server. The checks of Host, Origin and Sec-Fetch-Site keep it
out, even if it uses DNS rebinding, where the name of an attacker resolves to this machine.
"""

from __future__ import annotations

import ipaddress
from hmac import compare_digest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Scope


# DNS cannot give these names to another machine. Connections to 0.0.0.0 and :: lead to this machine as well.
_OWN_NAMES = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "::")  # noqa: S104 (compared, not bound to)


class ForbiddenError(Exception):
    """The caller has no access.

    Args:
        status: HTTP status of the response.
        message: Reason and remedy in one sentence.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check_access(scope: Scope, token: str) -> None:
    """Check that the caller may use the control API.

    Args:
        scope: ASGI scope of the request.
        token: Token that the caller must send; empty to admit callers on this machine without one.

    Raises:
        ForbiddenError: The caller has no access.
    """
    host, port = scope["server"]
    suffix = "" if port is None else f":{port}"
    own = {f"[{name}]{suffix}" if ":" in name else f"{name}{suffix}" for name in (*_OWN_NAMES, host)}
    # Clients leave out the default port.
    own |= {each.removesuffix(":80") for each in own}
    hosts = _values(scope, b"host")
    if len(hosts) != 1 or hosts[0].lower() not in own:
        raise ForbiddenError(421, "The Host header does not name this server; use its address or localhost.")
    if not {f"http://{name}" for name in own}.issuperset(map(str.lower, _values(scope, b"origin"))):
        raise ForbiddenError(403, "Web pages of other origins may not call the control API.")
    if not {"none", "same-origin"}.issuperset(_values(scope, b"sec-fetch-site")):
        raise ForbiddenError(403, "Web pages of other sites may not call the control API.")
    if not token:
        if not _is_local(scope):
            raise ForbiddenError(403, "Callers on other machines need a token; start the server with --control-token.")
        return
    # compare_digest takes the same time wherever the tokens differ, so that a caller cannot guess one step by step.
    scheme, _, sent = "".join(_values(scope, b"authorization")[:1]).partition(" ")
    if scheme.lower() != "bearer" or not compare_digest(sent.strip().encode(), token.encode()):
        raise ForbiddenError(
            401, "The control token is missing or wrong; send Authorization: Bearer TOKEN, as set by --control-token."
        )


def _values(scope: Scope, name: bytes) -> list[str]:
    """Return all values of a header: servers and browsers differ in which of several they use."""
    return [value.decode("latin-1").strip(" \t") for found, value in scope["headers"] if found == name]


def _is_local(scope: Scope) -> bool:
    client = scope.get("client")
    if client is None:
        return True  # An application in the same process, or a Unix socket.
    try:
        address = ipaddress.ip_address(client[0].partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
