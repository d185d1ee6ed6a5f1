"""The user's own images in place of drawn ones: which there are, which one a picture gets, how it is made to fit."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, cast

from PIL import Image, ImageOps
from seedbed_schemas.validation import printable

from seedbed_mock.results.picture import ResultError
from seedbed_mock.settings import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from seedbed_mock.results.picture import Picture


_GROUND = (250, 250, 245, 255)
"""What shows where an image is transparent."""

_DEEPEST = 65_535
_BOMBS = (Image.DecompressionBombWarning, Image.DecompressionBombError)


class Gallery:
    """The images of a folder, without those of its folders and without hidden ones.

    Args:
        folder: The folder; files in it that are no images are passed over.

    Raises:
        SettingsError: The folder cannot be read, has no image or one of too many pixels.
    """

    def __init__(self, folder: Path) -> None:
        try:
            paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SettingsError(f"A folder of images is needed, not {printable(str(folder))}: {reason}.") from error
        self._images = [path for path in paths if _is_image(path)]
        if not self._images:
            raise SettingsError(f"The folder {printable(str(folder))} has no image; put in one or more, such as JPEGs.")

    def show(self, picture: Picture) -> Image.Image:
        """Return the image that stands for a picture, as RGB and cut to its size: the same one for the same picture.

        Raises:
            ResultError: It cannot be read any more.
        """
        path = self._images[int.from_bytes(picture.identity) % len(self._images)]
        try:
            with _open(path) as image:
                return ImageOps.fit(_in_rgb(ImageOps.exif_transpose(image)), picture.size)
        # What a reader meets in a broken file, it raises in a way of its own.
        except Exception as error:
            name = printable(path.name)
            raise ResultError(f"The image {name} cannot be read any more; mend it, or start without it.") from error


def _is_image(path: Path) -> bool:
    """Tell whether a file is an image by its beginning.

    Raises:
        SettingsError: It has more pixels than Pillow thinks sane.
    """
    try:
        with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning), _open(path):
            return True
    except _BOMBS as error:
        most = f"{Image.MAX_IMAGE_PIXELS:,} pixels"
        raise SettingsError(f"The image {printable(path.name)} has more than {most}; scale it down.") from error
    except Exception:
        return False


def _open(path: Path) -> Image.Image:
    # Whoever opens a pipe waits for its other end.
    if not path.is_file():
        raise FileNotFoundError(path)
    Image.init()
    # Reading EPS means to run Ghostscript, a program, on the file.
    return Image.open(path, formats=[name for name in Image.ID if name != "EPS"])


def _in_rgb(image: Image.Image) -> Image.Image:
    shown = _in_eight_bits(image) if image.mode.startswith(("I", "F")) else image
    if shown.has_transparency_data:
        ground = Image.new("RGBA", shown.size, _GROUND)
        shown = Image.alpha_composite(ground, shown.convert("RGBA"))
    return shown.convert("RGB")


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """Return an image of deeper levels in 256, which Pillow's own conversion would take for overexposed."""
    levels = image.convert("F")
    found = cast("tuple[float, float]", levels.getextrema())
    darkest, brightest = (0, _DEEPEST) if image.mode.startswith("I;16") else found
    scale = 255 / ((brightest - darkest) or 1)
    return levels.point(lambda level: level * scale - darkest * scale).convert("L")
