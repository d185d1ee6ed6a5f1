"""Duration profiles: how long tasks take, and which share of them a deadline loses.

The profiles are data: ``durations.toml`` has their percentiles and the sources of these. Every distribution is
lognormal, since waiting times have a long tail and no upper bound, and may have a second one for the tasks of its tail.
"""

from __future__ import annotations

import math
import tomllib
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from seedbed_mock.settings import SettingsError, Span

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random


LONGEST: Final = 86_400.0
"""In seconds: no draw is longer, though a lognormal distribution has no upper bound."""

_PERCENTILE: Final = NormalDist().inv_cdf(0.99)
_HALVINGS: Final = 60
_SMALLEST_PERCENT: Final = 0.01
_ALMOST_ALL: Final = 99

_Seconds = Annotated[float, Meta(gt=0, le=LONGEST)]


class _Lognormal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    first: _Seconds = msgspec.field(name="from")
    last: _Seconds = msgspec.field(name="to")

    @property
    def logarithm(self) -> NormalDist:
        """Distribution of the natural logarithm of the seconds."""
        low, high = math.log(self.first), math.log(self.last)
        # Equal percentiles are one fixed duration, and NormalDist has no cdf without a width.
        return NormalDist((low + high) / 2, max((high - low) / 2 / _PERCENTILE, 1e-9))

    def draw(self, source: Random) -> float:
        logarithm = self.logarithm
        return source.lognormvariate(logarithm.mean, logarithm.stdev)

    def share_beyond(self, seconds: float) -> float:
        return 1 - self.logarithm.cdf(math.log(seconds))


class _Tail(_Lognormal, frozen=True, forbid_unknown_fields=True, kw_only=True):
    share: Annotated[float, Meta(gt=0, lt=1)]


class DurationDistribution(_Lognormal, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long the tasks of one quality take.

    Attributes:
        first: First percentile in seconds, without the tail.
        last: 99th percentile in seconds, without the tail.
        source: Where the figures are from.
        tail: A share of tasks that take longer, ``None`` without one.
    """

    source: str
    tail: _Tail | None = None

    def draw(self, source: Random) -> float:
        """Return a duration in seconds."""
        is_in_tail = self.tail is not None and source.random() < self.tail.share
        seconds = self.tail.draw(source) if self.tail and is_in_tail else super().draw(source)
        return min(seconds, LONGEST)

    def share_beyond(self, seconds: float) -> float:
        """Return the share of tasks, from 0 to 1, that take longer than some seconds."""
        if seconds <= 0:
            return 1.0
        if seconds >= LONGEST:
            return 0.0
        share = super().share_beyond(seconds)
        return share if self.tail is None else share + self.tail.share * (self.tail.share_beyond(seconds) - share)

    def percentile(self, share: float) -> float:
        """Return the seconds within which a share of tasks, from 0 to 1, have ended."""
        low, high = 0.0, LONGEST
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if 1 - self.share_beyond(middle) >= share else (middle, high)
        return high


class DurationProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long tasks take.

    Attributes:
        description: What it imitates, in one sentence.
        quality: The distributions by the quality of the request; the first one is for requests without a quality.
    """

    description: str
    quality: Annotated[dict[str, DurationDistribution], Meta(min_length=1)]

    @property
    def least(self) -> float:
        """The shortest duration in seconds."""
        return 0.0

    @property
    def most(self) -> float:
        """The longest duration in seconds."""
        return LONGEST

    def distribution(self, quality: str = "") -> DurationDistribution:
        """Return the distribution of a quality."""
        return self.quality.get(quality) or next(iter(self.quality.values()))

    def draw(self, source: Random, quality: str = "") -> float:
        """Return a duration in seconds for a task of some quality."""
        return self.distribution(quality).draw(source)

    def share_lost(self, deadline: float) -> dict[str, float]:
        """Return the share of tasks, from 0 to 1, that take longer than a deadline in seconds, by quality."""
        return {name: each.share_beyond(deadline) for name, each in self.quality.items()}


@cache
def duration_profiles() -> dict[str, DurationProfile]:
    """Return the duration profiles by name; they are loaded once."""
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, DurationProfile])


def parse_duration(text: str) -> Span | DurationProfile:
    """Parse ``SECONDS``, ``MIN..MAX`` or the name of a duration profile.

    Raises:
        SettingsError: The text is none of these.
    """
    if text[:1].isalpha() and text in (profiles := duration_profiles()):
        return profiles[text]
    try:
        return Span.parse(text)
    except SettingsError as error:
        names = ", ".join(duration_profiles())
        raise SettingsError(f"{str(error).rstrip('.')}, or the name of a duration profile: {names}.") from error


def describe_loss(deadline: float, shares: Iterable[tuple[str, float]]) -> str:
    """Return which shares of tasks a deadline loses, such as ``a deadline of 240 s loses 1.8 % of high images``."""
    parts = [f"{percentage(share)} of {quality} images" for quality, share in shares]
    return f"a deadline of {deadline:g} s loses {' and '.join(parts)}"


def percentage(share: float) -> str:
    """Return a share as a percentage with two significant digits; a small one is not rounded to nothing."""
    percent = share * 100
    if 0 < percent < _SMALLEST_PERCENT:
        return f"less than {_SMALLEST_PERCENT} %"
    # Two digits of 99.6 would be 1e+02.
    digits = 2 if percent <= _ALMOST_ALL else 4
    return f"{percent:.{digits}g} %"
