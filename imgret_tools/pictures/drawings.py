"""SVG drawings as pictures, drawn by resvg. A drawing is a program of a stranger: it reads no file and no address."""

from __future__ import annotations

import gzip
import math
import re
from io import BytesIO
from xml.etree import ElementTree

from imgret_tools.errors import ImageError

LONGEST = 1024
"""The longer side in pixels at which a drawing is drawn when nothing else is asked for."""

_MOST = 20_000_000
_PIXELS = {"": 1.0, "px": 1.0, "pt": 4 / 3, "pc": 16.0, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96.0}
_LENGTH = re.compile(r"\s*\+?(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)\s*(px|pt|pc|mm|cm|in|)\s*")
_URL = re.compile(r"url\(\s*['\"]?(?!['\"]?\s*#)[^)]*\)", re.IGNORECASE)


def drawn(data: bytes, *, longest: int = LONGEST) -> tuple[bytes, int, int]:
    """The drawing as PNG bytes with its longer side `longest` pixels, and its own width and height in CSS pixels.

    Raises:
        ImageError: it cannot be read, or nothing is to be seen in it.
    """
    import resvg_py

    root = _parsed(data)
    width, height = _size(root)
    scale = longest / max(width, height)
    text = ElementTree.tostring(root, encoding="unicode")
    png = resvg_py.svg_to_bytes(
        svg_string=text, width=max(1, round(width * scale)), height=max(1, round(height * scale)), dpi=96.0
    )
    return bytes(png), max(1, round(width)), max(1, round(height))


def _parsed(data: bytes) -> ElementTree.Element:
    """The drawing without anything that leads out of it: files, addresses, drawings inside pictures."""
    if data[:2] == b"\x1f\x8b":
        with gzip.open(BytesIO(data)) as file:
            data = file.read(_MOST + 1)
    if len(data) > _MOST:
        raise ImageError("the drawing is longer than {most:.0f} MB; make it simpler", most=_MOST / 1e6)
    try:
        root = ElementTree.fromstring(data)  # expat neither loads external entities nor lets them multiply
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ImageError("broken SVG file: {error}", error=error) from error
    if root.tag.rpartition("}")[2] != "svg":
        raise ImageError(
            "not a drawing: its outermost element is {element!r}, not svg",
            element=root.tag.rpartition("}")[2][:40],
        )
    if not root.tag.startswith("{"):
        raise ImageError("broken SVG file: it lacks the namespace xmlns='http://www.w3.org/2000/svg'")
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            if name.rpartition("}")[2] == "href":
                inside = value.strip().lower()
                picture = inside.startswith("data:image/") and not inside.startswith("data:image/svg")
                if not inside.startswith("#") and not picture:
                    del element.attrib[name]
            elif "url(" in value.lower():
                element.attrib[name] = _URL.sub("none", value)
        if element.text and "url(" in element.text.lower():
            element.text = _URL.sub("none", element.text)
    return root


def _size(root: ElementTree.Element) -> tuple[float, float]:
    """Width and height in CSS pixels: as said, else by the view box, else 100 each as in resvg."""
    box = [float(part) for part in re.findall(r"-?\d+\.?\d*(?:[eE][+-]?\d+)?|-?\.\d+", root.get("viewBox", ""))]
    sides = box[2:] if len(box) == 4 and all(0 < side < math.inf for side in box[2:]) else [0.0, 0.0]
    width, height = (_pixels(root.get(name, "")) for name in ("width", "height"))
    if sides[0]:
        width, height = (
            width or (height * sides[0] / sides[1] if height else sides[0]),
            height or (width * sides[1] / sides[0] if width else sides[1]),
        )
    return width or 100.0, height or 100.0


def _pixels(text: str) -> float:
    """A length in CSS pixels; 0 for a share or nothing at all."""
    found = _LENGTH.fullmatch(text)
    length = float(found[1]) * _PIXELS[found[2]] if found else 0.0
    return length if math.isfinite(length) else 0.0
