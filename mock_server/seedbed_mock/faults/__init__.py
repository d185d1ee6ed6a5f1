"""Faults: rules, given in five ways, that change how the mock server responds, and the scenarios made of them."""
