"""Limits that only a sentence states, in both languages: the right keyword for the type of the field."""

from typing import Any

import pytest
from seedbed_schemas.derive.vocabulary import inline_labels, limits_in_prose

STRING, NUMBER, ARRAY = "string", "number", "array"


@pytest.mark.parametrize(
    ("sentence", "json_type", "limits"),
    [
        ("不超过 5000 个字符", STRING, {"maxLength": 5000}),
        ("不超过 5000 个字符", ARRAY, {}),
        ("不能超过5,000个英文字符。", STRING, {"maxLength": 5000}),
        ("最少2个字符", STRING, {"minLength": 2}),
        ("最少 2 个字符，最多 5000 个字符", STRING, {"minLength": 2, "maxLength": 5000}),
        ("长度为 3 到 5000 个字符", STRING, {"minLength": 3, "maxLength": 5000}),
        ("3-5000 字", STRING, {"minLength": 3, "maxLength": 5000}),
        ("500 字以内", STRING, {"maxLength": 500}),
        ("最大长度：3000 字符", STRING, {"maxLength": 3000}),
        ("between 3 and 5000 characters", STRING, {"minLength": 3, "maxLength": 5000}),
        ("3 to 5,000 characters", STRING, {"minLength": 3, "maxLength": 5000}),
        ("a minimum of 2 characters and a maximum of 5,000 characters", STRING, {"minLength": 2, "maxLength": 5000}),
        ("must not exceed 1000 chars", STRING, {"maxLength": 1000}),
        ("up to 20,000 characters", STRING, {"maxLength": 20000}),
        ("5000-character limit", STRING, {"maxLength": 5000}),
        ("800 characters or fewer", STRING, {"maxLength": 800}),
        ("at least 10 characters", STRING, {"minLength": 10}),
        ("Max length: 200", STRING, {"maxLength": 200}),
        ("Minimum: 6, Maximum: 30", STRING, {"minimum": 6, "maximum": 30}),
        ("Minimum: 6, Maximum: 30", NUMBER, {"minimum": 6, "maximum": 30}),
        ("Min: 0.1, max: 1.5", NUMBER, {"minimum": 0.1, "maximum": 1.5}),
        ("最小值：0，最大值：1", NUMBER, {"minimum": 0, "maximum": 1}),
        ("取值范围 1–6", NUMBER, {"minimum": 1, "maximum": 6}),
        ("有效范围为 10000 至 1000000", NUMBER, {"minimum": 10000, "maximum": 1000000}),
        ("in seconds (-1 to 15, step: 1)", NUMBER, {"minimum": -1, "maximum": 15}),
        ("between 0 and 1", NUMBER, {"minimum": 0, "maximum": 1}),
        ("1 到 6 之间", NUMBER, {"minimum": 1, "maximum": 6}),
        ("最多 3 张", ARRAY, {"maxItems": 3}),
        ("最多支持 14 张参考图", ARRAY, {"maxItems": 14}),
        ("至少 1 张，最多 9 张", ARRAY, {"minItems": 1, "maxItems": 9}),
        ("1 到 9 张", ARRAY, {"minItems": 1, "maxItems": 9}),
        ("限制为正好1张图片", ARRAY, {"minItems": 1, "maxItems": 1}),
        ("up to 5 images", ARRAY, {"maxItems": 5}),
        ("max 3 videos, max 30MB each", ARRAY, {"maxItems": 3}),
        ("1-3 reference images", ARRAY, {"minItems": 1, "maxItems": 3}),
        ("exactly 2 items", ARRAY, {"minItems": 2, "maxItems": 2}),
        # What looks like a limit, and is about something else.
        ("最大文件大小：10MB", ARRAY, {}),
        ("最大文件大小：10.0MB。", STRING, {}),
        ("最多 10 秒的视频", STRING, {}),
        ("Max 30MB. At least 300px.", STRING, {}),
        ("最多保存 3 个月", ARRAY, {}),
        ("up to 5 images", STRING, {}),
        ("at most 30 characters", NUMBER, {}),
        ("a 4096 x 3072 picture", NUMBER, {}),
    ],
)  # fmt: skip
def test_a_sentence_states_limits(sentence: str, json_type: str, limits: dict[str, Any]) -> None:
    assert dict(limits_in_prose(sentence, json_type)) == limits


@pytest.mark.parametrize(
    ("sentence", "statements"),
    [
        ("形状。可用选项: `a`, `b`。更多", [("options", "`a`, `b`")]),
        ("文字（最大长度：5000 字符）。", [("maxLength", "5000 字符")]),
        ("强度（最小值：0，最大值：1，步长：0.1）", [("minimum", "0"), ("maximum", "1"), ("multipleOf", "0.1")]),
        ("How many. Range: 0 to 1, step: 0.1", [("range", "0 to 1"), ("multipleOf", "0.1")]),
        ("The default is 5. A range of sheep.", []),
    ],
)
def test_a_sentence_contains_labelled_values(sentence: str, statements: list[tuple[str, str]]) -> None:
    assert [(concept, value) for concept, _, value in inline_labels(sentence)] == statements
