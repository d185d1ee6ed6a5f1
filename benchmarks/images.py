"""Time to render a 4K result image with a long prompt, and to encode a plain JPEG image of that size."""

import io
import statistics
import time
from collections.abc import Callable
from random import Random

from PIL import Image
from seedbed_mock.results.drawing import QUALITY
from seedbed_mock.results.picture import Picture, picture_of
from seedbed_mock.results.rendering import render
from seedbed_schemas import default_contract
from seedbed_schemas.profile import default_profile

ROUNDS = 15
RESOLUTION, RATIO = default_profile().size_fields
FIELDS = default_contract().input_fields
LETTERS: int = FIELDS[default_profile().caption]["maxLength"]
RATIOS: tuple[str, ...] = (FIELDS[RATIO]["enum"][0], FIELDS[RATIO]["enum"][-1])
FINEST: str = FIELDS[RESOLUTION]["enum"][-1]


def words(chance: Random, count: int) -> str:
    """Return random English text of that length."""
    vocabulary = sorted({word for code in default_contract().codes for word in code.description.split()})
    return " ".join(chance.choices(vocabulary, k=count))[:count]


def characters(chance: Random, count: int) -> str:
    """Return random Chinese text of that length, with the frequencies of natural text."""
    common = [chr(number) for number in range(0x4E00, 0x4E00 + 1500)]
    return "".join(chance.choices(common, weights=[1 / rank for rank in range(1, 1501)], k=count))


KINDS = {"Latin": words, "Chinese": characters}


def asked(kind: str, ratio: str, seed: int) -> Picture:
    """Return the picture of a prompt that differs for each seed."""
    profile = default_profile()
    prompt = KINDS[kind](Random(seed), LETTERS)
    values = {profile.caption: prompt, RATIO: ratio, RESOLUTION: FINEST}
    return picture_of(profile, profile.model, values, seed)


def plain(picture: Picture) -> bytes:
    """Return a JPEG image of one colour."""
    content = io.BytesIO()
    Image.new("RGB", picture.size, (60, 80, 70)).save(content, "JPEG", quality=QUALITY)
    return content.getvalue()


def milliseconds(make: Callable[[Picture], object], picture: Picture) -> float:
    """Return how long a picture takes, in milliseconds."""
    start = time.perf_counter()
    make(picture)
    return (time.perf_counter() - start) * 1000


def medians(kind: str, ratio: str, rounds: int = ROUNDS) -> tuple[float, float]:
    """Render images of both sides alternately, and return the medians, in milliseconds."""
    ours, bare = [], []
    for seed in range(rounds):
        picture = asked(kind, ratio, seed)
        bare.append(milliseconds(plain, picture))
        ours.append(milliseconds(render, picture))
    return statistics.median(ours), statistics.median(bare)


def compare(kind: str, ratio: str) -> str:
    """Return the time of the first image, the medians of both sides and their ratio."""
    first = milliseconds(render, asked(kind, ratio, -1))
    taken, least = medians(kind, ratio)
    return f"{taken:.0f} ms, plain {least:.0f} ms, ratio {taken / least:.2f}; the first {first:.0f} ms"


def main() -> None:
    """Compare two sizes in two scripts; the first image of each also loads fonts."""
    for kind in KINDS:
        for ratio in RATIOS:
            width, height = asked(kind, ratio, 0).size
            print(f"{width} x {height}, {LETTERS} letters, {kind}: {compare(kind, ratio)}")


if __name__ == "__main__":
    main()
