"""What is sent: the bodies of requests, held to the contract of their model."""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
import seedbed_schemas
from seedbed_schemas import job_api

from seedbed_client.errors import ConfigurationError, ValidationError, code_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from seedbed_schemas import Contract

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""What RFC 9110 lets a header be named."""


class Submission(msgspec.Struct, frozen=True):
    """A task to be asked for.

    Attributes:
        model: What makes its image.
        input: What it is asked.
        callback_url: Where the service shall POST the finished task.
        headers: Headers beside those of every request.
        validate: Whether the contract of the model is held to first, and fills in its defaults.
    """

    model: str
    input: Mapping[str, Any]
    callback_url: str | None = None
    headers: Mapping[str, str] | None = None
    validate: bool = True

    def __repr__(self) -> str:
        return f"Submission({self.model!r})"  # headers may hold what is secret

    def body(self, contracts: Iterable[Contract] = ()) -> bytes:
        """Return the body of the request.

        Args:
            contracts: Contracts of models beside the shipped ones.

        Raises:
            ConfigurationError: There is no contract of the model.
            ValidationError: The request breaks it.
        """
        fields = job_api().fields
        contract = contract_of(self.model, contracts) if self.validate else None
        filled = {**_defaults(contract), **self.input} if contract else dict(self.input)
        body: dict[str, Any] = {fields.model: self.model, fields.input: filled}
        if self.callback_url is not None:
            body[fields.callback] = self.callback_url
        if contract:
            _hold(contract, body)
        # Written in ASCII, for then even a prompt that is no proper Unicode travels, and the service can say no to it.
        with _json_alone():
            return json.dumps(body, allow_nan=False).encode()

    def own_headers(self) -> Mapping[str, str]:
        """Return the headers beside those of every request.

        Raises:
            ConfigurationError: One of them cannot be sent.
        """
        for name, value in (self.headers or {}).items():
            if not (_TOKEN.fullmatch(name) and value.isascii() and value.isprintable()):
                raise ConfigurationError(
                    f"The header {name!r} cannot be sent: headers are of visible ASCII characters."
                )
        return self.headers or {}


def text_to_image(
    prompt: str,
    aspect_ratio: str,
    quality: str,
    callback_url: str | None,
    headers: Mapping[str, str] | None,
) -> Submission:
    """Return a task of the shipped model."""
    values = {"prompt": prompt, "aspect_ratio": aspect_ratio, "quality": quality}
    return Submission(seedbed_schemas.default_contract().model, values, callback_url, headers)


def contract_of(model: str, contracts: Iterable[Contract] = ()) -> Contract:
    """Return the contract of a model.

    Raises:
        ConfigurationError: There is none.
    """
    known = {contract.model: contract for contract in (*seedbed_schemas.shipped_contracts(), *contracts)}
    if model not in known:
        names = ", ".join(sorted(known))
        raise ConfigurationError(
            f"There is no contract of {model!r}, only of {names}: derive one with seedbed derive and give it as one of "
            "contracts=, or say validate=False."
        )
    return known[model]


def _defaults(contract: Contract) -> dict[str, Any]:
    return {name: schema["default"] for name, schema in contract.input_fields.items() if "default" in schema}


def _hold(contract: Contract, body: dict[str, Any]) -> None:
    with _json_alone():
        broken = [] if contract.request.accepts(body) else contract.request.violations(body)
    if broken:
        raise _refusal("; ".join(violation.message for violation in broken))


@contextlib.contextmanager
def _json_alone() -> Iterator[None]:
    """Refuse what is no JSON, and so has no form to be judged by, or sent in."""
    try:
        yield
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _refusal(f"the request cannot be written as JSON ({error})") from error


def _refusal(problem: str) -> ValidationError:
    return ValidationError(code_of("validation_error"), f"Validation failed: {problem}.")
