"""Dialects: all have the same schema and the same cases, and every case names its source."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET
from seedbed_schemas import Schema, default_contract, dialect, job_api
from seedbed_schemas.dialect import Dialect, dialects, documented

FOLDER = Path(dialect.__file__).parent / "dialects"
DIALECT_SCHEMA = Schema(json.loads((FOLDER / "dialect.schema.json").read_text(encoding="utf-8")), name="dialect")
CODES = {code.name: code for code in default_contract().codes}
DIALECTS = list(dialects().values())
DOCUMENTED, OBSERVED = documented(), dialects()["observed"]

each_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.title)


def placeholders(message: str) -> set[str]:
    return set(re.findall(r"{(\w+)}", message))


@pytest.mark.parametrize("title", ["documented", "observed"])
def test_a_dialect_file_matches_its_schema(title: str) -> None:
    document = json.loads((FOLDER / f"{title}.json").read_text(encoding="utf-8"))
    assert DIALECT_SCHEMA.violations(document) == []
    assert document["title"] == title


def test_both_dialects_have_the_same_cases_with_a_source() -> None:
    assert set(DOCUMENTED.cases) == set(OBSERVED.cases)
    assert all(case.source.endswith((".", ")")) for each in DIALECTS for case in each.cases.values())


@each_dialect
def test_every_documented_code_has_a_case(dialect: Dialect) -> None:
    for name in CODES:
        case = dialect.cases[dialect.case_of_code(name)]
        assert name in {case.code, case.instead_of}


@each_dialect
def test_every_code_of_a_case_is_in_the_contract(dialect: Dialect) -> None:
    assert all(isinstance(case.number(CODES), int) for case in dialect.cases.values())
    assert all(case.instead_of in {"", *CODES} for case in dialect.cases.values())


def test_the_documented_dialect_sends_only_documented_codes() -> None:
    numbers = {name: case.code for name, case in DOCUMENTED.cases.items() if case.code not in CODES}
    assert {case.code for case in DOCUMENTED.cases.values()} - set(numbers.values()) == set(CODES)
    assert numbers == {"task_id_missing": 400}  # documented with recordInfo, not on the model's page


def test_observed_messages_use_only_placeholders_that_their_case_provides() -> None:
    for name, case in OBSERVED.cases.items():
        provided = placeholders(DOCUMENTED.cases[name].message)
        assert placeholders(case.message) <= provided | ({"field", "name"} if "problem" in provided else set())


@each_dialect
@pytest.mark.parametrize("keyword", ["required", "enum", "maxLength", "type", "format"])
def test_every_violation_has_a_case(dialect: Dialect, keyword: str) -> None:
    assert dialect.case_of_violation(keyword) in dialect.cases


def test_the_observed_codes_differ_from_the_documented_ones() -> None:
    cases = OBSERVED.cases
    assert cases["under_maintenance"].number(CODES) == 500
    assert OBSERVED.case_of_code("service_unavailable") == "under_maintenance"
    assert OBSERVED.case_of_code("server_error") == "internal_error"
    assert cases[OBSERVED.case_of_violation("required")].number(CODES) == 500
    assert not cases["key_refused"].data
    assert OBSERVED.created == (*DOCUMENTED.created, "recordId")


@each_dialect
def test_every_record_rule_names_a_field_of_the_record(dialect: Dialect) -> None:
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
def test_a_record_field_depends_on_the_dialect_and_the_state(
    field: str, value: Any, state: str, as_documented: Any, as_observed: Any
) -> None:
    assert DOCUMENTED.record_field(field, value, state) == as_documented
    assert OBSERVED.record_field(field, value, state) == as_observed


def test_an_observed_callback_has_an_update_time() -> None:
    assert OBSERVED.record_field("updateTime", 9, "success", channel="callback") == 9


def test_each_dialect_has_its_format_of_task_ids() -> None:
    details = {"family": "seedream", "milliseconds": 1765166238716, "hex": "0" * 32}
    assert DOCUMENTED.task_id.format(**details) == "task_seedream_1765166238716"
    assert OBSERVED.task_id.format(**details) == "0" * 32
    assert (DOCUMENTED.input_is_text, OBSERVED.input_is_text) == (False, True)
