"""Cameras' raw files by the preview that the camera embedded; developed only where it left none worth looking at."""

from __future__ import annotations

from io import BytesIO
from typing import IO

from PIL import Image, JpegImagePlugin

from imgret_tools.errors import ImageError, own_words
from imgret_tools.pictures import exif

SMALL = 480
"""A preview whose shorter side has fewer pixels is only a thumbnail: the raw pixels are developed instead."""

# LibRaw's flip as the EXIF orientation of the same turn.
_TURNS = {3: 3, 5: 8, 6: 6}


def preview(file: IO[bytes], *, max_megapixels: int) -> tuple[Image.Image, int, tuple[int, int]]:
    """The preview in a raw file, the orientation still to apply to it, and the raw pixels' size as stored.

    The preview is a JPEG opened but not decoded, or an RGB picture.

    Raises:
        ImageError: it is no raw file, of a camera that LibRaw does not know, or too large to be developed.
    """
    import rawpy

    file.seek(0)
    name = getattr(file, "name", None)
    try:
        # By its name only the preview is read of a file, not its tens of megabytes.
        with rawpy.imread(name if isinstance(name, str) else BytesIO(file.read())) as raw:
            sizes = raw.sizes
            width, height, turn = sizes.width, sizes.height, _TURNS.get(sizes.flip, 1)
            found = _thumbnail(raw)
            if found is None or min(found.size) < min(SMALL, width, height):
                if width * height > max_megapixels * 1e6:
                    raise ImageError(
                        "{width} x {height} raw pixels without a preview, limit {max_megapixels} megapixels",
                        width=width,
                        height=height,
                        max_megapixels=max_megapixels,
                    )
                pixels = raw.postprocess(half_size=min(width, height) > 4 * SMALL, use_camera_wb=True, user_flip=0)
                return Image.fromarray(pixels), turn, (width, height)
    except (rawpy.LibRawError, OSError, ValueError) as error:
        raise ImageError("broken or unknown RAW file: {reason}", reason=own_words(error)) from error
    own = exif.orientation(found)
    lying = found.width > found.height
    if own == 1 and turn in exif.SWAPPING and lying != (width > height):
        turn = 1  # the camera has turned the preview already
    return found, own if own != 1 else turn, (width, height)


def _thumbnail(raw: object) -> Image.Image | None:
    import rawpy

    try:
        thumb = raw.extract_thumb()  # type: ignore[attr-defined]
        if thumb.format == rawpy.ThumbFormat.JPEG:
            return JpegImagePlugin.JpegImageFile(BytesIO(thumb.data), "")
        return Image.fromarray(thumb.data) if thumb.format == rawpy.ThumbFormat.BITMAP else None
    except (rawpy.LibRawError, OSError, SyntaxError, ValueError, TypeError):
        return None
