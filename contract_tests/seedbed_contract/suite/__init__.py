"""The checks as a suite for pytest: ``pytest --pyargs seedbed_contract.suite --target URL``."""
