"""Who may call the control API: programs of this machine, and no web page, whatever name it was reached by."""

from __future__ import annotations

import ipaddress
from hmac import compare_digest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Scope


# No name of an outsider's can be made to mean any of these, 0.0.0.0 and :: included, which mean this machine, too.
_OWN_NAMES = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "::")  # noqa: S104 (names that are called, not listened on)


class ForbiddenError(Exception):
    """The caller may not; the message is one sentence that says why.

    Args:
        status: HTTP status of the answer.
        sentence: Why.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def check_access(scope: Scope, token: str) -> None:
    """Check who calls.

    Args:
        scope: The request.
        token: What the caller must show, empty where callers of this machine need not.

    Raises:
        ForbiddenError: The caller may not.
    """
    own = _own_names(scope)
    hosts = _values(scope, b"host")
    if len(hosts) != 1 or hosts[0].lower() not in own:
        raise ForbiddenError(421, "The Host of the request is not this server; call it by its address or as localhost.")
    if not {f"http://{name}" for name in own}.issuperset(map(str.lower, _values(scope, b"origin"))):
        raise ForbiddenError(403, "Web pages of another origin may not call the control API.")
    if not {"none", "same-origin"}.issuperset(_values(scope, b"sec-fetch-site")):
        raise ForbiddenError(403, "Web pages of another site may not call the control API.")
    _check_token(scope, token)


def _check_token(scope: Scope, token: str) -> None:
    if not token:
        if not _is_local(scope):
            raise ForbiddenError(
                403, "Callers from other machines need a token: start the server with --control-token."
            )
        return
    scheme, _, shown = "".join(_values(scope, b"authorization")[:1]).partition(" ")
    if scheme.lower() != "bearer" or not compare_digest(shown.strip().encode(), token.encode()):
        raise ForbiddenError(
            401, "The control API wants Authorization: Bearer TOKEN, with the token of --control-token."
        )


def _values(scope: Scope, name: bytes) -> list[str]:
    """Return the values of a header, each as often as it was sent: to look at one alone would miss the other."""
    return [value.decode("latin-1").strip(" \t") for found, value in scope["headers"] if found == name]


def _own_names(scope: Scope) -> set[str]:
    """Return by which names this server may be called, with its port."""
    host, port = scope["server"]
    ending = "" if port is None else f":{port}"
    names = {f"{_bracketed(name)}{ending}" for name in (*_OWN_NAMES, host)}
    # A port that is the scheme's own is left out by every client.
    return names | {name.removesuffix(":80") for name in names}


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_local(scope: Scope) -> bool:
    client = scope.get("client")
    if client is None:
        return True  # No socket at all: an application in the same process, or a Unix socket of this machine.
    try:
        address = ipaddress.ip_address(client[0].partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
