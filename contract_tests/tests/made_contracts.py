"""Contracts of every shape that a page of the job API may have: Hypothesis strategies for them, and a table."""

from collections.abc import Collection
from typing import Any

from hypothesis import strategies as st
from seedbed_schemas import Contract, default_contract

Schema = dict[str, Any]

MODELS = ("meadow/1-sketch", "meadow/2-text-to-video", "orchard-3", "pond/4-image-edit")
FIELD_NAMES = (
    "prompt",
    "text",
    "caption",
    "image_urls",
    "seed",
    "n.frames",
    "the size",
    "größe",
    "mode-2",
    "$ref_id",
    "input",
)
TEXT_DEFAULT = "a quiet hill"
URL = "https://example.com/a.png"


def contract_of(
    request: Schema, answer: Schema | None = None, *, model: str = MODELS[0], codes: Collection[int] = ()
) -> Contract:
    """Return a contract with the operation and the codes of the shipped one, without the given codes."""
    document = default_contract().document
    fields = {"model": {"type": "string", "const": model}, **request.get("properties", {})}
    return Contract(
        {
            **document,
            "title": model,
            "x-codes": [row for row in document["x-codes"] if row["code"] not in codes],
            "$defs": {
                "request": {"type": "object", "required": ["model"], **request, "properties": fields},
                "answer": answer or {"type": "object"},
            },
        }
    )


def texts() -> st.SearchStrategy[Schema]:
    """Return a strategy for schemas of free texts, with limits down to zero."""
    limits = st.tuples(st.integers(0, 4), st.integers(4, 5000))
    return st.one_of(
        st.just({}),
        limits.map(lambda limit: {"minLength": limit[0], "maxLength": limit[1]}),
        st.just({"minLength": 0}),
        st.just({"maxLength": 0}),
        st.just({"maxLength": 20_000, "default": TEXT_DEFAULT}),
        st.just({"format": "uri"}),
        st.just({"format": "uri", "pattern": r"\.(jpg|png)$", "maxLength": 200}),
        st.just({"pattern": r"^[A-Z]{2}-\d{4,6}$"}),
        st.just({"examples": ["one", "two"]}),
        st.just({"default": None}),
    ).map(lambda more: {"type": "string", **more})


def options() -> st.SearchStrategy[Schema]:
    """Return a strategy for schemas with listed values: texts, texts that look like numbers, numbers, constants."""
    return st.one_of(
        st.just({"type": "string", "enum": ["1", "2", "4"], "default": "1"}),
        st.just({"type": "string", "enum": ["6", "10"]}),
        st.just({"type": "string", "enum": ["16:9", "9:16", "auto"]}),
        st.just({"type": "string", "enum": ["only"]}),
        st.just({"type": "integer", "enum": [0, 1, 2], "default": 0}),
        st.just({"enum": ["low", 1, True, None]}),
        st.just({"const": "fixed"}),
        st.just({"type": "string", "const": "fixed"}),
        st.just({"const": 0}),
        st.just({"type": "boolean", "default": False}),
        st.just({"type": "boolean", "const": True}),
    )


def numbers() -> st.SearchStrategy[Schema]:
    """Return a strategy for schemas of numbers whose bounds may be zero, negative, exclusive or missing."""
    return st.one_of(
        st.tuples(st.integers(-3, 0), st.integers(0, 9)).map(
            lambda bounds: {"type": "integer", "minimum": bounds[0], "maximum": bounds[1]}
        ),
        st.sampled_from(
            (
                {"type": "integer", "minimum": 0},
                {"type": "integer", "maximum": 0},
                {"type": "integer", "minimum": 0, "maximum": 0},
                {"type": "number", "minimum": 0, "maximum": 0},
                {"type": "number", "minimum": 0.0, "maximum": 1.0, "default": 0.5},
                {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                {"type": "number", "exclusiveMinimum": 0, "minimum": 0, "maximum": 20, "multipleOf": 0.1},
                {"type": "number", "maximum": -2},
                {"type": "integer", "minimum": 64, "maximum": 2048, "multipleOf": 64},
                {"type": "integer", "minimum": -1, "maximum": 2147483647},
                {"type": "number"},
            )
        ),
    )


def arrays(items: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    """Return a strategy for schemas of arrays, with limits down to zero."""
    limits = st.sampled_from(
        (
            {},
            {"minItems": 0},
            {"minItems": 1, "maxItems": 3},
            {"maxItems": 0},
            {"minItems": 0, "maxItems": 10},
            {"minItems": 2},
        )
    )
    return st.builds(lambda limit, item: {"type": "array", **limit, "items": item}, limits, items) | st.just(
        {"type": "array", "uniqueItems": True, "maxItems": 2, "items": {"type": "string", "enum": ["a", "b"]}}
    )


def alternatives(leaves: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    """Return a strategy for schemas with ``anyOf``, ``oneOf`` and ``allOf``, and for nullable ones."""
    return st.one_of(
        st.builds(lambda leaf: {"anyOf": [leaf, {"type": "null"}]}, leaves),
        st.just(
            {
                "oneOf": [
                    {"type": "string", "maxLength": 5},
                    {"type": "array", "minItems": 1, "items": {"type": "string"}},
                ]
            }
        ),
        st.just({"oneOf": [{"type": "integer", "minimum": 0}, {"const": "auto"}]}),
        st.just({"anyOf": [{"type": "string", "enum": ["1k", "2k"]}, {"type": "integer"}], "default": "1k"}),
        st.just({"allOf": [{"type": "string", "minLength": 1}, {"maxLength": 9}]}),
        st.just({"type": ["string", "null"], "maxLength": 3}),
        st.just({"type": ["null", "integer"], "minimum": 0}),
    )


def objects(leaves: st.SearchStrategy[Schema], *, most: int) -> st.SearchStrategy[Schema]:
    """Return a strategy for schemas of objects, closed or open, with some of their fields required."""

    def build(fields: dict[str, Schema], required: list[bool], closed: Schema) -> Schema:
        names = [name for name, is_required in zip(fields, required, strict=False) if is_required]
        return {"type": "object", **({"required": names} if names else {}), **closed, "properties": fields}

    fields = st.dictionaries(st.sampled_from(FIELD_NAMES), leaves, max_size=most)
    flags = st.lists(st.booleans(), min_size=most, max_size=most)
    return st.builds(build, fields, flags, st.sampled_from(({}, {"additionalProperties": False})))


def choices() -> st.SearchStrategy[Schema]:
    """Return a strategy for inputs that take one of several fields."""
    text, urls = (
        {"type": "string", "maxLength": 20},
        {"type": "array", "minItems": 1, "items": {"type": "string", "format": "uri"}},
    )
    return st.sampled_from(
        (
            {
                "type": "object",
                "properties": {"prompt": text, "image_urls": urls},
                "anyOf": [{"required": ["prompt"]}, {"required": ["image_urls"]}],
            },
            {
                "type": "object",
                "properties": {"prompt": text, "image_urls": urls},
                "oneOf": [{"required": ["prompt"]}, {"required": ["image_urls"]}],
            },
            {
                "oneOf": [
                    {"type": "object", "required": ["mode"], "properties": {"mode": {"const": "text"}, "prompt": text}},
                    {
                        "type": "object",
                        "required": ["mode", "seed"],
                        "properties": {"mode": {"const": "seed"}, "seed": {"type": "integer", "minimum": 0}},
                    },
                ]
            },
        )
    )


leaves = texts() | options() | numbers()
fields = st.one_of(
    leaves, arrays(leaves), alternatives(leaves), objects(leaves, most=2), arrays(objects(leaves, most=2))
)
inputs = objects(fields, most=4) | choices()


@st.composite
def requests(draw: st.DrawFn) -> Schema:
    """Draw the schema of a request: with or without an input, a callback and other fields, closed or open."""
    properties: dict[str, Schema] = {}
    required = ["model"]
    for name, kinds in (
        ("input", inputs),
        ("callBackUrl", st.just({"type": "string", "format": "uri"})),
        ("progress", leaves),
    ):
        presence = draw(
            st.sampled_from(("required", "optional", "absent") if name != "progress" else ("absent", "optional"))
        )
        if presence != "absent":
            properties[name] = draw(kinds)
        if presence == "required":
            required.append(name)
    closed = {"additionalProperties": False} if draw(st.booleans()) else {}
    return {"properties": properties, "required": required, **closed}


@st.composite
def answers(draw: st.DrawFn) -> Schema:
    """Draw the schema of a response: with more fields than the task ID, required or not, closed or open."""
    identifier = {"type": "string", "minLength": 1}
    more = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "recordId": st.just(identifier),
                "jobId": st.just(identifier),
                "status": st.just({"type": "string", "enum": ["queued", "running"]}),
                "eta": st.just({"type": "integer", "minimum": 0}),
                "paramJson": st.just({"type": ["string", "null"]}),
            },
        )
    )
    closed = {"additionalProperties": False} if draw(st.booleans()) else {}
    data = {"type": "object", "required": ["taskId", *more], "properties": {"taskId": identifier, **more}, **closed}
    envelope: dict[str, Schema] = {"code": {"type": "integer"}, "msg": {"type": "string"}, "data": data}
    required = ["code", "msg", "data"]
    if draw(st.booleans()):
        envelope["success"] = {"type": "boolean", "const": True}
        required.append("success")
    return {"type": "object", "required": required, "properties": envelope}


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    """Draw a contract."""
    missing = draw(st.sets(st.sampled_from((404, 455, 501, 505)), max_size=3))
    return contract_of(draw(requests()), draw(answers()), model=draw(st.sampled_from(MODELS)), codes=missing)


PROMPT = {"type": "string", "maxLength": 200}
CALLBACK = {"type": "string", "format": "uri"}
ID = {"type": "string", "minLength": 1}


def with_input(fields: dict[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    values = {"type": "object", "properties": fields, **({"required": list(required)} if required else {}), **more}
    return {"properties": {"input": values, "callBackUrl": CALLBACK}}


def answering(**data: Any) -> dict[str, Any]:
    shape = {"type": "object", "required": ["taskId", *data], "properties": {"taskId": ID, **data}}
    envelope = {"code": {"type": "integer"}, "msg": {"type": "string"}, "data": shape}
    return {"type": "object", "required": ["code", "msg", "data"], "properties": envelope}


SHAPES = {
    "input not required": contract_of(with_input({"prompt": PROMPT}, "prompt")),
    "optional prompt": contract_of(with_input({"prompt": PROMPT})),
    "no prompt": contract_of(with_input({"seed": {"type": "integer", "minimum": 0, "maximum": 0}}, "seed")),
    "no input": contract_of({"additionalProperties": False}),
    "rules that cannot be broken": contract_of(
        with_input(
            {
                "text": {"type": "string", "minLength": 0},
                "image_urls": {"type": "array", "minItems": 0, "maxItems": 8, "items": CALLBACK},
            },
            "text",
            "image_urls",
        )
    ),
    "bounds of zero": contract_of(
        with_input(
            {
                "strength": {"type": "number", "minimum": 0, "maximum": 1, "default": 0},
                "below": {"type": "integer", "maximum": 0},
                "open": {"type": "number", "exclusiveMinimum": 0},
                "none": {"type": "string", "maxLength": 0},
            },
            "strength",
            "below",
        )
    ),
    "more answer fields": contract_of(
        with_input({"prompt": PROMPT}, "prompt"),
        answering(recordId=ID, jobId=ID, eta={"type": "integer", "minimum": 1}, status={"enum": ["queued"]}),
    ),
    "callback required": contract_of(
        {**with_input({"prompt": PROMPT}, "prompt"), "required": ["model", "callBackUrl"]}
    ),
    "video": contract_of(
        with_input({"image_url": CALLBACK, "duration": {"enum": ["6", "10"], "type": "string"}}, "image_url"),
        model="meadow/2-image-to-video",
    ),
    "closed": contract_of(
        {**with_input({"prompt": PROMPT}, "prompt", additionalProperties=False), "additionalProperties": False}
    ),
    "one of several fields": contract_of(
        with_input(
            {"prompt": PROMPT, "image_url": CALLBACK}, oneOf=[{"required": ["prompt"]}, {"required": ["image_url"]}]
        )
    ),
    "alternatives of a field": contract_of(
        with_input(
            {"size": {"anyOf": [{"enum": ["1k", "2k"]}, {"type": "integer", "minimum": 64}, {"type": "null"}]}}, "size"
        )
    ),
    "arrays of objects": contract_of(
        with_input(
            {
                "shots": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["text", "seconds"],
                        "additionalProperties": False,
                        "properties": {"text": PROMPT, "seconds": {"type": "integer", "minimum": 1, "maximum": 9}},
                    },
                }
            },
            "shots",
        )
    ),
    "defaults on required fields": contract_of(
        with_input(
            {
                "size": {"type": "string", "enum": ["1", "2"], "default": "1"},
                "safe": {"type": "boolean", "default": True},
                "note": {"type": "string", "default": None},
                "mode": {"const": "fast"},
            },
            *("size", "safe", "note", "mode"),
        )
    ),
}
