"""The whole documented flow against a live fake: create, look, fetch."""

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


class Caller:
    """Calls a fake and gives back the bodies of its answers."""

    def __init__(self, url: str, key: str) -> None:
        self.http = httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, trust_env=False)

    def create(self, body: object = None) -> dict[str, Any]:
        return self._json(self.http.post(CREATE, json=request() if body is None else body))

    def record(self, task_id: str) -> dict[str, Any]:
        answer = self._json(self.http.get(RECORD, params={"taskId": task_id}))
        assert SHARED.shape("recordAnswer").violations(answer) == []
        record: dict[str, Any] = answer["data"]
        return record

    def credits(self) -> float:
        answer = self._json(self.http.get(CREDIT))
        assert SHARED.shape("creditAnswer").violations(answer) == []
        return float(answer["data"])

    def result_url(self, task_id: str) -> str:
        url: str = json.loads(self.record(task_id)["resultJson"])["resultUrls"][0]
        return url

    @staticmethod
    def _json(response: httpx2.Response) -> dict[str, Any]:
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        answer: dict[str, Any] = response.json()
        return answer


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="module")
def caller(clock: ManualClock) -> Iterator[Caller]:
    with running(clock=clock, task_seconds=30, credits=10_000, rate_limit="off") as server:
        caller = Caller(server.url, server.key)
        yield caller
        caller.http.close()


def test_a_task_is_named_as_documented(caller: Caller, clock: ManualClock) -> None:
    answer = caller.create()
    assert answer["code"] == 200
    assert answer["msg"] == "success"
    family, milliseconds = answer["data"]["taskId"].removeprefix("task_").split("_")
    assert family == "seedream"
    assert len(milliseconds) == 13
    assert abs(int(milliseconds) - clock.now() * 1000) < 60_000


def test_tasks_made_in_the_same_millisecond_have_different_names(caller: Caller) -> None:
    names = [caller.create()["data"]["taskId"] for _ in range(20)]
    assert len(set(names)) == len(names)


def test_a_task_goes_through_its_states_in_order(caller: Caller, clock: ManualClock) -> None:
    task_id = caller.create()["data"]["taskId"]
    seen = []
    for _ in range(4):
        seen.append(caller.record(task_id)["state"])
        clock.advance(10)
    assert seen == [*SHARED.states.pending, SHARED.states.success]


def test_a_pending_record_shows_no_result(caller: Caller) -> None:
    record = caller.record(caller.create()["data"]["taskId"])
    assert not {"resultJson", "costTime", "completeTime"} & record.keys()
    assert (record["failCode"], record["failMsg"]) == ("", "")


def test_a_finished_record_tells_its_times(caller: Caller, clock: ManualClock) -> None:
    task_id = caller.create()["data"]["taskId"]
    clock.advance(1000)
    record = caller.record(task_id)
    assert record["costTime"] == 30_000
    assert record["completeTime"] == record["createTime"] + 30_000 == record["updateTime"]


def test_a_record_shows_the_request_as_it_was_sent(caller: Caller) -> None:
    body = {**request("灯 😀"), "callBackUrl": "http://127.0.0.1:9/done", "unnamed": [1, {"a": None}]}
    record = caller.record(caller.create(body)["data"]["taskId"])
    assert json.loads(record["param"]) == body
    assert record["model"] == CONTRACT.model


@pytest.mark.parametrize("quality", INPUT["quality"]["enum"])
@pytest.mark.parametrize("ratio", INPUT["aspect_ratio"]["enum"])
def test_a_result_is_a_jpeg_of_exactly_the_size(caller: Caller, clock: ManualClock, ratio: str, quality: str) -> None:
    task_id = caller.create(request("size", ratio, quality))["data"]["taskId"]
    clock.advance(30)
    response = httpx2.get(caller.result_url(task_id), trust_env=False)
    assert response.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(response.content)) as image:
        image.load()
        assert image.format == "JPEG"
        assert image.size == PROFILE.size({"quality": quality, "aspect_ratio": ratio})


def result(caller: Caller, clock: ManualClock, prompt: str) -> bytes:
    task_id = caller.create(request(prompt))["data"]["taskId"]
    clock.advance(30)
    return httpx2.get(caller.result_url(task_id), trust_env=False).content


def test_the_same_request_gives_the_same_bytes(caller: Caller, clock: ManualClock) -> None:
    assert result(caller, clock, "a hill") == result(caller, clock, "a hill")
    assert result(caller, clock, "a hill") != result(caller, clock, "a lake")


def test_another_server_with_the_same_seed_gives_the_same_bytes(caller: Caller, clock: ManualClock) -> None:
    images = []
    for seed in (0, 0, 7):
        with running(clock=clock, task_seconds=0, seed=seed) as server:
            other = Caller(server.url, server.key)
            images.append(result(other, clock, "a hill"))
            other.http.close()
    assert images[0] == images[1] == result(caller, clock, "a hill")
    assert images[0] != images[2]


def test_a_result_shows_the_prompt(caller: Caller, clock: ManualClock) -> None:
    """Light letters on a dark ground: a longer prompt leaves more light pixels."""
    shares = []
    for prompt in ("", "I", "I see a hill with sheep on it"):
        with Image.open(io.BytesIO(result(caller, clock, prompt))) as image:
            histogram = image.convert("L").resize((256, 256)).histogram()
        shares.append(sum(histogram[200:]))
    assert shares == sorted(set(shares))


def test_every_answer_says_that_it_is_of_a_fake(caller: Caller, clock: ManualClock) -> None:
    task_id = caller.create()["data"]["taskId"]
    clock.advance(30)
    for path in (caller.result_url(task_id), "/nowhere", RECORD, CREDIT, "/results/nothing.jpg"):
        assert caller.http.get(path).headers["X-Seedbed"] == __version__


def test_a_result_is_not_there_before_the_task_has_ended(caller: Caller, clock: ManualClock) -> None:
    first, second = (caller.create()["data"]["taskId"] for _ in range(2))
    assert "resultJson" not in caller.record(first)
    clock.advance(30)
    url = caller.result_url(second)
    assert httpx2.get(url, trust_env=False).status_code == 200
    gone = httpx2.get(url.replace(".jpg", "x.jpg"), trust_env=False)
    assert gone.status_code == 404
    assert gone.json()["code"] == 404


def test_a_result_url_does_not_follow_the_host_header(caller: Caller, clock: ManualClock) -> None:
    task_id = caller.create()["data"]["taskId"]
    clock.advance(30)
    response = caller.http.get(RECORD, params={"taskId": task_id}, headers={"Host": "evil.example"})
    assert "evil" not in response.text
    assert str(caller.http.base_url).rstrip("/") in response.text


def test_a_task_costs_its_price_at_once(caller: Caller) -> None:
    before = caller.credits()
    caller.create()
    assert caller.credits() == before - float(PROFILE.credits)


def test_tasks_of_one_account_are_hidden_from_another() -> None:
    with running(key=("one", "two")) as server:
        one, two = Caller(server.url, "one"), Caller(server.url, "two")
        task_id = one.create()["data"]["taskId"]
        assert one.record(task_id)["taskId"] == task_id
        answer = two.http.get(RECORD, params={"taskId": task_id}).json()
        assert answer["code"] == 404
        assert one.credits() < two.credits()
        one.http.close()
        two.http.close()


def test_a_task_that_takes_no_time_is_done_at_once() -> None:
    with running(task_seconds=0) as server:
        caller = Caller(server.url, server.key)
        assert caller.record(caller.create()["data"]["taskId"])["state"] == SHARED.states.success
        caller.http.close()


def test_a_fault_of_the_fake_itself_is_answered_in_the_envelope() -> None:
    class Broken(ManualClock):
        def now(self) -> float:
            raise RuntimeError("no time")

    async def ask() -> httpx2.Response:
        app = create_app()
        app.state.service.clock = Broken()
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://fake") as client:
            return await client.post(CREATE, json=request(), headers={"Authorization": "Bearer seedbed-key"})

    answer = asyncio.run(ask())
    assert answer.status_code == 200
    assert answer.json()["code"] == 500
    assert "no time" not in answer.text


def test_a_result_that_cannot_be_drawn_is_no_image_by_its_http_status_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("no paint")

    monkeypatch.setattr("seedbed_mock.results.rendering.render", fail)

    async def ask() -> httpx2.Response:
        app = create_app(task_seconds=0)
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        headers = {"Authorization": "Bearer seedbed-key"}
        async with httpx2.AsyncClient(transport=transport, base_url="http://fake", headers=headers) as client:
            task_id = (await client.post(CREATE, json=request())).json()["data"]["taskId"]
            record = (await client.get(RECORD, params={"taskId": task_id})).json()["data"]
            return await client.get(json.loads(record["resultJson"])["resultUrls"][0])

    answer = asyncio.run(ask())
    assert answer.status_code == 500
    assert answer.json()["code"] == 500


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
def test_a_setting_that_cannot_be_used_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError), running(**settings):
        pass


def durations(seed: int) -> list[int]:
    """Return how long five tasks of a server take, in milliseconds."""
    clock = ManualClock()
    with running(clock=clock, task_seconds="10..60", seed=seed) as server:
        caller = Caller(server.url, server.key)
        names = [caller.create()["data"]["taskId"] for _ in range(5)]
        clock.advance(60)
        taken = [int(caller.record(name)["costTime"]) for name in names]
        caller.http.close()
    return taken


def test_times_are_drawn_between_their_bounds_and_alike_for_the_same_seed() -> None:
    taken = durations(seed=1)
    assert all(10_000 <= each <= 60_000 for each in taken)
    assert len(set(taken)) == len(taken)
    assert taken == durations(seed=1) != durations(seed=2)
