"""Every case that can be listed, one for each clause and kind of violation: the same ones every time, without chance.

``accepted`` and ``refused`` list requests, ``raw`` what is sent in place of one, ``wrong_keys`` headers that
carry no good key. They are what a service is asked first; :mod:`seedbed_contract.strategies` looks for
what nobody listed.
"""

from seedbed_contract.cases.accepting import accepted
from seedbed_contract.cases.bodies import raw
from seedbed_contract.cases.headers import wrong_keys
from seedbed_contract.cases.kinds import Accepted, Headers, KeyHeader, Meant, RawBody, Refused
from seedbed_contract.cases.refusing import refused

__all__ = [
    "Accepted",
    "Headers",
    "KeyHeader",
    "Meant",
    "RawBody",
    "Refused",
    "accepted",
    "raw",
    "refused",
    "wrong_keys",
]
