"""JPEGs that lack their end marker: whether all their pixels are there all the same.

The decoder fills what is missing by itself and does not say so. So the file is decoded twice, with two different fillings
behind its last byte: where every pixel is in the file, the filling is not looked at and both give the same picture. Of a
progressive file all scans must have arrived too, since one that stops between two of them is only less sharp.
"""

from __future__ import annotations

from io import BytesIO

from PIL import JpegImagePlugin

_END = b"\xff\xd9"
# As bits of a Huffman code: the shortest codes over and over, and long ones.
_FILLINGS = (b"\0" * 4096, b"\xb6\xdb\x6d" * 1365)


def with_end(data: bytes) -> bytes | None:
    """`data`, a whole JPEG file, with an end marker if that is all that it lacks; None when pixels are missing too."""
    data = data[:-1] if data.endswith(b"\xff") else data  # the first half of the marker
    if not _all_scans(data):
        return None
    try:
        first, second = (_pixels(data + filling + _END) for filling in _FILLINGS)
    except (OSError, SyntaxError, ValueError):
        return None
    return data + _END if first == second else None


def _pixels(data: bytes) -> bytes:
    """Every pixel: at reduced scale the last coefficients would not be looked at."""
    return JpegImagePlugin.JpegImageFile(BytesIO(data), "").tobytes()


def _all_scans(data: bytes) -> bool:
    """Whether a progressive file holds all coefficients of all components to the last bit; true for a baseline one.

    ITU-T T.81, B.2.2 and B.2.3: the frame lists the components, each scan some of them, its band and its last bit.
    """
    components: set[int] = set()
    missing: dict[int, set[int]] = {}
    at = 2
    while (at := data.find(b"\xff", at)) >= 0 and at + 4 <= len(data):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD9:
            at += 1 if marker == 0xFF else 2
            continue
        body = data[at + 4 : at + 2 + length]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if marker not in (0xC2, 0xC6, 0xCA, 0xCE):
                return True
            components = set(body[6::3])
            missing = {component: set(range(64)) for component in components}
        elif marker == 0xDA and body:
            count = body[0]
            band = body[1 + 2 * count : 4 + 2 * count]
            if len(band) == 3 and not band[2] & 15:
                for component in body[1 : 1 + 2 * count : 2]:
                    missing.get(component, set()).difference_update(range(band[0], band[1] + 1))
        at += 2 + length
    return bool(components) and not any(missing.values())
