"""Examples per second of each strategy on one core, and of Hypothesis's text of the longest prompt.

Both draw for a test that does nothing; the ratio is how many times more examples a strategy yields.
"""

import time

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from seedbed_contract import keys, raw_bodies, requests, violations
from seedbed_schemas import default_contract, local

EXAMPLES = 1000
LONGEST = default_contract().input_fields["prompt"]["maxLength"]
LONGEST_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=LONGEST, max_size=LONGEST)


def rate(strategy: SearchStrategy[object]) -> float:
    """Return how many examples per second a strategy yields."""
    drawn = 0

    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(_: object) -> None:
        nonlocal drawn
        drawn += 1

    began = time.process_time()
    draw()
    return drawn / (time.process_time() - began)


def main() -> None:
    """Measure each strategy, and print its rate and its ratio."""
    bare = rate(LONGEST_TEXT)
    print(f"text of {LONGEST} characters: {bare:.0f} examples per second")
    for name, strategy in (
        ("requests", requests()),
        ("violations", violations()),
        ("raw_bodies", raw_bodies()),
        ("keys", keys(local.KEY)),
    ):
        ours = rate(strategy)
        print(f"{name}: {ours:.0f} examples per second, ratio {ours / bare:.1f}")


if __name__ == "__main__":
    main()
