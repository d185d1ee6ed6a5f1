"""Request bodies of any kind: the response has a documented code, and the server keeps running."""

import inspect
import json
import socket
from typing import Any

import httpx2
import pytest
import uvicorn
from seedbed_mock import MockServer, running
from seedbed_schemas import default_contract
from seedbed_schemas.openapi import example_of
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

CONTRACT = default_contract()
CREATE = CONTRACT.operation.path
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))


def changed(path: str, value: object) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(json.dumps(GOOD))
    *outer, last = path.split(".")
    target = body
    for name in outer:
        target = target[name]
    target[last] = value
    return body


def without(path: str) -> dict[str, Any]:
    body = changed(path, None)
    *outer, last = path.split(".")
    del (body[outer[0]] if outer else body)[last]
    return body


@pytest.fixture(scope="module", name="server")
def make_server() -> Any:
    with running(rate_limit="off", credits=10**6) as server:
        yield server


def send(server: MockServer, body: bytes, **headers: str) -> dict[str, Any]:
    sent = {"Authorization": f"Bearer {server.key}", **headers}
    response = httpx2.post(server.url + CREATE, content=body, headers=sent, trust_env=False)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    envelope: dict[str, Any] = response.json()
    return envelope


def send_json(server: MockServer, body: object) -> dict[str, Any]:
    return send(server, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"[]", "must be of type object, not array"),
        (b"3", "must be of type object, not integer"),
        (b"{", "not JSON"),
        (b"{}{}", "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b'{"a": Infinity}', "not JSON"),
        (b'{"a": 1e400}', "not JSON"),
        (b'{"a": ' + b"1" * 5000 + b"}", "not JSON"),
        (b'{"a": "\xff"}', "not JSON"),
        (b'{"a": "\\ud800"}', "not JSON"),
        ("{}".encode("utf-16"), "not JSON"),
        (b"[" * 100_000, "nested deeper"),
        (b"[" * 100_000 + b"]" * 100_000, "nested deeper"),
        (b"[" * 65 + b"]" * 65, "nested deeper"),
        (b"[" * 64 + b"]" * 64, "must be of type object"),
        (b'{"a": "' + b"x" * 2_000_000 + b'"}', "larger than"),
        (b"\xef\xbb\xbf{}", "model is required"),
        (b"[" + b"[]," * 100 + b"{}]", "must be of type object"),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else value,
)
def test_a_malformed_body_is_refused_in_the_envelope(server: MockServer, body: bytes, message: str) -> None:
    envelope = send(server, body)
    assert envelope["code"] == 422
    assert message in envelope["msg"]
    assert envelope["data"] is None
    assert send_json(server, GOOD)["code"] == 200


MIB = 1024 * 1024

HOSTILE_BODIES: dict[str, tuple[bytes, str]] = {
    "values": (b"[" + b"0," * (MIB // 2 - 2) + b"0]", "more than 4096 values"),
    "objects": (b"[" + b"{}," * (MIB // 3 - 2) + b"0]", "more than 4096 values"),
    "nested lists": (b"[" + (b"[" * 50 + b"]" * 50 + b",") * 10_000 + b"0]", "more than 4096 values"),
    "names": (b"{" + b'"model":"a",' * 80_000 + b'"model":"a"}', "more than 4096 values"),
    "quotes": (b'"' * MIB, "more than 4096 values"),
    "depth": (b'{"a":' * (MIB // 5), "more than 4096 values"),
    "digits": (b"[" + b",".join([b"9" * 4000] * 250) + b"]", "a number has more than 100 digits"),
    "fraction": (b"0." + b"9" * (MIB - 2), "a number has more than 100 digits"),
    "escapes": (b'{"model":"' + b"\\\\" * (MIB // 2 - 10) + b'"}', "unknown model"),
    "model": (b'{"model":"' + b"m" * (MIB - 20) + b'"}', "unknown model"),
    "phrases": (json.dumps(changed("input.prompt", "[[fault:" * 130_000)).encode(), "at most 3000 characters"),
    "rules": (
        json.dumps(changed("input.prompt", "".join(f"[[fault: 402; nth={n}]]" for n in range(1000, 40_000)))).encode(),
        "at most 3000 characters",
    ),
    "values of enums": (
        json.dumps(changed("input.aspect_ratio", "1" * 500_000)).encode(),
        "input.aspect_ratio must be one of",
    ),
    "invalid UTF-8": (b'{"model":"\xff"}', "not JSON"),
    "half a character": (b'{"model":"\xe2\x82', "not JSON"),
}


@pytest.mark.parametrize("fault", [{}, {"X-Seedbed-Fault": "402; p=0"}], ids=["without a rule", "with a rule"])
@pytest.mark.parametrize("name", HOSTILE_BODIES)
def test_a_hostile_body_is_refused_for_what_is_wrong_with_it(
    server: MockServer, name: str, fault: dict[str, str]
) -> None:
    body, message = HOSTILE_BODIES[name]
    envelope = send(server, body, **fault)
    assert (envelope["code"], envelope["data"]) == (422, None)
    assert message in envelope["msg"]
    assert not server.errors


def test_a_body_with_many_commas_and_brackets_in_its_strings_is_valid(server: MockServer) -> None:
    assert send_json(server, {**changed("input.prompt", '[{,"\\' * 600), "note": '",[{' * 20_000})["code"] == 200


def test_a_kept_error_does_not_hold_the_request(server: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object, __: object, context: Any, *___: object) -> None:
        raise RuntimeError(f"a bug in {context.body!r}")

    monkeypatch.setattr("seedbed_mock.asgi.OperationEndpoint._journal", broken)
    assert send(server, b"[" + b"0," * 1000 + b"0]" + b" " * 100_000)["code"] == 500
    [error] = server.errors
    server.errors.clear()
    assert str(error).startswith("a bug in b'[0,0")
    assert "in _handle" in "".join(error.__notes__)
    assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)
    assert len(str(error)) + sum(map(len, error.__notes__)) < 10_000


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("input.prompt", "😀" * 3001, "input.prompt must have at most 3000 characters, not 3001"),
        ("input.prompt", None, "input.prompt must be of type string, not null"),
        ("input.prompt", 3, "input.prompt must be of type string, not integer"),
        ("input.aspect_ratio", "5:4", "input.aspect_ratio must be one of 1:1, 4:3"),
        ("input.aspect_ratio", None, "input.aspect_ratio must be"),
        ("input.aspect_ratio", ["1:1"], "input.aspect_ratio must be"),
        ("input.quality", "", "input.quality must be one of basic, high"),
        ("input.quality", None, "input.quality must be"),
        ("input.quality", True, "input.quality must be of type string, not boolean"),
        ("input", None, "input must be of type object, not null"),
        ("input", "prompt", "input must be of type object, not string"),
        ("model", None, "model must be"),
        ("model", 4.5, "model must be of type string, not number"),
        ("model", "nope\r\n\x1b[31m", "model 'nope"),
        ("callBackUrl", "not a url", "callBackUrl must be a valid URI"),
        ("callBackUrl", None, "callBackUrl must be of type string, not null"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_invalid_field_is_refused_with_its_name_and_the_rule(
    server: MockServer, path: str, value: object, message: str
) -> None:
    envelope = send_json(server, changed(path, value))
    assert envelope["code"] == 422
    assert message in envelope["msg"]
    assert envelope["msg"].isprintable()


@pytest.mark.parametrize("path", ["model", "input", "input.prompt", "input.aspect_ratio", "input.quality"])
def test_a_missing_field_is_refused_with_its_name(server: MockServer, path: str) -> None:
    envelope = send_json(server, without(path))
    assert envelope["code"] == 422
    assert f"{path} is required" in envelope["msg"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("input.prompt", "😀" * 3000),
        ("input.prompt", ""),
        ("input.prompt", "\x00\u2028\u202e\x9f"),
        ("input.aspect_ratio", "21:9"),
        ("input.unnamed", {"any": [1, 2.5, None, 10**30]}),
        ("unnamed", "x" * 100_000),
        ("callBackUrl", "http://127.0.0.1:1/hook?x=1"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_valid_request_is_accepted(server: MockServer, path: str, value: object) -> None:
    assert send_json(server, changed(path, value))["code"] == 200


def test_the_last_of_two_equal_keys_counts(server: MockServer) -> None:
    body = json.dumps(GOOD).replace('"quality"', '"quality": "nope", "quality"').encode()
    assert send(server, body)["code"] == 200


def test_the_message_about_a_huge_value_is_short(server: MockServer) -> None:
    assert len(send_json(server, changed("input.quality", "x" * 900_000))["msg"]) < 300


def raw(server: MockServer, *parts: bytes) -> bytes:
    """Send raw bytes and return all that the server sends until it closes the connection."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
        envelope = b""
        while chunk := connection.recv(65536):
            envelope += chunk
    return envelope


def head(server: MockServer, *lines: str) -> bytes:
    start = [f"POST {CREATE} HTTP/1.1", "Host: x", f"Authorization: Bearer {server.key}", *lines]
    return ("\r\n".join(start) + "\r\n\r\n").encode()


def test_an_endless_chunked_body_is_refused_and_the_connection_closed(server: MockServer) -> None:
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    envelope = raw(server, head(server, "Transfer-Encoding: chunked"), *[chunk] * 16, b"1\r\nx\r\n")
    assert b'"code":422' in envelope
    assert b"connection: close" in envelope.lower()


def test_a_chunked_body_is_accepted(server: MockServer) -> None:
    body = json.dumps(GOOD, ensure_ascii=False).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    assert b'"code":200' in raw(server, head(server, "Transfer-Encoding: chunked", "Connection: close"), chunks)


@pytest.mark.parametrize("offer", ["h2c", "websocket", "something/1"])
def test_an_upgrade_offer_is_ignored(server: MockServer, offer: str) -> None:
    body = json.dumps(GOOD).encode()
    lines = f"Connection: Upgrade, HTTP2-Settings, close|Upgrade: {offer}|HTTP2-Settings: AAMAAABkAAQ".split("|")
    assert b'"code":200' in raw(server, head(server, *lines, f"Content-Length: {len(body)}") + body)


def test_uvicorn_has_the_names_that_the_server_uses() -> None:
    """Fail first if uvicorn renames what the protocol of the mock server extends, since it documents none of it."""
    protocol = inspect.getsource(HttpToolsProtocol) + inspect.getsource(RequestResponseCycle)
    names = [
        "on_message_begin",
        "on_headers_complete",
        "on_message_complete",
        "on_response_complete",
        "connection_lost",
    ]
    names += ["connection_made", "data_received", "pause_writing", "_unset_keepalive_if_required", "_start_asgi_task"]
    names += ["self.cycle", "self.scope", "self.flow", "self.pipeline", "self.url", "self.headers", "self.access_log"]
    names += ["on_body", "timeout_keep_alive_handler", "self.server_state.total_requests", "self.expect_100_continue"]
    names += ["self.timeout_keep_alive_task", "self.disconnected", "self.message_event", "self.response_complete"]
    missing = [name for name in names if name not in protocol]
    assert not missing, f"uvicorn {uvicorn.__version__} has changed: adapt protocol.py and direct_protocol.py"


def test_a_body_that_contains_an_upgrade_header_is_not_changed(server: MockServer) -> None:
    body = json.dumps(changed("input.prompt", "@")).encode().replace(b"@", b"\\r\\nUpgrade: h2c\\r\\n")
    assert b'"code":200' in raw(server, head(server, "Connection: close", f"Content-Length: {len(body)}"), body)


def test_a_client_that_leaves_within_the_body_creates_no_task() -> None:
    with running(credits=7) as server:
        body = json.dumps(GOOD).encode()
        host, _, port = server.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(head(server, f"Content-Length: {len(body) + 10}") + body)
        assert send_json(server, GOOD)["code"] == 200
