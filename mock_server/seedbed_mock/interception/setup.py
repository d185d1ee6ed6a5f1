"""What one server intercepts: its hosts, their certificates, and what it reports about connections."""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
from contextlib import ExitStack
from contextvars import ContextVar
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, Final, Self

from seedbed_schemas.validation import for_display

from seedbed_mock.interception.authority import (
    RUN_LIFETIME,
    CertificateAuthority,
    context_of_files,
    run_folder,
    server_context,
    user_authority,
)
from seedbed_mock.interception.environment import environment_for, write_bundle
from seedbed_mock.interception.hosts import Host, HostRules
from seedbed_mock.settings import state_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

    from seedbed_schemas import Contract

    from seedbed_mock.interception.authority import HostContext
    from seedbed_mock.options import ServerOptions
    from seedbed_mock.settings import Egress


_MOST_REPORTS = 1000
_OWN: Final = ("localhost", "127.0.0.1", "::1")
_ALL_ADDRESSES = (str(IPv4Address(0)), str(IPv6Address(0)))


ASKED_FOR: Final = ContextVar[list[str]]("ASKED_FOR")
"""Takes the host that the client of a connection names in its handshake, for the case that this fails."""


class Reporter:
    """Reports what became of connections, each sentence once.

    Args:
        write: Takes a sentence; by default it is logged.

    Attributes:
        calls: Number of requests to intercepted hosts.
        passed: Hosts to which connections passed, in the order of the first.
    """

    def __init__(self, write: Callable[[str], None] | None = None) -> None:
        self._write = write or logging.getLogger("seedbed").warning
        self._written: set[str] = set()
        self.calls = 0
        self.passed: dict[str, None] = {}

    @property
    def has_reported(self) -> bool:
        """Whether anything was reported."""
        return bool(self._written)

    def report(self, sentence: str) -> None:
        """Report a sentence, unless it was reported before."""
        # Bounded, since a program can name any number of hosts.
        if sentence not in self._written and len(self._written) < _MOST_REPORTS:
            self._written.add(sentence)
            # A terminal that is gone must not end a connection.
            with contextlib.suppress(OSError, ValueError):
                self._write(sentence)

    def report_passage(self, host: Host) -> None:
        """Report that a connection passes to a host that is not intercepted."""
        if len(self.passed) < _MOST_REPORTS:
            self.passed[host.name] = None
        self.report(f"A connection to {host} passes, since it is not intercepted; --egress deny refuses it.")

    def report_distrust(self, host: str, reason: str, client: str, certificate: Path | None) -> None:
        """Report that a program ended a handshake, and how to let it trust the authority.

        Args:
            host: Host that it wanted to reach.
            reason: What it gave as the reason.
            client: Value of User-Agent, empty if it sent none.
            certificate: Path of the certificate to trust, ``None`` if that is not known.
        """
        trusted = certificate or "the certificate of the CA"
        known = next((each for start, each in _VARIABLES.items() if client.lower().startswith(start)), "")
        remedy = (
            f"set {known}={trusted}"
            if known
            else f"for requests set REQUESTS_CA_BUNDLE, for curl CURL_CA_BUNDLE, for Node NODE_EXTRA_CA_CERTS, and for"
            f" others SSL_CERT_FILE to {trusted}"
        )
        who = client.partition(" ")[0] or "A program"
        self.report(f"{for_display(who)} does not trust the CA for {for_display(host)} ({reason}); {remedy}.")


_VARIABLES: Final = {
    "curl": "CURL_CA_BUNDLE",
    "python-requests": "REQUESTS_CA_BUNDLE",
    "node": "NODE_EXTRA_CA_CERTS",
    "go-http": "SSL_CERT_FILE",
    "python-httpx": "SSL_CERT_FILE",
    "python-urllib": "SSL_CERT_FILE",
}
"""Which variable names the certificates that a client trusts, by how its User-Agent begins."""


class Interception:
    """The hosts that a server stands in for, and the certificates with which it does.

    Args:
        rules: What becomes of a connection to a host.
        authority: Certifies the hosts; ``None`` with a certificate of the user's own.
        files: That certificate and its key.
        own_names: Names and addresses of the server besides those of this machine.
        certificate: Path of the certificate that programs have to trust, ``None`` if that is not known.
        reporter: Reports what became of connections.

    Attributes:
        entry: The server side of TLS for a connection whose host is not known yet.
    """

    def __init__(
        self,
        rules: HostRules,
        authority: CertificateAuthority | None,
        *,
        files: tuple[Path, Path] | None = None,
        own_names: Iterable[str] = (),
        certificate: Path | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        self.rules = rules
        self.reporter = reporter or Reporter()
        self.certificate = certificate
        self._authority = authority
        self._files = files
        self._own_names = tuple(dict.fromkeys((*_OWN, *own_names)))
        self._contexts: dict[str, HostContext] = {}
        self.entry = server_context("")
        self.entry.sni_callback = self._choose
        # A mistake in the files shows before the server starts.
        self.context(_OWN[0])

    @classmethod
    def of_options(cls, options: ServerOptions, reporter: Reporter | None = None) -> Interception:
        """Return the interception that the options of a server describe, with the authority of the user.

        Raises:
            SettingsError: An option is invalid, or its files cannot be used.
        """
        rules = HostRules.of(options.patched_contracts, options.intercepted_hosts, options.egress)
        own = [each for each in (options.host, *sorted(options.own_hosts)) if each not in ("*", *_ALL_ADDRESSES)]
        if options.tls_files:
            return cls(rules, None, files=options.tls_files, own_names=own, reporter=reporter)
        authority = user_authority((*rules.names, *own))
        bundle = write_bundle(state_folder(), authority.certificate, os.environ)
        return cls(rules, authority, own_names=own, certificate=bundle, reporter=reporter)

    def context(self, name: str) -> HostContext:
        """Return the server side of TLS for a host that is intercepted or the server itself."""
        if self._authority:
            return self._authority.context(name, *(self._own_names if name == _OWN[0] else ()))
        if name not in self._contexts and self._files:
            self._contexts[name] = context_of_files(*self._files)
            self._contexts[name].host = name
        return self._contexts[name]

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: Any) -> int | None:
        """Choose the certificate for the host that a client names."""
        host = (name or _OWN[0]).lower().removesuffix(".")
        if (named := ASKED_FOR.get(None)) is not None:
            named.append(host)
        if host in self.rules.names:
            connection.context = self.context(host)
        elif host in self._own_names:
            connection.context = self.context(_OWN[0])
        else:
            self.reporter.report(f"Refused: {self.rules.reason_against(host)}.")
            return int(ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)
        return None

    def origin(self, name: str) -> Host | None:
        """Return the intercepted host that has a name, ``None`` for the server itself."""
        return next((host for host in sorted(self.rules.intercepted) if host.name == name), None)

    def is_own(self, name: str) -> bool:
        """Return whether a name or address is that of the server itself."""
        return name in self._own_names


class InterceptionSession:
    """The interception of one run. Closing it removes what it wrote; the key of its authority is never written.

    Args:
        contracts: Contracts of the models that the mock server has; their servers are intercepted.
        hosts: Further hosts to intercept, as ``HOST`` or ``HOST:PORT``.
        egress: What becomes of connections to other hosts.
        write: Takes what is reported about connections; by default it is logged.
        inherited: The environment so far, by default that of this process.

    Attributes:
        interception: What a server needs to intercept.

    Raises:
        OSError: The folder cannot be written.
        SettingsError: A host is invalid.
    """

    def __init__(
        self,
        contracts: Iterable[Contract],
        hosts: Iterable[str] = (),
        egress: Egress = "allow",
        *,
        write: Callable[[str], None] | None = None,
        inherited: Mapping[str, str] | None = None,
    ) -> None:
        rules = HostRules.of(contracts, hosts, egress)
        self._inherited = os.environ if inherited is None else inherited
        self._stack = ExitStack()
        folder = self._stack.enter_context(run_folder())
        authority = CertificateAuthority.create("run", rules.names, RUN_LIFETIME, folder)
        self._bundle = write_bundle(folder, authority.certificate, self._inherited)
        self.interception = Interception(rules, authority, certificate=self._bundle, reporter=Reporter(write))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def environment(self, proxy: str) -> dict[str, str]:
        """Return the environment in which a program reaches the mock server at a URL."""
        changes = environment_for(self.interception.rules, proxy, self._bundle, self._inherited)
        return changes.applied_to(self._inherited)

    def close(self) -> None:
        """Remove the folder."""
        self._stack.close()


class Intercepted:
    """An interception by a running mock server, for the programs that a test starts.

    Leaving it as a context manager ends it, and so does the end of the server.

    Args:
        session: The interception.
        url: URL of the proxy.
        end: Ends it at the server.

    Attributes:
        url: URL of the proxy.
        env: Environment for the programs: that of this process, with what lets their calls reach the server.
        reports: What was reported about connections, such as a program that does not trust the certificates.
    """

    def __init__(self, session: InterceptionSession, url: str, end: Callable[[], None], reports: list[str]) -> None:
        self.url = url
        self.env = session.environment(url)
        self.reports = reports
        self._session = session
        self._end = end

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the interception."""
        self._end()
        self._session.close()
