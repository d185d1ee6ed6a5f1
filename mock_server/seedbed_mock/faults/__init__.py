"""Faults: rules that say what goes wrong, when, and for whom."""
