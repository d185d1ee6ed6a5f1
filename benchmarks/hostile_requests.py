"""The requests of ``hostile.py``: fuzzed, mutated and oversized, from a source of random numbers."""

import json
import random
from urllib.parse import quote

from seedbed_schemas import job_api, local
from sides import CREATE, REQUEST

MIB = 1024 * 1024

RECORD = job_api().record_info
WORDS = (
    "",
    "0",
    "null",
    "[]",
    "{}",
    '"',
    "\\",
    "\x00",
    "é",
    "\ud83d\ude00",
    "[[fault:",
    "]]",
    "1e309",
    "true",
    "-1",
    "\r\n",
)
RULES = (
    *("402", "429; p=0.5", "500; nth=3", "455; every=2; times=5", "task.fail code=422 after=0", "task.lost; times=1"),
    *("task.orphan; p=0.1", "callback.twice", "result.cut", "402; prompt-like=(a|b)*c", "429; key=seedbed-key"),
    *(
        "501; since=5; until=6",
        "505; space=a",
        "nonsense",
        "429; p=",
        "402; prompt-like=((a{90}){90}){90}",
        ";;;",
        "=" * 50,
    ),
)

FIELDS = ("model", "input", "callBackUrl", "x")
PROMPT_UNITS = (
    *("[[fault:", "[[fault: 402; nth=9]]", "a", "\\", "[", '"', "\0", "]]", "日", "[[fault: 429; prompt-like=(a*)*]]"),
)

SHARE_OF_SCALARS, SHARE_OF_MUTATED_RULES = 0.75, 0.3


def head(method: str, target: str, *lines: str, key: str = local.KEY) -> bytes:
    """Return the head of a request."""
    start = (f"{method} {target} HTTP/1.1", f"Host: {local.HOST}", f"Authorization: Bearer {key}", *lines)
    return "\r\n".join((*start, "", "")).encode("latin-1", "replace")


def create(body: bytes, *lines: str, key: str = local.KEY) -> bytes:
    """Return a createTask request."""
    return head("POST", CREATE, f"Content-Length: {len(body)}", *lines, key=key) + body


def mutated(source: random.Random, text: bytes) -> bytes:
    """Return a text with some bytes replaced, removed, repeated or inserted."""
    changed = bytearray(text)
    for _ in range(source.randint(1, 4)):
        at, size = source.randrange(len(changed) + 1), source.randint(0, 6)
        changed[at : at + size] = source.choice(
            (
                source.randbytes(source.randint(0, 6)),
                source.choice(WORDS).encode(errors="surrogatepass"),
                changed[at : at + size] * 2,
            )
        )
    return bytes(changed)


def with_prompt(prompt: str, **more: object) -> bytes:
    """Return a valid body with another prompt."""
    return json.dumps({**REQUEST, "input": {**REQUEST["input"], "prompt": prompt}, **more}).encode()


def odd_value(source: random.Random, depth: int = 3) -> object:
    """Return any JSON value."""
    scalars = (
        *(None, True, source.choice(WORDS), "x" * source.randint(0, 4000), source.randint(-(2**70), 2**70)),
        source.random() * 10 ** source.randint(-300, 300),
    )
    if not depth or source.random() < SHARE_OF_SCALARS:
        return source.choice(scalars)
    inner = [odd_value(source, depth - 1) for _ in range(source.randint(0, 5))]
    names = [f"{source.choice(WORDS)}{index}" for index in range(len(inner))]
    return source.choice((inner, dict(zip(names, inner, strict=True))))


def odd_rule(source: random.Random) -> str:
    """Return a fault rule, often an invalid one, in the characters that a header can have."""
    rule = source.choice(RULES)
    if source.random() < SHARE_OF_MUTATED_RULES:
        rule = mutated(source, rule.encode()).decode("latin-1")
    return "".join(character for character in rule if character.isprintable()).strip() or "402"


def changed_body(source: random.Random) -> bytes:
    """Return a request with a valid body with some bytes changed."""
    return create(mutated(source, json.dumps(REQUEST).encode()))


def odd_fields(source: random.Random) -> bytes:
    """Return a request with a body with a field of any value."""
    return create(json.dumps({**REQUEST, source.choice(FIELDS): odd_value(source)}).encode())


def rule_in_prompt(source: random.Random) -> bytes:
    """Return a request with a prompt with a fault rule."""
    return create(with_prompt(f"hill [[fault: {odd_rule(source)}]] {source.choice(WORDS)}"))


def rule_in_header(source: random.Random) -> bytes:
    """Return a request with a header with a fault rule, in one of three spaces."""
    return create(
        with_prompt("hill"), f"X-Seedbed-Fault: {odd_rule(source)}", f"X-Seedbed-Space: {source.choice('abc')}"
    )


def rule_in_key(source: random.Random) -> bytes:
    """Return a request with a key that gives a fault rule."""
    return create(with_prompt("hill"), key=f"seedbed-{odd_rule(source)}".replace(" ", ","))


def odd_query(source: random.Random) -> bytes:
    """Return a request with a query of any size."""
    value = quote(source.choice(WORDS) * source.randint(0, 40), safe="&=%", errors="replace")
    return head("GET", f"{RECORD.path}?{source.choice((RECORD.query, 'x'))}={value}&{'a=b&' * source.randint(0, 50)}")


def odd_path(source: random.Random) -> bytes:
    """Return a request to an unknown path or method."""
    return head(source.choice(("GET", "PUT", "DELETE", "OPTIONS")), "/" + quote(source.choice(WORDS), errors="replace"))


def near_the_limit(source: random.Random) -> bytes:
    """Return a request with a prompt near the size limit."""
    unit = source.choice(PROMPT_UNITS)
    return create(with_prompt(unit * (source.randint(MIB // 4, MIB - 500) // max(len(json.dumps(unit)) - 2, 1))))


BATCHED = {
    changed_body: 250,
    odd_fields: 150,
    rule_in_prompt: 150,
    rule_in_header: 150,
    rule_in_key: 100,
    odd_query: 100,
    odd_path: 98,
    near_the_limit: 2,
}
"""Kinds of requests whose framing is valid, so that others may follow on the connection, and how often each is sent."""


def unframed(source: random.Random) -> bytes:
    """Return a request that is mutated as a whole, so that the parser may refuse it."""
    whole = create(json.dumps(REQUEST).encode(), *(f"A{number}: b" for number in range(source.choice((0, 0, 0, 300)))))
    return mutated(source, whole[: source.randint(20, len(whole))])
