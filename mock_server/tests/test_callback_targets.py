"""Callback targets: each address is checked before a connection, and no other address is connected to."""

import asyncio
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from seedbed_mock.callbacks.sender import send_callback
from seedbed_mock.callbacks.targets import AllowList, CallbackTarget, TargetRefusedError, UnknownTargetError, resolve
from seedbed_mock.settings import SettingsError

LOCAL = AllowList()
ANY = str(IPv4Address(0))


class Names:
    """Resolves every name to the same addresses and records the names."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.resolved: list[str] = []

    async def __call__(self, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        self.resolved.append(host)
        return [(0, 0, 0, "", (address, port)) for address in self.addresses]


def resolve_url(url: str, *addresses: str, allow: tuple[str, ...] = ()) -> CallbackTarget:
    return asyncio.run(resolve(url, AllowList.parse(allow), getaddrinfo=Names(*addresses)))


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://127.0.0.1", CallbackTarget(("127.0.0.1",), 80, None, "127.0.0.1", "/")),
        ("HTTP://127.8.9.1:80/a?b#c", CallbackTarget(("127.8.9.1",), 80, None, "127.8.9.1", "/a?b")),
        ("https://127.0.0.1:/x", CallbackTarget(("127.0.0.1",), 443, "127.0.0.1", "127.0.0.1", "/x")),
        ("http://[::1]:8080?q=1", CallbackTarget(("::1",), 8080, None, "[::1]:8080", "/?q=1")),
        ("https://[::1]/", CallbackTarget(("::1",), 443, "::1", "[::1]", "/")),
        (
            "http://Hook.Test./é b%20".replace(" ", ""),
            CallbackTarget(("127.0.0.1",), 80, None, "hook.test", "/%C3%A9b%20"),
        ),
        (
            "https://bücher.test:8443/",
            CallbackTarget(("127.0.0.1",), 8443, "xn--bcher-kva.test", "xn--bcher-kva.test:8443", "/"),
        ),
        (
            "http://my_service:65535/[a]|\\",
            CallbackTarget(("127.0.0.1",), 65535, None, "my_service:65535", "/[a]%7C%5C"),
        ),
    ],
)
def test_a_url_is_parsed_to_a_target(url: str, target: CallbackTarget) -> None:
    assert resolve_url(url, "127.0.0.1") == target


def test_a_mapped_loopback_address_is_unwrapped() -> None:
    assert resolve_url("http://[::ffff:127.0.0.2]/").addresses == ("127.0.0.2",)
    assert resolve_url("http://a.test/", "::ffff:127.0.0.1", "127.0.0.1").addresses == ("127.0.0.1",)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "must start with http"),
        ("ftp://127.0.0.1/", "must start with http"),
        ("//127.0.0.1/", "must start with http"),
        ("http:127.0.0.1", "must start with http"),
        ("http:///x", "Invalid host"),
        ("http://:80/", "Invalid host"),
        ("http://127.0.0.1:0/", "use 1 to 65535"),
        ("http://127.0.0.1:65536/", "use 1 to 65535"),
        ("http://127.0.0.1:8_0/", "Invalid host"),
        ("http://127.0.0.1:-1/", "Invalid host"),
        ("http://user@127.0.0.1/", "user name"),
        ("http://user:secret@127.0.0.1/", "user name"),
        ("http://127.0.0.1\\@10.0.0.5/", "user name"),
        ("http://2130706433/", "four decimal numbers"),
        ("http://0x7f000001/", "four decimal numbers"),
        ("http://0x7f.1/", "four decimal numbers"),
        ("http://127.1/", "four decimal numbers"),
        ("http://0177.0.0.1/", "four decimal numbers"),
        ("http://127.0.0.1./", "four decimal numbers"),
        ("http://127.0.0.0x1/", "four decimal numbers"),
        ("http://127.0.0.1.0/", "four decimal numbers"),
        ("http://127.0.0.256/", "four decimal numbers"),
        ("http://①②⑦.1/", "four decimal numbers"),
        ("http://%3127.0.0.1/", "Invalid host"),
        ("http://[::1/", "Invalid host"),
        ("http://[::1]x/", "Invalid host"),
        ("http://::1/", "Invalid host"),
        ("http://[127.0.0.1]/", "Invalid host"),
        ("http://[fe80::1%25eth0]/", "without a zone"),
        ("http://[::1%lo]/", "without a zone"),
        ("http://a..test/", "Invalid host"),
        (f"http://{'a' * 64}.test/", "Invalid host"),
        (f"http://{'a.' * 127}b/", "Invalid host"),
        ("http://a\\b/", "Invalid host"),
        ("http://a℀b/", "Invalid host"),
        (f"http://127.0.0.1/{'a' * 8192}", "longer than 8192"),
        *((f"http://127.0.0.1/{char}x", "unprintable") for char in "\r\n\0 \t\x7f\x85\xa0\u2028\ud800"),
        (" http://127.0.0.1/", "unprintable"),
    ],
    ids=ascii,
)
def test_an_invalid_url_is_refused(url: str, words: str) -> None:
    with pytest.raises(TargetRefusedError, match=words) as refused:
        resolve_url(url, "127.0.0.1")
    assert "secret" not in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("10.0.0.5", "10.0.0.5"),
        ("172.17.0.1", "172.17.0.1"),
        ("192.168.1.1", "192.168.1.1"),
        ("100.64.0.1", "100.64.0.1"),
        ("8.8.8.8", "8.8.8.8"),
        ("128.0.0.1", "128.0.0.1"),
        ("fd00:ec2::254", "fd00:ec2::254"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:10.0.0.5", "10.0.0.5"),
        ("64:ff9b::127.0.0.1", "64:ff9b::7f00:1"),
        ("2002:7f00:1::", "2002:7f00:1::"),
        ("169.254.169.254", "169.254.169.254"),
        ("fe80::1", "fe80::1"),
    ],
)
def test_only_loopback_addresses_are_allowed_by_default(address: str, refused: str) -> None:
    host = f"[{address}]" if ":" in address else address
    for url, found in ((f"http://{host}/", ()), ("http://hook.test/", (address,))):
        with pytest.raises(TargetRefusedError, match=refused) as error:
            resolve_url(url, *found)
        assert "--callback-allow " in str(error.value)


def test_a_name_with_one_address_that_is_not_allowed_is_refused() -> None:
    for addresses in (("127.0.0.1", "10.0.0.5"), ("10.0.0.5", "::1"), ("::1", "127.0.0.1", "169.254.169.254")):
        with pytest.raises(TargetRefusedError, match=r"hook\.test leads to 1"):
            resolve_url("http://hook.test/", *addresses)


@pytest.mark.parametrize(
    ("allow", "address"),
    [
        ("10.0.0.0/8", "10.0.0.5"),
        ("10.0.0.5", "10.0.0.5"),
        ("hook.test", "10.0.0.5"),
        ("HOOK.test.", "fd00::1"),
        ("::ffff:10.0.0.0/104", "10.0.0.5"),
        ("10.0.0.5", "::ffff:10.0.0.5"),
        ("0.0.0.0/0", "8.8.8.8"),
        ("::/0", "2001:db8::1"),
        ("hook.test", "64:ff9b::808:808"),
        ("169.254.169.254", "169.254.169.254"),
        ("169.254.0.0/16", "169.254.1.1"),
        ("fe80::/10", "fe80::1%lo"),
        ("app.test", "127.0.0.1"),
    ],
)
def test_an_entry_allows_addresses_in_addition_to_loopback(allow: str, address: str) -> None:
    target = resolve_url("http://hook.test/", address, "127.0.0.1", allow=(allow,))
    assert target.addresses[0] == address.removeprefix("::ffff:")


@pytest.mark.parametrize(
    ("allow", "address", "words"),
    [
        ("hook.test", "169.254.169.254", "--callback-allow 169.254.169.254"),
        ("hook.test", "fe80::1%lo", "--callback-allow fe80::1 "),
        ("hook.test", "::ffff:169.254.1.1", "--callback-allow 169.254.1.1"),
        ("169.254.169.254", "64:ff9b::169.254.169.254", "leads to 64:ff9b::a9fe:a9fe"),
        ("0.0.0.0/0", "169.254.169.254", "--callback-allow 169.254.169.254"),
        ("128.0.0.0/1", "169.254.169.254", "--callback-allow 169.254.169.254"),
        ("::/0", "fe80::1", "--callback-allow fe80::1"),
        ("::/0", "10.0.0.5", "--callback-allow hook.test"),
        ("10.0.0.5", "64:ff9b::10.0.0.5", "leads to 64:ff9b::a00:5"),
        ("10.0.0.5", "64:ff9b:1::10.0.0.5", "leads to 64:ff9b:1::a00:5"),
        ("10.0.0.5", "::ffff:0:10.0.0.5", "leads to ::ffff:0:a00:5"),
        ("10.0.0.5", "2002:a00:5::1", "leads to 2002:a00:5::1"),
        ("8.8.8.8", "2001:0:808:808::f5ff:fffa", "leads to 2001:0:808:808::f5ff:fffa"),
        ("other.test", "10.0.0.5", "--callback-allow hook.test"),
        ("sub.hook.test", "10.0.0.5", "--callback-allow hook.test"),
        *(
            (allow, address, "cannot be the address of a receiver")
            for allow in ("hook.test", "0.0.0.0/0", "::/0")
            for address in (ANY, "0.1.2.3", "224.0.0.1", "255.255.255.255", "::", "ff02::1", "::10.0.0.5")
            if allow == "hook.test" or (":" in allow) == (":" in address)
        ),
    ],
)
def test_an_entry_allows_nothing_else(allow: str, address: str, words: str) -> None:
    with pytest.raises(TargetRefusedError) as refused:
        resolve_url("http://hook.test/", address, allow=(allow,))
    assert words in f"{refused.value} "


def test_the_refusal_of_an_address_behind_a_gateway_names_the_entry_that_allows_it() -> None:
    url = "http://[64:ff9b::10.0.0.5]/"
    for allow in ((), ("10.0.0.5",)):
        with pytest.raises(TargetRefusedError, match="--callback-allow 64:ff9b::a00:5 "):
            resolve_url(url, allow=allow)
    assert resolve_url(url, allow=("64:ff9b::a00:5",)).addresses == ("64:ff9b::a00:5",)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("", "such as app.test"),
        ("*", "such as app.test"),
        ("*.test", "such as app.test"),
        ("http://x", "without scheme"),
        ("app.test:80", "without scheme and port"),
        ("127.0.0.1:80", "without scheme and port"),
        ("[::1]", "such as"),
        ("fe80::1%eth0", "such as"),
        ("10.0.0.0/33", "such as"),
        ("10.0.0.0/", "such as"),
        ("/8", "such as"),
        ("127.1", "such as"),
        ("2130706433", "such as"),
        (" 10.0.0.1", "such as"),
        ("a b", "such as"),
        ("a\0b", "such as"),
        ("\ud800", "such as"),
        ("a" * 100_000, "such as"),
        ("10.0.0.1/8", "write 10.0.0.1 or 10.0.0.0/8"),
        ("fd00::1/8", "write fd00::1 or fd00::/8"),
        (ANY, "No receiver"),
        ("224.0.0.0/8", "No receiver"),
        ("255.255.255.255", "No receiver"),
        ("::", "No receiver"),
        ("ff02::1", "No receiver"),
    ],
    ids=lambda text: ascii(text[:30]),
)
def test_an_invalid_entry_is_refused(entry: str, words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        AllowList.parse(["app.test", entry])
    assert words in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    "failure",
    [socket.gaierror(socket.EAI_NONAME, "Name or service not known"), OSError(), UnicodeError("label"), None],
    ids=repr,
)
def test_a_name_that_does_not_resolve_raises_unknown_target(failure: Exception | None) -> None:
    async def fail(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        if failure:
            raise failure
        return []

    with pytest.raises(UnknownTargetError, match=r"The host hook\.test "):
        asyncio.run(resolve("http://hook.test/", LOCAL, getaddrinfo=fail))


def test_localhost_resolves_to_loopback() -> None:
    addresses = asyncio.run(resolve("http://localhost:80/", LOCAL)).addresses
    assert {ip_address(address).is_loopback for address in addresses} == {True}


def test_an_address_in_the_url_is_not_resolved() -> None:
    names = Names("10.0.0.5")
    assert asyncio.run(resolve("http://127.0.0.1/", LOCAL, getaddrinfo=names)).addresses == ("127.0.0.1",)
    assert names.resolved == []


def test_a_name_is_resolved_once_and_the_checked_address_is_connected_to(
    receive: Callable[..., Any],
) -> None:
    names, receiver = Names("127.0.0.1"), receive(b"HTTP/1.1 204 No Content\r\n\r\n")

    async def deliver() -> int:
        target = await resolve(f"http://rebound.test:{receiver.port}/", LOCAL, getaddrinfo=names)
        names.addresses = ("10.0.0.5",)
        return (await send_callback(target, b"{}", {})).status

    assert asyncio.run(deliver()) == 204
    assert names.resolved == ["rebound.test"]
    assert receiver.requests[0].headers["host"] == f"rebound.test:{receiver.port}"


ADDRESSES = st.ip_addresses().map(str) | st.sampled_from(["127.0.0.1", "::1", "::ffff:127.0.0.1", "fe80::1%lo"])
HOSTS = st.text(max_size=20) | ADDRESSES | ADDRESSES.map("[{}]".format) | st.integers(0, 2**32).map(str)
URLS = st.text() | st.builds(
    "http{}://{}{}{}".format, st.sampled_from(["", "s"]), HOSTS, st.text(max_size=9), st.text()
)


@given(URLS, st.lists(ADDRESSES, max_size=4))
@example("http://hook.test/", ["127.0.0.1"])
@example("http://hook.test/", ["127.0.0.1", "10.0.0.5"])
def test_any_url_gives_allowed_addresses_or_is_refused(url: str, addresses: list[str]) -> None:
    try:
        target = resolve_url(url, *addresses, allow=("192.0.2.0/24",))
    except (TargetRefusedError, UnknownTargetError) as error:
        sentence = str(error)
    else:
        sentence = "."
        assert_is_allowed(target)
    assert sentence.endswith(".")
    assert sentence.isprintable()


def assert_is_allowed(target: CallbackTarget) -> None:
    networks = [ip_network(text) for text in ("127.0.0.0/8", "::1", "192.0.2.0/24")]
    assert target.addresses
    assert all(any(ip_address(address) in network for network in networks) for address in target.addresses)
    assert 0 < target.port < 65536
    assert target.path.startswith("/")
    assert (target.host + target.path).isascii()
    assert (target.host + target.path).isprintable()


@given(st.text())
def test_any_entry_is_parsed_or_refused(entry: str) -> None:
    try:
        sentence = f"{AllowList.parse([entry])}."
    except SettingsError as error:
        sentence = str(error)
    assert sentence.endswith(".")
    assert sentence.isprintable()
