"""The examples in the documentation of the strategies and cases run as they are printed."""

import inspect
import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import seedbed_contract
from hypothesis import settings
from seedbed_contract import cases, strategies
from seedbed_schemas import default_contract

CONTRACT = default_contract()
DOCUMENTED = (
    *(seedbed_contract, strategies, cases),
    *(strategies.requests, strategies.violations, strategies.raw_bodies, strategies.keys, strategies.breakable_clauses),
)
KEY = "sk-test-0123456789"
"""The key that the example of ``keys`` uses."""


@dataclass
class Answer:
    """What the service of the examples returns."""

    code: int


def my_service(request: Any = ..., headers: Sequence[tuple[str, str]] | None = None) -> Answer:
    """Play a service: check the key if there is no request, else validate the request."""
    if request is ...:  # None is a request too: the JSON value null
        return Answer(200 if ("Authorization", f"Bearer {KEY}") in (headers or ()) else 401)
    try:
        value = json.loads(request) if isinstance(request, bytes) else request
    except (ValueError, RecursionError):
        return Answer(422)
    return Answer(200 if CONTRACT.request.accepts(value) else 422)


def examples(documented: ModuleType | Callable[..., Any]) -> Iterator[str]:
    """Yield the code blocks of a docstring."""
    lines = (inspect.getdoc(documented) or "").splitlines()
    starts = [number for number, line in enumerate(lines) if line.endswith("::")]
    for start in starts:
        block = []
        for line in lines[start + 1 :]:
            if line and not line.startswith("    "):
                break
            block.append(line)
        yield textwrap.dedent("\n".join(block))


@pytest.mark.parametrize("documented", DOCUMENTED, ids=lambda documented: documented.__name__)
def test_an_example_runs(documented: ModuleType | Callable[..., Any]) -> None:
    blocks = list(examples(documented))
    assert blocks
    for block in blocks:
        names: dict[str, Any] = {"my_service": my_service, "json": json, "pytest": pytest, **vars(strategies)}
        exec("from hypothesis import given\n" + block, names)  # noqa: S102  the examples are our own
        tests = {name: test for name, test in names.items() if name.startswith("test_")}
        assert tests
        for test in tests.values():
            run(test)


def run(test: Callable[..., Any]) -> None:
    """Run a test of an example: a few times with random values, or once with each parameter."""
    if hasattr(test, "hypothesis"):
        settings(max_examples=20)(test)()
        return
    marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
    for name, values in (mark.args for mark in marks):
        for value in values:
            test(**{name: value})
