"""The recording proxy in front of real servers: a mock service, and servers that break in all ways."""

import base64
import contextlib
import gzip
import importlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
import trustme
from seedbed_mock import KeySettings, MockServer, running
from seedbed_mock.cli import main
from seedbed_mock.proxy import ProxyOptions, start_proxy
from seedbed_mock.settings import SettingsError
from seedbed_schemas import default_contract, job_api, local
from seedbed_schemas.dialect import dialects
from seedbed_schemas.openapi import example_of
from seedbed_schemas.profile import default_profile

CONTRACT = default_contract()
CREATE = CONTRACT.operation.path
RECORD = job_api().record_info
CREDIT = job_api().credit.path
FIELDS = job_api().fields
STATES = job_api().states
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))
PRICE = default_profile().credits
brotli: Any = importlib.import_module("brotli")
zstd: Any = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
KEY = "sk-live+4f/9a=27&c1 é"[:-2] + "7788"
_BODY = b'{"code":200,"msg":"success","data":1234567}'
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_BODY) + _BODY

Proxies = Callable[..., MockServer]


@pytest.fixture
def proxy_to() -> Iterator[Proxies]:
    """Start proxies: ``proxy_to(url, record=folder)``."""
    with contextlib.ExitStack() as stack:
        yield lambda url, **options: stack.enter_context(start_proxy(ProxyOptions(upstream=url, port=0, **options)))


def client_of(server: MockServer, key: str = local.KEY) -> httpx2.Client:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.Client(base_url=server.url, headers=headers, trust_env=False, timeout=30)


def record(client: httpx2.Client, task_id: str) -> Any:
    return client.get(RECORD.path, params={RECORD.query: task_id}).json()["data"]


# What the service does that the contract does not say


def expected_differences(service: str, contract: str, states: set[str], cases: set[str]) -> set[str]:
    """Return the differences of two dialects, from their data, in what a session has exercised."""
    one, other = dialects()[service], dialects()[contract]
    found = {f"dialect/{name}" for name in ("media_type", "task_id") if getattr(one, name) != getattr(other, name)}
    found |= {"dialect/param/input"} if one.input_is_text != other.input_is_text else set()
    found |= {f"dialect/created/{name}" for name in {*one.created} ^ {*other.created}}
    codes = {code.name: code for code in CONTRACT.codes}
    for name in cases:
        sent, said = one.cases[name], other.cases[name]
        found |= {f"dialect/cases/{name}"} if sent.number(codes) not in said.numbers(codes) else set()
        found |= {f"dialect/cases/{name}/data"} if sent.data != said.data else set()
    for field, state in product(job_api().document["$defs"]["record"]["properties"], states):
        for channel in ("recordInfo", "callback"):
            if channel == "callback" and state in STATES.pending:
                continue
            has_value = not (
                (field in {"failCode", "failMsg"} and state != STATES.failure)
                or (field in {"costTime", "completeTime"} and state in STATES.pending)
                or (field == "resultJson" and state == STATES.failure)
            )
            value = 10**9 if has_value else None
            if one.record_field(field, value, state, channel=channel) != other.record_field(
                field, value, state, channel=channel
            ):
                found.add(f"dialect/record/{field}/{state}/{channel}")
    return found


@pytest.mark.parametrize(("service", "contract"), [("observed", "documented"), ("documented", "observed")])
def test_the_report_lists_exactly_the_differences_of_two_dialects(
    service: str, contract: str, proxy_to: Proxies, receive: Any
) -> None:
    receiver = receive(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    with running(dialect=service, task_seconds=30, clock="manual", rate_limit="1/10") as upstream:
        proxy = proxy_to(upstream.url, dialect=contract)
        with client_of(proxy) as client:
            client.get(job_api().models.path)
            client.get(CREDIT)
            good = {**GOOD, FIELDS.callback: receiver.url}
            succeeding = client.post(CREATE, json=good).json()["data"]["taskId"]
            record(client, succeeding)
            assert client.post(CREATE, json=good).json()["code"] == 429
            upstream.advance(10)
            failing = client.post(CREATE, json=good, headers={"X-Unrelated": "1"}).json()["data"]["taskId"]
            upstream.advance(5)
            upstream.fail(failing)
            for _ in STATES.pending:
                record(client, succeeding)
                upstream.advance(10)
            upstream.wait_for_callbacks(2)
            assert record(client, succeeding)["state"] == STATES.success
            assert record(client, failing)["state"] == STATES.failure
            record(client, "unknown")
            client.get(RECORD.path)
            client.post(CREATE, json={**GOOD, FIELDS.input: {}})
            client.post(CREATE, json={**GOOD, FIELDS.input: {**GOOD[FIELDS.input], "quality": "best"}})
            client.post(CREATE, json={**GOOD, FIELDS.input: {**GOOD[FIELDS.input], "prompt": "x" * 3001}})
            client.post(CREATE, json={**GOOD, FIELDS.model: "maker/unknown"})
            client.post(CREATE, content=b"{", headers={"Content-Type": "application/json"})
            client.get(CREDIT, headers={"Authorization": "Bearer wrong"})
        differences = proxy.control("GET", "differences")["differences"]
    exercised = {"done", "rate_exceeded", "task_unknown", "task_id_missing", "field_missing", "option_unknown"}
    exercised |= {"text_too_long", "model_unknown", "body_malformed", "key_refused"}
    states = {*STATES.pending, STATES.success, STATES.failure}
    assert {each["clause"] for each in differences} == expected_differences(service, contract, states, exercised)
    assert not proxy.errors


def test_a_service_of_the_dialect_itself_shows_no_difference(proxy_to: Proxies) -> None:
    for dialect in dialects():
        with running(dialect=dialect, task_seconds=0) as upstream:
            proxy = proxy_to(upstream.url, dialect=dialect)
            with client_of(proxy) as client:
                task_id = client.post(CREATE, json=GOOD).json()["data"]["taskId"]
                assert record(client, task_id)["state"] == STATES.success
                client.post(CREATE, json={})
                record(client, "unknown")
            assert proxy.control("GET", "differences") == {"differences": []}


def test_what_no_dialect_knows_is_a_clause_as_well(proxy_to: Proxies, receive: Any) -> None:
    body = json.dumps({"code": 433, "msg": "sub-key", "data": None}).encode()
    head = b"HTTP/1.1 202 Accepted\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body)
    proxy = proxy_to(receive(head + body).url)
    with client_of(proxy) as client:
        client.get(CREDIT)
    clauses = {each["clause"] for each in proxy.control("GET", "differences")["differences"]}
    assert clauses == {"code/433", "answer/http-status", "answer/content-type"}


# Byte for byte


def test_bodies_and_headers_pass_unchanged(proxy_to: Proxies, receive: Any) -> None:
    body = gzip.compress(b'{"code":200,"msg":"success","data":1}')
    lines = [
        b"HTTP/1.1 200 OK",
        b"Content-Type: application/json",
        b"Content-Encoding: gzip",
        b"X-Twice: a",
        b"X-Twice: b",
    ]
    lines += [b"Connection: X-Hop", b"X-Hop: 1", b"Keep-Alive: timeout=5", b"Date: Tue, 01 Jan 2030 00:00:00 GMT"]
    lines += [b"Set-Cookie: session=abcdef", b"Content-Length: %d" % len(body)]
    upstream = receive(b"\r\n".join([*lines, b"", b""]) + body)
    proxy = proxy_to(upstream.url)
    sent = gzip.compress(json.dumps(GOOD).encode())
    request = [
        f"POST {CREATE}?a=%2F&b=+ HTTP/1.1".encode(),
        b"Host: localhost",
        b"Content-Encoding: gzip",
        b"X-Many: 1",
    ]
    request += [b"X-Many: 2", b"Connection: close, X-Own", b"X-Own: 1", b"X-Seedbed-Space: a", b"TE: trailers"]
    request += [b"Content-Length: %d" % len(sent), b"Authorization: Bearer " + KEY.encode("latin-1"), b"", b""]
    address = ("127.0.0.1", int(proxy.url.rpartition(":")[2]))
    with socket.create_connection(address, 10) as connection:
        connection.sendall(b"\r\n".join(request) + sent)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, received = answer.partition(b"\r\n\r\n")
    assert received == body
    names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
    assert b"x-hop" not in names
    assert b"keep-alive" not in names
    assert names.count(b"x-twice") == 2
    assert head.lower().count(b"date: tue, 01 jan 2030 00:00:00 gmt") == names.count(b"date") == 1
    assert b"x-seedbed" not in names
    passed = upstream.requests[0]
    assert passed.body == sent
    assert passed.target == f"{CREATE}?a=%2F&b=+"
    assert passed.headers["authorization"] == f"Bearer {KEY}"
    assert passed.headers["host"] == upstream.url.removeprefix("http://")
    assert not {"x-own", "te", "x-seedbed-space", "connection"} & passed.headers.keys()


def test_bodies_are_streamed_both_ways(proxy_to: Proxies) -> None:
    """Neither side of the proxy waits for the end of a body: each end of it sends more only when some has arrived."""
    piece, pieces = b"x" * 65536, 100
    listener = socket.create_server(("127.0.0.1", 0))
    arrived = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            got = connection.recv(65536)
            while b"begin" not in got:
                got += connection.recv(65536)
            arrived.set()
            while not got.endswith(b"0\r\n\r\n"):
                got = got[-10:] + connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(piece) * pieces) + piece)
            assert back.wait(10)
            for _ in range(pieces - 1):
                connection.sendall(piece)

    back = threading.Event()
    server = threading.Thread(target=serve)
    server.start()
    proxy = proxy_to(f"http://127.0.0.1:{listener.getsockname()[1]}")

    def upload() -> Iterator[bytes]:
        yield b"begin" + b"y" * 2_000_000
        assert arrived.wait(10)
        yield b"end"

    with listener, client_of(proxy) as client, client.stream("POST", "/other", content=upload()) as response:
        size = 0
        for chunk in response.iter_raw():
            size += len(chunk)
            back.set()
    server.join()
    assert size == len(piece) * pieces
    entry = proxy.unmatched[0]
    assert len(entry["request"]) < 100_000
    assert len(entry["answer"]) < 100_000


# A service that breaks


def hang(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def reset(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def cut(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(OK[:-10])
    connection.shutdown(socket.SHUT_WR)


def stall(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(OK[:-10])
    hang(connection)


def read_request(connection: socket.socket) -> None:
    """Read a whole request: the system resets a connection that is closed with unread bytes."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    while length and len(body) < int(length[1]):
        body += connection.recv(65536)


def nothing(connection: socket.socket) -> None:
    read_request(connection)


def no_http(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        (hang, "in time"),
        (reset, "broke the connection"),
        (nothing, "no complete HTTP response"),
        (no_http, "no complete HTTP response"),
    ],
)
def test_without_a_response_the_proxy_answers_itself(
    behaviour: Any, says: str, proxy_to: Proxies, receive: Any
) -> None:
    proxy = proxy_to(receive(behaviour).url, upstream_timeout=0.5, max_credits=PRICE)
    with client_of(proxy) as client:
        response = client.post(CREATE, json=GOOD)
        assert response.status_code == 502
        assert response.json()["code"] == 502
        assert response.json()["msg"].startswith("seedbed proxy: 127.0.0.1")
        assert says in response.json()["msg"]
        # Nobody knows whether the task was created, so that its price counts as spent.
        assert client.post(CREATE, json=GOOD).json()["code"] == 402
    assert proxy.bill.lost == PRICE
    first = proxy.calls[0]
    assert (first["status"], first["case"]) == (502, "bad_gateway")
    assert says in first["hint"]


@pytest.mark.parametrize("behaviour", [cut, stall])
def test_a_body_that_ends_early_does_so_at_the_caller(behaviour: Any, proxy_to: Proxies, receive: Any) -> None:
    proxy = proxy_to(receive(behaviour).url, upstream_timeout=0.5)
    with client_of(proxy) as client, pytest.raises(httpx2.RemoteProtocolError):
        client.get(CREDIT)
    assert proxy.calls[0]["hint"]


def test_a_page_of_a_broken_gateway_passes(proxy_to: Proxies, receive: Any) -> None:
    page = b"<html>502 Bad Gateway</html>"
    head = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(page)
    proxy = proxy_to(receive(head + page).url)
    with client_of(proxy) as client:
        response = client.get(CREDIT)
    assert (response.status_code, response.content) == (502, page)
    assert [each["clause"] for each in proxy.control("GET", "differences")["differences"]] == [
        "answer/content-type",
        "answer/json",
    ]


def test_redirects_are_passed_on_and_not_followed(proxy_to: Proxies, receive: Any) -> None:
    upstream = receive(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
    with client_of(proxy_to(upstream.url)) as client:
        response = client.get(CREDIT)
    assert (response.status_code, response.headers["location"]) == (302, "http://127.0.0.1:1/")
    assert len(upstream.requests) == 1


def test_a_refused_connection_costs_nothing(proxy_to: Proxies) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    proxy = proxy_to(f"http://127.0.0.1:{port}", max_credits=PRICE)
    with client_of(proxy) as client:
        for _ in range(3):
            assert "could not be reached" in client.post(CREATE, json=GOOD).json()["msg"]
    assert not proxy.bill


@pytest.mark.parametrize("name", ["127.0.0.1", "other.test"])
def test_certificates_are_verified(
    name: str, proxy_to: Proxies, receive: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    upstream = receive(OK, tls=context)
    proxy = proxy_to(upstream.url)
    with client_of(proxy) as client:
        message = client.get(CREDIT).json()["msg"]
        assert message.startswith("seedbed proxy: the certificate of 127.0.0.1")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    proxy = proxy_to(upstream.url)
    with client_of(proxy) as client:
        answer = client.get(CREDIT).json()
    assert (answer["code"] == 200) is (name == "127.0.0.1")


@pytest.mark.parametrize(
    "url",
    ["http://api.kie.ai", "ftp://127.0.0.1", "https://me:secret@host", "https://host?a=1", "nonsense", "https://", ""],
)
def test_an_upstream_that_would_leak_keys_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SettingsError) as refusal:
        start_proxy(ProxyOptions(upstream=url, port=0))
    assert "secret" not in str(refusal.value)
    assert main(["proxy", "--upstream", url, "--port", "0"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("seedbed proxy: ")
    assert error.count("\n") == 2


# Money


def test_never_more_than_the_limit_is_spent_however_many_ask_at_once(proxy_to: Proxies) -> None:
    with running(task_seconds=0, rate_limit="off", credits=1000) as upstream:
        upstream.add_faults("delay seconds=0.2; op=createTask")
        proxy = proxy_to(upstream.url, max_credits=3 * PRICE)
        codes: list[int] = []

        def create() -> None:
            with client_of(proxy) as client:
                codes.append(client.post(CREATE, json=GOOD).json()["code"])

        threads = [threading.Thread(target=create) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(codes) == [200] * 3 + [402] * 17
        assert len(upstream.calls) == 3
        assert proxy.bill.credits == upstream.bill.credits == 3 * PRICE


def test_refusals_give_the_reserved_credits_back(proxy_to: Proxies) -> None:
    for dialect in dialects():
        with running(task_seconds=0, dialect=dialect) as upstream:
            proxy = proxy_to(upstream.url, max_credits=PRICE)
            with client_of(proxy) as client:
                for _ in range(3):
                    assert client.post(CREATE, json={**GOOD, FIELDS.input: {}}).json()["code"] != 402
                    assert client.post(CREATE, json=GOOD, headers={"Authorization": "Bearer no"}).json()["code"] == 401
                assert client.post(CREATE, json=GOOD).json()["code"] == 200
                assert client.post(CREATE, json=GOOD).json()["code"] == 402


def test_an_unknown_outcome_counts_as_paid(proxy_to: Proxies) -> None:
    for fault in (
        "task.orphan",
        "task.lost",
        "wire.close",
        "wire.cut-short",
        "answer.status status=503",
        "answer.not-json",
    ):
        with running(task_seconds=0) as upstream:
            upstream.add_faults(f"{fault}; op=createTask")
            proxy = proxy_to(upstream.url, max_credits=PRICE)
            with client_of(proxy) as client:
                with contextlib.suppress(httpx2.RemoteProtocolError):
                    client.post(CREATE, json=GOOD)
                assert client.post(CREATE, json=GOOD).json()["code"] == 402, fault
            assert len(upstream.calls) == 1


def test_with_a_limit_nothing_of_unknown_price_passes(proxy_to: Proxies) -> None:
    with running() as upstream:
        proxy = proxy_to(upstream.url, max_credits=100, price="maker/other=50")
        with client_of(proxy) as client:
            bodies: list[Any] = [{**GOOD, FIELDS.model: "maker/unknown"}, {}, [], "text"]
            for body in bodies:
                assert "price" in client.post(CREATE, json=body).json()["msg"]
            twice = json.dumps(GOOD).replace("{", '{"mod\\u0065l": "maker/other", ', 1)
            answer = client.post(CREATE, content=twice, headers={"Content-Type": "application/json"})
            assert "price" in answer.json()["msg"]
            assert "price" in client.post("/api/v1/other/generate", json={}).json()["msg"]
            assert "price" in client.put(CREATE, json=GOOD).json()["msg"]
            assert not upstream.calls
            assert not upstream.unmatched
            assert client.post(CREATE, json={**GOOD, FIELDS.model: "maker/other"}).json()["code"] == 422
            assert client.get(CREDIT).json()["code"] == 200
            assert client.post(job_api().download_url.path, json={"url": "x"}).json()["msg"] == "url is wrong"


@pytest.mark.parametrize("options", [{"max_credits": "many"}, {"max_credits": -1}, {"price": "x"}, {"price": "m=-1"}])
def test_invalid_amounts_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        start_proxy(ProxyOptions(upstream="http://127.0.0.1:9", port=0, **options))


# Faults


def test_faults_of_responses_and_connections_are_injected(proxy_to: Proxies) -> None:
    with running(task_seconds=0) as upstream:
        proxy = proxy_to(upstream.url)
        with client_of(proxy) as client:
            response = client.post(CREATE, json=GOOD, headers={local.FAULT_HEADER: "429; times=1"})
            assert (response.json()["code"], response.headers["x-seedbed-fault-applied"]) == (429, "429; times=1")
            assert not upstream.calls
            proxy.add_faults("wire.cut-short; op=createTask; nth=1", "delay seconds=0; op=credit")
            with pytest.raises(httpx2.RemoteProtocolError):
                client.post(CREATE, json=GOOD)
            # The call took effect; only its response broke.
            assert len(upstream.calls) == 1
            assert proxy.calls[1]["task_id"] == upstream.calls[0]["task_id"]
            assert client.get(CREDIT).json()["code"] == 200
            assert local.FAULT_HEADER.lower() not in upstream.calls[0]["headers"]
        proxy.assert_called("createTask", times=2)
        hits = [each["hits"] for each in proxy.control("GET", "faults")["faults"]]
    assert hits == [1, 1]


def test_faults_of_tasks_are_refused_with_a_sentence(proxy_to: Proxies) -> None:
    with running() as upstream:
        proxy = proxy_to(upstream.url)
        with pytest.raises(Exception, match=r"ask\.fail changes tasks of the mock server, and a proxy has none; use"):
            proxy.add_faults("task.fail")
        with client_of(proxy) as client:
            answer = client.post(CREATE, json=GOOD, headers={local.FAULT_HEADER: "callback.never"}).json()
            assert "a proxy has none" in answer["msg"]
        assert not upstream.calls
        with pytest.raises(SettingsError, match=r"scenario double-charge has a rule that a proxy cannot apply"):
            proxy_to(upstream.url, scenario="double-charge")


# Callbacks


def test_callbacks_pass_through_the_proxy_with_their_signature(proxy_to: Proxies, receive: Any, tmp_path: Path) -> None:
    receiver = receive(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    key = KeySettings(key=local.KEY, signing_key="shared secret")
    with running(task_seconds=0, key=[key]) as upstream:
        proxy = proxy_to(upstream.url, record=tmp_path)
        with client_of(proxy) as client:
            body = json.dumps({FIELDS.callback: f"{receiver.url}/done?x=1", **GOOD}, indent=1).encode()
            answer = client.post(CREATE, content=body, headers={"Content-Type": "application/json"}).json()
        callback = upstream.wait_for_callback(answer["data"]["taskId"])
        assert callback["outcome"] == "delivered"
        assert callback["url"].startswith(f"{proxy.url}/seedbed-callback/")
        received = receiver.requests[0]
        assert received.target == "/done?x=1"
        assert json.loads(received.body)["data"]["taskId"] == answer["data"]["taskId"]
        rules = job_api().callback
        assert {rules.signature_header.lower(), rules.timestamp_header.lower()} <= received.headers.keys()
        entry = proxy.control("GET", "journal", kind="callback")["entries"][0]
        assert (entry["target"], entry["status"], entry["task_id"]) == (
            f"{receiver.url}/done?x=1",
            200,
            answer["data"]["taskId"],
        )
        with client_of(proxy) as client:
            assert client.post("/seedbed-callback/guessed", json={}).status_code == 404
    log = json.loads(next(tmp_path.glob("*.har")).read_text())["log"]
    assert "callback" in [each["_operation"] for each in log["entries"]]


def test_a_callback_whose_receiver_is_gone_or_forbidden_is_refused_truthfully(proxy_to: Proxies) -> None:
    with running(task_seconds=0) as upstream:
        proxy = proxy_to(upstream.url)
        with client_of(proxy) as client:
            for url in ("http://127.0.0.1:9/gone", "http://192.0.2.1/forbidden"):
                task_id = client.post(CREATE, json={**GOOD, FIELDS.callback: url}).json()["data"]["taskId"]
                entries: list[Any] = []
                while not entries:
                    entries = proxy.control("GET", "journal", kind="callback", task_id=task_id)["entries"]
                assert entries[0]["answer"]
                assert entries[0]["status"] is None


# Secrets


def test_the_key_goes_to_the_service_only(proxy_to: Proxies, receive: Any, tmp_path: Path, caplog: Any) -> None:
    key = KEY
    echo = json.dumps(
        {"code": 401, "msg": f"wrong key {key}", "data": base64.b64encode(key.encode()).decode()}
    ).encode()
    large = b"z" * 1_200_000 + key.encode() + b"z" * 100_000
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    answers = [head % len(body) + body for body in (echo, echo, large)]
    upstream = receive(*answers)
    proxy = proxy_to(upstream.url, record=tmp_path)
    with client_of(proxy, key) as client:
        body = {**GOOD, "echo": key, "encoded": base64.b64encode(f"user:{key}".encode()).decode()}
        client.post(CREATE, json=body, headers={"Cookie": "session=secret-session"})
        with client_of(proxy, key) as other:
            other.get(f"{CREDIT}?api_key=query-secret&x={quote(key, safe='')}")
        with client_of(proxy, key) as other:
            assert other.get("/large").content == large
        journal = json.dumps(proxy.control("GET", "journal"))
        report = json.dumps(proxy.control("GET", "differences"))
    assert upstream.requests[0].headers["authorization"] == f"Bearer {key}"
    assert key in upstream.requests[0].body.decode()
    proxy.stop()
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert len(files) > 1_300_000
    kept = files.decode("utf-8", "replace") + journal + report + caplog.text
    raw = key.encode()
    encoded = {base64.b64encode(b"x" * shift + raw)[4:-4].decode() for shift in range(3)}
    forms = {key, json.dumps(key)[1:-1], quote(key), quote(key, safe=""), *encoded, "secret-session", "query-secret"}
    # A list, because pytest would take minutes to explain a difference of these texts.
    assert [form for form in forms if form in kept] == []
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


CODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": lambda body: zlib.compress(body)[2:-4],
    "br": partial(brotli.compress, quality=1),
    "zstd": zstd.compress,
    "gzip, br": lambda body: brotli.compress(gzip.compress(body), quality=1),
    "x-unknown": lambda body: b"\xff" + body,
    "gzip, x-unknown": lambda body: b"\xff" + gzip.compress(body),
    "br, identity": partial(brotli.compress, quality=1),
}


@pytest.mark.parametrize(
    ("encoding", "size"), [*((each, 10) for each in CODERS), ("gzip", 1_200_000), ("x-unknown", 1_200_000)]
)
def test_a_compressed_body_hides_no_key(
    encoding: str, size: int, proxy_to: Proxies, receive: Any, tmp_path: Path
) -> None:
    noise = base64.b64encode(os.urandom(size)).decode()
    echo = json.dumps({"code": 200, "msg": KEY, "data": {"taskId": "t-1", "noise": noise}}).encode()
    sent = CODERS[encoding](json.dumps({**GOOD, "echo": KEY}).encode())
    body = CODERS[encoding](echo)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    proxy = proxy_to(receive(head + body).url, record=tmp_path)
    with client_of(proxy, KEY) as client:
        request = client.build_request("POST", CREATE, content=sent, headers={"Content-Encoding": encoding})
        response = client.send(request, stream=True)
        assert b"".join(response.iter_raw()) == body
    journal = json.dumps(proxy.control("GET", "journal"))
    proxy.stop()
    names = [path for path in tmp_path.iterdir() if path.suffix != ".har"]
    assert len(names) == (size > 10 and "x-unknown" not in encoding)
    recording = next(tmp_path.glob("*.har")).read_bytes()
    entry = json.loads(recording)["log"]["entries"][0]
    for kept in (recording, *(path.read_bytes() for path in names), journal.encode()):
        assert KEY.encode() not in kept
        assert sent not in kept
        assert body not in kept
    content = entry["response"]["content"].get("text", "")
    assert "content-encoding" not in json.dumps(entry).lower()
    if "x-unknown" in encoding:
        assert not content
        assert entry["_error"] == "the response cannot be read: its content encoding x-unknown is unknown"
    else:
        assert names or json.loads(content)["data"]["taskId"] == "t-1"
        assert json.loads(entry["request"]["postData"]["text"])["echo"].startswith("key-")


def test_web_pages_cannot_use_the_proxy(proxy_to: Proxies) -> None:
    with running() as upstream:
        proxy = proxy_to(upstream.url)
        with client_of(proxy) as client:
            assert client.get(CREDIT, headers={"Origin": "http://evil.test"}).json()["code"] != 200
        assert not upstream.calls


def test_the_command_reports_at_its_end(tmp_path: Path) -> None:
    with running(task_seconds=0, dialect="observed") as upstream:
        command = [
            sys.executable,
            "-c",
            "from seedbed_mock.cli import main; main()",
            "proxy",
            "--upstream",
            upstream.url,
            "--port",
            "0",
        ]
        command += ["--record", str(tmp_path / "record"), "--max-credits", "10"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            banner = process.stdout.readline()
            url = banner.split(" on ")[1].split()[0]
            headers = {"Authorization": f"Bearer {upstream.key}"}
            httpx2.post(url + CREATE, json=GOOD, headers=headers, trust_env=False)
            process.send_signal(signal.SIGINT)
            output = process.stdout.read()
        assert process.returncode == 0
    assert f"passes requests on to {upstream.url}" in banner
    assert "Credits: at most 10" in output
    assert "Spent, as far as the proxy knows: 6.5 credits: 1 image." in output
    assert "dialect/task_id" in output
