"""What people wrote into a picture: keywords, a rating, a caption, a date. From XMP, IPTC and EXIF, in that order.

Every kind of damage and malice occurs here too, and none of it may cost the picture: what cannot be read says nothing.
Sources: XMP part 1 (ISO 16684-1) and its namespaces, IPTC-IIM 4.2 (datasets 2:25, 2:55, 2:60, 2:120), EXIF 2.32.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from xml.etree import ElementTree

from PIL import ImageFile, IptcImagePlugin, TiffImagePlugin

_LONGEST_XMP = 4_000_000
_MOST_KEYWORDS = 100
_DC = "{http://purl.org/dc/elements/1.1/}"
_XMP = "{http://ns.adobe.com/xap/1.0/}"
_EXIF = "{http://ns.adobe.com/exif/1.0/}"
_PHOTOSHOP = "{http://ns.adobe.com/photoshop/1.0/}"
_MICROSOFT = "{http://ns.microsoft.com/photo/1.0/}"
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_STARS_OF_PERCENT = ((1, 1), (25, 2), (50, 3), (75, 4), (99, 5))
# What cameras put into ImageDescription by themselves.
_NO_CAPTION = re.compile(
    r"(?:.*DIGITAL CAMERA|DCIM.*|SONY DSC|DSC\d*|default|Untitled|Exif_JPEG_PICTURE)\s*", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Wording:
    """Keywords in their order, a rating (-1 rejected, 0 none, 1 to 5 stars), a caption of one line.

    `taken` is when the picture was taken, `digitized` when it was scanned or the file was made: local time, ISO 8601.
    """

    keywords: tuple[str, ...] = ()
    rating: int | None = None
    caption: str | None = None
    taken: str | None = None
    digitized: str | None = None


def wording(image: ImageFile.ImageFile) -> Wording:
    """What is written in `image`, already loaded."""
    root: ElementTree.Element | None = None
    iptc: Mapping[tuple[int, int], list[bytes]] = {}
    tags: Mapping[int, object] = {}
    with suppress(Exception):
        root = _xmp(image)
    with suppress(Exception):
        iptc = _iptc(image)
    with suppress(Exception):
        tags = dict(image.getexif())
    keywords: tuple[str, ...] = ()
    rating = caption = taken = digitized = None
    with suppress(Exception):
        windows = line(tags.get(0x9C9E), 4000, "utf-16-le").split(";")
        keywords = _distinct([*_listed(root, f"{_DC}subject"), *_decoded(iptc, (2, 25), 100), *windows])
    with suppress(Exception):
        rating = _rating(root, tags)
    with suppress(Exception):
        own = line(tags.get(0x010E), 2000)
        caption = (
            next(iter(_listed(root, f"{_DC}description")), "")
            or next(iter(_decoded(iptc, (2, 120), 2000)), "")
            or ("" if _NO_CAPTION.fullmatch(own) else own)
            or None
        )
    with suppress(Exception):
        taken = moment(_one(root, f"{_EXIF}DateTimeOriginal")) or moment(_one(root, f"{_PHOTOSHOP}DateCreated"))
        taken = taken or _iptc_moment(iptc)
    with suppress(Exception):
        digitized = moment(_one(root, f"{_EXIF}DateTimeDigitized")) or moment(_one(root, f"{_XMP}CreateDate"))
    return Wording(keywords, rating, caption, taken, digitized)


def line(value: object, limit: int = 100, encoding: str = "utf-8") -> str:
    """Text of one line of at most `limit` characters without control characters; empty when `value` is none."""
    if isinstance(value, tuple) and value and all(isinstance(part, int) and 0 <= part < 256 for part in value):
        value = bytes(value)
    text = value.decode(encoding, "replace") if isinstance(value, bytes) else value if isinstance(value, str) else ""
    text = text[: 4 * limit].encode("utf-8", "replace").decode()  # lone surrogates cannot be stored
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:limit]


def moment(value: object) -> str | None:
    """A date of EXIF (`YYYY:MM:DD HH:MM:SS`) or XMP (ISO 8601) as ISO 8601 local time; None when it is no date."""
    found = re.match(r"(\d{4})[:/.-](\d\d)[:/.-](\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d))?)?", line(value))
    if found is None:
        return None
    with suppress(ValueError):
        moment = datetime(*(int(part or 0) for part in found.groups()))  # type: ignore[arg-type]
        return moment.isoformat() if moment.year >= 1000 else None
    return None


def _xmp(image: ImageFile.ImageFile) -> ElementTree.Element | None:
    packet: object = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if not packet and isinstance(image, TiffImagePlugin.TiffImageFile):
        packet = image.tag_v2.get(700)
    if isinstance(packet, str):
        packet = packet.encode("utf-8", "replace")
    if not isinstance(packet, bytes) or len(packet) > _LONGEST_XMP:
        return None
    if b"<!" in packet.replace(b"<!--", b"") or b"<\0!\0" in packet:  # no XMP needs a DOCTYPE; only attacks have one
        return None
    start, end = packet.find(b"<"), packet.rfind(b">")
    return ElementTree.fromstring(packet[start : end + 1])


def _one(root: ElementTree.Element | None, name: str) -> str:
    """The first value of a simple property, written as an attribute or as an element."""
    if root is not None:
        for element in root.iter():
            if name in element.attrib:
                return element.attrib[name]
            if element.tag == name:
                return element.text or ""
    return ""


def _listed(root: ElementTree.Element | None, name: str) -> Iterator[str]:
    """The values of a list or of a text in several languages, `x-default` first."""
    if root is None:
        return
    for element in root.iter(name):
        items = sorted(
            element.iter(f"{_RDF}li"),
            key=lambda item: item.get("{http://www.w3.org/XML/1998/namespace}lang", "x-default") != "x-default",
        )
        for text in [item.text for item in items] or [element.text]:
            if found := line(text, 2000):
                yield found


def _iptc(image: ImageFile.ImageFile) -> dict[tuple[int, int], list[bytes]]:
    found = IptcImagePlugin.getiptcinfo(image) or {}
    return {
        key: [value for value in (values if isinstance(values, list) else [values]) if isinstance(value, bytes)]
        for key, values in found.items()
    }


def _decoded(iptc: Mapping[tuple[int, int], list[bytes]], key: tuple[int, int], limit: int) -> Iterator[str]:
    for value in iptc.get(key, []):
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = value.decode("cp1252", "replace")
        if found := line(text, limit):
            yield found


def _iptc_moment(iptc: Mapping[tuple[int, int], list[bytes]]) -> str | None:
    day = next(iter(iptc.get((2, 55), [])), b"").decode("ascii", "ignore")
    clock = next(iter(iptc.get((2, 60), [])), b"").decode("ascii", "ignore")
    if not re.fullmatch(r"\d{8}", day):
        return None
    time = f" {clock[:2]}:{clock[2:4]}:{clock[4:6]}" if re.match(r"\d{6}", clock) else ""
    return moment(f"{day[:4]}-{day[4:6]}-{day[6:]}{time}")


def _rating(root: ElementTree.Element | None, tags: Mapping[int, object]) -> int | None:
    stars: object = _one(root, f"{_XMP}Rating") or tags.get(0x4746)
    if not stars and (percent := _one(root, f"{_MICROSOFT}Rating")):
        stars = max((star for least, star in _STARS_OF_PERCENT if float(percent) >= least), default=0)
    if stars is None or stars == "":
        return None
    value = float(stars)  # type: ignore[arg-type]
    return round(value) if -1 <= value <= 5 else None


def _distinct(words: Iterable[str]) -> tuple[str, ...]:
    """Each keyword once, letter case aside, in order."""
    found: dict[str, str] = {}
    for word in words:
        if clean := line(word):
            found.setdefault(clean.casefold(), clean)
    return tuple(found.values())[:_MOST_KEYWORDS]
