"""Deterministic test cases: for each clause of a contract, the requests that keep it and those that violate it.

The cases are the same in every run. :func:`accepted` and :func:`refused` list requests, :func:`raw` lists raw request
bodies, and :func:`wrong_keys` lists headers without a valid key. A test can take them as parameters::

    import pytest
    from seedbed_contract import cases

    @pytest.mark.parametrize("case", cases.refused(), ids=lambda case: case.name)
    def test_an_invalid_request_is_refused(case: cases.RefusedCase) -> None:
        assert my_service(case.request).code == 422, case.clause

The strategies in :mod:`seedbed_contract.strategies` add random requests to these cases.
"""

from seedbed_contract.cases.case_types import AcceptedCase, Expected, Headers, KeyHeaderCase, RawBodyCase, RefusedCase
from seedbed_contract.cases.key_headers import wrong_keys
from seedbed_contract.cases.raw_bodies import raw
from seedbed_contract.cases.requests import accepted, refused

__all__ = [
    "AcceptedCase",
    "Expected",
    "Headers",
    "KeyHeaderCase",
    "RawBodyCase",
    "RefusedCase",
    "accepted",
    "raw",
    "refused",
    "wrong_keys",
]
