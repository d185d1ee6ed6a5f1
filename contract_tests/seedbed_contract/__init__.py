"""Requests and checks made from the contract, for any service that claims to keep it."""
