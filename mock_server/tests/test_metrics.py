"""The metrics of a server, as a scraper reads them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics
from seedbed_mock import MockServer, running
from seedbed_mock.journal import DURATIONS, JournalEntry, Tally
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.openapi import example_of

CREATE = default_contract().operation.path
GOOD: dict[str, Any] = example_of(default_contract().part("request"))
ADMISSION = "a-token"
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(server: MockServer, http: httpx2.Client, **headers: str) -> Samples:
    response = http.get(f"{server.url}/__seedbed/metrics", headers=headers)
    assert response.status_code == 200
    is_open = response.headers["content-type"].startswith("application/openmetrics-text")
    assert is_open is ("Accept" in headers)
    families = (openmetrics if is_open else parser).text_string_to_metric_families(response.text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value for each in families for sample in each.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


@pytest.mark.parametrize("headers", [{}, OPENMETRICS], ids=["Prometheus", "OpenMetrics"])
def test_a_scrape_shows_calls_tasks_and_the_store(headers: dict[str, str], http: httpx2.Client, tmp_path: Path) -> None:
    with running(progress="hand", db=tmp_path / "tasks.db") as server:
        auth = {"Authorization": f"Bearer {server.key}"}
        for _ in range(3):
            http.post(server.url + CREATE, json=GOOD, headers=auth)
        http.post(server.url + CREATE, json={}, headers=auth)
        http.post(server.url + CREATE, json=GOOD, headers=auth | {"X-Seedbed-Fault": "429"})
        http.get(server.url + "/nothing")
        tasks = server.control("GET", "tasks")["tasks"]
        server.finish(tasks[0]["task_id"])
        server.fail(tasks[1]["task_id"])
        found = scrape(server, http, **headers)
    assert found[key("seedbed_requests_total", operation="createTask", code="200", fault="false")] == 3
    assert found[key("seedbed_requests_total", operation="createTask", code="422", fault="false")] == 1
    assert found[key("seedbed_requests_total", operation="createTask", code="429", fault="true")] == 1
    assert found[key("seedbed_requests_total", operation="unmatched", code="404", fault="false")] == 1
    assert found[key("seedbed_request_duration_seconds_count", operation="createTask")] == 5
    assert found[key("seedbed_request_duration_seconds_bucket", operation="createTask", le="+Inf")] == 5
    assert found[key("seedbed_request_duration_seconds_sum", operation="createTask")] > 0
    states = job_api().states
    assert found[key("seedbed_tasks", state=states.success)] == found[key("seedbed_tasks", state=states.failure)] == 1
    assert found[key("seedbed_queue_depth")] == 1
    assert found[key("seedbed_store_tasks")] == 3
    assert found[key("seedbed_store_size_bytes")] > 1000
    assert found[key("seedbed_bill_images")] == 2
    assert found[key("seedbed_journal_entries")] == 6


def test_the_metrics_have_the_guards_of_the_control_api(http: httpx2.Client) -> None:
    with running(control_token=ADMISSION) as server:
        url = f"{server.url}/__seedbed/metrics"
        assert http.get(url).status_code == 401
        assert http.get(url, headers={"Authorization": f"Bearer {ADMISSION}"}).status_code == 200
    with running() as server:
        url = f"{server.url}/__seedbed/metrics"
        assert http.get(url, headers={"Host": "evil.test"}).status_code == 421
        assert http.get(url, headers={"Origin": "http://evil.test"}).status_code == 403


def test_counting_an_entry_takes_the_same_steps_however_many_there_are() -> None:
    tally = Tally()

    def entry(number: int, code: int, duration: float) -> JournalEntry:
        return JournalEntry(number=number, at=0, kind="call", operation="createTask", code=code, duration=duration)

    for number in range(5000):
        tally.count(entry(number, number, 0.1))
    # Codes are made up by faults; the rest are counted together.
    assert len(tally.items()) <= 501
    assert sum(sum(counts[:-1]) for _, counts in tally.items()) == 5000
    for duration in (0, *DURATIONS, 10**9):
        tally.count(entry(0, 1, duration))
    counts = dict(tally.items())["createTask", 1, False]
    assert len(counts) == len(DURATIONS) + 2
    assert sum(counts[:-1]) == len(DURATIONS) + 3


def test_a_server_starts_without_the_library_for_metrics() -> None:
    program = "import sys; from seedbed_mock import create_app; create_app(); print('prometheus_client' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
