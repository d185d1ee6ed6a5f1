"""The certificate authority: it certifies the hosts that the mock server stands for, and no others.

The authority of one run lives in memory; only its certificate is written, for the program to trust. The authority of
``seedbed serve --tls`` is kept in the user's state folder. Both carry name constraints, so that whoever trusts one
trusts it for these hosts alone, even if its key leaks.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import os
import shutil
import ssl
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from filelock import FileLock, Timeout

from seedbed_mock.interception.environment import CERTIFICATE_NAME
from seedbed_mock.settings import SettingsError, state_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


RUN_LIFETIME: Final = dt.timedelta(hours=24)
STATE_LIFETIME: Final = dt.timedelta(days=365)

KEY_NAME: Final = "ca-key.pem"
"""File name of its private key there."""

_LOCK_NAME = "lock"
_RUN_PREFIX = "seedbed-run-"
_NEW_SECONDS = 60
"""A folder without a lock is that of a run that is just starting, unless it is older than this."""

_LEAF_LIFETIME = dt.timedelta(hours=24)
_CLOCK_SKEW = dt.timedelta(hours=1)
_LONGEST_NAME = 64
"""In characters: of a common name (RFC 5280, appendix A.1)."""

_OWN_NETWORKS = ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
"""Addresses that no other machine on the internet has."""


class HostContext(ssl.SSLContext):
    """The server side of TLS for one host.

    Attributes:
        host: Host that the certificate is for.
        expires: Time until which the context may be used, in seconds of the epoch.
    """

    host = ""
    expires = float("inf")


def server_context(host: str) -> HostContext:
    """Return a context without a certificate that speaks HTTP/1.1 only."""
    context = HostContext(ssl.PROTOCOL_TLS_SERVER)
    context.host = host
    context.set_alpn_protocols(["http/1.1"])
    return context


class CertificateAuthority:
    """A certificate authority for some hosts, with a certificate for each of them as soon as it is needed.

    Args:
        certificate: Certificate of the authority.
        key: Its private key.
        folder: Folder that only this user can read.
    """

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, folder: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._folder = folder
        self._contexts: dict[str, HostContext] = {}

    @classmethod
    def create(cls, title: str, names: Iterable[str], lifetime: dt.timedelta, folder: Path) -> Self:
        """Make an authority that can certify these hosts, and private addresses; its key is written nowhere.

        Args:
            title: What it is for, as part of its name.
            names: Host names and addresses.
            lifetime: How long it is valid.
            folder: Folder that only this user can read.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        serial = x509.random_serial_number()
        # With a number: a trust store tells two authorities of one name apart by their keys only.
        name = _name(f"Seedbed {title} {serial % 16**8:08x}")
        permitted = [x509.DNSName("localhost"), *(x509.IPAddress(ipaddress.ip_network(each)) for each in _OWN_NETWORKS)]
        permitted += [_general_name(each, ipaddress.ip_network) for each in names]
        usage = dict.fromkeys(_USAGES, False) | {"key_cert_sign": True, "crl_sign": True}
        builder = (
            _builder(name, name, key.public_key(), serial, lifetime)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.NameConstraints(permitted, None), critical=True)
        )
        return cls(builder.sign(key, hashes.SHA256()), key, folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the authority that :meth:`save` wrote to a folder.

        Raises:
            OSError: A file cannot be read.
            SettingsError: Other users can read the key.
            ValueError: A file is damaged.
        """
        path = folder / KEY_NAME
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise SettingsError(f"Other users can read the key of the CA; run chmod 600 {path}, or make a new CA.")
        certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE_NAME).read_bytes())
        key = serialization.load_pem_private_key(path.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ValueError("The key is not that of the certificate.")
        return cls(certificate, key, folder)

    def save(self) -> None:
        """Write the key, for this user alone, and the certificate to the folder."""
        (self._folder / KEY_NAME).unlink(missing_ok=True)
        handle = os.open(self._folder / KEY_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(_private_pem(self._key))
        # The certificate last and at once: it shows that the authority is complete.
        unfinished = self._folder / f"{CERTIFICATE_NAME}.new"
        unfinished.write_bytes(self.certificate)
        unfinished.replace(self._folder / CERTIFICATE_NAME)

    @property
    def certificate(self) -> bytes:
        """The certificate of the authority as PEM, for programs to trust."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def expires(self) -> dt.datetime:
        """The end of its validity."""
        return self._certificate.not_valid_after_utc

    def permits(self, host: str) -> bool:
        """Return whether the name constraints allow a certificate for a host."""
        constraints = self._certificate.extensions.get_extension_for_class(x509.NameConstraints).value
        wanted = _general_name(host)
        for subtree in constraints.permitted_subtrees or ():
            if isinstance(subtree, x509.DNSName) and isinstance(wanted, x509.DNSName):
                if f".{wanted.value}".endswith(f".{subtree.value}"):
                    return True
            elif isinstance(subtree, x509.IPAddress) and isinstance(wanted, x509.IPAddress):
                address, network = ipaddress.ip_address(str(wanted.value)), ipaddress.ip_network(str(subtree.value))
                if address in network:
                    return True
        return False

    def context(self, host: str, *further: str) -> HostContext:
        """Return the server side of TLS for a host; it is kept until its certificate is about to expire.

        Args:
            host: Host name or address.
            further: Further hosts of its certificate.
        """
        context = self._contexts.get(host)
        if context is None or time.time() > context.expires:
            context = self._contexts[host] = server_context(host)
            context.expires = time.time() + _LEAF_LIFETIME.total_seconds() / 2
            self._certify(context, tuple(dict.fromkeys((host, *further))))
        return context

    def _certify(self, context: HostContext, hosts: tuple[str, ...]) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        usage = dict.fromkeys(_USAGES, False) | {"digital_signature": True}
        issuer = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        certificate = (
            _builder(
                # With a space: OpenSSL would compare a name that can be one of a host with the constraints.
                _name(f"Seedbed for {hosts[0]}"),
                self._certificate.subject,
                key.public_key(),
                x509.random_serial_number(),
                min(_LEAF_LIFETIME, self.expires - _now()),
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        # OpenSSL reads a key from a file only. This one exists for a moment, for this user alone.
        handle, path = tempfile.mkstemp(dir=self._folder, suffix=".pem")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_private_pem(key) + certificate.public_bytes(serialization.Encoding.PEM))
            context.load_cert_chain(path)
        finally:
            Path(path).unlink()


_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, serial: int, lifetime: dt.timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(_now() - _CLOCK_SKEW)
        .not_valid_after(_now() + lifetime)
    )


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:_LONGEST_NAME])])


def _general_name(host: str, parse: Callable[[str], Any] = ipaddress.ip_address) -> x509.DNSName | x509.IPAddress:
    try:
        return x509.IPAddress(parse(host))
    except ValueError:
        return x509.DNSName(host)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


# The folder of one run


@contextlib.contextmanager
def run_folder() -> Iterator[Path]:
    """Return a temporary folder that only this user can read, and remove it at the end.

    Folders of runs that ended without doing so, such as killed ones, are removed first. A run holds a lock on its
    folder, which the system releases when the process ends in any way; the number of a process could be in use again.
    """
    parent = Path(tempfile.gettempdir())
    for folder in parent.glob(f"{_RUN_PREFIX}*"):
        _sweep(folder)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_RUN_PREFIX, dir=parent))
        lock = FileLock(folder / _LOCK_NAME, timeout=0)
        # Another run that starts now may take the folder for an old one.
        with contextlib.suppress(OSError, Timeout):
            lock.acquire()
            if folder.exists():
                break
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _sweep(folder: Path) -> None:
    """Remove the folder of a run that has ended."""
    with contextlib.suppress(OSError, Timeout):
        found = folder.lstat()
        if folder.is_symlink() or not folder.is_dir() or (hasattr(os, "getuid") and found.st_uid != os.getuid()):
            return
        if not (folder / _LOCK_NAME).exists() and time.time() - found.st_mtime < _NEW_SECONDS:
            return
        with FileLock(folder / _LOCK_NAME, timeout=0):
            shutil.rmtree(folder, ignore_errors=True)


# The authority of the user


def user_authority(names: Iterable[str], folder: Path | None = None) -> CertificateAuthority:
    """Return the authority in the state folder of the user; it is made when there is none.

    Args:
        names: Host names and addresses that it must be able to certify.
        folder: The folder, by default that of the user.

    Raises:
        SettingsError: Its files cannot be read or written, it has expired, or it cannot certify one of the names.
    """
    folder, names = folder or state_folder(), tuple(names)
    remedy = f"remove {folder / CERTIFICATE_NAME} and {folder / KEY_NAME}, and start again to make a new one"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(folder / _LOCK_NAME, timeout=10):
            if not (folder / CERTIFICATE_NAME).exists():
                CertificateAuthority.create("CA", names, STATE_LIFETIME, folder).save()
            authority = CertificateAuthority.load(folder)
    except SettingsError:
        raise
    except (OSError, Timeout) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsError(f"The CA in {folder} cannot be used: {reason}.") from error
    except ValueError as error:
        raise SettingsError(f"The CA in {folder} is damaged; {remedy}.") from error
    if authority.expires < _now():
        raise SettingsError(f"The CA in {folder} expired on {authority.expires:%Y-%m-%d}; {remedy}.")
    if refused := next((name for name in names if not authority.permits(name)), None):
        raise SettingsError(f"The CA in {folder} was made without the host {refused}; {remedy}, and trust that.")
    return authority


# A certificate of the user's own


def context_of_files(certificate: Path, key: Path) -> HostContext:
    """Return the server side of TLS with a certificate of the user's own.

    Args:
        certificate: PEM file with the certificate and those that certify it.
        key: PEM file with its key, without a password.

    Raises:
        SettingsError: A file cannot be read, the key is encrypted or not that of the certificate, or it has expired.
    """
    try:
        first, *_ = x509.load_pem_x509_certificates(certificate.read_bytes())
        key.read_bytes()
    except OSError as error:
        raise SettingsError(f"{error.filename}: {error.strerror}.") from error
    except ValueError as error:
        raise SettingsError(f"{certificate} is not a certificate; pass a PEM file that contains one.") from error
    start, end = first.not_valid_before_utc, first.not_valid_after_utc
    if not start <= _now() <= end:
        raise SettingsError(f"The certificate {certificate} is valid from {start:%Y-%m-%d} to {end:%Y-%m-%d} only.")
    context = server_context("")
    try:
        # With an empty password, OpenSSL does not ask for one.
        context.load_cert_chain(certificate, key, password=b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError(f"The key {key} is not that of the certificate {certificate}; pass its own.") from error
        raise SettingsError(f"{key} is not a private key without a password; pass a PEM file with one.") from error
    return context
