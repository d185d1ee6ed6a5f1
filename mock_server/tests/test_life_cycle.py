"""What advances tasks, when they are visible, and how long results and download links are valid."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from seedbed_mock import ManualClock, MockServer, SettingsError, running
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.dialect import dialects
from seedbed_schemas.openapi import example_of

CONTRACT, SHARED = default_contract(), job_api()
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))
CREATE, RECORD, DOWNLOAD = CONTRACT.operation.path, SHARED.record_info.path, SHARED.download_url.path
PENDING, SUCCESS = SHARED.states.pending, SHARED.states.success
MANUAL: dict[str, Any] = {"clock": "manual", "rate_limit": "off", "credits": 100_000}

Call = Callable[..., dict[str, Any]]
both_dialects = pytest.mark.parametrize("dialect", sorted(dialects()))
every_form = pytest.mark.parametrize(
    "form",
    [{"dialect": name, "http_status": status} for name in sorted(dialects()) for status in ("envelope", "mirror")],
    ids=lambda form: "-".join(form.values()),
)


def create(call: Call, **more: str) -> str:
    task_id: str = call("POST", CREATE, GOOD, **more)["data"]["taskId"]
    return task_id


def state(call: Call, task_id: str) -> str:
    response = call("GET", f"{RECORD}?taskId={task_id}")
    assert SHARED.shape("recordAnswer").violations(response) == []
    found: str = response["data"]["state"]
    return found


def result_url(call: Call, task_id: str) -> str:
    url: str = json.loads(call("GET", f"{RECORD}?taskId={task_id}")["data"]["resultJson"])["resultUrls"][0]
    return url


# Progress


@both_dialects
def test_time_advances_a_task(seedbed: MockServer, call: Call, dialect: str) -> None:
    seedbed.play(**MANUAL, task_seconds=30, dialect=dialect)
    task_id, seen = create(call), []
    for seconds in (0, 9.999, 0.001, 10, 9.999, 0.001, 1000):
        seedbed.advance(seconds)
        seen.append(state(call, task_id))
    assert seen == [PENDING[0], PENDING[0], PENDING[1], PENDING[2], PENDING[2], SUCCESS, SUCCESS]


def test_durations_are_drawn_from_the_range_and_depend_on_the_seed(seedbed: MockServer, call: Call) -> None:
    def drawn(seed: int) -> list[int]:
        seedbed.play(**MANUAL, task_seconds="10..60", seed=seed)
        begun = seedbed.control("GET", "clock")["now"]
        return [seedbed.task(create(call))["ends"] - begun for _ in range(50)]

    first = drawn(7)
    assert first == drawn(7) != drawn(8)
    assert all(10_000 <= each <= 60_000 for each in first)
    assert min(first) < 20_000
    assert max(first) > 50_000


@both_dialects
@pytest.mark.parametrize(
    ("polls", "states"),
    [
        (1, [SUCCESS, SUCCESS]),
        (2, [PENDING[1], SUCCESS]),
        (3, [PENDING[1], PENDING[2], SUCCESS, SUCCESS]),
        (6, [PENDING[0], PENDING[1], PENDING[1], PENDING[2], PENDING[2], SUCCESS]),
    ],
)
def test_polls_advance_a_task(seedbed: MockServer, call: Call, dialect: str, polls: int, states: list[str]) -> None:
    seedbed.play(**MANUAL, progress=f"polls:{polls}", dialect=dialect)
    task_id, other = create(call), create(call)
    seedbed.advance(100_000)
    assert seedbed.task(task_id)["state"] == PENDING[0]
    assert [state(call, task_id) for _ in states] == states
    assert seedbed.task(other)["state"] == PENDING[0]


def test_polls_of_other_accounts_do_not_advance_a_task(seedbed: MockServer, call: Call) -> None:
    seedbed.play(**MANUAL, progress="polls:1", key=["one", "two"])
    task_id = create(call, key="one")
    for _ in range(3):
        assert call("GET", f"{RECORD}?taskId={task_id}", key="two")["code"] == 404
        assert call("GET", f"{RECORD}?taskId={task_id}", key="nobody")["code"] == 401
    assert seedbed.task(task_id)["state"] == PENDING[0]


@both_dialects
def test_only_the_control_api_advances_a_task(seedbed: MockServer, call: Call, dialect: str) -> None:
    seedbed.play(**MANUAL, progress="hand", dialect=dialect)
    good, bad = create(call), create(call)
    seedbed.advance(300_000)
    assert {state(call, task_id) for task_id in (good, bad) for _ in range(5)} == {PENDING[0]}
    assert seedbed.task(good)["ends"] is None
    seedbed.finish(good)
    seedbed.fail(bad)
    assert [state(call, task_id) for task_id in (good, bad)] == [SUCCESS, SHARED.states.failure]


@pytest.mark.parametrize("progress", ["polls:0", "polls:", "polls:-1", "polls:1.5", "polls:x", "", "never", "hand:1"])
def test_an_invalid_progress_is_refused(seedbed: MockServer, progress: str) -> None:
    with pytest.raises(SettingsError, match="polls:3"):
        seedbed.play(progress=progress)


# Visibility


@every_form
def test_a_new_task_is_unknown_until_it_is_visible(
    seedbed: MockServer, http: httpx2.Client, call: Call, form: dict[str, Any]
) -> None:
    seedbed.play(**MANUAL, visible_after=2, task_seconds=1, **form)
    code = {"documented": 404, "observed": 422}[form["dialect"]]
    task_id = create(call)
    seedbed.advance(1.999)
    headers = {"Authorization": f"Bearer {seedbed.key}"}
    response = http.get(seedbed.url + RECORD, params={"taskId": task_id}, headers=headers)
    assert (response.json()["code"], response.status_code) == (code, code if form["http_status"] == "mirror" else 200)
    assert seedbed.task(task_id)["state"] == SUCCESS
    seedbed.advance(0.001)
    assert state(call, task_id) == SUCCESS


def test_a_poll_before_a_task_is_visible_does_not_advance_it(seedbed: MockServer, call: Call) -> None:
    seedbed.play(**MANUAL, visible_after=2, progress="polls:1")
    task_id = create(call)
    assert call("GET", f"{RECORD}?taskId={task_id}")["code"] == 404
    assert seedbed.task(task_id)["state"] == PENDING[0]


# Clocks


def test_a_manual_clock_stands_still(seedbed: MockServer, call: Call) -> None:
    seedbed.play(**MANUAL, task_seconds=0.001)
    task_id = create(call)
    assert {state(call, task_id) for _ in range(20)} == {PENDING[0]}
    seedbed.advance(0.001)
    assert state(call, task_id) == SUCCESS


def test_a_custom_clock_can_be_used(seedbed: MockServer, call: Call) -> None:
    clock = ManualClock()
    seedbed.play(clock=clock, task_seconds=30)
    task_id = create(call)
    clock.advance(30)
    assert state(call, task_id) == SUCCESS


def test_a_fast_clock_ends_a_long_task_early(seedbed: MockServer, call: Call) -> None:
    seedbed.play(speed=1_000_000, task_seconds=100)
    task_id = create(call)
    for _ in range(1000):
        if state(call, task_id) == SUCCESS:
            break
    assert state(call, task_id) == SUCCESS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clock": "manual", "speed": 2}, "not both"),
        ({"speed": 0}, "from 0.001"),
        ({"speed": -1}, "from 0.001"),
        ({"speed": 0.0009}, "from 0.001"),
        ({"speed": 1e9}, "to 1000000"),
        ({"speed": float("nan")}, "from 0.001"),
        ({"clock": "sundial"}, "real or manual"),
        ({"visible_after": -1}, "visible-after"),
        ({"visible_after": float("inf")}, "visible-after"),
        ({"result_ttl": -1}, "result-ttl"),
        ({"result_ttl": float("nan")}, "result-ttl"),
        ({"keep_tasks": 0}, "keep-tasks"),
        ({"credits": 10**400}, "credits"),
        ({"task_seconds": 10**400}, "SECONDS"),
        ({"control_token": "a b"}, "control token"),
        ({"control_token": ""}, "1 to 256 visible ASCII"),
        ({"db": ""}, "Empty path"),
        ({"result_dir": ""}, "Empty path"),
        ({"bogus": 1}, "Unknown option bogus; .*host, port, .*key.*clock"),
        ({"config": "x", "task_seconds": 1}, "Unknown option config"),
        ({"port": 0}, "keeps its port"),
        ({"host": "127.0.0.1"}, "keeps its host"),
    ],
)
def test_an_invalid_option_of_play_is_refused(seedbed: MockServer, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        seedbed.play(**options)
    assert seedbed.control("GET", "health")["status"] == "ok"


def test_an_unknown_option_of_running_is_refused_with_the_known_ones() -> None:
    options: dict[str, Any] = {"bogus": 1}
    with pytest.raises(SettingsError, match=r"Unknown option bogus.*host, port, .*key.*clock"), running(**options):
        pass


# Results and downloads


@every_form
def test_a_result_is_kept_until_it_expires(
    seedbed: MockServer, http: httpx2.Client, call: Call, form: dict[str, Any]
) -> None:
    seedbed.play(**MANUAL, task_seconds=5, result_ttl=60, **form)
    task_id = create(call)
    seedbed.advance(5)
    url = result_url(call, task_id)
    seedbed.advance(59.999)
    assert http.get(url).headers["content-type"] == "image/jpeg"
    seedbed.advance(0.001)
    gone = http.get(url)
    assert (gone.status_code, gone.json()["code"]) == (404, 404)
    assert result_url(call, task_id) == url
    assert call("POST", DOWNLOAD, {"url": url})["msg"] == "url is wrong"


def test_a_failed_task_has_no_result(seedbed: MockServer, http: httpx2.Client, call: Call) -> None:
    seedbed.play(**MANUAL, progress="hand")
    good, bad = create(call), create(call)
    seedbed.finish(good)
    url = result_url(call, good)
    seedbed.fail(bad)
    assert http.get(url).status_code == 200
    assert not call("GET", f"{RECORD}?taskId={bad}")["data"].get("resultJson")


@both_dialects
def test_a_download_link_expires(seedbed: MockServer, http: httpx2.Client, call: Call, dialect: str) -> None:
    seedbed.play(**MANUAL, task_seconds=0, dialect=dialect)
    url = result_url(call, create(call))
    response = call("POST", DOWNLOAD, {"url": url})
    assert response["code"] == 200
    link: str = response["data"]
    assert link.startswith(url + "?")
    seedbed.advance(SHARED.download_seconds - 0.001)
    assert http.get(link).content == http.get(url).content
    seedbed.advance(0.001)
    assert (http.get(link).status_code, http.get(url).status_code) == (404, 200)


@every_form
@pytest.mark.parametrize(
    "wrong",
    [
        "http://example.com/a.jpg",
        "http://127.0.0.1:1/results/{name}",
        "http://localhost:1/results/{name}",
        "http://[::1/results/{name}",
        "https://127.0.0.1:{port}/results/{name}",
        "http://127.0.0.1:{port}@example.com/results/{name}",
        "http://127.0.0.1:{port}/results/../results/{name}",
        "http://127.0.0.1:{port}/results/x{name}",
        "http://127.0.0.1:{port}/results/",
        "http://127.0.0.1:{port}/results/{name}?x=1",
        "http://127.0.0.1:{port}/results/{name}#x",
        "/results/{name}",
        "{name}",
        "",
        " ",
        "灯",
        "\0",
        None,
        7,
        [],
        {},
    ],
)
def test_a_url_that_is_not_a_result_of_the_server_is_refused(
    seedbed: MockServer, http: httpx2.Client, call: Call, wrong: object, form: dict[str, Any]
) -> None:
    seedbed.play(**MANUAL, task_seconds=0, **form)
    parts = urlsplit(result_url(call, create(call)))
    name, port = parts.path.rpartition("/")[2], parts.port
    url = wrong.format(name=name, port=port) if isinstance(wrong, str) else wrong
    headers = {"Authorization": f"Bearer {seedbed.key}"}
    response = http.post(seedbed.url + DOWNLOAD, json={"url": url}, headers=headers)
    assert response.json() == {"code": 422, "msg": "url is wrong", "data": None}
    assert response.status_code == (422 if form["http_status"] == "mirror" else 200)


def test_a_download_link_is_made_for_every_name_of_the_server(
    seedbed: MockServer, http: httpx2.Client, call: Call
) -> None:
    seedbed.play(**MANUAL, task_seconds=0, allow_host="app.test")
    url = result_url(call, create(call))
    parts = urlsplit(url)
    for host in (f"localhost:{parts.port}", f"[::1]:{parts.port}", "app.test", "app.test:9000"):
        link: str = call("POST", DOWNLOAD, {"url": f"http://{host}{parts.path}"})["data"]
        assert link.startswith(f"{url}?")
        assert http.get(link).status_code == 200


@pytest.mark.parametrize("body", [{}, [], "x", None, {"URL": "x"}])
def test_a_body_without_a_url_is_refused(call: Call, body: object) -> None:
    assert call("POST", DOWNLOAD, json.dumps(body).encode())["msg"] == "url is wrong"


def test_a_download_link_requires_a_key(call: Call) -> None:
    assert call("POST", DOWNLOAD, {"url": "x"}, key="nobody")["code"] == 401


@pytest.mark.parametrize(
    "tampered",
    [
        "until={later}&mark={mark}",
        "until={until}&mark={other}",
        "until={until}&mark=",
        "until={until}",
        "until=&mark={mark}",
        "until={until}x&mark={mark}",
        "until=%20{until}&mark={mark}",
        "until=x&mark={mark}",
        "until=-1&mark={mark}",
        "until=%D9%A1&mark={mark}",
        "until={until}&mark=%E7%81%AF",
        "until=%F0%9F%98%80&mark=%FF%FE",
        "until=%00&mark=%00",
        "until=" + "9" * 5000 + "&mark={mark}",
    ],
)
def test_a_tampered_download_link_gets_404(seedbed: MockServer, http: httpx2.Client, call: Call, tampered: str) -> None:
    seedbed.play(**MANUAL, task_seconds=0)
    url = result_url(call, create(call))
    link = call("POST", DOWNLOAD, {"url": url})["data"]
    until, mark = (part.partition("=")[2] for part in urlsplit(link).query.split("&"))
    other = ("0" if mark[0] != "0" else "1") + mark[1:]
    query = tampered.format(until=until, later=int(until) + 1, mark=mark, other=other)
    response = http.get(f"{url}?{query}")
    assert (response.status_code, response.json()["code"]) == (404, 404)


def test_a_download_link_is_valid_for_one_result_only(seedbed: MockServer, http: httpx2.Client, call: Call) -> None:
    seedbed.play(**MANUAL, task_seconds=0)
    one, two = (result_url(call, create(call)) for _ in range(2))
    link = call("POST", DOWNLOAD, {"url": one})["data"]
    assert http.get(link).status_code == 200
    assert http.get(link.replace(one, two)).status_code == 404
    assert http.get(f"{two}?x=1").status_code == 200


def test_a_new_server_does_not_know_earlier_results(seedbed: MockServer, http: httpx2.Client, call: Call) -> None:
    seedbed.play(**MANUAL, task_seconds=0)
    url = result_url(call, create(call))
    seedbed.play(**MANUAL, task_seconds=0)
    assert call("POST", DOWNLOAD, {"url": url})["msg"] == "url is wrong"
    assert http.get(url).status_code == 404
