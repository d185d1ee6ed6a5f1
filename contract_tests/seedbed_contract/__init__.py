"""Hypothesis strategies and a conformance checker for services that implement the contract.

Test your service with random requests::

    from hypothesis import given
    from seedbed_contract import BrokenRequest, requests, violations


    @given(request=requests())
    def test_a_valid_request_is_accepted(request: dict[str, object]) -> None:
        assert my_service(request).code == 200


    @given(broken=violations())
    def test_an_invalid_request_is_refused(broken: BrokenRequest) -> None:
        assert my_service(broken.request).code == 422, broken.clause

:mod:`seedbed_contract.strategies` describes all strategies. :mod:`seedbed_contract.cases` lists the same kinds of
requests without randomness, one for each clause and kind of violation.
"""

from seedbed_contract.strategies import BrokenRequest, breakable_clauses, keys, raw_bodies, requests, violations

__all__ = ["BrokenRequest", "breakable_clauses", "keys", "raw_bodies", "requests", "violations"]
