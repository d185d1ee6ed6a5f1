"""The checks as a pytest suite: ``pytest --pyargs seedbed_contract.suite --target URL``."""
