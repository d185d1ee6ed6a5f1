"""Hosts: for which of them the mock server stands in, and what becomes of connections to all others."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from seedbed_schemas import job_api
from seedbed_schemas.validation import for_display

from seedbed_mock.settings import Egress, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from seedbed_schemas import Contract


HTTPS: Final = 443
HTTP: Final = 80

_PAID = (
    "{name} is a host of the paid service, and nothing passes to it; let the mock server stand in for it with"
    " --intercept {name}"
)
# Spelled out, because what ipaddress calls private or global differs between versions of Python.
_PRIVATE: tuple[IPv4Network | IPv6Network, ...] = (
    *map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")),
    *map(IPv4Network, ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16")),
    *map(IPv6Network, ("::/127", "fc00::/7", "fe80::/10", "ff00::/8")),
)
_WITH_IPV4 = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
"""IPv6 addresses that stand for those of IPv4: mapped ones, and those of NAT64 (RFC 6052)."""

_LARGEST_PORT = 65535
_LONGEST_NAME = 253
_LABEL = r"[a-z0-9_-]{1,63}"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
# Resolvers take these for IPv4 addresses: 127.1, 0x7f.1, 2130706433.
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(?::([0-9]{1,5}))?")


class Host(NamedTuple):
    """A host and a port.

    Attributes:
        name: Host name in lower case without a dot at its end, or an address.
        port: Port.
    """

    name: str
    port: int

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port == HTTPS else f"{name}:{self.port}"

    @property
    def is_address(self) -> bool:
        """Whether the name is an IP address."""
        return ":" in self.name or bool(_NUMBER.fullmatch(self.name))

    @classmethod
    def parse(cls, text: str, port: int = HTTPS) -> Host:
        """Parse ``HOST`` or ``HOST:PORT``, with an IPv6 address in brackets.

        Args:
            text: The text.
            port: Port if the text has none; with 0, it must have one.

        Raises:
            ValueError: The text is neither.
        """
        match = _AUTHORITY.fullmatch(text)
        if not match or len(text) > _LONGEST_NAME + len("[]:65535"):
            raise ValueError("not a host")
        number = int(match[2]) if match[2] else port
        if not 0 < number <= _LARGEST_PORT:
            raise ValueError("not a port")
        return cls(_normalized(match[1]), number)


def _normalized(name: str) -> str:
    if name.startswith("["):
        return str(IPv6Address(name[1:-1].partition("%")[0]))
    name = name.encode("idna").decode().lower().removesuffix(".")
    if _NUMBER.fullmatch(name):
        return str(ip_address(name))
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        raise ValueError("not a host name")
    return name


class RefusedError(Exception):
    """A connection to a host is refused; the message is one sentence without a full stop."""


@dataclass(frozen=True, kw_only=True)
class HostRules:
    """What becomes of a connection to a host.

    Attributes:
        intercepted: Hosts for which the mock server stands in.
        egress: What becomes of connections to other hosts.
        domains: Domains of the vendor. Nothing passes to their hosts, since calls there may cost money.
    """

    intercepted: frozenset[Host]
    egress: Egress = "allow"
    domains: tuple[str, ...] = field(default_factory=lambda: job_api().domains)

    @classmethod
    def of(cls, contracts: Iterable[Contract], further: Iterable[str] = (), egress: Egress = "allow") -> HostRules:
        """Return the rules for the servers of contracts and further hosts.

        Args:
            contracts: Contracts of the models that the mock server has.
            further: Hosts as ``HOST`` or ``HOST:PORT``.
            egress: What becomes of connections to other hosts.

        Raises:
            SettingsError: A text is not a host.
        """
        servers = [job_api().server, *(each.operation.server for each in contracts)]
        hosts = {Host.parse(urlsplit(server).netloc) for server in servers}
        for text in further:
            try:
                hosts.add(Host.parse(text))
            except ValueError as error:
                raise SettingsError(
                    f"Invalid host {for_display(text)} to intercept; use a name without a scheme, such as api.test or"
                    " api.test:8443."
                ) from error
        return cls(intercepted=frozenset(hosts), egress=egress)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the intercepted hosts, in order."""
        return tuple(sorted({host.name for host in self.intercepted}))

    def intercepts(self, host: Host) -> bool:
        """Return whether the mock server stands in for a host; plain HTTP has a port of its own."""
        return host in self.intercepted or (host.port == HTTP and Host(host.name, HTTPS) in self.intercepted)

    def reason_against(self, name: str) -> str:
        """Return why no certificate is made for a host."""
        if any(f".{name}".endswith(f".{domain}") for domain in self.domains):
            return _PAID.format(name=for_display(name))
        return f"{for_display(name)} is not intercepted; let the mock server stand in for it with --intercept"

    def check_passage(self, host: Host, port: int, *, is_local: bool) -> None:
        """Check that a connection may pass to a host that is not intercepted.

        Args:
            host: The host.
            port: The only port that is allowed.
            is_local: Whether the program is on this machine.

        Raises:
            RefusedError: It may not.
        """
        name = host.name
        if name in self.names:
            ports = ", ".join(str(each.port) for each in sorted(self.intercepted) if each.name == name)
            raise RefusedError(f"{name} is intercepted on port {ports}, not on port {host.port}")
        if any(f".{name}".endswith(f".{domain}") for domain in self.domains):
            raise RefusedError(_PAID.format(name=name))
        if not is_local:
            raise RefusedError(f"{name} is not intercepted, and the mock server passes on nothing of other machines")
        if self.egress == "deny":
            raise RefusedError(f"{name} is not intercepted, and --egress deny lets nothing else pass")
        if host.port != port:
            raise RefusedError(
                f"{name} is not intercepted, and only connections to port {port} pass, not to port {host.port}; name"
                " the host in NO_PROXY to connect to it directly"
            )


def is_public(address: str) -> bool:
    """Return whether an address is one of the internet, not of this machine or of a private network."""
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address) and any(parsed in network for network in _WITH_IPV4):
        parsed = IPv4Address(int(parsed) & 0xFFFFFFFF)
    return not any(parsed in network for network in _PRIVATE)
