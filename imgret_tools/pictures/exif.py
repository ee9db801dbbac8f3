"""What a camera wrote beside the pixels: which way is up, when, with what and where.

Every kind of damage occurs in these tags, and none of it may cost the picture: what is nonsense comes back as None.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from PIL import Image, ImageFile

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
SWAPPING = (5, 6, 7, 8)
"""The orientations that exchange width and height."""


@dataclass(frozen=True, slots=True)
class Shot:
    """When (local time, ISO 8601), with what and where (degrees, north and east positive) a picture was taken."""

    taken: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None


def orientation(image: ImageFile.ImageFile) -> int:
    """The EXIF orientation (1 to 8) that the decoder of `image`, already loaded, has left to be applied."""
    if image.format in ("HEIF", "TIFF"):
        return 1
    if image.format == "AVIF" and "exif" not in image.info:
        return 1  # the container says upright; an XMP tag must not overrule it
    with suppress(Exception):
        value = image.getexif().get(0x0112)
        return value if value in TURNS else 1
    return 1


def shot(image: ImageFile.ImageFile) -> Shot:
    """What the EXIF tags of `image`, already loaded, say about its making."""
    taken = camera = latitude = longitude = None
    with suppress(Exception):
        tags = image.getexif()
        camera = _camera(_words(tags.get(0x010F)), _words(tags.get(0x0110)))
        taken = _moment(tags.get(0x0132))
        taken = _moment(tags.get_ifd(0x8769).get(0x9003)) or taken
        place = tags.get_ifd(0x8825)
        latitude = _degrees(place.get(2), place.get(1), "NS", 90)
        longitude = _degrees(place.get(4), place.get(3), "EW", 180)
    if latitude is None or longitude is None:
        latitude = longitude = None
    return Shot(taken, camera, latitude, longitude)


def _words(value: object) -> str:
    """Text of at most 100 characters without control characters; empty when `value` is none."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value if isinstance(value, str) else ""
    text = text.encode("utf-8", "replace").decode()  # lone surrogates cannot be stored
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:100]


def _camera(make: str, model: str) -> str | None:
    """Make and model without saying the make twice ("NIKON CORPORATION", "NIKON D90" -> "NIKON D90")."""
    repeats = bool(make and model) and model.casefold().startswith(make.split()[0].casefold())
    return (model if repeats else f"{make} {model}".strip())[:100] or None


def _moment(value: object) -> str | None:
    """EXIF's `YYYY:MM:DD HH:MM:SS` as ISO 8601; None when it is no date."""
    found = re.match(r"(\d{4})[:/.-](\d\d)[:/.-](\d\d)[ T](\d\d):(\d\d):(\d\d)", _words(value))
    with suppress(ValueError):
        return datetime(*map(int, found.groups())).isoformat() if found else None  # type: ignore[arg-type]
    return None


def _degrees(parts: object, side: object, sides: str, limit: float) -> float | None:
    """Degrees, minutes, seconds and a letter of `sides` as signed degrees; None when missing or out of range."""
    letter = _words(side).upper()[:1]
    if not isinstance(parts, tuple) or not 1 <= len(parts) <= 3 or not letter or letter not in sides:
        return None
    try:
        degrees: float = sum(float(part) / 60**power for power, part in enumerate(parts))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not math.isfinite(degrees) or not 0 <= degrees <= limit:
        return None
    return round(-degrees if letter == sides[1] else degrees, 7)
