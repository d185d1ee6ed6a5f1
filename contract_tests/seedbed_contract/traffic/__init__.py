"""Traffic that somebody recorded, read and judged without sending anything."""

from seedbed_contract.traffic.har import HarError, read_har
from seedbed_contract.traffic.judging import judge_traffic
from seedbed_contract.traffic.recorded import Recorded

__all__ = ["HarError", "Recorded", "judge_traffic", "read_har"]
