"""Pictures of every odd kind, made on the spot: one function a kind, each writes `path` and returns it.

They all show the same scene (`corners`): red top left, green top right, blue bottom left, white bottom right, so that
one look at four pixels tells both the colours and which way is up.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import IFDRational

pillow_heif.register_heif_opener()

SIZE = (64, 48)
CORNERS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))
"""Colours of the scene: top left, top right, bottom left, bottom right."""

# How a camera must store the scene so that a reader who obeys the tag sees it upright: the inverse of each EXIF turn.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}

SAVERS: dict[str, dict[str, Any]] = {
    ".jpg": {"quality": 95, "subsampling": 0},
    ".png": {},
    ".webp": {"lossless": True},
    ".gif": {},
    ".tif": {},
    ".bmp": {},
    ".jp2": {},
    ".ppm": {},
    ".heic": {"quality": 95, "chroma": 444},
    ".avif": {"quality": 95, "subsampling": "4:4:4"},
}
"""Every format with the options that keep its colours."""


def corners(size: tuple[int, int] = SIZE) -> Image.Image:
    """The scene in RGB."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    for index, colour in enumerate(CORNERS):
        row, column = divmod(index, 2)
        pixels[row * height // 2 : (row + 1) * height // 2, column * width // 2 : (column + 1) * width // 2] = colour
    return Image.fromarray(pixels)


def noise(size: tuple[int, int] = SIZE, *, seed: int = 0) -> Image.Image:
    """Random pixels, which no coder can make small: for truncation and size tests."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8))


def seen(image: Image.Image) -> tuple[tuple[int, int, int], ...]:
    """The colours in the middle of the four quarters, in the order of `CORNERS`."""
    width, height = image.size
    return tuple(image.getpixel((width * x // 4, height * y // 4)) for y in (1, 3) for x in (1, 3))  # type: ignore[misc]


def in_format(path: Path, image: Image.Image | None = None, **options: Any) -> Path:
    """The scene (or `image`) in the format of `path`'s suffix."""
    (image or corners()).save(path, **(SAVERS[path.suffix] | options))
    return path


def exif(orientation: int = 1, **tags: Any) -> Image.Exif:
    """EXIF with an orientation and any of make, model, datetime, original, gps."""
    data = Image.Exif()
    data[0x0112] = orientation
    for name, tag in (("make", 0x010F), ("model", 0x0110), ("datetime", 0x0132)):
        if name in tags:
            data[tag] = tags[name]
    if "original" in tags:
        data.get_ifd(0x8769)[0x9003] = tags["original"]
    if "gps" in tags:
        data.get_ifd(0x8825).update(tags["gps"])
    return data


def gps(latitude: tuple[float, ...], longitude: tuple[float, ...], sides: str = "NE") -> dict[int, object]:
    """The GPS tags of a place, for `exif`."""
    return {1: sides[0], 2: tuple(map(IFDRational, latitude)), 3: sides[1], 4: tuple(map(IFDRational, longitude))}


def rotated(path: Path, orientation: int, image: Image.Image | None = None) -> Path:
    """The scene stored turned, with the tag that sets it upright; the container's own turn for HEIF and AVIF."""
    turn = STORED[orientation]
    stored = image or corners()
    stored = stored if turn is None else stored.transpose(turn)
    tags = exif(orientation)
    return in_format(path, stored, exif=tags.tobytes() if path.suffix == ".heic" else tags)


def rotated_jpeg(path: Path, orientation: int) -> Path:
    """A JPEG as a phone held sideways writes it."""
    return rotated(path, orientation)


def heic_with_stale_tag(path: Path, orientation: int = 6) -> Path:
    """An upright HEIC whose EXIF tag says otherwise, as converters leave behind: the container decides."""
    tags = exif(orientation).tobytes()
    # The encoder turns the container by the tag it is given, so the tag is changed in the finished file.
    marked = exif(1).tobytes()
    in_format(path, exif=marked)
    data = path.read_bytes()
    assert data.count(marked[6:]) == 1
    path.write_bytes(data.replace(marked[6:], tags[6:]))
    return path


def mpo(path: Path) -> Path:
    """A two-view MPO as stereo cameras and phones with depth write it."""
    other = Image.new("RGB", SIZE, "black")
    corners().save(path, "MPO", save_all=True, append_images=[other], quality=95, subsampling=0)
    return path


def animated(path: Path) -> Path:
    """GIF, WebP or APNG whose first frame is the scene and whose second is black."""
    options: dict[str, Any] = {"lossless": True} if path.suffix == ".webp" else {}
    corners().save(path, save_all=True, append_images=[Image.new("RGB", SIZE, "black")], duration=100, **options)
    return path


def multipage_tiff(path: Path) -> Path:
    """The scene, then a black page."""
    corners().save(path, save_all=True, append_images=[Image.new("RGB", SIZE, "black")])
    return path


def cmyk(path: Path, *, profile: bytes | None = None) -> Path:
    """The scene in CMYK (JPEG in Adobe's inverted polarity, TIFF plain)."""
    options: dict[str, Any] = {"icc_profile": profile} if profile else {}
    if path.suffix == ".jpg":
        options |= {"quality": 95, "subsampling": 0}
    corners().convert("CMYK").save(path, **options)
    return path


def cmyk_jpeg(path: Path) -> Path:
    """An Adobe CMYK JPEG without a profile."""
    return cmyk(path)


YCCK_COLOUR = (40, 90, 200)


def ycck_jpeg(path: Path) -> Path:
    """An Adobe YCCK JPEG of one colour (a mid blue), built from a CMYK one by naming its transform.

    Adobe stores inks inverted, and libjpeg takes 255 minus what is stored for the RGB of its YCC: so that is the ink.
    """
    red, green, blue = (255 - part for part in YCCK_COLOUR)
    stored = np.empty((48, 64, 4), np.uint8)
    stored[..., 0] = round(0.299 * red + 0.587 * green + 0.114 * blue)
    stored[..., 1] = round(128 - 0.168736 * red - 0.331264 * green + 0.5 * blue)
    stored[..., 2] = round(128 + 0.5 * red - 0.418688 * green - 0.081312 * blue)
    stored[..., 3] = 255  # no black ink
    # Pillow inverts on saving, hence the 255 minus.
    Image.frombytes("CMYK", (64, 48), (255 - stored).tobytes()).save(path, quality=95, subsampling=0)
    data = path.read_bytes()
    adobe = data.index(b"Adobe")
    path.write_bytes(data[: adobe + 11] + b"\x02" + data[adobe + 12 :])
    return path


def palette_png(path: Path) -> Path:
    """Palette colours with a half see-through one: the bottom right quarter shows the ground."""
    image = corners().quantize(4)
    seethrough = image.getpixel((SIZE[0] - 2, SIZE[1] - 2))
    image.save(path, transparency=bytes(0 if index == seethrough else 255 for index in range(4)))
    return path


def transparent_gif(path: Path) -> Path:
    """A GIF with one see-through index in the bottom right quarter."""
    image = corners().quantize(4)
    image.save(path, transparency=image.getpixel((SIZE[0] - 2, SIZE[1] - 2)))
    return path


def see_through(path: Path, mode: str = "RGBA") -> Path:
    """RGBA or LA: black at half opacity on the left, fully see-through black on the right."""
    alpha = np.zeros((48, 64), np.uint8)
    alpha[:, :32] = 128
    image = Image.new(mode, SIZE, 0)
    image.putalpha(Image.fromarray(alpha))
    options: dict[str, Any] = {"lossless": True, "exact": True} if path.suffix == ".webp" else {}
    image.save(path, **options)
    return path


def one_bit(path: Path) -> Path:
    """Black left, white right, one bit a pixel."""
    pixels = np.zeros((48, 64), bool)
    pixels[:, 32:] = True
    Image.fromarray(pixels).save(path)
    return path


def grey(path: Path, left: float, right: float, dtype: str) -> Path:
    """Two flat halves of any number type: uint16 (PNG, TIFF, PGM), int32 and float32 (TIFF)."""
    pixels = np.empty((48, 64), dtype)
    pixels[:, :32], pixels[:, 32:] = left, right
    Image.fromarray(pixels).save(path)
    return path


def twelve_bit_tiff(path: Path) -> Path:
    """Grey of twelve bits a sample, packed: 0 on the left, 2048 of 4095 on the right."""
    row = struct.pack(">3B", 0, 0, 0) * 16 + bytes((0x80, 0x08, 0x00)) * 16
    return raw_tiff(path, row * 48, bits=12)


def white_is_zero_tiff(path: Path) -> Path:
    """16-bit grey where 0 means white: white left, black right."""
    pixels = np.zeros((48, 64), "<u2")
    pixels[:, 32:] = 65535
    return raw_tiff(path, pixels.tobytes(), bits=16, photometric=0)


def raw_tiff(path: Path, data: bytes, *, bits: int, photometric: int = 1) -> Path:
    """A one-strip, uncompressed grey TIFF of 64 x 48 written tag by tag."""
    tags = [
        (256, 64),
        (257, 48),
        (258, bits),
        (259, 1),
        (262, photometric),
        (273, 0),
        (277, 1),
        (278, 48),
        (279, len(data)),
    ]
    offset = 8 + 2 + 12 * len(tags) + 4
    body = b"".join(struct.pack("<HHII", tag, 4, 1, offset if tag == 273 else value) for tag, value in tags)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + struct.pack("<I", 0) + data)
    return path


def lab_tiff(path: Path) -> Path:
    """The scene in CIELAB."""
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = ImageCms.applyTransform(corners(), to_lab)
    assert lab is not None
    lab.save(path)
    return path


def huge_png(path: Path, width: int, height: int) -> Path:
    """A PNG whose header promises `width` x `height` and whose data hold next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


# XYZ (D50) of red, green and blue.
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))


def _icc(space: bytes, connection: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC 2.1 profile of the given tags (ICC.1:2001-04, section 6)."""
    name = b"made for a test\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061),
    } | tags
    table, body = struct.pack(">I", len(tags)), b""
    for tag, data in tags.items():
        table += tag + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = 128 + len(table) + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"none", 0x02100000, kind, space, connection) + bytes(12) + b"acsp"
    header += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header + bytes(128 - len(header)) + table + body


def _matrix_profile(primaries: tuple[tuple[float, float, float], ...], gamma: float) -> bytes:
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {
        name: b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(part * 65536) for part in xyz))
        for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)
    }
    return _icc(b"RGB ", b"XYZ ", b"mntr", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def display_p3() -> bytes:
    """Display P3's primaries (D50) with a gamma of 2.2: what phones embed, give or take the curve's toe."""
    return _matrix_profile(DISPLAY_P3, 2.2)


def adobe_rgb() -> bytes:
    """Adobe RGB (1998): its D50 primaries, gamma 2.2."""
    return _matrix_profile(ADOBE_RGB, 2.2)


def srgb() -> bytes:
    """A plain sRGB profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def cmyk_profile(cyan: tuple[int, int, int] = (55, -37, -50)) -> bytes:
    """A press profile with two grid points a channel whose inks mix like real ones; `cyan` is L*a*b* of full cyan.

    The other inks have values like ISO Coated's. A mix has the product of its inks' relative L*, the sum of their a, b.
    """
    inks = (cyan, (48, 74, -3), (89, -5, 93), (16, 0, 0))
    grid = b""
    for node in range(16):
        lightness, a, b = 100.0, 0.0, 0.0
        for ink, bit in zip(inks, (8, 4, 2, 1), strict=True):
            if node & bit:
                lightness *= ink[0] / 100
                a, b = (0.0, 0.0) if bit == 1 else (a + ink[1], b + ink[2])
        grid += bytes((round(lightness * 2.55), *(max(0, min(255, round(part + 128))) for part in (a, b))))
    ramp = bytes(range(256))
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + ramp * 4 + grid + ramp * 3
    return _icc(b"CMYK", b"Lab ", b"prtr", {b"A2B0": lut})
