"""Every case that can be listed, one for each clause and kind of violation: the same ones every time, without chance.

``accepted`` and ``refused`` list requests, ``raw`` what is sent in place of one, ``wrong_keys`` headers that
carry no good key. They are what a service is asked first; :mod:`seedbed_contract.strategies` looks for
what nobody listed.
"""

from seedbed_contract.cases.accepted import accepted
from seedbed_contract.cases.case_types import AcceptedCase, Headers, KeyHeaderCase, Meant, RawBodyCase, RefusedCase
from seedbed_contract.cases.raw import raw, wrong_keys
from seedbed_contract.cases.rejected import refused

__all__ = [
    "AcceptedCase",
    "Headers",
    "KeyHeaderCase",
    "Meant",
    "RawBodyCase",
    "RefusedCase",
    "accepted",
    "raw",
    "refused",
    "wrong_keys",
]
