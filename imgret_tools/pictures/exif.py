"""What a camera wrote beside the pixels: which way is up, when, with what and where; and the date of those that say none.

Every kind of damage occurs in these tags, and none of it may cost the picture: what is nonsense comes back as None.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from PIL import Image

from imgret_tools.pictures.wording import line, moment

# EXIF 2.32, tag 0x0112 Orientation: how to bring the stored pixels upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_NAMED = re.compile(
    r"(?<![0-9a-zA-Z])(?:[A-Za-z]{1,12}[-_ ]?)?(?<!\d)((?:19|20)\d\d)([-_. :]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])"
    r"(?:(?:[-_ T,.]{1,3}|[ _-]at[ _-]|(?<=\d)T)(\d\d|\d(?=[.:h]))[-_.: h]?([0-5]\d)(?:[-_.: m]?([0-5]\d))?(?:\d{3})?"
    r"(?:\s?([AaPp])[Mm])?)?(?![0-9])"
)

SWAPPING = (5, 6, 7, 8)
"""The orientations that exchange width and height."""


@dataclass(frozen=True, slots=True)
class Shot:
    """When (local time, ISO 8601), with what and where (degrees, north and east positive) a picture was taken.

    `digitized` is when a scanner or a camera made the file.
    """

    taken: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    digitized: str | None = None


def orientation(image: Image.Image) -> int:
    """The EXIF orientation (1 to 8) that the decoder of `image`, already loaded, has left to be applied."""
    if image.format in ("HEIF", "TIFF", "JXL"):
        return 1
    if image.format == "AVIF" and "exif" not in image.info:
        return 1  # the container says upright; an XMP tag must not overrule it
    with suppress(Exception):
        value = image.getexif().get(0x0112)
        return value if value in TURNS else 1
    return 1


def shot(tags: Image.Exif) -> Shot:
    """What EXIF tags say about a picture's making. DateTime (0x0132) is the last editor's and tells nothing of it."""
    taken = camera = latitude = longitude = digitized = None
    with suppress(Exception):
        camera = _camera(line(tags.get(0x010F)), line(tags.get(0x0110)))
    with suppress(Exception):
        times = tags.get_ifd(0x8769)
        taken, digitized = moment(times.get(0x9003)), moment(times.get(0x9004))
    with suppress(Exception):
        place = tags.get_ifd(0x8825)
        latitude = _degrees(place.get(2), place.get(1), "NS", 90)
        longitude = _degrees(place.get(4), place.get(3), "EW", 180)
    if latitude is None or longitude is None:
        latitude = longitude = None
    return Shot(taken, camera, latitude, longitude, digitized)


def date_in_name(name: str) -> str | None:
    """The date, and the time where there is one, that a camera or a phone put into a file's name; None without one.

    `IMG_20190704_123456`, `2019-07-04 12.34.56`, `PXL_20190704_123456789`, `IMG-20190704-WA0001`, ...
    """
    for found in _NAMED.finditer(name):
        year, month, day, hour, minute, second, half = found.group(1, 3, 4, 5, 6, 7, 8)
        with suppress(ValueError):
            day_alone = datetime(int(year), int(month), int(day))
            if day_alone > datetime.now() + timedelta(days=2):
                continue
            with suppress(ValueError):
                hours = int(hour or 0) % 12 + 12 * (half.lower() == "p") if half else int(hour or 0)
                return day_alone.replace(hour=hours, minute=int(minute or 0), second=int(second or 0)).isoformat()
            return day_alone.isoformat()
    return None


def _camera(make: str, model: str) -> str | None:
    """Make and model without saying the make twice ("NIKON CORPORATION", "NIKON D90" -> "NIKON D90")."""
    repeats = bool(make and model) and model.casefold().startswith(make.split()[0].casefold())
    return (model if repeats else f"{make} {model}".strip())[:100] or None


def _degrees(parts: object, side: object, sides: str, limit: float) -> float | None:
    """Degrees, minutes, seconds and a letter of `sides` as signed degrees; None when missing or out of range."""
    letter = line(side).upper()[:1]
    if not isinstance(parts, tuple) or not 1 <= len(parts) <= 3 or not letter or letter not in sides:
        return None
    try:
        degrees: float = sum(float(part) / 60**power for power, part in enumerate(parts))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not math.isfinite(degrees) or not 0 <= degrees <= limit:
        return None
    return round(-degrees if letter == sides[1] else degrees, 7)
