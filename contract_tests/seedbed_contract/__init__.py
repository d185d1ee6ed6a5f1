"""Requests and checks made from the contract, for any service that claims to keep it.

In tests of your own, with Hypothesis::

    from hypothesis import given
    from seedbed_contract import Violation, requests, violations


    @given(request=requests())
    def test_my_service_accepts_what_keeps_the_contract(request: dict[str, object]) -> None:
        assert my_service(request).code == 200


    @given(violation=violations())
    def test_my_service_refuses_what_breaks_a_clause(violation: Violation) -> None:
        assert my_service(violation.request).code == 422, violation.clause

Or without chance, one case for each clause and kind of violation::

    from seedbed_contract import cases

    @pytest.mark.parametrize("case", cases.refused(), ids=lambda case: case.name)
    def test_my_service_refuses(case: cases.Refused) -> None:
        assert my_service(case.request).code == 422, case.clause
"""

from seedbed_contract.strategies import BrokenRequest, breakable_clauses, keys, raw_bodies, requests, violations

__all__ = ["BrokenRequest", "breakable_clauses", "keys", "raw_bodies", "requests", "violations"]
