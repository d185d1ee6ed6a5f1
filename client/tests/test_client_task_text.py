"""Tasks as text: ``to_dict()``, ``to_json()`` and ``repr()``."""

import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seedbed_client import Task, TaskState
from seedbed_client.models import task_of


def test_a_task_is_written_as_json() -> None:
    record = {
        "taskId": "t1",
        "model": "m",
        "state": "success",
        "param": '{"input": {"prompt": "\\ud800", "scale": 1e999}}',
        "resultJson": '{"resultUrls": ["https://cdn.example/a.jpg"]}',
        "createTime": 1_765_166_238_000,
        "completeTime": 1_765_166_258_500,
        "costTime": 20_500,
        "creditsConsumed": 6.5,
        "note": float("nan"),
    }
    task = task_of(record)
    values = json.loads(task.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert values == task.to_dict()
    assert list(values) == list(Task.__struct_fields__)
    assert values["input"] == {"prompt": "\ud800", "scale": None}
    assert (values["state"], values["result_urls"]) == ("success", ["https://cdn.example/a.jpg"])
    assert (values["create_time"], values["update_time"]) == ("2025-12-08T03:57:18+00:00", None)
    assert (values["cost_time"], values["credits_consumed"]) == (20.5, 6.5)
    assert values["record"] == {**record, "note": None}
    assert "\n" not in task.to_json()


JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text() | st.integers(), st.lists, max_leaves=5)


@settings(max_examples=50)
@given(values=st.dictionaries(st.text(), JSON, max_size=4))
def test_any_record_is_written_as_json(values: dict[str, Any]) -> None:
    task = Task("t1", input=MappingProxyType(values), record=values)
    assert json.loads(task.to_json()) == task.to_dict()


def test_the_repr_of_a_task_shows_its_result() -> None:
    url = "https://cdn.example/a.jpg"
    assert repr(Task("t1")) == "Task('t1', unknown)"
    succeeded = Task("t1", state=TaskState.SUCCESS, result_urls=(url,))
    assert repr(succeeded) == f"Task('t1', success, result_urls=({url!r},))"
    failed = Task("t1", state=TaskState.FAIL, fail_code="422", fail_msg="no")
    assert repr(failed) == "Task('t1', fail, fail_code='422', fail_msg='no')"
