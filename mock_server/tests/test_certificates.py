"""Certificates: what an authority can certify, how it is kept, and certificates of the user's own."""

import contextlib
import datetime as dt
import os
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from seedbed_mock import ServerOptions, SettingsError, running
from seedbed_mock.cli import main
from seedbed_mock.interception import authority as module
from seedbed_mock.interception.authority import CertificateAuthority, context_of_files, user_authority
from seedbed_mock.interception.environment import write_bundle
from seedbed_mock.interception.hosts import Host, HostRules, is_public
from seedbed_schemas import job_api

HOURS = dt.timedelta(hours=1)
NAMES = ("api.kie.ai", "10.1.2.3", "203.0.113.7", "2001:db8::1")


def make(folder: Path, *names: str, lifetime: dt.timedelta = 24 * HOURS) -> CertificateAuthority:
    return CertificateAuthority.create("test", names or NAMES, lifetime, folder)


def shake_hands(context: ssl.SSLContext, trusted: bytes, name: str) -> None:
    """Shake hands in memory."""
    client_context = ssl.create_default_context(cadata=trusted.decode())
    client_context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(20)
        other.settimeout(20)

        def serve() -> None:
            with contextlib.suppress(OSError):  # the client says why
                context.wrap_socket(one, server_side=True).close()

        server = threading.Thread(target=serve)
        server.start()
        try:
            client_context.wrap_socket(other, server_hostname=name).close()
        finally:
            other.close()
            server.join()


@pytest.mark.parametrize(
    "name", ["api.kie.ai", "localhost", "127.0.0.1", "::1", "192.168.1.1", "10.1.2.3", "203.0.113.7"]
)
def test_clients_accept_the_certificate_of_a_host(tmp_path: Path, name: str) -> None:
    authority = make(tmp_path)
    assert authority.permits(name)
    shake_hands(authority.context(name), authority.certificate, name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["example.com", "kie.ai", "notapi.kie.ai.test", "8.8.8.8", "2001:db8::2"])
def test_clients_accept_no_certificate_for_other_hosts(tmp_path: Path, name: str) -> None:
    authority = make(tmp_path)
    assert not authority.permits(name)
    # Whoever has the key could make such a certificate; the constraints of the authority make it worthless.
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        shake_hands(authority.context(name), authority.certificate, name)


def test_the_certificates_of_two_authorities_do_not_mix(tmp_path: Path) -> None:
    one, other = make(tmp_path), make(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(one.context("localhost"), other.certificate, "localhost")
    shake_hands(one.context("localhost"), other.certificate + one.certificate, "localhost")


def test_a_certificate_is_kept_and_renewed_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = make(tmp_path)
    first = authority.context("localhost")
    assert authority.context("localhost") is first
    monkeypatch.setattr("time.time", lambda: first.expires + 1)
    assert authority.context("localhost") is not first


def test_the_authority_of_a_run_ends_after_a_day(tmp_path: Path) -> None:
    authority = make(tmp_path, lifetime=module.RUN_LIFETIME)
    certificate = x509.load_pem_x509_certificate(authority.certificate)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= dt.timedelta(hours=25)
    shake_hands(authority.context("localhost"), authority.certificate, "localhost")


# The authority of the user


def test_the_authority_of_the_user_is_made_once_and_kept_private(tmp_path: Path) -> None:
    folder = tmp_path / "deep/state"
    first = user_authority(NAMES, folder)
    assert user_authority(["api.kie.ai"], folder).certificate == first.certificate
    assert (folder / "ca-key.pem").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert b"PRIVATE" not in (folder / "ca.pem").read_bytes()


def test_several_starts_at_once_make_one_authority(tmp_path: Path) -> None:
    made: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: made.append(user_authority(NAMES, tmp_path).certificate)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / "ca-key.pem").chmod(0o644), "Other users can read the key"),
        (lambda folder: (folder / "ca-key.pem").write_text("x"), "is damaged; remove"),
        (lambda folder: (folder / "ca.pem").write_text("x"), "is damaged; remove"),
        (lambda folder: (folder / "ca-key.pem").unlink(), "cannot be used: No such file"),
        (lambda folder: (folder / "ca-key.pem").write_bytes(_other_key(folder)), "is damaged; remove"),
        (lambda folder: make(folder, lifetime=-HOURS).save(), "expired on"),
        (lambda folder: make(folder, "other.test").save(), "was made without the host api.kie.ai"),
    ],
    ids=["readable", "key", "certificate", "missing", "mismatch", "expired", "host"],
)
def test_an_unusable_authority_gets_one_sentence(
    tmp_path: Path, damage: object, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folder = tmp_path / "seedbed"
    user_authority(["api.kie.ai"], folder)
    assert callable(damage)
    damage(folder)
    for command in (["serve", "--tls", "--port", "0"], ["env"]):
        assert main(command) == 2
        shown = capsys.readouterr().err
        assert sentence in shown
        assert shown.count("\n") == 2


def _other_key(folder: Path) -> bytes:
    other = folder / "other"
    other.mkdir()
    make(other).save()
    return (other / "ca-key.pem").read_bytes()


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_gets_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SettingsError, match="cannot be used: Permission denied"):
        user_authority(NAMES, tmp_path / "state")


def test_a_file_in_place_of_the_folder_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(SettingsError, match="cannot be used: File exists"):
        user_authority(NAMES, tmp_path / "state")


# A certificate of the user's own


@pytest.fixture(name="files")
def make_files(tmp_path: Path) -> tuple[Path, Path]:
    """Return the files of a certificate and its key."""
    return _files(tmp_path, make(tmp_path))


def _files(folder: Path, authority: CertificateAuthority) -> tuple[Path, Path]:
    # An authority of its own stands for any certificate; its own files have the form of those of a user.
    authority.save()
    return folder / "ca.pem", folder / "ca-key.pem"


def test_a_server_uses_the_certificate_of_the_user(files: tuple[Path, Path]) -> None:
    with running(tls_cert=files[0], tls_key=str(files[1])) as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        for name in ("localhost", "api.kie.ai"):
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with socket.create_connection((host, int(port))) as connection:
                secured = context.wrap_socket(connection, server_hostname=name)
                with secured:
                    found = secured.getpeercert(binary_form=True)
            assert found == ssl.PEM_cert_to_DER_cert(files[0].read_text())


def test_files_that_cannot_be_used_get_one_sentence(files: tuple[Path, Path], tmp_path: Path) -> None:
    certificate, key = files
    nothing, missing, expired = tmp_path / "nothing.pem", tmp_path / "missing.pem", tmp_path / "expired"
    nothing.write_text("nothing", encoding="utf-8")
    expired.mkdir()
    old = _files(expired, make(expired, lifetime=-HOURS))
    (tmp_path / "another").mkdir()
    other = _files(tmp_path / "another", make(tmp_path / "another"))
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(_encrypted(key))
    cases = {
        (missing, key): "missing.pem: No such file",
        (certificate, missing): "missing.pem: No such file",
        (tmp_path, key): "Is a directory",
        (nothing, key): "nothing.pem is not a certificate",
        (key, key): "is not a certificate",
        (certificate, nothing): "nothing.pem is not a private key",
        (certificate, certificate): "is not a private key",
        (certificate, encrypted): "is not a private key without a password",
        (certificate, other[1]): "is not that of the certificate",
        old: "is valid from",
    }
    for (one, two), sentence in cases.items():
        with pytest.raises(SettingsError, match=sentence) as raised:
            context_of_files(one, two)
        assert str(raised.value).endswith(".")


def _encrypted(key: Path) -> bytes:
    from cryptography.hazmat.primitives import serialization

    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    return loaded.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )


@pytest.mark.parametrize("given", ["tls_cert", "tls_key"])
def test_a_certificate_needs_its_key(given: str) -> None:
    with pytest.raises(SettingsError, match="belong together"):
        ServerOptions.from_keywords({given: "x.pem"}).check()


# What programs trust


def test_a_bundle_keeps_what_was_trusted_before(tmp_path: Path) -> None:
    own, folder = tmp_path / "own.pem", tmp_path / "certs"
    folder.mkdir()
    for path in (own, folder / "a.pem", folder / "b.pem"):
        path.write_bytes(make(tmp_path).certificate + b"and a comment\n")
    (folder / "key.pem").write_bytes(b"-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n")
    inherited = {"SSL_CERT_FILE": str(own), "SSL_CERT_DIR": f"{folder}{os.pathsep}", "REQUESTS_CA_BUNDLE": "missing"}
    authority = make(tmp_path)
    bundle = write_bundle(tmp_path, authority.certificate, inherited)
    content = bundle.read_text(encoding="utf-8")
    assert "PRIVATE" not in content
    for path in (own, folder / "a.pem", folder / "b.pem"):
        assert path.read_text(encoding="utf-8").partition("and")[0] in content
    shake_hands(authority.context("api.kie.ai"), bundle.read_bytes(), "api.kie.ai")
    # A second run inherits this one, without growing.
    again = write_bundle(tmp_path, authority.certificate, {**inherited, "SSL_CERT_FILE": str(bundle)})
    assert again.read_text(encoding="utf-8").count("BEGIN") <= content.count("BEGIN")


# Hosts


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("api.test", ("api.test", 443)),
        ("API.Test.:8443", ("api.test", 8443)),
        ("münchen.test", ("xn--mnchen-3ya.test", 443)),
        ("10.0.0.1", ("10.0.0.1", 443)),
        ("[::1]:80", ("::1", 80)),
        ("[0:0::1]", ("::1", 443)),
    ],
)
def test_hosts_are_compared_in_one_form(text: str, host: tuple[str, int]) -> None:
    assert Host.parse(text) == host
    assert Host.parse(str(Host.parse(text))) == host


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", ":443", "a:0", "a:65536", "a:b", "a b", "https://a", "a/b", "a@b", "[::1", "::1", "a..b", "127.1"),
        *("0x7f000001", "1.2.3.4.5", "[x]", "a\r\nb", "a\0b", "x" * 64, ".".join(["x" * 60] * 5), "a" * 100_000),
    ],
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the caller writes the sentence)
        Host.parse(text)
    with pytest.raises(SettingsError, match="Invalid host"):
        HostRules.of([], [text])


def test_the_host_of_the_contract_is_intercepted_and_the_domains_of_the_vendor_are_closed() -> None:
    rules = HostRules.of([])
    assert [str(host) for host in rules.intercepted] == [job_api().server.removeprefix("https://")]
    assert any(rules.names[0].endswith(f".{domain}") for domain in rules.domains)
    opened = HostRules.of([], ["kie.ai"])
    assert opened.intercepts(Host("kie.ai", 443))
    assert opened.intercepts(Host("kie.ai", 80))
    assert not rules.intercepts(Host("kie.ai", 443))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        *((address, True) for address in ("8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8")),
        *((address, False) for address in ("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254")),
        *((address, False) for address in ("100.64.0.1", "0.0.0.1", "224.0.0.1", "255.255.255.255", "::1", "::")),
        *((address, False) for address in ("fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "64:ff9b::10.0.0.1")),
        *((address, False) for address in ("ff02::1", "240.0.0.1", "fd00:ec2::254")),
    ],
)
def test_only_addresses_of_the_internet_are_public(address: str, expected: bool) -> None:  # noqa: FBT001 (of the table)
    assert is_public(address) is expected
