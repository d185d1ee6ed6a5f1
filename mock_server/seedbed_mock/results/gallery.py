"""A directory of images that the server uses as results instead of drawings."""

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


_BACKGROUND = (250, 250, 245, 255)
"""Colour behind transparent images."""

_MAX_LEVEL = 65_535
_BOMBS = (Image.DecompressionBombWarning, Image.DecompressionBombError)


class Gallery:
    """The images of a directory, without subdirectories and hidden files.

    Args:
        folder: Directory of the images; other files in it are ignored.

    Raises:
        SettingsError: The directory cannot be read, contains no image, or contains one with too many pixels.
    """

    def __init__(self, folder: Path) -> None:
        try:
            # Sorted, so that the same request gets the same image on every machine.
            paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SettingsError(f"The result directory {printable(str(folder))} cannot be read: {reason}.") from error
        self._images = [path for path in paths if _is_image(path)]
        if not self._images:
            raise SettingsError(f"The result directory {printable(str(folder))} contains no image; add one or more.")

    def show(self, picture: Picture) -> Image.Image:
        """Return the image for a picture, in RGB and cropped to its size; the same picture gets the same image.

        Raises:
            ResultError: The image can no longer be read.
        """
        path = self._images[int.from_bytes(picture.identity) % len(self._images)]
        try:
            with _open(path) as image:
                return ImageOps.fit(_to_rgb(ImageOps.exif_transpose(image)), picture.size)
        # Pillow's decoders raise errors of many types for a broken file.
        except Exception as error:
            name = printable(path.name)
            raise ResultError(
                f"The image {name} can no longer be read; repair it, or restart the server without it."
            ) from error


def _is_image(path: Path) -> bool:
    """Return whether a file starts like an image.

    Raises:
        SettingsError: The image has so many pixels that Pillow takes it for a decompression bomb.
    """
    try:
        with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning), _open(path):
            return True
    except _BOMBS as error:
        most = f"{Image.MAX_IMAGE_PIXELS:,} pixels"
        raise SettingsError(f"The image {printable(path.name)} has more than {most}; reduce its size.") from error
    except Exception:
        return False


def _open(path: Path) -> Image.Image:
    # Opening a pipe would wait for a writer.
    if not path.is_file():
        raise FileNotFoundError(path)
    Image.init()
    # Pillow reads EPS by running Ghostscript, which executes code in the file.
    return Image.open(path, formats=[name for name in Image.ID if name != "EPS"])


def _to_rgb(image: Image.Image) -> Image.Image:
    converted = image
    if image.mode.startswith(("I", "F")):
        # Pillow's own conversion to 256 levels would clip all levels above 255.
        levels = image.convert("F")
        found = cast("tuple[float, float]", levels.getextrema())
        darkest, brightest = (0, _MAX_LEVEL) if image.mode.startswith("I;16") else found
        scale = 255 / ((brightest - darkest) or 1)
        converted = levels.point(lambda level: level * scale - darkest * scale).convert("L")
    if converted.has_transparency_data:
        background = Image.new("RGBA", converted.size, _BACKGROUND)
        converted = Image.alpha_composite(background, converted.convert("RGBA"))
    return converted.convert("RGB")
