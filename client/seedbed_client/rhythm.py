"""How often one looks at a task, and for how long."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import msgspec

from seedbed_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable


class Step(msgspec.Struct, frozen=True):
    """A part of a wait.

    Attributes:
        begins: After how many seconds of waiting it begins.
        least: Fewest seconds between two looks.
        most: Most seconds between two looks; drawn from between, so that many who wait do not look all at once.
    """

    begins: float
    least: float
    most: float


class Rhythm(msgspec.Struct, frozen=True):
    """How often one looks at a task, by default as the service advises: 2 to 3 s, then 5 to 10, then 15 to 30.

    Attributes:
        steps: The parts of a wait, in order; the first begins at 0.
        timeout: Seconds after which a task is given up, which the service's advice puts at 15 minutes.
        grace: Seconds for which a task may be unknown to the service, as new ones are for a moment.
    """

    steps: tuple[Step, ...] = (Step(0, 2, 3), Step(30, 5, 10), Step(120, 15, 30))
    timeout: float = 900
    grace: float = 60

    def patience(self, timeout: float | None) -> float:
        """Return after how many seconds to give up where that many are asked for.

        Raises:
            ConfigurationError: It is no time.
        """
        patience = self.timeout if timeout is None else timeout
        if not patience >= 0:
            raise ConfigurationError(f"The time to wait for a task is 0 seconds or more, not {patience}.")
        return patience

    def pause(self, elapsed: float, draw: Callable[[float, float], float] = random.uniform) -> float:
        """Return how long to wait before the next look, in seconds, after so many seconds of waiting."""
        step = [step for step in self.steps if step.begins <= elapsed][-1]
        return draw(step.least, step.most)

    def patient_pause(self, draw: Callable[[float, float], float] = random.uniform) -> float:
        """Return how long to wait for a callback before looking whether it was lost, in seconds."""
        return draw(self.steps[-1].least, self.steps[-1].most)


ADVISED: Final = Rhythm()
