"""Dialects: each is data of one form, knows every case, and tells how it is known."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET
from seedbed_schemas import Schema, default_contract, dialect, job_api
from seedbed_schemas.dialect import Dialect, dialects, documented, observed

FOLDER = Path(dialect.__file__).parent / "dialects"
FORM = Schema(json.loads((FOLDER / "dialect.schema.json").read_text(encoding="utf-8")), name="dialect")
CODES = {code.name: code for code in default_contract().codes}
DIALECTS = list(dialects().values())

each_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.title)


def placeholders(message: str) -> set[str]:
    return set(re.findall(r"{(\w+)}", message))


@pytest.mark.parametrize("title", ["documented", "observed"])
def test_a_dialect_keeps_the_form_of_dialects(title: str) -> None:
    document = json.loads((FOLDER / f"{title}.json").read_text(encoding="utf-8"))
    assert FORM.violations(document) == []
    assert document["title"] == title


def test_every_case_is_known_to_both_with_its_source() -> None:
    assert set(documented().cases) == set(observed().cases)
    assert all(case.source.endswith((".", ")")) for each in DIALECTS for case in each.cases.values())


@each_dialect
def test_every_documented_code_is_reached_by_a_case(dialect: Dialect) -> None:
    for name in CODES:
        case = dialect.cases[dialect.case_of_code(name)]
        assert name in {case.code, case.instead_of}


@each_dialect
def test_every_code_that_a_case_names_is_in_the_contract(dialect: Dialect) -> None:
    assert all(isinstance(case.number(CODES), int) for case in dialect.cases.values())
    assert all(case.instead_of in {"", *CODES} for case in dialect.cases.values())


def test_the_documented_dialect_answers_with_documented_codes_alone() -> None:
    assert {case.code for case in documented().cases.values()} == set(CODES)


def test_the_observed_words_mention_nothing_that_a_case_does_not_know() -> None:
    for name, case in observed().cases.items():
        known = placeholders(documented().cases[name].message)
        assert placeholders(case.message) <= known | ({"field"} if "problem" in known else set())


@each_dialect
@pytest.mark.parametrize("keyword", ["required", "enum", "maxLength", "type", "format"])
def test_every_broken_rule_is_a_case(dialect: Dialect, keyword: str) -> None:
    assert dialect.case_of_violation(keyword) in dialect.cases


def test_the_service_is_observed_to_answer_otherwise_than_documented() -> None:
    cases = observed().cases
    assert cases["under_maintenance"].number(CODES) == 500
    assert observed().case_of_code("service_unavailable") == "under_maintenance"
    assert observed().case_of_code("server_error") == "internal_error"
    assert cases[observed().case_of_violation("required")].number(CODES) == 500
    assert not cases["key_refused"].data
    assert observed().created == (*documented().created, "recordId")


@each_dialect
def test_every_field_of_a_rule_is_one_of_the_record(dialect: Dialect) -> None:
    document = json.loads((FOLDER / f"{dialect.title}.json").read_text(encoding="utf-8"))
    record = job_api().document["$defs"]["record"]["properties"]
    assert set(document["record"]) <= {*record, "creditsConsumed"}


@pytest.mark.parametrize(
    ("field", "value", "state", "as_documented", "as_observed"),
    [
        ("costTime", 15_900, "success", 15_900, 15),
        ("costTime", None, "waiting", UNSET, None),
        ("resultJson", "{}", "success", "{}", "{}"),
        ("resultJson", None, "waiting", UNSET, ""),
        ("failCode", "422", "fail", "422", "422"),
        ("failCode", None, "success", "", None),
        ("completeTime", 9, "generating", UNSET, None),
        ("updateTime", 9, "success", 9, UNSET),
        ("creditsConsumed", 6.5, "success", UNSET, 6.5),
        ("taskId", "a", "waiting", "a", "a"),
    ],
)
def test_a_field_of_the_record_is_written_as_the_dialect_writes_it(
    field: str, value: Any, state: str, as_documented: Any, as_observed: Any
) -> None:
    assert documented().written(field, value, state) == as_documented
    assert observed().written(field, value, state) == as_observed


def test_a_callback_tells_when_the_record_changed() -> None:
    assert observed().written("updateTime", 9, "success", channel="callback") == 9


def test_a_task_is_named_by_the_form_of_its_dialect() -> None:
    details = {"family": "seedream", "milliseconds": 1765166238716, "hex": "0" * 32}
    assert documented().task_id.format(**details) == "task_seedream_1765166238716"
    assert observed().task_id.format(**details) == "0" * 32
    assert (documented().input_is_text, observed().input_is_text) == (False, True)
