"""The documented flow against a running server: create a task, poll it, fetch the result."""

import asyncio
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from PIL import Image
from seedbed_mock import ManualClock, SettingsError, create_app, running
from seedbed_schemas import __version__, default_contract, job_api
from seedbed_schemas.profile import default_profile

CONTRACT, SHARED, PROFILE = default_contract(), job_api(), default_profile()
INPUT = CONTRACT.part("request")["properties"]["input"]["properties"]
CREATE, RECORD, CREDIT = CONTRACT.operation.path, SHARED.record_info.path, SHARED.credit.path

Ask = Callable[..., Any]


def request(prompt: str = "a hill", ratio: str = "1:1", quality: str = "basic") -> dict[str, Any]:
    return {"model": CONTRACT.model, "input": {"prompt": prompt, "aspect_ratio": ratio, "quality": quality}}


class ServiceClient:
    """Sends requests to a server and returns the bodies of the responses."""

    def __init__(self, url: str, key: str) -> None:
        self.http = httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, trust_env=False)

    def create(self, body: object = None) -> dict[str, Any]:
        return self._json(self.http.post(CREATE, json=request() if body is None else body))

    def record(self, task_id: str) -> dict[str, Any]:
        envelope = self._json(self.http.get(RECORD, params={"taskId": task_id}))
        assert SHARED.shape("recordAnswer").violations(envelope) == []
        record: dict[str, Any] = envelope["data"]
        return record

    def credits(self) -> float:
        envelope = self._json(self.http.get(CREDIT))
        assert SHARED.shape("creditAnswer").violations(envelope) == []
        return float(envelope["data"])

    def result_url(self, task_id: str) -> str:
        url: str = json.loads(self.record(task_id)["resultJson"])["resultUrls"][0]
        return url

    @staticmethod
    def _json(response: httpx2.Response) -> dict[str, Any]:
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        envelope: dict[str, Any] = response.json()
        return envelope


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="module")
def client(clock: ManualClock) -> Iterator[ServiceClient]:
    with running(clock=clock, task_seconds=30, credits=10_000, rate_limit="off") as server:
        client = ServiceClient(server.url, server.key)
        yield client
        client.http.close()


def test_a_task_id_has_the_documented_form(client: ServiceClient, clock: ManualClock) -> None:
    envelope = client.create()
    assert envelope["code"] == 200
    assert envelope["msg"] == "success"
    family, milliseconds = envelope["data"]["taskId"].removeprefix("task_").split("_")
    assert family == "seedream"
    assert len(milliseconds) == 13
    assert abs(int(milliseconds) - clock.now() * 1000) < 60_000


def test_tasks_of_the_same_millisecond_have_different_ids(client: ServiceClient) -> None:
    names = [client.create()["data"]["taskId"] for _ in range(20)]
    assert len(set(names)) == len(names)


def test_a_task_passes_through_its_states_in_order(client: ServiceClient, clock: ManualClock) -> None:
    task_id = client.create()["data"]["taskId"]
    seen = []
    for _ in range(4):
        seen.append(client.record(task_id)["state"])
        clock.advance(10)
    assert seen == [*SHARED.states.pending, SHARED.states.success]


def test_a_pending_record_has_no_result(client: ServiceClient) -> None:
    record = client.record(client.create()["data"]["taskId"])
    assert not {"resultJson", "costTime", "completeTime"} & record.keys()
    assert (record["failCode"], record["failMsg"]) == ("", "")


def test_a_finished_record_has_its_times(client: ServiceClient, clock: ManualClock) -> None:
    task_id = client.create()["data"]["taskId"]
    clock.advance(1000)
    record = client.record(task_id)
    assert record["costTime"] == 30_000
    assert record["completeTime"] == record["createTime"] + 30_000 == record["updateTime"]


def test_a_record_contains_the_request_as_it_was_sent(client: ServiceClient) -> None:
    body = {**request("灯 😀"), "callBackUrl": "http://127.0.0.1:9/done", "unnamed": [1, {"a": None}]}
    record = client.record(client.create(body)["data"]["taskId"])
    assert json.loads(record["param"]) == body
    assert record["model"] == CONTRACT.model


@pytest.mark.parametrize("quality", INPUT["quality"]["enum"])
@pytest.mark.parametrize("ratio", INPUT["aspect_ratio"]["enum"])
def test_a_result_is_a_jpeg_of_that_size(client: ServiceClient, clock: ManualClock, ratio: str, quality: str) -> None:
    task_id = client.create(request("size", ratio, quality))["data"]["taskId"]
    clock.advance(30)
    response = httpx2.get(client.result_url(task_id), trust_env=False)
    assert response.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(response.content)) as image:
        image.load()
        assert image.format == "JPEG"
        assert image.size == PROFILE.size({"quality": quality, "aspect_ratio": ratio})


def result(client: ServiceClient, clock: ManualClock, prompt: str) -> bytes:
    task_id = client.create(request(prompt))["data"]["taskId"]
    clock.advance(30)
    return httpx2.get(client.result_url(task_id), trust_env=False).content


def test_the_same_request_gives_the_same_bytes(client: ServiceClient, clock: ManualClock) -> None:
    assert result(client, clock, "a hill") == result(client, clock, "a hill")
    assert result(client, clock, "a hill") != result(client, clock, "a lake")


def test_another_server_with_the_same_seed_gives_the_same_bytes(client: ServiceClient, clock: ManualClock) -> None:
    images = []
    for seed in (0, 0, 7):
        with running(clock=clock, task_seconds=0, seed=seed) as server:
            other = ServiceClient(server.url, server.key)
            images.append(result(other, clock, "a hill"))
            other.http.close()
    assert images[0] == images[1] == result(client, clock, "a hill")
    assert images[0] != images[2]


def test_a_result_shows_the_prompt(client: ServiceClient, clock: ManualClock) -> None:
    """Check that a longer prompt leaves more light pixels: the letters are light on a dark ground."""
    shares = []
    for prompt in ("", "I", "I see a hill with sheep on it"):
        with Image.open(io.BytesIO(result(client, clock, prompt))) as image:
            histogram = image.convert("L").resize((256, 256)).histogram()
        shares.append(sum(histogram[200:]))
    assert shares == sorted(set(shares))


def test_every_response_has_the_header_of_the_mock_server(client: ServiceClient, clock: ManualClock) -> None:
    task_id = client.create()["data"]["taskId"]
    clock.advance(30)
    for path in (client.result_url(task_id), "/nowhere", RECORD, CREDIT, "/results/nothing.jpg"):
        assert client.http.get(path).headers["X-Seedbed"] == __version__


def test_a_result_does_not_exist_before_the_task_has_ended(client: ServiceClient, clock: ManualClock) -> None:
    first, second = (client.create()["data"]["taskId"] for _ in range(2))
    assert "resultJson" not in client.record(first)
    clock.advance(30)
    url = client.result_url(second)
    assert httpx2.get(url, trust_env=False).status_code == 200
    gone = httpx2.get(url.replace(".jpg", "x.jpg"), trust_env=False)
    assert gone.status_code == 404
    assert gone.json()["code"] == 404


def test_a_result_url_ignores_a_host_header_of_another_machine(client: ServiceClient, clock: ManualClock) -> None:
    task_id = client.create()["data"]["taskId"]
    clock.advance(30)
    response = client.http.get(RECORD, params={"taskId": task_id}, headers={"Host": "10.66.6.1"})
    assert "10.66.6.1" not in response.text
    assert str(client.http.base_url).rstrip("/") in response.text


def test_a_task_is_charged_at_once(client: ServiceClient) -> None:
    before = client.credits()
    client.create()
    assert client.credits() == before - float(PROFILE.credits)


def test_tasks_of_one_account_are_hidden_from_another() -> None:
    with running(key=("one", "two")) as server:
        one, two = ServiceClient(server.url, "one"), ServiceClient(server.url, "two")
        task_id = one.create()["data"]["taskId"]
        assert one.record(task_id)["taskId"] == task_id
        envelope = two.http.get(RECORD, params={"taskId": task_id}).json()
        assert envelope["code"] == 404
        assert one.credits() < two.credits()
        one.http.close()
        two.http.close()


def test_a_task_without_duration_ends_at_once() -> None:
    with running(task_seconds=0) as server:
        client = ServiceClient(server.url, server.key)
        assert client.record(client.create()["data"]["taskId"])["state"] == SHARED.states.success
        client.http.close()


def test_an_internal_error_is_reported_in_the_envelope() -> None:
    class Broken(ManualClock):
        def now(self) -> float:
            raise RuntimeError("no time")

    async def ask() -> httpx2.Response:
        app = create_app()
        app.state.service.clock = Broken()
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://mock") as client:
            return await client.post(CREATE, json=request(), headers={"Authorization": "Bearer seedbed-key"})

    envelope = asyncio.run(ask())
    assert envelope.status_code == 200
    assert envelope.json()["code"] == 500
    assert "no time" not in envelope.text


def test_a_result_that_cannot_be_rendered_gets_an_http_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("no paint")

    monkeypatch.setattr("seedbed_mock.results.rendering.render", fail)

    async def ask() -> httpx2.Response:
        app = create_app(task_seconds=0)
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        headers = {"Authorization": "Bearer seedbed-key"}
        async with httpx2.AsyncClient(transport=transport, base_url="http://mock", headers=headers) as client:
            task_id = (await client.post(CREATE, json=request())).json()["data"]["taskId"]
            record = (await client.get(RECORD, params={"taskId": task_id})).json()["data"]
            return await client.get(json.loads(record["resultJson"])["resultUrls"][0])

    envelope = asyncio.run(ask())
    assert envelope.status_code == 500
    assert envelope.json()["code"] == 500


@pytest.mark.parametrize(
    "settings",
    [
        {"key": ()},
        {"rate_limit": "20"},
        {"task_seconds": "x"},
        {"http_status": "teapot"},
        {"credits": float("nan")},
        {"task_seconds": float("inf")},
    ],
)
def test_an_invalid_option_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError), running(**settings):
        pass


def durations(seed: int) -> list[int]:
    """Return the durations of five tasks of a server, in milliseconds."""
    clock = ManualClock()
    with running(clock=clock, task_seconds="10..60", seed=seed) as server:
        client = ServiceClient(server.url, server.key)
        names = [client.create()["data"]["taskId"] for _ in range(5)]
        clock.advance(60)
        taken = [int(client.record(name)["costTime"]) for name in names]
        client.http.close()
    return taken


def test_durations_are_drawn_from_the_range_and_depend_on_the_seed() -> None:
    taken = durations(seed=1)
    assert all(10_000 <= each <= 60_000 for each in taken)
    assert len(set(taken)) == len(taken)
    assert taken == durations(seed=1) != durations(seed=2)
