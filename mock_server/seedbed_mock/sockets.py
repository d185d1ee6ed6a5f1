"""The sockets that a server listens on: at an address, at a path, or those that a service manager has opened."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from seedbed_mock.access import is_loopback
from seedbed_mock.settings import base_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, MutableMapping, Sequence
    from pathlib import Path


_BACKLOG: Final = 2048
_FIRST_GIVEN: Final = 3
"""Number of the first open file that systemd passes on, after those of the standard streams."""

_MOST_GIVEN: Final = 64
_PROBE_SECONDS: Final = 1.0


class ListenError(OSError):
    """The server cannot listen on the address; the message says why."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        ListenError: The server cannot listen on the address.
    """
    try:
        name = host.removeprefix("[").removesuffix("]")
        family, *_, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # "::" means all addresses, those of IPv4 included, as in most servers; Python separates them by default.
        is_dual = address[0] == "::" and socket.has_dualstack_ipv6()
        listener = socket.create_server(
            address[:2], family=family, backlog=_BACKLOG, reuse_port=False, dualstack_ipv6=is_dual
        )
        # asyncio disables Nagle's algorithm only on sockets whose protocol is TCP, and Python leaves it at 0.
        return socket.socket(listener.family, listener.type, socket.IPPROTO_TCP, listener.detach())
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or str(error)
        raise ListenError(f"cannot listen on {host} port {port}: {reason}") from error


@contextlib.contextmanager
def listening_at(path: Path) -> Iterator[socket.socket]:
    """Listen on a Unix socket while the block runs, for programs of this user only, and remove it at the end.

    Args:
        path: Path of the socket. One that an earlier server has left is replaced.

    Raises:
        ListenError: The server cannot listen there; a file that is not a socket, or a socket in use, stays as it is.
    """
    # Absolute, so that it is removed although the program may have changed its folder.
    path = path.absolute()
    if not hasattr(socket, "AF_UNIX"):
        raise ListenError(f"cannot listen on {path}: this system has no Unix sockets")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            _remove_stale(path)
            listener.bind(os.fspath(path))
            # Nobody can connect before listen(), so that at no time the socket is open to other users.
            path.chmod(0o600)
            listener.listen(_BACKLOG)
            own = path.stat()
        except OSError as error:
            reason = error.strerror or f"{error}; use a shorter path"
            raise ListenError(f"cannot listen on {path}: {reason}") from error
        try:
            yield listener
        finally:
            # Another server may have replaced it meanwhile.
            with contextlib.suppress(OSError):
                if os.path.samestat(path.stat(), own):
                    path.unlink()


def _remove_stale(path: Path) -> None:
    """Remove a socket on which no server listens.

    Raises:
        OSError: The path is in use, or is no socket.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(0, "there is a file which is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A server that is too busy to accept connections is still a server.
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            if os.path.samestat(path.lstat(), found):
                path.unlink()
            return
        except TimeoutError:
            pass
    raise ListenError(0, "another server listens there")


def given_sockets(environment: MutableMapping[str, str]) -> list[socket.socket]:
    """Return the listening sockets that a service manager passes on, as systemd does: see ``sd_listen_fds(3)``.

    Args:
        environment: Environment of the process, from which the variables are removed: they are not for its children.

    Raises:
        ListenError: The variables are invalid, or an open file is no listening socket.
    """
    pid, number = environment.get("LISTEN_PID"), environment.get("LISTEN_FDS")
    if pid is None or number is None:
        return []
    for name, text in (("LISTEN_PID", pid), ("LISTEN_FDS", number)):
        if not re.fullmatch(r"\d{1,9}", text):
            raise ListenError(f"cannot use the sockets of the service manager: {name} is {text!r}, which is no number")
    # Those of another process: a shell between the service manager and this one has passed the variables on.
    if int(pid) != os.getpid():
        return []
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environment.pop(name, None)
    if int(number) > _MOST_GIVEN:
        raise ListenError(f"cannot use the sockets of the service manager: {number} are more than {_MOST_GIVEN}")
    return [_given_socket(each) for each in range(_FIRST_GIVEN, _FIRST_GIVEN + int(number))]


def _given_socket(number: int) -> socket.socket:
    try:
        given = socket.socket(fileno=number)
    except OSError as error:
        raise ListenError(f"cannot use the open file {number} of LISTEN_FDS: {error.strerror}") from error
    is_listening = given.type == socket.SOCK_STREAM and given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if not is_listening:
        given.detach()
        raise ListenError(f"cannot use the open file {number} of LISTEN_FDS: it is not a listening stream socket")
    given.set_inheritable(False)
    return given


def ports_of(listeners: Iterable[socket.socket]) -> list[int]:
    """Return the ports of listening sockets; a Unix socket has none."""
    names = (listener.getsockname() for listener in listeners)
    return [name[1] for name in names if isinstance(name, tuple)]


def url_of(listener: socket.socket) -> str:
    """Return the base URL of a listening socket; with a Unix socket, clients call ``localhost``."""
    name = listener.getsockname()
    return base_url(*name[:2]) if isinstance(name, tuple) else base_url("localhost", None)


def local_url_of(listeners: Sequence[socket.socket]) -> str:
    """Return the base URL under which programs on this machine reach a server.

    A client needs an address, not that of all addresses.
    """
    url = url_of(next((each for each in listeners if isinstance(each.getsockname(), tuple)), listeners[0]))
    url = url.replace("//0.0.0.0:", "//127.0.0.1:")
    return url.replace("//[::]:", "//127.0.0.1:" if socket.has_dualstack_ipv6() else "//[::1]:")


def exposed_addresses(listeners: Iterable[socket.socket]) -> list[str]:
    """Return the addresses at which other machines may reach a server."""
    names = (listener.getsockname() for listener in listeners)
    hosts = [name[0].partition("%")[0] for name in names if isinstance(name, tuple)]
    return [host for host in hosts if ip_address(host).is_unspecified or not is_loopback(host)]
