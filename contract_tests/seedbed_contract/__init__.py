"""Requests and checks made from the contract, for any service that claims to keep it."""

from seedbed_contract.strategies import BrokenRequest, breakable_clauses, broken_requests, malformed_bodies, requests

__all__ = ["BrokenRequest", "breakable_clauses", "broken_requests", "malformed_bodies", "requests"]
