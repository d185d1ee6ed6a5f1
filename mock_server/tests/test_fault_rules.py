"""The text of a rule: any text either parses and is written back unchanged, or is refused with one message."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seedbed_mock.accounts import fingerprint
from seedbed_mock.faults.effects import Effect
from seedbed_mock.faults.rules import EFFECTS, LONGEST_RULE, Match, Rule, RuleError, format_value, parse_rule

EXTRA: dict[tuple[str, str], st.SearchStrategy[Any]] = {
    ("delay", "seconds"): st.sampled_from(["0", "1", "2.5", "86400"]),
    ("answer.type", "type"): st.sampled_from(["text/html", "a b", 'x; charset="y"']),
    ("", "op"): st.sampled_from(["createTask", "recordInfo", "credit", "downloadUrl", "models", "modelSchema"]),
    ("", "key"): st.sampled_from(["seedbed-key", "a b", fingerprint("x")]),
    ("", "prompt_like"): st.sampled_from(["a|b", r"^\d+$", "(?i)cat", "日本", r"[\]\"]"]),
}
WORDS = st.sampled_from(
    [
        *EFFECTS,
        "429",
        "404",
        "p=0.2",
        "p=nan",
        "p=null",
        "nth=3",
        "every=0",
        "times=1",
        "op=credit",
        "since=5",
        "until=1e3",
    ]
) | st.sampled_from(
    ["prompt=x", "prompt-like=(a+)+$", "prompt-like=(", "key=k", 'message="a b"', "at=middle", "seconds=3", "="]
)


@st.composite
def values_of(draw: st.DrawFn, kind: type[msgspec.Struct], name: str) -> dict[str, Any]:
    values = {}
    for field in msgspec.structs.fields(kind):
        if field.required or draw(st.booleans()):
            known = EXTRA.get((name, field.name))
            values[field.name] = draw(strategy_of(msgspec.inspect.type_info(field.type)) if known is None else known)
    return values


def strategy_of(kind: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    """Return values of a field's type, within its bounds."""
    if isinstance(kind, msgspec.inspect.UnionType):
        return st.one_of([strategy_of(each) for each in kind.types])
    if isinstance(kind, msgspec.inspect.LiteralType):
        return st.sampled_from(kind.values)
    if isinstance(kind, msgspec.inspect.IntType):
        return st.integers(kind.ge, kind.le)
    if isinstance(kind, msgspec.inspect.FloatType):
        return st.floats(kind.ge, kind.le)
    if isinstance(kind, msgspec.inspect.StrType):
        return st.text(st.characters(exclude_categories=["Cs"]), min_size=kind.min_length or 0, max_size=40)
    return st.none()


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    name = draw(st.sampled_from([*EFFECTS]))
    kind = EFFECTS[name]
    values = draw(values_of(kind, name)) | ({"code": draw(st.integers(100, 999))} if name == "CODE" else {})
    effect: Effect = kind(**values)
    match = draw(values_of(Match, ""))
    if effect.operations:
        match.pop("op", None)
    return Rule(effect, Match(**match))


def parses_or_is_refused(text: str) -> None:
    try:
        rule = parse_rule(text)
    except RuleError as error:
        message = str(error)
        assert not message.endswith(".")
        assert "\n" not in message
        assert len(message) < 1200
        return
    again = str(rule)
    assert again.isascii()
    assert again.isprintable()
    assert parse_rule(again) == rule


@given(st.text())
def test_any_text_parses_and_is_written_back_or_is_refused(text: str) -> None:
    parses_or_is_refused(text)


@given(st.lists(st.one_of(WORDS, st.sampled_from([";", "; ", ",", " ", '"']), st.text(max_size=5)), max_size=12))
def test_any_sequence_of_words_parses_or_is_refused(words: list[str]) -> None:
    parses_or_is_refused(" ".join(words))


@given(
    st.sampled_from([*EFFECTS][1:]), st.sampled_from([f.encode_name for f in msgspec.structs.fields(Match)]), st.text()
)
def test_any_value_of_a_condition_parses_or_is_refused(effect: str, condition: str, value: str) -> None:
    parses_or_is_refused(f"{effect}; {condition}={format_value(value)}")


@given(rules())
def test_every_possible_rule_parses_to_itself(rule: Rule) -> None:
    text = str(rule)
    read = parse_rule(text)
    key = rule.match.key
    if key is not None and read.match.key != key:
        assert read.match.key == fingerprint(key)
        read = Rule(read.effect, msgspec.structs.replace(read.match, key=key))
    assert read == rule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must start with an effect"),
        (";", "must start with an effect"),
        ("p=0.5", "must start with an effect"),
        ("boom", 'unknown effect "boom"'),
        ("CODE", 'unknown effect "CODE"'),
        ("0455", 'unknown effect "0455"'),
        ("429 code=5", "already 429"),
        ("429; p", "has no value"),
        ("429 p=0.2", 'unknown option "p" for 429; conditions follow a semicolon: "429; p=0.2"'),
        ("wire.reset; at=middle", 'options precede the semicolon: "wire.reset at=middle"'),
        ("429; p=1.1", 'invalid value "1.1" for p'),
        ("429; nth=0", 'invalid value "0" for nth'),
        ("429; sometimes=1", "sometimes"),
        ("429; p=0.5; p=0.5", "given twice"),
        ("429; op=createtask", 'unknown operation "createtask"; valid operations: createTask'),
        ("task.fail; op=credit", "op=createTask"),
        ("wire.reset at=end", "valid values: before, middle"),
        ("wire.trickle seconds=61", "seconds"),
        ("delay seconds=3..1", "lower bound first"),
        ("delay seconds=1..2 sigma=1", "sigma"),
        ("delay seconds=fast", "10..60"),
        ("task.stuck state=success", "state"),
        ('answer.type type="a\\r\\nb: c"', "type"),
        ("answer.status status=99", "status"),
        ('429; prompt="open', "cannot be parsed"),
        ('429; prompt="\\q"', "not a valid JSON string"),
        ('429; prompt="\\ud800"', "half a surrogate pair"),
        ("429; prompt-like=(", "invalid regular expression"),
        ("429; prompt-like=(a)\\1", "linear"),
        ("4" * (LONGEST_RULE + 1), "at most"),
    ],
)
def test_an_invalid_rule_is_refused_with_what_is_valid(text: str, words: str) -> None:
    with pytest.raises(RuleError, match=r"[^.]\Z") as refusal:
        parse_rule(text)
    assert words in str(refusal.value)


def test_only_the_fingerprint_of_a_key_is_kept() -> None:
    rule = parse_rule("429; key=my-secret-key")
    assert "my-secret-key" not in str(rule)
    assert rule.match.key == fingerprint("my-secret-key")


@pytest.mark.parametrize("effect", EFFECTS.values(), ids=str)
def test_every_effect_has_a_docstring_of_one_sentence(effect: type[Effect]) -> None:
    assert effect.__doc__
    assert effect.__doc__.strip().partition("\n")[0].endswith(".")
