"""The dashboard without a browser: who may see it, what its pages contain, and how its streams begin and end."""

import asyncio
import hashlib
import html
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import seedbed_mock
from seedbed_mock import MockServer, journal, running
from seedbed_mock.dashboard import live
from seedbed_mock.dashboard.live import MOST_STREAMS
from seedbed_mock.faults.scenarios import shipped_scenarios
from seedbed_mock.journal import JournalEntry
from seedbed_mock.proxy import ProxyOptions, start_proxy
from seedbed_schemas import default_contract, job_api, local
from seedbed_schemas.openapi import example_of
from seedbed_schemas.profile import default_profile

CONTRACT = default_contract()
CREATE = CONTRACT.operation.path
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))
HOME = "/__seedbed/"
PAGES = "/__seedbed/dashboard"
HTML = {"Accept": "text/html,application/xhtml+xml"}
FOLDER = Path(seedbed_mock.__file__).parent / "dashboard"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}</hx-partial>\r\ndata: x"
VIEWS = ["tasks", "calls", "callbacks", "accounts", "faults"]


@pytest.fixture
def page(seedbed: MockServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=seedbed.url, headers=HTML, trust_env=False, timeout=20) as client:
        yield client


def create(client: httpx2.Client, prompt: str = "A hill at dawn", **fields: Any) -> str:
    body = {**GOOD, "input": {**GOOD["input"], "prompt": prompt}, **fields}
    answer = client.post(CREATE, json=body, headers={"Authorization": f"Bearer {local.KEY}"}).json()
    task_id: str = answer["data"]["taskId"]
    return task_id


def act(client: httpx2.Client, operation: str, **values: Any) -> str:
    """Send a form as a page does, and return what the page then says."""
    response = client.post(f"{PAGES}/do/{operation}", data=values, headers={"HX-Request": "true"})
    assert response.status_code == 200
    return response.text


def test_a_browser_is_led_to_the_dashboard_and_a_program_is_not(seedbed: MockServer, page: httpx2.Client) -> None:
    for path in ("/", "/__seedbed"):
        response = page.get(path)
        assert (response.status_code, response.headers["location"]) == (307, HOME)
        assert page.get(path, headers={"Accept": "*/*"}).json()["code" if path == "/" else "error"]
    assert page.get(HOME).headers["content-type"].startswith("text/html")
    assert page.get(HOME, headers={"Accept": "application/json"}).status_code == 404
    assert [each["target"] for each in seedbed.unmatched] == ["/"]


@pytest.mark.parametrize("dialect", ["documented", "observed"])
def test_every_view_shows_text_of_clients_as_text(dialect: str) -> None:
    with (
        running(task_seconds=0, dialect=dialect) as server,
        httpx2.Client(base_url=server.url, headers=HTML, trust_env=False) as page,
    ):
        task_id = create(page, HOSTILE, callBackUrl="http://127.0.0.1:9/?" + "a" * 50)
        page.get("/x", params={"q": HOSTILE}, headers={"X-Hostile": "<b>"})
        server.add_faults("429; prompt=<b>")
        for view in VIEWS:
            for opened in ("", task_id, "1", "2", "999999", HOSTILE):
                text = page.get(HOME, params={"view": view, "opened": opened}).text
                assert "<script>alert" not in text
                assert "<img src=x" not in text
                assert "</hx-partial>" not in text
                assert "{{ 7*7 }}" in text or view != "tasks"
        assert not server.errors


def test_pages_allow_no_scripts_but_their_own(page: httpx2.Client) -> None:
    first, second = page.get(HOME), page.get(HOME)
    policy = first.headers["content-security-policy"]
    nonce = re.search(r"script-src 'nonce-([\w-]+)'", policy)
    assert nonce
    assert f'nonce="{nonce[1]}"' in first.text
    assert nonce[1] not in second.text
    assert "default-src 'none'" in policy
    assert not re.search("unsafe|https?:|data:|\\*", policy)
    assert not re.search(r"\son\w+=|style=|<style|javascript:|https?://", first.text)
    for name in ("x-content-type-options", "referrer-policy", "x-frame-options"):
        assert name in first.headers


def test_every_script_and_style_comes_from_the_package(page: httpx2.Client) -> None:
    text = page.get(HOME).text
    sources = re.findall(r'(?:src|href)="(/__seedbed/dashboard/static/[^"]+)"', text)
    assert len(sources) == 6
    for source in sources:
        response = page.get(source)
        assert (response.status_code, response.content) == (
            200,
            (FOLDER / "static" / source.rpartition("/")[2]).read_bytes(),
        )
    for name in ("../site.py", "..%2fsite.py", "vendored.sha256", "nothing.js", "", "%00.js"):
        assert page.get(f"{PAGES}/static/{name}").status_code == 404


def test_the_files_of_other_projects_are_unchanged() -> None:
    lines = (FOLDER / "static/vendored.sha256").read_text().splitlines()
    files = [line.split() for line in lines if not line.startswith("#")]
    assert len(files) == 9
    for digest, name in files:
        assert hashlib.sha256((FOLDER / "static" / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_pages_have_the_guards_of_the_control_api(
    seedbed: MockServer, page: httpx2.Client, headers: dict[str, str], status: int
) -> None:
    task_id = create(page)
    for path in (HOME, f"{PAGES}/details?opened={task_id}", f"{PAGES}/events", f"{PAGES}/thumbnails/{task_id}"):
        assert page.get(path, headers=headers).status_code == status
    assert page.post(f"{PAGES}/do/reset", headers=headers).status_code == status
    assert seedbed.task(task_id)


@pytest.mark.seedbed(control_token="correct-token")  # noqa: S106 (of this test)
def test_a_browser_gets_a_session_for_the_token(page: httpx2.Client) -> None:
    for path in (HOME, f"{PAGES}/events", f"{PAGES}/details?opened=1"):
        assert (page.get(path).status_code, "--control-token" in page.get(path).text) == (401, True)
    assert page.post(f"{PAGES}/do/reset").status_code == 401
    assert page.post(f"{PAGES}/login", data={"token": "wrong"}).status_code == 401
    assert not page.cookies
    answer = page.post(f"{PAGES}/login", data={"token": "correct-token"})
    assert (answer.status_code, answer.headers["location"]) == (303, HOME)
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/__seedbed"} <= set(cookie.split("; "))
    assert "correct-token" not in cookie
    assert page.get(HOME).status_code == 200
    assert page.get(HOME, headers={"Origin": "http://evil.example"}).status_code == 403
    # The session is for the pages, and the token stays what programs have to send.
    assert page.get("/__seedbed/health", headers={"Accept": "*/*"}).status_code == 401
    page.cookies.clear()
    assert page.get(HOME).status_code == 401


def test_a_call_says_why_it_was_answered_so(page: httpx2.Client) -> None:
    page.post(CREATE, json={**GOOD, "input": {}}, headers={"Authorization": f"Bearer {local.KEY}"})
    text = page.get(f"{PAGES}/details?opened=1").text
    assert "<code>validate_request</code>: Refuse a request that breaks the contract" in text
    assert "<code>input/required/prompt</code>" in text
    assert "row “prompt”" in text
    page.post(CREATE, json=GOOD, headers={"Authorization": f"Bearer {local.KEY}", "X-Seedbed-Fault": "455"})
    assert "<code>455 (by header)</code>" in page.get(f"{PAGES}/details?opened=2").text
    page.post(f"{CREATE}s")
    assert "Did you mean" in page.get(f"{PAGES}/details?opened=3").text


@pytest.mark.seedbed(progress="hand", callback_allow="127.0.0.1")
def test_forms_do_what_the_control_api_does(seedbed: MockServer, page: httpx2.Client) -> None:
    first, second = create(page, callBackUrl="http://127.0.0.1:9/"), create(page)
    assert "Done." in act(page, "finish", task_id=first)
    assert "has already ended" in act(page, "finish", task_id=first)
    act(page, "fail", task_id=second, code="", message="")
    assert (seedbed.task(first)["state"], seedbed.task(second)["state"]) == ("success", "fail")
    assert seedbed.task(second)["failure"]["code"]
    account = seedbed.task(first)["account"]
    before = seedbed.control("GET", f"accounts/{account}")["balance"]
    act(page, "top_up", account=account, credits="12.5")
    assert seedbed.control("GET", f"accounts/{account}")["balance"] == before + 12.5
    act(page, "reset_account", account=account)
    assert "zz" in act(page, "add_faults", rules="429\nzz")
    act(page, "add_faults", rules="429; times=1\n\n402; times=2\n")
    assert len(seedbed.control("GET", "faults")["faults"]) == 2
    act(page, "clear_faults", number="1")
    assert [each["rule"] for each in seedbed.control("GET", "faults")["faults"]] == ["402; times=2"]
    assert "the built-in ones are" in act(page, "play_scenario", name="no-such")
    act(page, "play_scenario", name=shipped_scenarios()[0])
    assert seedbed.control("GET", "faults")["scenario"]["name"] == shipped_scenarios()[0]
    act(page, "stop_scenario")
    assert seedbed.control("GET", "faults")["scenario"] is None
    now = seedbed.control("GET", "clock")["now"]
    act(page, "turn_clock", advance="60")
    assert seedbed.control("GET", "clock")["now"] >= now + 60_000
    assert "&gt;= 0" in act(page, "turn_clock", advance="-1")
    act(page, "redeliver", task_id=first)
    act(page, "reset", space="")
    assert seedbed.control("GET", "tasks")["tasks"] == []
    assert "no operation" in act(page, "__init__")


def test_a_form_without_scripts_leads_back_to_the_page(page: httpx2.Client) -> None:
    answer = page.post(f"{PAGES}/do/add_faults", data={"rules": "429", "view": "faults", "space": ""})
    assert (answer.status_code, answer.headers["location"]) == (303, f"{HOME}?view=faults&space=&opened=")
    assert "429" in page.get(f"{HOME}?view=faults").text
    assert page.post(f"{PAGES}/do/add_faults", data={"rules": "zz"}).status_code == 422


def test_a_copied_curl_command_makes_the_same_call(seedbed: MockServer, page: httpx2.Client) -> None:
    create(page, 'It\'s "quoted" $HOME `ls` \\ 日本')
    text = page.get(f"{PAGES}/details?opened=1").text
    curl, python, har = (
        html.unescape(each) for each in re.findall(r"data-copy>.*?<pre[^>]*>(.*?)</pre>", text, re.DOTALL)
    )
    environment = {"SEEDBED_KEY": local.KEY, "PATH": "/usr/bin:/bin"}
    assert local.KEY not in text.replace("SEEDBED_KEY", "")
    subprocess.run(["bash", "-c", curl], env=environment, check=True, capture_output=True)
    subprocess.run([sys.executable, "-c", python], env=environment, check=True, capture_output=True)
    first, second, third = seedbed.calls
    assert first["request"] == second["request"] == third["request"]
    assert third["code"] == 200
    (entry,) = json.loads(har)["log"]["entries"]
    assert json.loads(entry["request"]["postData"]["text"]) == first["request"]
    assert "authorization" not in [each["name"] for each in entry["request"]["headers"]]
    assert shlex.split(curl)[0] == "curl"


def test_long_lists_have_pages_and_each_row_is_on_one(page: httpx2.Client) -> None:
    for number in range(120):
        page.get(f"/nowhere/{number}")
    seen, link = list[str](), f"{HOME}?view=calls&only=unmatched"
    while link:
        text = page.get(link).text
        seen += re.findall(r'class="text">/nowhere/(\d+)<', text)
        older = re.search(r'id="older" href="([^"]+)"', text)
        link = older[1].replace("&amp;", "&") if older else ""
    assert seen == [str(number) for number in range(119, -1, -1)]


def events(response: httpx2.Response) -> Iterator[str]:
    data: list[str] = []
    for line in response.iter_lines():
        if line:
            data.append(line.removeprefix("data: "))
        else:
            yield "\n".join(data)
            data = []


def test_a_stream_sends_what_changes_and_nothing_else(seedbed: MockServer, page: httpx2.Client) -> None:
    with page.stream("GET", f"{PAGES}/events?view=calls") as response:
        assert response.headers["content-type"] == "text/event-stream"
        stream = events(response)
        assert 'hx-target="#list"' in next(stream)
        page.get("/nowhere/1")
        assert "/nowhere/1" in next(each for each in stream if "#list" in each)
        seedbed.add_faults("429")
        # Only the clock moves on.
        assert "#list" not in next(stream)


def test_a_change_is_sent_in_the_turn_that_notices_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task appears within one turn of the stream and one request, however many calls came before it."""
    # Three turns are 300 ms, of which a change waits for one at most.
    assert live._SECONDS <= 0.1
    monkeypatch.setattr(live, "_SECONDS", 0.001)
    turns, sent = [0], dict[int, int]()
    streams = live.LiveStreams()

    def newest() -> int:
        turns[0] += 1
        if turns[0] == 20:
            streams.close()
        # A call arrives in every third turn.
        return turns[0] // 3

    async def render() -> dict[str, str]:
        return {"list": f"call {turns[0] // 3}."}

    async def send(message: Any) -> None:
        for found in re.findall(rb"call (\d+)\.", message.get("body", b"")):
            sent.setdefault(int(found), turns[0])

    async def receive() -> Any:
        await asyncio.Event().wait()

    asyncio.run(streams.run(render, newest, receive, send, []))
    assert sent == {number: max(3 * number, 1) for number in range(7)}


@pytest.mark.parametrize("query", ["view=calls", "view=calls&only=unmatched", "view=tasks", "view=calls&before=4000"])
def test_a_page_reads_as_much_of_a_long_journal_as_of_a_short_one(query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MOST_ENTRIES", 10_000)
    with running() as server, httpx2.Client(base_url=server.url, headers=HTML, trust_env=False) as client:
        spaces, read = server._service.spaces, [0]
        original = spaces.journal

        def counted(*arguments: Any) -> Iterator[Any]:
            for each in original(*arguments):
                read[0] += 1
                yield each

        monkeypatch.setattr(spaces, "journal", counted)
        counts = []
        for size in (4000, 5000):
            add_entries(server, size)
            read[0] = 0
            assert client.get(f"{HOME}?{query}").status_code == 200
            counts.append(read[0])
    assert counts[0] == counts[1] <= 2010


def add_entries(server: MockServer, number: int) -> None:
    """Add entries to the journal in the event loop of the server, as calls do."""
    entries = server._service.spaces.default.journal

    async def add_all() -> None:
        for _ in range(number):
            entries.add(JournalEntry(number=entries.next_number(), at=0, kind="call", operation="credit", case="done"))

    server._app.run(add_all)


def test_streams_are_limited_and_end_with_their_pages(seedbed: MockServer) -> None:
    with httpx2.Client(base_url=seedbed.url, trust_env=False, limits=httpx2.Limits(max_connections=100)) as client:
        opened = [client.send(client.build_request("GET", f"{PAGES}/events"), stream=True) for _ in range(MOST_STREAMS)]
        assert client.get(f"{PAGES}/events").status_code == 503
        for each in opened:
            each.close()
        end = time.monotonic() + 10
        while True:
            with client.stream("GET", f"{PAGES}/events") as again:
                if again.status_code == 200 or time.monotonic() > end:
                    break
        assert again.status_code == 200


def test_a_server_with_open_streams_stops_at_once() -> None:
    with running() as server:
        client = httpx2.Client(base_url=server.url, trust_env=False)
        opened = [client.send(client.build_request("GET", f"{PAGES}/events"), stream=True) for _ in range(3)]
        server.play()
        assert all(b"".join(each.iter_raw()).endswith(b"\n\n") for each in opened)
        last = client.send(client.build_request("GET", f"{PAGES}/events"), stream=True)
        server.stop()
        # A stream that the server had to cut off would end with an error.
        assert b"".join(last.iter_raw()).endswith(b"\n\n")
        client.close()


def test_a_server_without_a_page_imports_nothing_of_the_dashboard() -> None:
    code = f"""
import sys, httpx2, seedbed_mock
with seedbed_mock.running() as server:
    httpx2.get(server.url + "{job_api().credit.path}", trust_env=False)
    modules = [name for name in sys.modules if name.startswith(("jinja2", "seedbed_mock.dashboard."))]
    assert not modules, modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_pages_about_the_apis_describe_this_server(page: httpx2.Client) -> None:
    text = page.get("/__seedbed/docs").text
    assert CONTRACT.model in text
    for title in (CONTRACT.model, "Control API"):
        shown = html.unescape(page.get("/__seedbed/docs", params={"api": title}).text)
        url = re.search(r'data-url="([^"]+)"', shown)
        assert url
        document = page.get(url[1]).json()
        assert document["openapi"].startswith("3.1")
        assert document["servers"] == [{"url": "/"}]
        assert document["paths"]
    assert page.get(f"{PAGES}/openapi/nothing").status_code == 404


@pytest.mark.slow
def test_serve_opens_the_dashboard_in_a_browser(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "opened")
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    command = [sys.executable, "-m", "seedbed_mock", "--port", "0", "--open"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "BROWSER": str(browser)}
    ) as server:
        assert server.stdout
        url = server.stdout.readline().split()[-1]
        assert (tmp_path / "opened").read_text() == f"{url}{HOME}\n"
        server.terminate()


def test_a_proxy_shows_the_calls_that_it_passes_on(seedbed: MockServer) -> None:
    with (
        start_proxy(ProxyOptions(upstream=seedbed.url, port=0)) as proxy,
        httpx2.Client(base_url=proxy.url, headers=HTML, trust_env=False) as page,
    ):
        task_id = create(page)
        text = page.get(HOME).text
        assert "<title>Calls – Seedbed proxy</title>" in text
        assert task_id in text.partition('id="list"')[2]
        # A request that is tried out would be passed on to the paid service.
        assert CONTRACT.model not in page.get("/__seedbed/docs").text
        act(page, "add_faults", rules="429; times=1")
        answer = page.post(CREATE, json=GOOD, headers={"Authorization": f"Bearer {local.KEY}"})
        assert answer.json()["code"] == 429
    assert len(seedbed.calls) == 1


def test_problems_at_a_proxy_and_a_replay_are_what_was_refused(seedbed: MockServer, tmp_path: Path) -> None:
    headers = {"Authorization": f"Bearer {local.KEY}"}

    def problems(url: str, *bodies: dict[str, Any]) -> list[dict[str, Any]]:
        with httpx2.Client(base_url=url, headers=headers, trust_env=False) as client:
            for body in bodies:
                client.post(CREATE, json=body)
            client.get(job_api().credit.path)
            text = client.get(f"{HOME}?view=calls&only=problem", headers=HTML).text
            shown = [int(number) for number in re.findall(r'id="row-(\d+)"', text)]
            found = [client.get(f"/__seedbed/journal?before={number + 1}&limit=1").json() for number in shown]
        return [page["entries"][0] for page in found]

    wrong = {**GOOD, "input": {**GOOD["input"], "quality": "best"}}
    price = default_profile().credits
    with start_proxy(ProxyOptions(upstream=seedbed.url, port=0, record=tmp_path, max_credits=price)) as proxy:
        limited, refused = problems(proxy.url, wrong, GOOD, GOOD)
        assert (refused["code"], limited["code"]) == (422, 402)
        assert "must be one of basic, high, not best" in refused["reason"]
        assert "of --max-credits" in limited["reason"]
    with running(replay=tmp_path, replay_strict=True) as replay:
        again, refused = problems(replay.url, wrong, GOOD, GOOD)
        assert (refused["code"], again["code"]) == (422, 404)
        assert "must be one of basic, high, not best" in refused["reason"]
        assert "no response to this request" in again["hint"]
