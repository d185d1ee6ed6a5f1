"""Interception: programs that have the address of the paid service built in reach the mock server unchanged."""
