"""The front of a server with interception: what it does with the first bytes of a connection, whatever they are."""

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from seedbed_mock import MockServer, running
from seedbed_mock.interception import front as front_module
from seedbed_mock.interception import passage
from seedbed_mock.interception.hosts import RefusedError
from seedbed_mock.protocol import LimitedConfig
from seedbed_mock.testing import AsyncMockServer
from seedbed_schemas import default_contract, job_api, local
from seedbed_schemas.openapi import example_of

HOST = "api.kie.ai"
CREDIT = job_api().credit.path
CREATE = default_contract().operation.path
BODY = example_of(default_contract().part("request"))
AUTH = {"Authorization": f"Bearer {local.KEY}"}
GET = (
    f"GET {CREDIT} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {local.KEY}\r\nConnection: close\r\n\r\n".encode()
)
SECONDS = 20


@pytest.fixture(scope="module", autouse=True, name="state")
def make_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        yield folder / "seedbed"


@pytest.fixture(scope="module", name="server")
def make_server(state: Path) -> Iterator[MockServer]:
    assert state.parent.exists()
    with running(tls=True, task_seconds=0, rate_limit="off", credits=10**6) as server:
        yield server
        assert not server.errors


@pytest.fixture(scope="module", name="hasty")
def make_hasty_server(state: Path) -> Iterator[MockServer]:
    assert state.parent.exists()
    with running(tls=True, header_timeout=0.3, keep_alive=0.3) as server:
        yield server
        assert not server.errors


@pytest.fixture(scope="module", name="trusting")
def make_context(state: Path, server: MockServer) -> ssl.SSLContext:
    assert server.url
    return ssl.create_default_context(cafile=str(state / "ca.pem"))


def connect(server: MockServer) -> socket.socket:
    host, _, port = server.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=SECONDS)


def read_all(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


def read_response(connection: socket.socket) -> tuple[bytes, bytes]:
    """Return the head and the body of a response; reading to the end would wait for the server to close."""
    received = b""
    while b"\r\n\r\n" not in received and (chunk := connection.recv(65536)):
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
    while len(body) < size and (chunk := connection.recv(65536)):
        body += chunk
    return head, body


def client_hello(name: str = HOST) -> tuple[bytes, ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
    """Return the first message of a client, and the client."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(inward, outward, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outward.read(), client, inward, outward


def tunnel(server: MockServer, target: str, *headers: str) -> tuple[socket.socket, bytes]:
    """Send a CONNECT request, and return the connection and the response to it."""
    connection = connect(server)
    connection.sendall("\r\n".join([f"CONNECT {target} HTTP/1.1", f"Host: {target}", *headers, "", ""]).encode())
    received = b""
    while b"\r\n\r\n" not in received and (chunk := connection.recv(1)):
        received += chunk
    return connection, received


def last_entry(server: MockServer) -> dict[str, Any]:
    entry: dict[str, Any] = server.control("GET", "journal", limit=1)["entries"][0]
    return entry


def client(server: MockServer, trusting: ssl.SSLContext, **options: Any) -> httpx2.Client:
    return httpx2.Client(proxy=server.url, verify=trusting, trust_env=False, headers=AUTH, timeout=SECONDS, **options)


# One port for everything


def test_the_host_of_the_paid_service_is_the_mock_server(server: MockServer, trusting: ssl.SSLContext) -> None:
    with client(server, trusting) as http:
        task = http.post(f"https://{HOST}{CREATE}", json=BODY)
        assert task.headers["X-Seedbed"]
        record = http.get(
            f"https://{HOST}{job_api().record_info.path}", params={"taskId": task.json()["data"]["taskId"]}
        )
        (url,) = json.loads(record.json()["data"]["resultJson"])["resultUrls"]
        assert url.startswith(f"https://{HOST}/results/")
        assert http.get(url).content.startswith(b"\xff\xd8")
        download = http.post(f"https://{HOST}{job_api().download_url.path}", json={"url": url}).json()
        assert http.get(download["data"]).content.startswith(b"\xff\xd8")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_http_and_https_are_on_one_port(server: MockServer, trusting: ssl.SSLContext, scheme: str) -> None:
    url = server.url.replace("http:", f"{scheme}:")
    for base in (url, url.replace("127.0.0.1", "localhost")):
        with httpx2.Client(verify=trusting, trust_env=False, headers=AUTH) as http:
            task = http.post(f"{base}{CREATE}", json=BODY).json()["data"]["taskId"]
            record = http.get(f"{base}{job_api().record_info.path}", params={"taskId": task}).json()["data"]
            assert json.loads(record["resultJson"])["resultUrls"][0].startswith(f"{base}/results/")


def test_a_proxy_request_for_plain_http_is_served(server: MockServer, trusting: ssl.SSLContext) -> None:
    with client(server, trusting) as http:
        assert http.get(f"http://{HOST}{CREDIT}").json()["code"] == 200
        assert http.get(f"{server.url}{CREDIT}").json()["code"] == 200


@pytest.mark.parametrize("host", [HOST, f"{HOST}:443"])
def test_the_port_may_be_named_in_the_host_header(server: MockServer, trusting: ssl.SSLContext, host: str) -> None:
    with client(server, trusting) as http:
        response = http.post(f"https://{HOST}{CREATE}", json=BODY, headers={"Host": host})
        assert response.json()["code"] == 200


def test_a_page_of_another_host_gets_nothing_through_the_proxy(server: MockServer, trusting: ssl.SSLContext) -> None:
    with client(server, trusting) as http:
        assert http.get(f"https://{HOST}{CREDIT}", headers={"Host": "evil.test"}).status_code == 421
        assert http.get(f"https://{HOST}{CREDIT}", headers={"Origin": "https://evil.test"}).status_code == 403


def test_a_client_that_names_the_host_in_its_handshake_needs_no_proxy(
    server: MockServer, trusting: ssl.SSLContext
) -> None:
    with trusting.wrap_socket(connect(server), server_hostname=HOST) as connection:
        connection.sendall(GET)
        assert b'"code":200' in read_all(connection)


@pytest.mark.parametrize("target", [f"{HOST}:443", "API.KIE.AI:443", "api.kie.ai.:443", "Api.Kie.Ai.:443"])
def test_the_name_of_the_host_is_compared_as_dns_does(
    server: MockServer, trusting: ssl.SSLContext, target: str
) -> None:
    connection, received = tunnel(server, target)
    assert received.startswith(b"HTTP/1.1 200 ")
    with trusting.wrap_socket(connection, server_hostname=HOST) as secured:
        secured.sendall(GET)
        assert b'"code":200' in read_all(secured)


# However it is cut


CONNECT = f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nUser-Agent: test\r\n\r\n".encode()


@pytest.mark.parametrize("size", [1, 7, 1000], ids=str)
def test_nothing_is_lost_however_the_connection_is_cut(server: MockServer, size: int) -> None:
    hello, tls, inward, outward = client_hello()
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The client does not wait for the response to CONNECT, which RFC 9110 does not demand.
        sent = CONNECT + hello
        for start in range(0, len(sent), size):
            connection.sendall(sent[start : start + size])
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536)
        inward.write(received.partition(b"\r\n\r\n")[2])
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                inward.write(connection.recv(65536))
        # The request comes with the last message of the handshake, in one piece.
        tls.write(GET)
        connection.sendall(outward.read())
        answer = b""
        while b'"code":200' not in answer:
            inward.write(connection.recv(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                answer += tls.read()


@pytest.mark.parametrize("sent", [b"C", b"CON", b"COPY / HTTP/1.1\r\n", b"CONNECT api", b"CONNECT\r\n\r\n"])
def test_what_only_begins_like_a_proxy_request_is_refused_as_without_a_front(hasty: MockServer, sent: bytes) -> None:
    with connect(hasty) as connection:
        connection.sendall(sent)
        head, _ = read_response(connection)
    assert head.startswith((b"HTTP/1.1 408", b"HTTP/1.1 400"))
    assert last_entry(hasty)["status"] in (400, 408)


# Hostile input


@pytest.mark.parametrize(
    ("target", "status", "problem"),
    [
        (f"{HOST}:80", 403, "intercepted on port 443, not on port 80"),
        (f"{HOST}:22", 403, "intercepted on port 443, not on port 22"),
        (f"{HOST}:0", 400, "must name a host and a port"),
        (f"{HOST}:99999", 400, "must name a host and a port"),
        (HOST, 400, "must name a host and a port"),
        ("", 400, "must name a host and a port|not valid"),
        (":443", 400, "must name a host and a port|not valid"),
        (f"user@{HOST}:443", 400, "must name a host and a port|not valid"),
        ("kie.ai:443", 403, "nothing passes to it"),
        ("tempfile.redpandaai.co:443", 403, "nothing passes to it"),
        ("other.api.kie.ai:443", 403, "nothing passes to it"),
        ("127.0.0.1:22", 403, "only connections to port 443 pass"),
        ("127.0.0.1:443", 403, "leads to 127.0.0.1 on this machine"),
        ("localhost:443", 403, "on this machine"),
        ("2130706433:443", 400, "must name a host and a port"),
        ("127.1:443", 400, "must name a host and a port"),
        ("0x7f.1:443", 400, "must name a host and a port"),
        ("169.254.169.254:443", 403, "private network"),
        ("10.0.0.1:443", 403, "private network"),
        ("[::1]:443", 403, "on this machine"),
        ("[::ffff:127.0.0.1]:443", 403, "on this machine"),
        ("[fe80::1%25eth0]:443", 403, "private network|not valid"),
        ("[::1:443", 400, "must name a host and a port|not valid"),
        ("0.0.0.0:443", 403, "on this machine"),
        ("x" * 300 + ":443", 400, "must name a host and a port"),
        ("x" * 1024 * 1024 + ":443", 431, "headers are larger"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_a_tunnel_to_anything_else_is_refused(server: MockServer, target: str, status: int, problem: str) -> None:
    with connect(server) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, body = read_response(connection)
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), head
    envelope = json.loads(body)
    assert any(each in envelope["msg"] for each in problem.split("|")), envelope
    entry = last_entry(server)
    assert (entry["operation"], entry["status"]) == ("unmatched", status)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"CONNECT a.test:443 HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 300 + b"\r\n", 431),
        (b"CONNECT a.test:443 HTTP/1.1\r\nA: " + b"b" * 100_000, 431),
        (b"CONNECT a.test:443 HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"CONNECT a.test:443\x00 HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT a.test:443\rX-Evil: 1 HTTP/1.1\r\n\r\n", 400),
        (b"GET http:///x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET ftp://example.com/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET https://example.com/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET http://kie.ai/ HTTP/1.1\r\nHost: kie.ai\r\n\r\n", 403),
        (b"GET http://10.0.0.1:8080/ HTTP/1.1\r\nHost: x\r\n\r\n", 403),
        (b"\x00" * 100, 400),
        (b"C" * 100_000, 400),
        (b"\x80\x2e\x01\x00\x02", 400),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else None,
)
def test_garbage_is_refused_in_the_envelope(server: MockServer, sent: bytes, status: int) -> None:
    with connect(server) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent)
        head, body = read_response(connection)
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), head
    assert json.loads(body)["data"] is None


def test_a_request_that_passes_to_a_private_address_is_refused(server: MockServer) -> None:
    with connect(server) as connection:
        connection.sendall(b"GET http://169.254.169.254/latest HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = read_all(connection)
    assert received.startswith(b"HTTP/1.1 403 ")
    assert b"private network" in received


@pytest.mark.parametrize("sent", [b"\x16", b"\x16\x03\x01\x02\x00\x01", client_hello()[0][:100]], ids=len)
def test_a_handshake_that_stays_incomplete_is_ended_and_recorded(hasty: MockServer, sent: bytes) -> None:
    with connect(hasty) as connection:
        connection.sendall(sent)
        assert read_all(connection) == b""
    assert "TLS handshake failed" in last_entry(hasty)["hint"]


def test_a_handshake_of_garbage_is_ended(server: MockServer) -> None:
    with connect(server) as connection:
        connection.sendall(b"\x16\x03\x01\x00\x05hello" + b"x" * 1000)
        read_all(connection)
    assert last_entry(server)["hint"].startswith("the TLS handshake failed")


def test_a_tunnel_that_stays_silent_is_ended(hasty: MockServer) -> None:
    connection, received = tunnel(hasty, f"{HOST}:443")
    with connection:
        assert received.startswith(b"HTTP/1.1 200 ")
        assert read_all(connection) == b""


def test_a_thousand_half_open_handshakes_delay_nobody(trusting: ssl.SSLContext) -> None:
    with running(tls=True, header_timeout=2) as server, contextlib.ExitStack() as stack:
        hello = client_hello()[0][:100]
        waiting = [stack.enter_context(connect(server)) for _ in range(1000)]
        for number, connection in enumerate(waiting):
            connection.sendall(hello if number % 2 else CONNECT)
        with client(server, trusting) as http:
            assert http.get(f"https://{HOST}{CREDIT}").json()["code"] == 200
        for connection in waiting:
            read_all(connection)


@pytest.mark.parametrize("sent", [client_hello()[0][:100], b"CONNECT api.kie.ai:443 HT", CONNECT, b""], ids=len)
def test_the_server_stops_in_the_middle_of_anything(sent: bytes) -> None:
    with running(tls=True) as server:
        connection = connect(server)
        connection.sendall(sent)
        server.control("GET", "health")
    with connection:
        read_all(connection)
    assert not any(thread.name == "seedbed" for thread in threading.enumerate() if thread.name == server.url)


# Faults and limits hold under TLS


@pytest.mark.parametrize(
    "rule",
    ["wire.reset", "wire.reset at=middle", "wire.close", "wire.cut-short", "wire.nothing", "wire.trickle seconds=0"],
)
def test_faults_of_the_connection_work_under_tls(server: MockServer, trusting: ssl.SSLContext, rule: str) -> None:
    with client(server, trusting) as http:
        headers = {local.FAULT_HEADER: rule}
        if rule.startswith("wire.trickle"):
            assert http.get(f"https://{HOST}{CREDIT}", headers=headers).json()["code"] == 200
        else:
            with pytest.raises(httpx2.TransportError):
                http.get(f"https://{HOST}{CREDIT}", headers=headers)
        assert http.get(f"https://{HOST}{CREDIT}").json()["code"] == 200


def test_a_hanging_response_ends_with_the_client_under_tls(server: MockServer, trusting: ssl.SSLContext) -> None:
    with client(server, trusting) as http, pytest.raises(httpx2.ReadTimeout):
        http.get(f"https://{HOST}{CREDIT}", headers={local.FAULT_HEADER: "wire.hang"}, timeout=0.2)


def test_limits_hold_under_tls(server: MockServer, trusting: ssl.SSLContext) -> None:
    with trusting.wrap_socket(connect(server), server_hostname=HOST) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nA: " + b"b" * 100_000)
        head, _ = read_response(connection)
    assert head.startswith(b"HTTP/1.1 431 ")


# Certificates


def test_no_certificate_is_made_for_a_host_that_is_not_intercepted(
    server: MockServer, trusting: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(server) as connection, pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name|EOF|reset"):
        trusting.wrap_socket(connection, server_hostname="other.test")
    assert "other.test is not intercepted; let the mock server stand in for it with --intercept" in caplog.text


def test_a_program_that_does_not_trust_the_ca_is_reported(server: MockServer, caplog: pytest.LogCaptureFixture) -> None:
    connection, _ = tunnel(server, f"{HOST}:443", "User-Agent: curl/8.5.0")
    with connection, pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(connection, server_hostname=HOST)
    assert "TLS handshake failed (unknown ca)" in last_entry(server)["hint"]
    assert f"curl/8.5.0 does not trust the CA for {HOST} (unknown ca); set CURL_CA_BUNDLE=" in caplog.text


# What passes


@pytest.fixture(name="elsewhere")
def make_other_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Return the port of a server that stands for one on the internet."""
    with running(key="elsewhere") as other:
        port = int(other.url.rpartition(":")[2])
        monkeypatch.setattr(front_module, "HTTPS", port)
        monkeypatch.setattr(front_module, "HTTP", port)

        async def addresses(host: Any) -> list[str]:
            if host.name != "elsewhere.test":
                raise RefusedError(f"{host.name} is elsewhere")
            return ["127.0.0.1"]

        monkeypatch.setattr(passage, "public_addresses", addresses)
        yield port


ELSEWHERE = f"GET {CREDIT} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer elsewhere\r\n\r\n".encode()


def test_connections_to_other_hosts_pass_and_are_reported(
    server: MockServer, elsewhere: int, caplog: pytest.LogCaptureFixture
) -> None:
    connection, received = tunnel(server, f"elsewhere.test:{elsewhere}")
    with connection:
        assert received.startswith(b"HTTP/1.1 200 ")
        connection.sendall(ELSEWHERE * 3)
        received = b""
        while received.count(b'"code":200') < 3:
            received += connection.recv(65536)
    assert caplog.text.count("elsewhere.test") == 1


def test_plain_requests_to_other_hosts_pass(server: MockServer, elsewhere: int, trusting: ssl.SSLContext) -> None:
    url = f"http://elsewhere.test:{elsewhere}"
    with client(server, trusting) as http:
        http.headers["Authorization"] = "Bearer elsewhere"
        for _ in range(2):
            # The Host header stays that of the program, and the other server does not know this name.
            assert http.get(f"{url}{CREDIT}").status_code == 421
            response = http.post(f"{url}{CREATE}", json=BODY, headers={"Host": "localhost"})
            assert (response.status_code, response.json()["code"]) == (200, 200)


def test_nothing_else_passes_with_egress_deny(elsewhere: int) -> None:
    with running(tls=True, egress="deny") as server:
        connection, received = tunnel(server, f"elsewhere.test:{elsewhere}")
        with connection:
            assert received.startswith(b"HTTP/1.1 403 ")
            assert b"--egress deny" in connection.recv(65536)


def test_an_open_tunnel_ends_with_the_server(elsewhere: int) -> None:
    with running(tls=True) as server:
        connection, received = tunnel(server, f"elsewhere.test:{elsewhere}")
        assert received.startswith(b"HTTP/1.1 200 ")
    with connection:
        assert read_all(connection) == b""


def test_a_tunnel_passes_on_as_much_as_the_other_end_reads(server: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 5_000_000
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setattr(front_module, "HTTPS", port)

        async def addresses(_: Any) -> list[str]:
            return ["127.0.0.1"]

        monkeypatch.setattr(passage, "public_addresses", addresses)
        connection, _ = tunnel(server, f"elsewhere.test:{port}")
        with connection, listener.accept()[0] as other:

            def send() -> None:
                other.sendall(b"x" * size)
                other.shutdown(socket.SHUT_WR)

            sender = threading.Thread(target=send)
            sender.start()
            assert len(read_all(connection)) == size
            sender.join()


# Listening


def test_the_proxy_listens_on_loopback_only_unless_told(server: MockServer) -> None:
    assert server.url.startswith("http://127.0.0.1:")


def test_nothing_passes_for_other_machines() -> None:
    from seedbed_mock.interception.hosts import Host, HostRules

    rules = HostRules.of([])
    rules.check_passage(Host("example.test", 443), 443, is_local=True)
    with pytest.raises(RefusedError, match="other machines"):
        rules.check_passage(Host("example.test", 443), 443, is_local=False)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_it_works_with_both_event_loops(monkeypatch: pytest.MonkeyPatch, trusting: ssl.SSLContext, loop: str) -> None:
    original = LimitedConfig.__init__

    def with_loop(self: LimitedConfig, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **{**options, "loop": loop})

    monkeypatch.setattr(LimitedConfig, "__init__", with_loop)
    with running(tls=True) as server:
        for _ in range(2):
            with client(server, trusting) as http:
                assert http.get(f"https://{HOST}{CREDIT}").json()["code"] == 200
                with pytest.raises(httpx2.TransportError):
                    http.get(f"https://{HOST}{CREDIT}", headers={local.FAULT_HEADER: "wire.reset"})
        with connect(server) as connection:
            connection.sendall(client_hello()[0][:50])
            with connect(server) as leaving:
                leaving.sendall(CONNECT[:20])
            server.control("GET", "health")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")
def test_it_works_at_a_unix_socket(tmp_path: Path, trusting: ssl.SSLContext) -> None:
    path, ready = tmp_path / "socket", tmp_path / "ready.json"
    command = [sys.executable, "-m", "seedbed_mock", "--tls", "--uds", str(path), "--ready-file", str(ready)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        assert "ready" in server.stdout.readline()
        for sent, name in ((b"", ""), (CONNECT, HOST), (b"", HOST)):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(SECONDS)
                connection.connect(str(path))
                connection.sendall(sent)
                if sent:
                    assert connection.recv(39) == b"HTTP/1.1 200 Connection established\r\n\r\n"
                secured = trusting.wrap_socket(connection, server_hostname=name) if name else connection
                with secured:
                    secured.sendall(GET if name else GET.replace(HOST.encode(), b"localhost"))
                    assert b'"code":200' in read_all(secured)
        assert json.loads(ready.read_text())["ca"].endswith("bundle.pem")
        server.terminate()


# Handles


def test_a_running_server_intercepts_on_a_port_of_its_own() -> None:
    with running() as server:
        with server.intercept() as intercepted:
            context = ssl.create_default_context(cafile=intercepted.env["SSL_CERT_FILE"])
            folder = Path(intercepted.env["SSL_CERT_FILE"]).parent
            assert sorted(path.name for path in folder.iterdir()) == ["bundle.pem", "ca.pem", "lock"]
            assert folder.stat().st_mode & 0o777 == 0o700
            with httpx2.Client(proxy=intercepted.url, verify=context, trust_env=False, headers=AUTH) as http:
                assert http.get(f"https://{HOST}{CREDIT}").json()["code"] == 200
        assert not folder.exists()
        with pytest.raises(httpx2.TransportError), httpx2.Client(proxy=intercepted.url, trust_env=False) as http:
            http.get(f"https://{HOST}{CREDIT}")
        intercepted.close()
        later = server.intercept("api.test")
        assert "api.test" in later.env["SEEDBED_HOOK"]
    assert not Path(later.env["SSL_CERT_FILE"]).exists()
    with pytest.raises(RuntimeError, match="has stopped"):
        server.intercept()


def test_the_async_handle_intercepts() -> None:
    with running() as server:

        async def use() -> str:
            return (await AsyncMockServer(server).intercept()).url

        assert asyncio.run(use()).startswith("http://127.0.0.1:")
