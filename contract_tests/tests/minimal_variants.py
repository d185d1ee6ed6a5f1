"""The choices that the contract leaves to a server, and the facts of the service, typed by hand from its page.

The facts are repeated here on purpose: a checker and a server that read the same file agree on its mistakes.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import Final, Literal

MODEL: Final = "seedream/4.5-text-to-image"
LONGEST_PROMPT: Final = 3000
PRICE: Final = 6.5
SIZES: Final = {
    ("basic", "1:1"): (2048, 2048),
    ("basic", "4:3"): (2304, 1728),
    ("basic", "3:4"): (1728, 2304),
    ("basic", "16:9"): (2848, 1600),
    ("basic", "9:16"): (1600, 2848),
    ("basic", "3:2"): (2496, 1664),
    ("basic", "2:3"): (1664, 2496),
    ("basic", "21:9"): (3136, 1344),
    ("high", "1:1"): (4096, 4096),
    ("high", "4:3"): (4704, 3520),
    ("high", "3:4"): (3520, 4704),
    ("high", "16:9"): (5504, 3040),
    ("high", "9:16"): (3040, 5504),
    ("high", "3:2"): (4992, 3328),
    ("high", "2:3"): (3328, 4992),
    ("high", "21:9"): (6240, 2656),
}
QUALITIES: Final = ("basic", "high")
RATIOS: Final = tuple(ratio for quality, ratio in SIZES if quality == "basic")
RATE: Final = (20, 10.0)
POLL_RATE: Final = (10, 1.0)
ENDS: Final = ("success", "fail")

KEY: Final = "mk-first-5f2c9a70e1"
SECOND_KEY: Final = "mk-second-b84d03c6f7"
SIGNING_KEY: Final = "whsec-minimal-41d7"
FAIL_PROMPT: Final = "a picture that cannot be made"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The lawful choices of one server.

    Attributes:
        name: Name in test ids.
        http_status: Whether the HTTP status is always 200, or the code.
        dialect: The codes and the form of records, as documented or as observed.
        ids: The form of task ids.
        unknown_task: The code for an unknown task in the documented dialect.
        seconds: Duration of a task in seconds; may be infinite.
        late: Seconds after its creation during which a task is still unknown.
        queuing: Whether a task has a state between waiting and generating.
        operations: The optional operations that the server supports.
        callbacks: Whether the server sends callbacks.
        retry_seconds: Seconds before a failed callback is sent again.
        signs: Whether accounts have a signing key.
        two_keys: Whether the server has a second account.
        fails: Whether a prompt with the text ``FAIL_PROMPT`` fails.
        rate: Whether more than 20 new tasks in 10 seconds are refused.
        poll_rate: Whether more than 10 calls of recordInfo in a second are refused.
        credits: Balance of the first account.
        second_credits: Balance of the second account.
        pays: When a task is charged: at its creation, with a refund if it fails, or when it succeeds.
        extras: Whether responses and records have undocumented fields.
        blanks: Whether a record has empty fields in place of absent ones.
        strict: Whether unknown fields are refused.
        needs_prompt: Whether an empty prompt is refused.
        single_keys: Whether an object with a repeated key is refused.
        bom: Whether a byte order mark is accepted.
        needs_type: Whether a body with another media type than JSON is refused.
        any_case: Whether the scheme is accepted in any case, such as ``bearer``, and with more spaces after it.
        only_http: Whether a callBackUrl with another scheme than http and https is refused.
        plain_errors: Whether unknown paths and methods are answered in plain text with an HTTP status.
        charset: Whether the content type of a response has a charset.
        spaced: Whether JSON is written over several lines.
        closes: Whether the server closes a connection after one request.
    """

    name: str = "plain"
    http_status: Literal["envelope", "mirror"] = "envelope"
    dialect: Literal["documented", "observed"] = "documented"
    ids: Literal["uuid", "number", "long", "odd"] = "uuid"
    unknown_task: Literal[404, 422] = 404
    seconds: float = 0.3
    late: float = 0.0
    queuing: bool = False
    operations: tuple[str, ...] = ("credit", "models", "downloadUrl")
    callbacks: bool = True
    retry_seconds: float = 1.0
    signs: bool = True
    two_keys: bool = True
    fails: bool = True
    rate: bool = False
    poll_rate: bool = False
    credits: float = 1_000_000.0
    second_credits: float = 1_000_000.0
    pays: Literal["creation", "success"] = "creation"
    extras: bool = False
    blanks: bool = False
    strict: bool = False
    needs_prompt: bool = False
    single_keys: bool = False
    bom: bool = False
    needs_type: bool = True
    any_case: bool = True
    only_http: bool = True
    plain_errors: bool = False
    charset: bool = False
    spaced: bool = False
    closes: bool = False

    @property
    def observed(self) -> bool:
        return self.dialect == "observed"


_ENVELOPES: Final = (
    Variant(),
    Variant(name="bare", operations=(), callbacks=False, signs=False, two_keys=False, fails=False),
    Variant(name="observed", dialect="observed", blanks=True, queuing=True, ids="long", extras=True),
    Variant(name="observed, late", dialect="observed", late=0.5, seconds=1, pays="success", operations=("credit",)),
    Variant(name="at once", seconds=0, ids="number", unknown_task=422, blanks=True, signs=False),
    Variant(name="slow", seconds=8, queuing=True, extras=True, blanks=True, operations=()),
    Variant(name="for ever", seconds=inf, ids="odd", operations=("credit",), pays="success"),
    Variant(name="strict", strict=True, needs_prompt=True, single_keys=True, any_case=False, plain_errors=True),
    Variant(
        name="lenient",
        bom=True,
        needs_type=False,
        only_http=False,
        extras=True,
        spaced=True,
        charset=True,
        ids="odd",
        blanks=True,
    ),
    Variant(name="limited", rate=True, poll_rate=True, seconds=0, unknown_task=422),
    Variant(name="poor", credits=20 * PRICE, second_credits=2 * PRICE, seconds=0, pays="success", queuing=True),
    Variant(name="closing", closes=True, plain_errors=True, charset=True, ids="long", callbacks=False),
)

CONFORMING: Final[tuple[Variant, ...]] = (
    *_ENVELOPES,
    *(replace(variant, name=f"{variant.name}, mirror", http_status="mirror") for variant in _ENVELOPES),
)
"""A dozen servers that honour the contract, each in both HTTP modes."""
