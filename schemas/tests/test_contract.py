"""The loaded contract and the data beside it: codes, shared messages, dialects and profiles."""

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seedbed_schemas import Schema, default_contract, job_api
from seedbed_schemas.dialect import documented
from seedbed_schemas.messages import Envelope, Record, Results
from seedbed_schemas.openapi import example_of
from seedbed_schemas.profile import default_profile
from seedbed_schemas.validation import FORMATS, for_display

CONTRACT, SHARED, DIALECT, PROFILE = default_contract(), job_api(), documented(), default_profile()


def test_the_ten_codes_are_loaded_in_page_order() -> None:
    assert [code.number for code in CONTRACT.codes] == [200, 401, 402, 404, 422, 429, 455, 500, 501, 505]
    assert CONTRACT.code_named("rate_limited").number == 429


def test_every_documented_code_has_a_case_in_the_documented_dialect() -> None:
    names = {code.name for code in CONTRACT.codes}
    # The page of the model has no code for a query without the ID of a task; that of recordInfo has 400.
    without_number = {case.code for name, case in DIALECT.cases.items() if name != "task_id_missing"}
    assert without_number == names
    for name in names:
        assert DIALECT.cases[DIALECT.case_of_code(name)].code == name


def test_a_code_without_a_case_is_its_own_case() -> None:
    assert DIALECT.case_of_code("code_433") == "code_433"


@pytest.mark.parametrize(
    ("struct", "shape"), [(Envelope, "envelope"), (Record, "record"), (Results, "results")], ids=["e", "rec", "res"]
)
def test_message_types_have_the_fields_of_the_job_api(struct: type[msgspec.Struct], shape: str) -> None:
    assert set(struct.__struct_encode_fields__) == set(SHARED.document["$defs"][shape]["properties"])


def test_the_states_of_a_record_match_the_life_cycle() -> None:
    states = SHARED.states
    enum = SHARED.document["$defs"]["record"]["properties"]["state"]["enum"]
    assert enum == [*states.pending, states.success, states.failure]


def test_the_shared_request_fields_are_in_the_request_of_the_model() -> None:
    fields = SHARED.fields
    assert {fields.model, fields.input, fields.callback} == set(CONTRACT.part("request")["properties"])


def test_the_profile_has_a_size_for_every_option_and_no_other() -> None:
    properties = CONTRACT.part("request")["properties"]["input"]["properties"]
    outer, inner = (properties[name]["enum"] for name in PROFILE.size_fields)
    assert PROFILE.model == CONTRACT.model
    assert PROFILE.caption in properties
    assert set(PROFILE.pixels) == set(outer)
    assert all(set(sizes) == set(inner) for sizes in PROFILE.pixels.values())


def test_every_size_has_the_requested_aspect_ratio() -> None:
    for sizes in PROFILE.pixels.values():
        for ratio, (width, height) in sizes.items():
            across, down = map(int, ratio.split(":"))
            assert width / height == pytest.approx(across / down, rel=0.02)


def test_the_example_is_valid() -> None:
    assert CONTRACT.request.violations(example_of(CONTRACT.part("request"))) == []


SCHEMA = Schema(
    {
        "type": "object",
        "required": ["a"],
        "properties": {
            "a": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "integer", "minimum": 0}},
            "b": {"type": "string", "minLength": 2, "maxLength": 3},
            "c": {"type": ["string", "null"], "format": "uri"},
            "d": {"type": "number", "maximum": 1.5},
            "e": {"type": "boolean", "const": True},
            "f": {"enum": [1, "1", None]},
            "g": {"type": "integer", "multipleOf": 3},
            "h": {"type": "object", "required": ["x", "y"]},
        },
    },
    name="thing",
)


@pytest.mark.parametrize(
    ("instance", "clause", "message"),
    [
        (3, "thing/type", "the thing must be of type object, not integer"),
        ({}, "thing/required/a", "a is required"),
        ({"a": []}, "a/minItems", "a must have at least 1 items, not 0"),
        ({"a": [1, 2, 3]}, "a/maxItems", "a must have at most 2 items, not 3"),
        ({"a": [1, -1]}, "a[]/minimum", "a.1 must be at least 0, not -1"),
        ({"a": [1], "b": "x"}, "b/minLength", "b must have at least 2 characters, not 1"),
        ({"a": [1], "b": "😀😀😀😀"}, "b/maxLength", "b must have at most 3 characters, not 4"),
        ({"a": [1], "c": "x"}, "c/format", "c must be a valid URI, not 'x'"),
        ({"a": [1], "c": 1.5}, "c/type", "c must be of type string or null, not number"),
        ({"a": [1], "d": 2}, "d/maximum", "d must be at most 1.5, not 2"),
        ({"a": [1], "e": False}, "e/const", "e must be true, not false"),
        ({"a": [1], "f": 2}, "f/enum", "f must be one of 1, 1, null, not 2"),
        ({"a": [1], "g": 4}, "g/multipleOf", "g breaks the rule multipleOf: 3"),
        ({"a": [1], "h": {"y": 1}}, "h/required/x", "h.x is required"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_violation_names_the_clause_the_field_and_the_rule(instance: Any, clause: str, message: str) -> None:
    (violation,) = SCHEMA.violations(instance)
    assert (violation.clause, violation.message) == (clause, message)
    assert not SCHEMA.accepts(instance)


def test_each_missing_field_is_reported_once() -> None:
    violations = SCHEMA.violations({"a": [1], "h": {}})
    assert [violation.clause for violation in violations] == ["h/required/x", "h/required/y"]


@given(value=st.text() | st.integers() | st.lists(st.text()))
def test_a_value_is_displayed_truncated_and_on_one_line(value: object) -> None:
    text = for_display(value)
    assert text.isprintable() or text == ""
    assert len(text) <= 60 * len("\\U0001f600") + 3


@pytest.mark.parametrize("name", [*FORMATS, "binary", "int32"])
@given(text=st.text(st.characters(exclude_categories=["Cs"])) | st.from_regex(r"[a-z0-9]+[:@.-][^ ]*"))
def test_both_validators_agree_on_every_format(name: str, text: str) -> None:
    schema = Schema({"type": "string", "format": name}, name="value")
    assert schema.accepts(text) is not bool(schema.violations(text))


def test_every_validated_format_rejects_something() -> None:
    for name in FORMATS:
        assert not Schema({"format": name}, name="value").accepts("\x00 [ {")


@given(
    instance=st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text("ab:/😀"),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcdefghxy"), inner, max_size=4),
    )
)
def test_both_validators_agree_on_every_instance(instance: object) -> None:
    assert SCHEMA.accepts(instance) is not bool(SCHEMA.violations(instance))


def test_there_is_an_example_for_every_type() -> None:
    schema = {
        "type": "object",
        "required": ["s", "i", "n", "b", "a", "e", "x"],
        "properties": {
            "s": {"type": "string"},
            "i": {"type": "integer"},
            "n": {"type": "number"},
            "b": {"type": "boolean"},
            "a": {"type": "array"},
            "e": {"type": "string", "enum": ["one", "two"]},
            "x": {"type": "string", "examples": ["given"]},
            "left out": {"type": "string"},
        },
    }
    example = example_of(schema)
    assert Schema(schema, name="example").violations(example) == []
    assert (example["e"], example["x"]) == ("one", "given")
    assert "left out" not in example


def test_documented_messages_use_only_placeholders_that_their_case_provides() -> None:
    provided = {
        "key_refused": {"header", "scheme"},
        "credits_insufficient": {"price", "balance"},
        "path_unknown": {"method", "path", "known"},
        "task_unknown": {"task_id"},
        "model_unknown": {"field", "model", "nearest"},
        "schema_unknown": {"model", "nearest"},
        "body_malformed": {"problem"},
        "request_invalid": {"problem"},
        "field_missing": {"problem"},
        "option_unknown": {"problem"},
        "text_too_long": {"problem"},
        "task_id_missing": {"parameter"},
        "fault_malformed": {"source", "problem"},
        "rate_exceeded": {"requests", "seconds"},
        "space_malformed": {"header", "problem"},
    }
    for name, case in DIALECT.cases.items():
        assert set(re.findall(r"{(\w+)}", case.message)) == provided.get(name, set())
