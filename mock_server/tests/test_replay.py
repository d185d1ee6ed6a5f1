"""Recordings, and their replay with the service gone: by our client, by a Node program, and call by call."""

import asyncio
import base64
import gzip
import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from seedbed_client import AsyncSeedreamClient, PollingSchedule, PollingStep, SeedreamClient
from seedbed_mock import MockServer, running
from seedbed_mock.cli import main
from seedbed_mock.faults.effects import APPLIED_HEADER
from seedbed_mock.proxy import ProxyOptions, start_proxy
from seedbed_mock.recording.archive import HarExchange, HarFile, load_recordings
from seedbed_mock.recording.script import Playback, TaskScript
from seedbed_mock.settings import SettingsError
from seedbed_schemas import default_contract, job_api, local
from seedbed_schemas.openapi import example_of

brotli: Any = importlib.import_module("brotli")
zstd: Any = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
CREATE = default_contract().operation.path
RECORD = job_api().record_info
CREDIT = job_api().credit.path
FIELDS = job_api().fields
STATES = job_api().states
GOOD: dict[str, Any] = example_of(default_contract().part("request"))
PENDING, (SUCCESS, FAIL) = STATES.pending, (STATES.success, STATES.failure)


def client_of(url: str) -> httpx2.Client:
    return httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {local.KEY}"}, trust_env=False, timeout=30)


def proxy_to(upstream: MockServer, folder: Path) -> MockServer:
    return start_proxy(ProxyOptions(upstream=upstream.url, port=0, record=folder))


def record(client: httpx2.Client, task_id: str) -> Any:
    return client.get(RECORD.path, params={RECORD.query: task_id}).json()


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[..., Any]:
    """Return a function that records a session, with the clock of the service in the hands of the session."""

    def make(session: Callable[[httpx2.Client, MockServer], Any], **options: Any) -> Any:
        upstream = running(**{"task_seconds": 30, "clock": "manual", "dialect": "observed", **options})
        with upstream as service, proxy_to(service, tmp_path) as proxy, client_of(proxy.url) as client:
            return session(client, service)

    return make


def stretch(folder: Path, seconds: float) -> None:
    """Set the entries of a recording apart, as if its client had waited this long between two of them."""
    path = next(folder.glob("*.har"))
    document = json.loads(path.read_text())
    entries = sorted(document["log"]["entries"], key=lambda each: each["startedDateTime"])
    for number, entry in enumerate(entries):
        minutes, rest = divmod(number * seconds, 60)
        entry["startedDateTime"] = f"2026-01-01T00:{int(minutes):02}:{rest:06.3f}+00:00"
    path.write_text(json.dumps(document))


def whole_life(client: httpx2.Client, upstream: MockServer) -> tuple[str, list[str]]:
    task_id = client.post(CREATE, json=GOOD).json()["data"]["taskId"]
    states = [record(client, task_id)["data"]["state"]]
    for _ in range(3):
        upstream.advance(10)
        states.append(record(client, task_id)["data"]["state"])
    return task_id, states


def test_a_task_goes_through_its_recorded_states_at_their_pace(recorded: Callable[..., Any], tmp_path: Path) -> None:
    task_id, states = recorded(whole_life)
    assert states == [*PENDING, SUCCESS]
    stretch(tmp_path, 10)
    replay = running(replay=tmp_path, replay_speed=2, clock="manual", replay_strict=True)
    with replay as server, client_of(server.url) as client:
        # Another order of fields, and another receiver, ask for the same.
        same = {FIELDS.input: dict(reversed(GOOD[FIELDS.input].items())), FIELDS.model: GOOD[FIELDS.model]}
        assert client.post(CREATE, json=same).json()["data"]["taskId"] == task_id
        seen = []
        for _ in range(6):
            seen.append(record(client, task_id)["data"]["state"])
            server.advance(2.5)
        assert seen == [PENDING[0], PENDING[0], PENDING[0], PENDING[0], PENDING[1], PENDING[1]]
        server.advance(60)
        final = record(client, task_id)["data"]
        assert final["state"] == SUCCESS
        url = json.loads(final["resultJson"])["resultUrls"][0]
        assert url.startswith(f"{server.url}/results/recorded-")
        image = httpx2.get(url, trust_env=False)
        assert (image.status_code, image.headers["content-type"], image.content[:2]) == (200, "image/jpeg", b"\xff\xd8")
        assert httpx2.get(f"{server.url}/results/recorded-unknown.jpg", trust_env=False).status_code == 404
        server.assert_called("createTask", times=1)
        # All is said once the recording is over, until the server starts afresh.
        assert client.post(CREATE, json=GOOD).status_code == 404
        server.reset()
        assert client.post(CREATE, json=GOOD).json()["data"]["taskId"] == task_id


def test_what_is_not_recorded_is_left_to_the_mock_server_or_fails_loudly(
    recorded: Callable[..., Any], tmp_path: Path
) -> None:
    recorded(lambda client, _: client.get(CREDIT))
    other = {**GOOD, FIELDS.input: {**GOOD[FIELDS.input], "prompt": "Another hill"}}
    with running(replay=tmp_path, task_seconds=0, credits=500) as server, client_of(server.url) as client:
        assert [client.get(CREDIT).json()["data"] for _ in range(3)] == [80, 80, 80]
        task_id = client.post(CREATE, json=other).json()["data"]["taskId"]
        assert record(client, task_id)["data"]["state"] == SUCCESS
    with running(replay=tmp_path, replay_strict=True) as server, client_of(server.url) as client:
        for response in (client.post(CREATE, json=other), client.get("/other"), client.get(f"{RECORD.path}?taskId=x")):
            assert response.status_code == 404
            assert "Nothing more is recorded" in response.json()["msg"]
            assert "--replay-strict" in response.json()["msg"]
        assert len(server.unmatched) == 3


def test_refusals_come_in_their_order(recorded: Callable[..., Any], tmp_path: Path) -> None:
    def session(client: httpx2.Client, _: MockServer) -> list[int]:
        return [client.post(CREATE, json=GOOD).json()["code"] for _ in range(3)]

    codes = recorded(session, credits=13)
    assert codes == [200, 200, 402]
    with running(replay=tmp_path, replay_strict=True) as server, client_of(server.url) as client:
        assert session(client, server) == codes
        ids = [call["task_id"] for call in server.calls]
        assert len({*ids}) == 3


def test_faults_apply_to_recorded_responses_as_to_those_of_the_mock_server(
    recorded: Callable[..., Any], tmp_path: Path
) -> None:
    recorded(lambda client, _: (whole_life(client, _), client.get(CREDIT)))

    def codes(server: MockServer) -> list[int | None]:
        """Return the codes of calls with rules from all sources, ``None`` for a connection that broke."""
        server.add_faults("429; op=createTask; times=2", "wire.cut-short; op=recordInfo; nth=2")
        marked = {**GOOD, FIELDS.input: {**GOOD[FIELDS.input], "prompt": "A hill [[fault: 402]]"}}
        found: list[int | None] = []

        def call(method: str, target: str, rule: str = "", **arguments: Any) -> Any:
            headers = {local.FAULT_HEADER: rule} if rule else {}
            try:
                response = client.request(method, target, headers=headers | arguments.pop("headers", {}), **arguments)
            except httpx2.RemoteProtocolError:
                found.append(None)
                return None
            content = response.json() if response.content else {"code": response.status_code, "data": None}
            found.append(content["code"])
            assert (APPLIED_HEADER in response.headers) is (found[-1] not in {200, 422} or rule.startswith("delay"))
            return content["data"]

        with client_of(server.url) as client:
            for rule in ("", "503", "", ""):
                data = call("POST", CREATE, rule, json=GOOD)
            call("POST", CREATE, json=marked)
            for rule in ("", "", "500; p=0", "delay seconds=0.01", "answer.status status=502"):
                call("GET", f"{RECORD.path}?{RECORD.query}={data['taskId']}", rule)
            call("GET", CREDIT, "nonsense")
            call("GET", CREDIT, headers={"Authorization": "Bearer seedbed-455"})
            call("GET", CREDIT, "task.fail")
        assert [rule["hits"] for rule in server.control("GET", "faults")["faults"]] == [2, 1]
        return found

    with running() as server:
        expected = codes(server)
    with running(replay=tmp_path, replay_strict=True) as server:
        assert codes(server) == expected
        assert [call["fault"] != "" for call in server.calls[:4]] == [True, True, True, False]


def test_a_fault_counts_once_where_the_recording_has_no_response(recorded: Callable[..., Any], tmp_path: Path) -> None:
    recorded(lambda client, _: client.get(CREDIT))
    with running(replay=tmp_path, task_seconds=0) as server, client_of(server.url) as client:
        server.add_faults("500; op=createTask; nth=2")
        assert [client.post(CREATE, json=GOOD).json()["code"] for _ in range(3)] == [200, 500, 200]


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "x-unknown"])
def test_compressed_responses_are_replayed_with_the_urls_of_this_server(
    encoding: str, recorded: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Other tools record compressed bodies as they were on the wire."""
    task_id, _ = recorded(whole_life)
    path = next(tmp_path.glob("*.har"))
    document = json.loads(path.read_text())
    coders = {"gzip": gzip.compress, "br": brotli.compress, "zstd": zstd.compress}
    for entry in document["log"]["entries"]:
        content = entry["response"]["content"]
        if "text" in content and content.get("encoding") != "base64":
            coded = coders.get(encoding, lambda body: b"\xff" + body)(content["text"].encode())
            content |= {"text": base64.b64encode(coded).decode(), "encoding": "base64"}
            entry["response"]["headers"].append({"name": "Content-Encoding", "value": encoding})
    path.write_text(json.dumps(document))
    stretch(tmp_path, 0.001)
    with running(replay=tmp_path, replay_strict=True) as server, client_of(server.url) as client:
        answer = client.post(CREATE, json=GOOD)
        if encoding == "x-unknown":
            assert answer.status_code == 404
            assert "its content encoding x-unknown is unknown" in caplog.text
            return
        assert answer.json()["data"]["taskId"] == task_id
        assert "content-encoding" not in answer.headers
        server.advance(60)
        url = json.loads(record(client, task_id)["data"]["resultJson"])["resultUrls"][0]
        assert url.startswith(server.url)
        assert httpx2.get(url, trust_env=False).content[:2] == b"\xff\xd8"


def fetch_of(state: str, at: float, code: int = 200) -> HarExchange:
    data = {"taskId": "t", "state": state} if state else None
    body = json.dumps({"code": code, "msg": "", "data": data}).encode()
    return HarExchange(started=at, method="GET", url="http://x", status=200, response=body)


def test_no_task_sticks_in_one_state_however_its_recording_ends() -> None:
    def states(script: TaskScript, *moments: float) -> list[str]:
        playback, found = Playback(script), []
        for moment in moments:
            answer = playback.fetch(moment)
            body = json.loads(answer.response if isinstance(answer, HarExchange) else answer)
            found.append((body["data"] or {}).get("state") or str(body["code"]))
        return found

    errors = [fetch_of(PENDING[0], 0), fetch_of("", 1000, 429), fetch_of("", 2000, 500), fetch_of(SUCCESS, 3000)]
    assert states(TaskScript(0, errors), 0, 500, 1000, 1500, 2000, 2500, 3000) == [
        *(PENDING[0], PENDING[0], "429", PENDING[0], "500", PENDING[0], SUCCESS)
    ]
    # A client that asks late meets the errors as well, and gets on with each call.
    assert states(TaskScript(0, errors), 9000, 9000, 9000, 9000) == [PENDING[0], "429", "500", SUCCESS]
    unfinished = [fetch_of(PENDING[0], 0), fetch_of(PENDING[1], 2000)]
    assert states(TaskScript(0, unfinished), 0, 2000, 3999, 4000, 9000) == [
        PENDING[0],
        PENDING[1],
        PENDING[1],
        FAIL,
        FAIL,
    ]
    late = HarExchange(started=5000, method="POST", url="http://x", request=fetch_of(SUCCESS, 0).response)
    assert states(TaskScript(0, unfinished, [late]), 2000, 5000) == [PENDING[1], SUCCESS]
    assert states(TaskScript(0), 0) == [FAIL]
    assert states(TaskScript(0, [fetch_of("", 0, 422)]), 0, 5000) == ["422", FAIL]


def test_callbacks_are_replayed_to_this_machine_only(
    recorded: Callable[..., Any], tmp_path: Path, receive: Any
) -> None:
    receiver = receive(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def session(client: httpx2.Client, upstream: MockServer) -> str:
        body = {**GOOD, FIELDS.callback: f"{receiver.url}/then"}
        task_id: str = client.post(CREATE, json=body).json()["data"]["taskId"]
        upstream.advance(30)
        record(client, task_id)
        upstream.wait_for_callback(task_id)
        return task_id

    task_id = recorded(session)
    recorded_body = json.loads(receiver.requests[0].body)
    with running(replay=tmp_path, clock="manual") as server, client_of(server.url) as client:
        client.post(CREATE, json={**GOOD, FIELDS.callback: f"{receiver.url}/now"})
        server.advance(3600)
        while len(receiver.requests) < 2:
            receiver.came.acquire(timeout=10)
        received = receiver.requests[1]
        assert received.target == "/now"
        body = json.loads(received.body)
        assert body["data"]["taskId"] == task_id
        assert body["data"]["state"] == recorded_body["data"]["state"]
        assert server.url in body["data"]["resultJson"]
    with running(replay=tmp_path, clock="manual") as server, client_of(server.url) as client:
        client.post(CREATE, json={**GOOD, FIELDS.callback: "http://192.0.2.1/elsewhere"})
        server.advance(3600)
        entries: list[Any] = []
        while not entries:
            entries = server.control("GET", "journal", kind="callback")["entries"]
        assert "not allowed to receive callbacks" in entries[0]["answer"]
    with pytest.raises(SettingsError, match="Nothing leaves this machine"):
        running(replay=tmp_path, callback_allow="192.0.2.1").__enter__()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"replay": "nowhere"}, "not a directory"),
        ({"replay": "."}, "contains no HAR file"),
        ({"replay_strict": True}, "need --replay"),
        ({"replay_speed": 2}, "need --replay"),
    ],
)
def test_a_replay_that_cannot_be_is_refused(
    options: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=says):
        running(**options).__enter__()
    (tmp_path / "broken.har").write_text('{"log": {"entries": [{}]}}')
    with pytest.raises(SettingsError, match=r"broken.har is not a HAR file that can be replayed"):
        running(replay=tmp_path).__enter__()


# Whole programs

NODE = """
const [url, key] = [process.argv[2], "KEY"];
const headers = {"Authorization": `Bearer ${key}`, "Content-Type": "application/json"};
const body = JSON.stringify(BODY);
const created = await (await fetch(url + "CREATE", {method: "POST", headers, body})).json();
let record;
do {
  await new Promise((done) => setTimeout(done, 50));
  record = (await (await fetch(`${url}RECORD?taskId=${created.data.taskId}`, {headers})).json()).data;
} while (!["SUCCESS", "FAIL"].includes(record.state));
const image = await fetch(JSON.parse(record.resultJson).resultUrls[0]);
const digest = await crypto.subtle.digest("SHA-256", await image.arrayBuffer());
console.log(created.data.taskId, record.state, image.headers.get("content-type"), Buffer.from(digest).toString("hex"));
"""


POLLING = PollingSchedule((PollingStep(0, 0.05, 0.05),))


def by_client(url: str) -> list[object]:
    with SeedreamClient(url, local.KEY, polling=POLLING) as client:
        task = client.generate("A hill")
        return [task.task_id, task.state, client.credits(), client.result_images(task)]


def by_async_client(url: str) -> list[object]:
    async def session() -> list[object]:
        async with AsyncSeedreamClient(url, local.KEY, polling=POLLING) as client:
            task = await client.generate("A hill")
            return [task.task_id, task.state, await client.credits(), await client.result_images(task)]

    return asyncio.run(session())


def by_node(url: str) -> list[object]:
    text = NODE.replace("BODY", json.dumps(GOOD)).replace("CREATE", CREATE).replace("RECORD", RECORD.path)
    text = text.replace("KEY", local.KEY).replace("SUCCESS", SUCCESS).replace("FAIL", FAIL)
    command = ["node", "--input-type=module", "-", url]
    run = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr
    return [run.stdout]


@pytest.mark.parametrize("program", [by_client, by_async_client, by_node])
def test_a_recorded_session_replays_to_the_same_end_with_the_service_gone(
    program: Callable[[str], list[object]], tmp_path: Path
) -> None:
    if program is by_node and not shutil.which("node"):
        pytest.skip("needs Node.js")
    with running(task_seconds=0.3) as upstream, proxy_to(upstream, tmp_path) as proxy:
        expected = program(proxy.url)
    with running(replay=tmp_path, replay_strict=True) as server:
        assert program(server.url) == expected
        assert not server.unmatched
    # A bare server of recordings has no state of its own, so that another one says the same.
    with running(replay=tmp_path, replay_speed=50, replay_strict=True) as server:
        assert program(server.url) == expected


# The journal as a HAR file


def test_the_journal_is_exported_without_keys_and_can_be_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(task_seconds=0, key="a-secret-key") as server:
        headers = {"Authorization": "Bearer a-secret-key", "Cookie": "session=abc"}
        with httpx2.Client(base_url=server.url, headers=headers, trust_env=False) as client:
            task_id = client.post(CREATE, json=GOOD).json()["data"]["taskId"]
            final = record(client, task_id)
            client.get("/unknown")
        file = tmp_path / "export.har"
        assert main(["har", "export", "-o", str(file), "--images", "include", "--url", server.url]) == 0
        assert server.bill.not_fetched == server.bill.credits
        assert main(["har", "export", "--url", server.url]) == 0
    text = file.read_text()
    assert "a-secret-key" not in text
    assert "session=abc" not in text
    log = json.loads(text)["log"]
    assert log["version"] == "1.2"
    statuses = [each["response"]["status"] for each in log["entries"]]
    assert statuses == [200, 200, 200, 200]
    assert log["entries"][-1]["response"]["content"]["encoding"] == "base64"
    assert len(json.loads(capsys.readouterr().out)["log"]["entries"]) == 3
    with running(replay=tmp_path, replay_strict=True) as server, client_of(server.url) as client:
        assert client.post(CREATE, json=GOOD).json()["data"]["taskId"] == task_id
        again = record(client, task_id)
        url = json.loads(again["data"].pop("resultJson"))["resultUrls"][0]
        final["data"].pop("resultJson")
        assert again == final
        assert httpx2.get(url, trust_env=False).content[:2] == b"\xff\xd8"


def test_an_export_without_a_server_or_a_place_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["har", "export", "--url", "http://127.0.0.1:9"]) == 5
    assert "cannot connect to http://127.0.0.1:9" in capsys.readouterr().err
    with running() as server:
        assert main(["har", "export", "--url", server.url, "-o", str(tmp_path / "no" / "file.har")]) == 2
    error = capsys.readouterr().err
    assert "file.har: No such file or directory." in error
    assert error.count("\n") == 2


def test_a_recording_is_complete_after_each_entry(tmp_path: Path) -> None:
    file = HarFile(tmp_path / "record")
    for number in range(3):
        file.add(fetch_of(SUCCESS, number))
        assert len(load_recordings(tmp_path / "record")) == number + 1
    file.add(HarExchange(started=9, method="GET", url="http://x", status=200, response=b"\xff" * 100_000))
    assert (tmp_path / "record").stat().st_mode & 0o077 == 0
    file.close()
    large = load_recordings(tmp_path / "record")[-1]
    assert Path(large.body_file).read_bytes() == b"\xff" * 100_000
