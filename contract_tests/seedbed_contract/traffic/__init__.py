"""Checks of recorded traffic (HAR files), which send nothing."""

from seedbed_contract.traffic.har import HarError, RecordedExchange, load_har, read_har
from seedbed_contract.traffic.traffic_checker import check_traffic

__all__ = ["HarError", "RecordedExchange", "check_traffic", "load_har", "read_har"]
