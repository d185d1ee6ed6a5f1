"""The environment of a program whose calls are intercepted: proxy, certificates, and hooks for Python and Node."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

from seedbed_schemas import local

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from seedbed_mock.interception.hosts import HostRules


EnvironmentFormat = Literal["shell", "compose", "github", "json"]

CERTIFICATE_NAME: Final = "ca.pem"
"""File name of the authority's certificate in its folder."""

BUNDLE_NAME: Final = "bundle.pem"
"""File name of the certificates that a program trusts: those of the system, and the CA of Seedbed."""

_HOOKS = Path(__file__).parent / "hooks"
_OWN_HOSTS = ("localhost", "127.0.0.1", "::1")
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
_BUNDLE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "DENO_CERT")
_REMOVED = ("SSL_CERT_DIR",)
"""curl would look for certificates there instead of in the bundle."""

_SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Red Hat
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # macOS, BSD
)


_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ProgramEnvironment:
    """What the environment of a program has to say.

    Attributes:
        variables: Variables to set.
        removed: Variables to remove.
    """

    variables: Mapping[str, str]
    removed: tuple[str, ...] = ()

    def applied_to(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return an environment with these changes."""
        kept = {name: value for name, value in environment.items() if name not in self.removed}
        return {**kept, **self.variables}

    def to_text(self, form: EnvironmentFormat) -> str:
        """Return the variables for a shell, for Docker Compose, for GitHub Actions or as JSON."""
        if form == "json":
            return json.dumps(dict(self.variables), indent=2)
        if form == "github":
            # A step cannot remove a variable. An empty one means the same to OpenSSL and curl.
            variables = {**self.variables, **dict.fromkeys(self.removed, "")}
            return "\n".join(f"{name}={value}" for name, value in variables.items())
        if form == "compose":
            # A JSON string is a YAML string; Compose would replace what follows a single dollar sign.
            pairs = {name: json.dumps(value.replace("$", "$$")) for name, value in self.variables.items()}
            return "\n".join(["environment:", *(f"  {name}: {value}" for name, value in pairs.items())])
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self.variables.items()]
        return "\n".join([*lines, *(f"unset {name}" for name in self.removed)])


def environment_for(
    rules: HostRules,
    proxy: str,
    bundle: Path,
    inherited: Mapping[str, str],
    *,
    is_local: bool = True,
) -> ProgramEnvironment:
    """Return the environment in which a program reaches the mock server.

    Args:
        rules: What is intercepted.
        proxy: URL of the mock server, with a port.
        bundle: Path of the certificates to trust, as the program sees it; that of the authority is in the same folder.
        inherited: The environment so far.
        is_local: Whether the program is on this machine. Elsewhere it gets certificates only: it sees no hooks, and the
            mock server would pass nothing on for it.
    """
    variables: dict[str, str] = dict.fromkeys(_BUNDLE_VARIABLES, str(bundle))
    if not is_local:
        return ProgramEnvironment(variables)
    variables |= dict.fromkeys([*_both_cases(_PROXY_VARIABLES), local.BASE_URL_VARIABLE], proxy)
    direct = ",".join([*_OWN_HOSTS, *_direct_hosts(inherited, rules)])
    variables |= dict.fromkeys(_both_cases(("no_proxy",)), direct)
    variables["NODE_USE_ENV_PROXY"] = "1"
    # The hooks know addresses of IPv4 only.
    if ":" not in (urlsplit(proxy).hostname or ""):
        variables |= _hook_variables(rules, proxy, bundle, inherited)
    return ProgramEnvironment(variables, tuple(name for name in _REMOVED if name in inherited))


def _both_cases(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield name.upper()
        # Without regard to case, Windows has one variable.
        if os.name != "nt":
            yield name


def _direct_hosts(inherited: Mapping[str, str], rules: HostRules) -> list[str]:
    """Return the entries of NO_PROXY, except those that would let calls pass to the paid service."""
    entries = [entry.strip() for name in _both_cases(("no_proxy",)) for entry in inherited.get(name, "").split(",")]
    watched = (*rules.names, *rules.domains)
    return [
        entry
        for entry in dict.fromkeys(entries)
        if entry not in ("", "*", *_OWN_HOSTS) and not any(_covers(entry, name) for name in watched)
    ]


def _covers(entry: str, name: str) -> bool:
    """Return whether an entry of NO_PROXY names a host, a domain above it, or a host below it."""
    entry = entry.lower().removeprefix("*").strip(".").partition(":")[0]
    return f".{name}".endswith(f".{entry}") or f".{entry}".endswith(f".{name}")


def _hook_variables(rules: HostRules, proxy: str, bundle: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    address = urlsplit(proxy)
    settings = {
        "address": address.hostname,
        "port": address.port,
        "hosts": list(rules.names),
        "domains": list(rules.domains),
        "egress": rules.egress,
        "bundle": str(bundle),
        "authority": str(bundle.parent / CERTIFICATE_NAME),
    }
    python_hook, node_hook = str(_HOOKS / "python"), f'--require "{_HOOKS / "node.cjs"}"'
    python_path = [each for each in inherited.get("PYTHONPATH", "").split(os.pathsep) if each not in ("", python_hook)]
    node_options = inherited.get("NODE_OPTIONS", "").replace(node_hook, "").strip()
    return {
        "SEEDBED_HOOK": json.dumps(settings),
        "PYTHONPATH": os.pathsep.join([python_hook, *python_path]),
        "NODE_OPTIONS": f"{node_options} {node_hook}".strip(),
    }


def write_bundle(folder: Path, authority: bytes, inherited: Mapping[str, str]) -> Path:
    """Write the certificates that a program shall trust, and return the path of the file.

    Args:
        folder: Folder to write to.
        authority: Certificate of the authority as PEM.
        inherited: The environment so far; what it lets programs trust stays trusted.
    """
    certificates = dict.fromkeys(_CERTIFICATE.findall(authority))
    for path in _trusted_files(inherited):
        if path == folder / BUNDLE_NAME:
            continue  # it may hold an earlier authority
        # A file that is gone or unreadable lets nothing be trusted, as without Seedbed.
        with contextlib.suppress(OSError):
            certificates |= dict.fromkeys(_CERTIFICATE.findall(path.read_bytes()))
    if not (folder / CERTIFICATE_NAME).exists():
        (folder / CERTIFICATE_NAME).write_bytes(authority)
    unfinished, bundle = folder / f"{BUNDLE_NAME}.{os.getpid()}", folder / BUNDLE_NAME
    unfinished.write_bytes(b"\n".join([*certificates, b""]))
    # At once: a program that starts meanwhile must not read half of it.
    unfinished.replace(bundle)
    return bundle


def _trusted_files(inherited: Mapping[str, str]) -> Iterator[Path]:
    for name in _BUNDLE_VARIABLES:
        if value := inherited.get(name):
            path = Path(value)
            yield from sorted(path.iterdir()) if path.is_dir() else [path]
    for folder in filter(None, inherited.get("SSL_CERT_DIR", "").split(os.pathsep)):
        yield from sorted(Path(folder).glob("*"))
    yield system_bundle()


def system_bundle() -> Path:
    """Return the file with the certificates that the system trusts; it may not exist."""
    defaults = ssl.get_default_verify_paths()
    named = (defaults.openssl_cafile, *_SYSTEM_BUNDLES)
    if found := next((path for path in map(Path, named) if path.is_file()), None):
        return found
    try:
        import certifi  # a system without certificates, such as a slim container
    except ModuleNotFoundError:
        return Path(named[0])
    return Path(certifi.where())
