"""Callback targets: which addresses the server may connect to.

The creator of a task chooses the URL of its callback, so the URL must not reach what only this machine can reach
(server-side request forgery). A name is resolved once, every address is checked against the allow-list, and the
connection goes to a checked address, so that a second DNS lookup cannot give another one (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from seedbed_mock.clock import real_monotonic
from seedbed_mock.settings import SettingsError
from seedbed_mock.tasks import CallbackDelivery, DeliveryAttempt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    Resolver = Callable[..., Awaitable[Sequence[tuple[Any, ...]]]]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Spelled out, because what ipaddress calls private or global differs between versions of Python.
_LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1"))
_LINK_LOCAL = (IPv4Network("169.254.0.0/16"), IPv6Network("fe80::/10"))
_UNUSABLE: tuple[Network, ...] = (
    IPv4Network("0.0.0.0/8"),
    IPv4Network("224.0.0.0/4"),
    IPv4Network("255.255.255.255"),
    IPv6Network("ff00::/8"),
    *IPv6Network("::/96").address_exclude(IPv6Network("::1")),
)
"""Unspecified, multicast and broadcast addresses, and the IPv4-compatible ones that RFC 4291 section 2.5.5.1 drops."""

_MAPPED = IPv6Network("::ffff:0:0/96")

_LONGEST_URL = 8192
_LONGEST_NAME = 253
_LARGEST_PORT = 65535

_REMEMBERED_SECONDS = 10
_MOST_REMEMBERED = 1000
_LONGEST_REMEMBERED = 500
_MANY = 1000
"""As many tasks with one URL, or refused callbacks to it, as the journal has entries: nobody reads about more."""
_MANY_SECONDS = 50
_DEFAULT_PORTS = {"http": 80, "https": 443}

# Own patterns and not urlsplit, which repairs and accepts URLs that other parsers read differently.
_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_URL = re.compile(r"(?i:(https?))://([^/?#]*)([^#]*)(?:#.*)?")
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]+)(?::([0-9]{0,9}))?")
_LABEL = r"[a-z0-9_-]{1,63}"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_UNESCAPED_IN_PATH = "!$%&'()*+,/:;=?@[]"


class TargetRefusedError(Exception):
    """No callback may be sent to the URL; the message is one sentence that says why."""


class UnknownTargetError(Exception):
    """The host name does not resolve at the moment; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class CallbackTarget:
    """A receiver whose addresses are checked.

    Attributes:
        addresses: Addresses to try in this order; no other may be connected to.
        port: Port to connect to.
        server_name: Name that the certificate must contain; ``None`` for plain HTTP.
        host: Value of the Host header.
        path: Path and query.
    """

    addresses: tuple[str, ...]
    port: int
    server_name: str | None
    host: str
    path: str


@dataclass(frozen=True, slots=True)
class AllowList:
    """The receivers to which callbacks may be sent, in addition to the loopback addresses of this machine.

    Attributes:
        networks: Allowed addresses.
        names: Allowed host names; they may resolve to any address that is not link-local.
    """

    networks: tuple[Network, ...] = ()
    names: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> AllowList:
        """Parse host names, IP addresses and networks.

        Raises:
            SettingsError: An entry is invalid.
        """
        networks: list[Network] = []
        names: set[str] = set()
        for text in entries:
            if network := _parse_network(text):
                networks.append(network)
            elif name := _parse_name(text):
                names.add(name)
            else:
                raise SettingsError(
                    f"Invalid entry {_shortened(text)} of the callback allow-list; use a host name, an IP address or a"
                    " network without scheme and port, such as app.test, 192.168.1.20 or 10.0.0.0/8 (0.0.0.0/0 is any"
                    " IPv4 address)."
                )
        return cls(tuple(networks), frozenset(names))

    def may_allow(self, url: str) -> bool:
        """Return whether a callback to this URL may be allowed later, although its host is not found now.

        Without an entry for it, only a name of this machine is allowed, which does not come into being later.
        """
        try:
            host = _parse_url(url)[1]
        except TargetRefusedError:
            return False
        return bool(self.networks) or host in self.names

    def check(self, address: Address, host: str) -> None:
        """Check one of the addresses of a host.

        Raises:
            TargetRefusedError: The address is not allowed.
        """
        # Only the number counts: a zone, as in fe80::1%eth0, would make the address unequal to any entry.
        bare = IPv6Address(int(address)) if isinstance(address, IPv6Address) else address
        subject = f"The address {bare}" if host == str(bare) else f"The host {host} leads to {bare}, which"
        if any(bare in network for network in _UNUSABLE):
            raise TargetRefusedError(f"{subject} cannot be the address of a receiver.")
        # Cloud machines serve credentials at link-local addresses, so that only an entry within these allows them.
        shortest = next((network.prefixlen for network in _LINK_LOCAL if bare in network), 0)
        allowed = (network for network in (*_LOOPBACK, *self.networks) if network.prefixlen >= shortest)
        if not (host in self.names and not shortest) and not any(bare in network for network in allowed):
            entry = host if _parse_name(host) and not shortest else bare
            raise TargetRefusedError(
                f"{subject} is not allowed to receive callbacks; allow it with"
                f" seedbed serve --callback-allow {entry} if you trust it."
            )


class HostLookups:
    """Looks up the hosts of callbacks, for :func:`resolve`: a host that many callbacks wait for is looked up once."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, int], asyncio.Future[Sequence[tuple[Any, ...]]]] = {}

    async def __call__(self, host: str, port: int, *, type: socket.SocketKind) -> Sequence[tuple[Any, ...]]:  # noqa: A002 (the name of the system)
        """Return the addresses of a host, as ``socket.getaddrinfo()`` does."""
        loop, key = asyncio.get_running_loop(), (host, port)
        running = self._running.get(key)
        if running is None or running.get_loop() is not loop:
            # The method of uvloop's event loop uses threads of its own, and closing the loop waits for them: an
            # unreachable name server would delay the end of the server by many seconds.
            look_up = partial(socket.getaddrinfo, host, port, type=type)
            running = self._running[key] = loop.run_in_executor(None, look_up)
            running.add_done_callback(lambda done: self._forget(key, done))
        # Shielded: the end of one callback must not end the lookup of the others.
        return await asyncio.shield(running)

    def _forget(self, key: tuple[str, int], done: asyncio.Future[Sequence[tuple[Any, ...]]]) -> None:
        if self._running.get(key) is done:
            del self._running[key]
        if not done.cancelled():
            # Retrieved here, since the callbacks that waited may be gone: asyncio would log the error otherwise.
            done.exception()


class _Refusal(msgspec.Struct, gc=False):
    """That no callback may be sent to a URL.

    Attributes:
        reason: Why.
        until: Until when a callback to it needs no lookup, as monotonic time.
        count: Number of callbacks that were refused since.
    """

    reason: str
    until: float
    count: int = 0


class RefusedUrls:
    """The URLs to which no callback may be sent, so that the next callbacks to them cost no lookup.

    They are remembered for some seconds of real time only, since names move, and only so many.

    After many callbacks to one URL, as in a load test with the URL of an example, the next ones are refused when their
    tasks are created, which costs hardly anything.

    Args:
        find_refusal: Called with a URL that many tasks have before its first callback is due, to find out whether it is
            refused.
    """

    def __init__(self, find_refusal: Callable[[str], None] = lambda _: None) -> None:
        self._find_refusal = find_refusal
        self._tasks: dict[str, int] = {}
        self._refused: dict[str, _Refusal] = {}
        self._latest: tuple[str, str, int, CallbackDelivery] | None = None

    def add(self, url: str, reason: str, *, has_many: bool = False) -> None:
        """Note that no callback may be sent to a URL, and why.

        Args:
            url: The URL.
            reason: Why.
            has_many: Whether many tasks have it.
        """
        if len(url) > _LONGEST_REMEMBERED:
            return
        if len(self._refused) >= _MOST_REMEMBERED:
            self._refused.clear()
        earlier = self._refused.get(url)
        until = real_monotonic() + _REMEMBERED_SECONDS
        self._refused[url] = _Refusal(reason, until, _MANY if has_many else earlier.count if earlier else 0)

    def remove(self, url: str) -> None:
        """Note that a callback may be sent to a URL."""
        self._refused.pop(url, None)

    def reason(self, url: str) -> str:
        """Return why the next callback to a URL is refused, empty if that is not known now."""
        refusal = self._refused.get(url)
        if refusal is None or real_monotonic() >= refusal.until:
            return ""
        refusal.count += 1
        return refusal.reason

    def reason_at_once(self, url: str) -> str:
        """Return why no callback to a URL need be tried, empty if it must be."""
        refusal = self._refused.get(url)
        if refusal is None or refusal.count < _MANY or real_monotonic() >= refusal.until + _MANY_SECONDS:
            return ""
        return refusal.reason

    def delivery_at_once(self, url: str, now: int) -> CallbackDelivery | None:
        """Return the refused callback of a new task, ``None`` if its callback must be tried.

        Args:
            url: URL of the callback.
            now: The time in Unix milliseconds. Tasks of one millisecond share their callback.
        """
        if not (reason := self.reason_at_once(url)):
            self._count_task(url)
            return None
        if self._latest is None or self._latest[:3] != (url, reason, now):
            url = self._latest[0] if self._latest and self._latest[0] == url else url
            attempt = DeliveryAttempt(at=now, duration=0, error=reason, is_refused=True)
            delivery = CallbackDelivery(url=url).attempted(attempt, now)
            self._latest = url, reason, now, delivery
        return self._latest[3]

    def _count_task(self, url: str) -> None:
        count = self._tasks.pop(url, 0) + 1
        if count >= _MANY:
            self._find_refusal(url)
        elif len(url) <= _LONGEST_REMEMBERED:
            if len(self._tasks) >= _MOST_REMEMBERED:
                self._tasks.clear()
            self._tasks[url] = count


async def resolve(url: str, allowed: AllowList, *, getaddrinfo: Resolver | None = None) -> CallbackTarget:
    """Return the target of a URL after checking all its addresses.

    Args:
        url: URL of a callback.
        allowed: Allowed receivers.
        getaddrinfo: Resolves names; by default :class:`HostLookups`.

    Raises:
        TargetRefusedError: The URL is invalid, or one of its addresses is not allowed.
        UnknownTargetError: The name does not resolve.
    """
    scheme, parsed_host, port, path = _parse_url(url)
    host = str(parsed_host)
    if isinstance(parsed_host, str):
        try:
            found = await (getaddrinfo or HostLookups())(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "the name cannot be resolved"
            raise UnknownTargetError(f"The host {host} was not found: {reason}.") from error
        if not found:
            raise UnknownTargetError(f"The host {host} has no address.")
        addresses = [ip_address(socket_address[0]) for *_, socket_address in found]
    else:
        addresses = [parsed_host]
    # The system connects to the IPv4 address inside of an IPv4-mapped IPv6 address, so that one is checked.
    addresses = [getattr(address, "ipv4_mapped", None) or address for address in addresses]
    for address in addresses:
        allowed.check(address, host)
    host_header = f"[{host}]" if isinstance(parsed_host, IPv6Address) else host
    return CallbackTarget(
        addresses=tuple(dict.fromkeys(map(str, addresses))),
        port=port,
        server_name=host if scheme == "https" else None,
        host=host_header if port == _DEFAULT_PORTS[scheme] else f"{host_header}:{port}",
        path=path,
    )


def _parse_url(url: str) -> tuple[str, Address | str, int, str]:
    """Return scheme, host, port, and path with query."""
    if len(url) > _LONGEST_URL:
        raise TargetRefusedError(f"The callback URL is longer than {_LONGEST_URL} characters; use a shorter one.")
    if _UNPRINTABLE.search(url):
        raise TargetRefusedError("The callback URL contains a space or an unprintable character; percent-encode it.")
    match = _URL.fullmatch(url)
    if not match:
        raise TargetRefusedError("A callback URL must start with http:// or https:// and a host.")
    scheme, authority, path = match[1].lower(), match[2], match[3]
    if "@" in authority:
        # The URL is not repeated: it may contain a password.
        raise TargetRefusedError("A callback URL must not contain a user name or password; remove them.")
    host, port = _parse_authority(authority)
    path = path if path.startswith("/") else f"/{path}"
    return scheme, host, port or _DEFAULT_PORTS[scheme], quote(path, safe=_UNESCAPED_IN_PATH)


def _parse_authority(authority: str) -> tuple[Address | str, int | None]:
    match = _AUTHORITY.fullmatch(authority)
    host: Address | str | None = None
    if match:
        text = match[1]
        try:
            host = IPv6Address(text[1:-1]) if text[0] == "[" and "%" not in text else IPv4Address(text)
        except ValueError:
            host = _parse_name(text)
    if not match or not host:
        raise TargetRefusedError(
            f"Invalid host {_shortened(authority)} in the callback URL; use a name, an IPv4 address of four decimal"
            " numbers, or an IPv6 address in brackets without a zone."
        )
    port = int(match[2]) if match[2] else None
    if port is not None and not 0 < port <= _LARGEST_PORT:
        raise TargetRefusedError(f"Invalid port {port} in the callback URL; use 1 to {_LARGEST_PORT}.")
    return host, port


def _parse_name(text: str) -> str | None:
    """Return a host name in the form in which it is resolved and compared, or ``None`` if it is invalid."""
    if len(text) > _LONGEST_NAME + 1:
        return None
    try:
        name = text.encode("idna").decode().lower().removesuffix(".")
    except UnicodeError:
        return None
    # Resolvers take what looks like a number for an IPv4 address: 127.1, 0x7f.1, 2130706433.
    is_valid = _NAME.fullmatch(name) and len(name) <= _LONGEST_NAME and not _NUMBER.fullmatch(name)
    return name if is_valid else None


def _parse_network(text: str) -> Network | None:
    """Return the network of an entry of the allow-list, or ``None`` if the entry is not an address or a network."""
    try:
        interface = ip_interface(text)
    except ValueError:
        return None
    address, network = interface.ip, interface.network
    if "%" in text:
        return None
    if address != network.network_address:
        raise SettingsError(f"{text} is neither an address nor a network; write {address} or {network}.")
    if isinstance(network, IPv6Network) and _contains(_MAPPED, network):
        network = IPv4Network((int(address) & 0xFFFFFFFF, network.prefixlen - _MAPPED.prefixlen))
    if any(_contains(unusable, network) for unusable in _UNUSABLE):
        raise SettingsError(f"No receiver can have the address {text}; remove it from the callback allow-list.")
    return network


def _contains(outer: Network, inner: Network) -> bool:
    return inner.network_address in outer and inner.prefixlen >= outer.prefixlen


def _shortened(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_NAME else f"{text[:60]}...")
