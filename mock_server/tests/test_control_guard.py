"""Access control of the control API: web pages, foreign host names and callers without the token are refused."""

import http.client
import json
import re
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from seedbed_mock import ControlError, MockServer, running

HEALTH = "/__seedbed/health"
TOKEN = "a-control-token"  # noqa: S105 (it opens nothing else)

Lines = list[tuple[bytes, bytes]]


def send(url: str, lines: Lines, method: bytes = b"GET", path: str = HEALTH) -> tuple[int, bytes]:
    """Send header lines unchanged; the status is 0 if the server closes the connection without a response."""
    parts = urlsplit(url)
    assert parts.hostname
    head = b"".join(b"%s: %s\r\n" % line for line in [*lines, (b"Connection", b"close")])
    with socket.create_connection((parts.hostname, parts.port or 80), timeout=10) as connection:
        connection.sendall(b"%s %s HTTP/1.1\r\n%s\r\n" % (method, path.encode(), head))
        response = b"".join(iter(lambda: _received(connection), b""))
    found = re.match(rb"HTTP/1\.1 (\d{3})", response)
    return int(found[1]) if found else 0, response.partition(b"\r\n\r\n")[2]


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""


def host_of(server: MockServer) -> bytes:
    return urlsplit(server.url).netloc.encode()


def own_names(server: MockServer) -> set[bytes]:
    port = server.url.rpartition(":")[2].encode()
    return {name + b":" + port for name in (b"localhost", b"127.0.0.1", b"[::1]", b"0.0.0.0", b"[::]")}


def test_every_name_of_the_server_is_accepted(seedbed: MockServer) -> None:
    for name in own_names(seedbed):
        assert send(seedbed.url, [(b"Host", name)])[0] == 200
        assert send(seedbed.url, [(b"host", name.upper())])[0] == 200
        assert send(seedbed.url, [(b"Host", host_of(seedbed)), (b"Origin", b"http://" + name)])[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        b"evil.com",
        b"evil.com:PORT",
        b"127.0.0.1.evil.com:PORT",
        b"localhost.evil.com:PORT",
        b"localhost:PORT.evil.com",
        b"user@127.0.0.1:PORT",
        b"user:pass@127.0.0.1:PORT",
        b"127.0.0.1:PORT@evil.com",
        b"127.0.0.1:1",
        b"127.0.0.1",
        b"127.0.0.1:PORT:PORT",
        b"127.0.0.1:PORT/",
        b"http://127.0.0.1:PORT",
        b"127.0.0.1:PORT,evil.com",
        b"2130706433:PORT",
        b"0x7f.1:PORT",
        b"::1:PORT",
        b"[::1:PORT",
        b"[]:PORT",
        b":PORT",
        b"",
        b" ",
        b"\xff\xfe",
        b"\xa0127.0.0.1:PORT",
        b"127.0.0.1:PORT\x85",
        "１２７.0.0.1:PORT".encode(),
        b"x" * 20_000,
    ],
)
def test_another_host_is_refused(seedbed: MockServer, host: bytes) -> None:
    port = seedbed.url.rpartition(":")[2].encode()
    status, body = send(seedbed.url, [(b"Host", host.replace(b"PORT", port))])
    assert status in {400, 421}
    assert status == 400 or "localhost" in json.loads(body)["error"]


def test_a_request_without_a_host_is_refused(seedbed: MockServer) -> None:
    assert send(seedbed.url, [])[0] in {400, 421}


@pytest.mark.parametrize("first", [True, False])
def test_two_hosts_are_refused(seedbed: MockServer, first: bool) -> None:  # noqa: FBT001
    hosts = [host_of(seedbed), b"evil.com"]
    lines = [(b"Host", host) for host in (hosts if first else hosts[::-1])]
    assert send(seedbed.url, lines)[0] in {400, 421}


@pytest.mark.parametrize(
    "origin",
    [
        b"null",
        b"",
        b"http://evil.com",
        b"http://localhost",
        b"https://127.0.0.1:PORT",
        b"http://127.0.0.1:1",
        b"http://127.0.0.1:PORT.evil.com",
        b"http://127.0.0.1:PORT/path",
        b"http://127.0.0.1:PORT?x",
        b"http://user@127.0.0.1:PORT",
        b"http:127.0.0.1:PORT",
        b"//127.0.0.1:PORT",
        b"127.0.0.1:PORT",
        b"http://[::1",
        b"http://[v1.x]:PORT",
        b"chrome-extension://abc",
        b"file://",
        b"\xff",
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"POST", b"OPTIONS"])
def test_a_page_of_another_origin_is_refused(seedbed: MockServer, origin: bytes, method: bytes) -> None:
    port = seedbed.url.rpartition(":")[2].encode()
    lines = [(b"Host", host_of(seedbed)), (b"Origin", origin.replace(b"PORT", port))]
    status, body = send(seedbed.url, lines, method, "/__seedbed/reset")
    assert status == 403
    assert b"other origins" in body


@pytest.mark.parametrize("first", [True, False])
def test_two_origins_are_refused(seedbed: MockServer, first: bool) -> None:  # noqa: FBT001
    own, foreign = (b"Origin", b"http://" + host_of(seedbed)), (b"Origin", b"http://evil.com")
    pair = [own, foreign] if first else [foreign, own]
    assert send(seedbed.url, [(b"Host", host_of(seedbed)), *pair])[0] == 403


@pytest.mark.parametrize(
    ("site", "status"),
    [(b"none", 200), (b"same-origin", 200), (b"same-site", 403), (b"cross-site", 403), (b"", 403), (b"\xff", 403)],
)
def test_a_page_of_another_site_is_refused(seedbed: MockServer, site: bytes, status: int) -> None:
    assert send(seedbed.url, [(b"Host", host_of(seedbed)), (b"Sec-Fetch-Site", site)])[0] == status


@pytest.mark.parametrize("path", ["/__seedbed", "/__seedbed/nowhere", "/__seedbed/openapi.json", "/__seedbed/tasks"])
def test_every_path_is_refused_to_another_host(seedbed: MockServer, path: str) -> None:
    assert send(seedbed.url, [(b"Host", b"evil.com")], path=path)[0] == 421


def test_responses_have_no_cors_headers(seedbed: MockServer) -> None:
    connection = http.client.HTTPConnection(host_of(seedbed).decode())
    connection.request("GET", HEALTH, headers={"Origin": seedbed.url})
    response = connection.getresponse()
    assert not [name for name in response.headers if name.lower().startswith("access-control")]
    connection.close()


names = st.sampled_from([b"127.0.0.1", b"localhost", b"[::1]", b"evil.com", b"[", b"]", b"", b"0.0.0.0"])
odd_bytes = st.binary(max_size=12)
authorities = st.tuples(odd_bytes, names, st.sampled_from([b":PORT", b":1", b":", b""]), odd_bytes).map(b"".join)
origins = st.tuples(st.sampled_from([b"http://", b"https://", b"http:", b"//", b""]), authorities).map(b"".join)


@settings(max_examples=300)
@given(authorities | st.binary(max_size=40), st.none() | origins | st.binary(max_size=40))
@example(b"127.0.0.1:PORT", None)
@example(b"127.0.0.1:PORT", b"http://localhost:PORT")
@example(b"127.0.0.1:PORT\r\n\r\n", None)
def test_any_bytes_in_host_or_origin_are_handled(guarded: MockServer, host: bytes, origin: bytes | None) -> None:
    port = guarded.url.rpartition(":")[2].encode()
    host, origin = host.replace(b"PORT", port), None if origin is None else origin.replace(b"PORT", port)
    status, _ = send(guarded.url, [(b"Host", host)] + ([] if origin is None else [(b"Origin", origin)]))
    assert status in {0, 200, 400, 403, 421}
    if status == 200:
        # A line break starts another header, or ends the headers.
        first, *more = re.split(rb"\r\n|\n", host)
        assert first.strip(b" \t").lower() in own_names(guarded)
        own_origins = {b"http://" + name for name in own_names(guarded)}
        assert origin is None or more or re.split(rb"\r\n|\n", origin)[0].strip(b" \t").lower() in own_origins
    assert send(guarded.url, [(b"Host", host_of(guarded))])[0] == 200
    assert not guarded.errors


@pytest.fixture(scope="module")
def guarded() -> Iterator[MockServer]:
    with running() as server:
        yield server


# The token


@pytest.mark.seedbed(control_token=TOKEN)
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer wrong",
        b"Bearer " + TOKEN.encode() + b"x",
        b"Bearer " + TOKEN.encode()[:-1],
        b"Basic " + TOKEN.encode(),
        TOKEN.encode(),
        b"Bearer \xff\xfe",
        b"Bearer " + b"x" * 10_000,
    ],
)
def test_a_missing_or_wrong_token_is_refused(seedbed: MockServer, authorization: bytes | None) -> None:
    lines = [(b"Host", host_of(seedbed))] + ([] if authorization is None else [(b"Authorization", authorization)])
    for method, path in ((b"GET", HEALTH), (b"POST", "/__seedbed/reset"), (b"GET", "/__seedbed/openapi.json")):
        status, body = send(seedbed.url, lines, method, path)
        assert status == 401
        assert b"--control-token" in body
        assert TOKEN.encode() not in body


@pytest.mark.seedbed(control_token=TOKEN)
@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER"])
def test_the_right_token_is_accepted(seedbed: MockServer, scheme: bytes) -> None:
    lines = [(b"Host", host_of(seedbed)), (b"Authorization", scheme + b" " + TOKEN.encode())]
    assert send(seedbed.url, lines)[0] == 200
    assert seedbed.calls == []


@pytest.mark.seedbed(control_token=TOKEN)
def test_the_right_token_admits_another_host_but_no_page(seedbed: MockServer) -> None:
    right, tunnel = (b"Authorization", b"Bearer " + TOKEN.encode()), (b"Host", b"tunnel.example:443")
    assert send(seedbed.url, [tunnel, right])[0] == 200
    assert send(seedbed.url, [tunnel, (b"Authorization", b"Bearer wrong")])[0] == 421
    assert send(seedbed.url, [(b"Host", host_of(seedbed)), (b"Origin", b"null"), right])[0] == 403
    assert send(seedbed.url, [tunnel, (b"Origin", b"https://tunnel.example"), right])[0] == 403
    assert send(seedbed.url, [tunnel, (b"Sec-Fetch-Site", b"cross-site"), right])[0] == 403
    assert send(seedbed.url, [tunnel, (b"Host", host_of(seedbed)), right])[0] in {400, 421}
    for host in (
        b"",
        b"a b",
        b"user@tunnel.example",
        b"tunnel.example:0",
        b"tunnel.example:99999",
        b"[::1",
        b"x" * 400,
    ):
        assert send(seedbed.url, [(b"Host", host), right])[0] in {400, 421}


@pytest.mark.seedbed(allow_host=["app.test", "[2001:db8::7]:9000", "fixed.test:9000"])
def test_an_allowed_name_without_a_port_has_any(seedbed: MockServer) -> None:
    for host, status in (
        (b"app.test", 200),
        (b"APP.test:9000", 200),
        (b"app.test.", 200),
        (b"app.test.:9000", 200),
        (b"app.test:9000:1", 421),
        (b"xapp.test", 421),
        (b"app.test.evil.com", 421),
        (b"fixed.test:9000", 200),
        (b"fixed.test:9001", 421),
        (b"[2001:db8::7]:9000", 200),
        (b"[2001:db8::7]:9001", 421),
        (b"2001:db8::7:9000", 421),
    ):
        assert (host, send(seedbed.url, [(b"Host", host)])[0]) == (host, status)


# Other addresses


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_a_server_on_ipv6_accepts_its_address() -> None:
    with running(host="::1") as server:
        assert server.calls == []
        port = server.url.rpartition(":")[2].encode()
        for name, status in ((b"[::1]:", 200), (b"localhost:", 200), (b"[::2]:", 421), (b"::1:", 421)):
            assert send(server.url, [(b"Host", name + port)])[0] == status


def test_a_server_on_all_addresses_accepts_only_its_own_names() -> None:
    with running(host="0.0.0.0") as server:  # noqa: S104
        assert server.calls == []
        port = server.url.rpartition(":")[2].encode()
        for name, status in ((b"0.0.0.0:", 200), (b"127.0.0.1:", 200), (b"localhost:", 200), (b"evil.com:", 421)):
            assert send(server.url, [(b"Host", name + port)])[0] == status


def own_address() -> str:
    """Return an address of this machine that other machines can reach; connecting a UDP socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        address: str = probe.getsockname()[0]
        return "" if address.startswith(("127.", "0.")) else address


@pytest.mark.skipif(not own_address(), reason="this machine has no address but loopback")
def test_a_caller_on_another_machine_needs_the_token() -> None:
    with running(host="0.0.0.0") as server:  # noqa: S104
        url = server.url.replace("0.0.0.0", own_address())  # noqa: S104
        status, body = send(url, [(b"Host", urlsplit(url).netloc.encode())])
        assert status == 403
        assert b"--control-token" in body
        server.play(control_token=TOKEN)
        lines = [(b"Host", urlsplit(url).netloc.encode()), (b"Authorization", b"Bearer " + TOKEN.encode())]
        assert send(url, lines)[0] == 200


@pytest.mark.seedbed(control_token=TOKEN)
def test_the_handle_sends_the_token_of_its_server(seedbed: MockServer) -> None:
    assert seedbed.control("GET", "health")["status"] == "ok"
    with pytest.raises(ControlError):
        seedbed.task("nothing")
