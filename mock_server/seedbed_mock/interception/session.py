"""The interception of one run: an authority of its own, in a folder that is removed at the end."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from seedbed_mock.interception.authority import RUN_LIFETIME, CertificateAuthority, run_folder
from seedbed_mock.interception.environment import environment_for, write_bundle
from seedbed_mock.interception.hosts import HostRules
from seedbed_mock.interception.setup import Interception, Reporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from seedbed_schemas import Contract

    from seedbed_mock.settings import Egress


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
