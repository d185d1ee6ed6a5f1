"""Whom the server may call: a name is resolved once, and every address it leads to is checked before any connection.

A callback's URL comes from whoever makes a task, so it must not reach what only this machine can reach.
"""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from seedbed_mock.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    Resolver = Callable[..., Awaitable[Sequence[tuple[Any, ...]]]]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Networks are spelled out here, since what ipaddress calls private or global differs between versions of Python.
_LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1"))
_LINK_LOCAL = (IPv4Network("169.254.0.0/16"), IPv6Network("fe80::/10"))
_NOBODY: tuple[Network, ...] = (
    IPv4Network("0.0.0.0/8"),
    IPv4Network("224.0.0.0/4"),
    IPv4Network("255.255.255.255"),
    IPv6Network("ff00::/8"),
    *IPv6Network("::/96").address_exclude(IPv6Network("::1")),
)
"""Unspecified, multicast, broadcast, and IPv4 written as IPv6 in the form that RFC 4291 section 2.5.5.1 withdrew."""

_MAPPED = IPv6Network("::ffff:0:0/96")
_TRANSLATED = (
    (IPv6Network("64:ff9b::/96"), 0),
    (IPv6Network("64:ff9b:1::/48"), 0),
    (IPv6Network("::ffff:0:0:0/96"), 0),
    (IPv6Network("2002::/16"), 80),
)
"""NAT64 (RFC 6052, RFC 8215), SIIT and 6to4: networks, and by how many bits the IPv4 address inside is shifted."""

_LONGEST_URL = 8192
_LONGEST_NAME = 253
_LARGEST_PORT = 65535
_DEFAULT_PORTS = {"http": 80, "https": 443}

_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_URL = re.compile(r"(?i:(https?))://([^/?#]*)([^#]*)(?:#.*)?")
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]+)(?::([0-9]{0,9}))?")
_LABEL = r"[a-z0-9_-]{1,63}"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_KEPT_IN_PATH = "!$%&'()*+,/:;=?@[]"


class TargetRefusedError(Exception):
    """The URL may not be called, now or later; the message is one sentence that says why."""


class UnknownTargetError(Exception):
    """The name of the receiver does not resolve, which may change; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class CallbackTarget:
    """A receiver whose addresses have been checked.

    Attributes:
        addresses: Where to connect, in the order to try; nothing else may be connected to.
        port: Port to connect to.
        server_name: Whom the certificate has to name, ``None`` where the URL is no https.
        host: What the Host header says.
        path: Path and query.
    """

    addresses: tuple[str, ...]
    port: int
    server_name: str | None
    host: str
    path: str


@dataclass(frozen=True, slots=True)
class AllowList:
    """Who may receive callbacks, beside receivers on this machine's loopback addresses.

    Attributes:
        networks: Addresses that are allowed.
        names: Host names that are allowed, with whatever they resolve to.
    """

    networks: tuple[Network, ...] = ()
    names: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> AllowList:
        """Read host names, IP addresses and networks.

        Raises:
            SettingsError: An entry is none of these.
        """
        read = [_entry(entry) for entry in entries]
        names = frozenset(entry for entry in read if isinstance(entry, str))
        return cls(tuple(entry for entry in read if not isinstance(entry, str)), names)

    def check(self, address: Address, host: str) -> None:
        """Check an address that a host of this name has.

        Raises:
            TargetRefusedError: The address is not allowed.
        """
        for reached in _reached(address):
            if _is_in(reached, _NOBODY):
                raise TargetRefusedError(
                    f"{_leads(host, reached)} is none that a receiver can have, so no callback is sent."
                )
            if not self._includes(reached, host):
                entry = host if _name(host) and not _is_in(reached, _LINK_LOCAL) else reached
                raise TargetRefusedError(
                    f"{_leads(host, reached)} is not allowed to receive callbacks;"
                    f" seedbed serve --callback-allow {entry} would allow it."
                )

    def _includes(self, address: Address, host: str) -> bool:
        # Cloud machines keep their secrets at link-local addresses: only an entry that means just those opens them.
        bound = next((network.prefixlen for network in _LINK_LOCAL if address in network), 0)
        named = host in self.names and not bound
        return named or any(address in own and own.prefixlen >= bound for own in (*_LOOPBACK, *self.networks))


async def resolve(url: str, allowed: AllowList, *, getaddrinfo: Resolver | None = None) -> CallbackTarget:
    """Return whom a URL leads to, having checked all its addresses.

    Args:
        url: Where a callback is to go.
        allowed: Who may receive callbacks.
        getaddrinfo: Resolves names, as the event loop's method of this name does, which is the default.

    Raises:
        TargetRefusedError: The URL is none that a callback may go to.
        UnknownTargetError: The name does not resolve.
    """
    scheme, place, port, path = _read(url)
    host = str(place)
    ask = getaddrinfo or asyncio.get_running_loop().getaddrinfo
    addresses = await _addresses(host, port, ask) if isinstance(place, str) else [_unmapped(place)]
    for address in addresses:
        allowed.check(address, host)
    shown = f"[{host}]" if isinstance(place, IPv6Address) else host
    return CallbackTarget(
        addresses=tuple(dict.fromkeys(map(str, addresses))),
        port=port,
        server_name=host if scheme == "https" else None,
        host=shown if port == _DEFAULT_PORTS[scheme] else f"{shown}:{port}",
        path=path,
    )


async def _addresses(name: str, port: int, getaddrinfo: Resolver) -> list[Address]:
    try:
        found = await getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "the name cannot be looked up"
        raise UnknownTargetError(f"The host {name} was not found: {reason}.") from error
    if not found:
        raise UnknownTargetError(f"The host {name} has no address.")
    return [_unmapped(ip_address(place[0])) for *_, place in found]


def _read(url: str) -> tuple[str, Address | str, int, str]:
    """Return scheme, host, port, and path with query."""
    if len(url) > _LONGEST_URL:
        raise TargetRefusedError(f"The callback URL is longer than {_LONGEST_URL} characters.")
    if _UNPRINTABLE.search(url):
        raise TargetRefusedError("The callback URL has a space or an unprintable character in it; percent-encode it.")
    match = _URL.fullmatch(url)
    if not match:
        raise TargetRefusedError("A callback URL begins with http:// or https:// and a host.")
    scheme, authority, path = match[1].lower(), match[2], match[3]
    if "@" in authority:
        raise TargetRefusedError(
            "A callback URL has no user name or password; leave out the @ and what stands before it."
        )
    host, port = _host_and_port(authority)
    path = path if path.startswith("/") else f"/{path}"
    return scheme, host, port or _DEFAULT_PORTS[scheme], quote(path, safe=_KEPT_IN_PATH)


def _host_and_port(authority: str) -> tuple[Address | str, int | None]:
    match = _AUTHORITY.fullmatch(authority)
    host = match and _host(match[1])
    if not match or not host:
        raise TargetRefusedError(
            "The host of a callback URL is a name, an IPv4 address in four decimal numbers,"
            f" or an IPv6 address in brackets without a zone; not {_clipped(authority)}."
        )
    port = int(match[2]) if match[2] else None
    if port is not None and not 0 < port <= _LARGEST_PORT:
        raise TargetRefusedError(f"The port of a callback URL is from 1 to {_LARGEST_PORT}, not {port}.")
    return host, port


def _host(text: str) -> Address | str | None:
    try:
        return IPv6Address(text[1:-1]) if text[0] == "[" and "%" not in text else IPv4Address(text)
    except ValueError:
        return _name(text)


def _name(text: str) -> str | None:
    """Return a host name as it is resolved and compared, or ``None`` for what is none."""
    # What looks like a number would be an IPv4 address to the resolver: 127.1, 0x7f.1, 2130706433.
    if len(text) > _LONGEST_NAME + 1:
        return None
    try:
        name = text.encode("idna").decode().lower().removesuffix(".")
    except UnicodeError:
        return None
    return name if _NAME.fullmatch(name) and len(name) <= _LONGEST_NAME and not _NUMBER.fullmatch(name) else None


def _entry(text: str) -> Network | str:
    entry = _network(text) or _name(text)
    if entry is None:
        raise SettingsError(
            "A callback is allowed to a host name, an IP address or a network, such as app.test, 192.168.1.20"
            f" or 10.0.0.0/8, without scheme or port (0.0.0.0/0 is any IPv4 address); not {_clipped(text)}."
        )
    if not isinstance(entry, str) and any(_contains(network, entry) for network in _NOBODY):
        raise SettingsError(f"No receiver can have the address {text}, so no callback can be allowed there.")
    return entry


def _network(text: str) -> Network | None:
    try:
        interface = ip_interface(text)
    except ValueError:
        return None
    address, network = interface.ip, interface.network
    if "%" in text:
        return None
    if address != network.network_address:
        raise SettingsError(f"{text} is neither one address nor a network: write {address} or {network}.")
    if isinstance(network, IPv6Network) and _contains(_MAPPED, network):
        return IPv4Network((int(address) & 0xFFFFFFFF, network.prefixlen - _MAPPED.prefixlen))
    return network


def _contains(outer: Network, inner: Network) -> bool:
    return inner.network_address in outer and inner.prefixlen >= outer.prefixlen


def _unmapped(address: Address) -> Address:
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _reached(address: Address) -> Iterator[Address]:
    """Yield an address without its zone, and the IPv4 addresses that a gateway would pass a connection on to."""
    if isinstance(address, IPv4Address):
        yield address
        return
    yield IPv6Address(int(address))
    for network, shift in _TRANSLATED:
        if address in network:
            yield IPv4Address(int(address) >> shift & 0xFFFFFFFF)
    yield from address.teredo or ()


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _leads(host: str, address: Address) -> str:
    return f"The address {address}" if host == str(address) else f"The host {host} leads to {address}, which"


def _clipped(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_NAME else f"{text[:60]}...")
