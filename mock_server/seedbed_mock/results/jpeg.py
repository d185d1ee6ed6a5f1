"""An image as a JPEG file that tells, to whoever reads its metadata, what was asked for and that Seedbed made it."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from PIL import ExifTags, Image
from seedbed_schemas import __version__

if TYPE_CHECKING:
    from seedbed_mock.results.picture import Picture

QUALITY: Final = 85
"""Pillow's measure of how much of the image is kept."""

_SOFTWARE = f"Seedbed {__version__}"
_MARK = "Made by Seedbed, a test bed. No model was asked."

_MOST_CHARACTERS = 64_000
"""A segment of a JPEG file has 65,533 bytes; the rest is for what stands around a request."""

_CUT = "... (cut)"

_XMP = """\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" \
xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/">\
<xmp:CreatorTool>{software}</xmp:CreatorTool><photoshop:Instructions>{mark}</photoshop:Instructions>\
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{request}</rdf:li></rdf:Alt></dc:description>\
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>"""


def encode(image: Image.Image, picture: Picture) -> bytes:
    """Return an RGB image as a JPEG file.

    Args:
        image: The image.
        picture: What it shows.
    """
    content = io.BytesIO()
    image.save(content, "JPEG", quality=QUALITY, comment=_MARK.encode(), exif=_exif(picture), xmp=_xmp(picture))
    return content.getvalue()


def _exif(picture: Picture) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = _cut(picture.request)
    exif[ExifTags.Base.Software] = _SOFTWARE
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"ASCII\0\0\0" + _MARK.encode()
    return exif


def _xmp(picture: Picture) -> bytes:
    request = _cut(escape(picture.request), partial=r"&[a-z]*$")
    return _XMP.format(software=_SOFTWARE, mark=_MARK, request=request).encode()


def _cut(text: str, partial: str = "") -> str:
    """Return a text of a length that fits, without a part of what may not be cut in two at its end."""
    if len(text) <= _MOST_CHARACTERS:
        return text
    return re.sub(partial, "", text[: _MOST_CHARACTERS - len(_CUT)]) + _CUT
