"""A file or its bytes opened as an upright picture in true RGB. The only place that decodes image files.

What `open_picture` promises, whatever the file: mode RGB, the first frame or page, the camera's turn applied once,
white where the file is see-through, sRGB colours, every pixel decoded or an `ImageError`. How the odd ones get there:

- Turn. JPEG, PNG, WebP, MPO and AVIF come from Pillow with the tag still to apply (for AVIF Pillow reports the
  container's own turn in its place). TIFF is turned by Pillow, HEIF by its decoder: their tags are not applied again.
- Colour. An embedded profile that is not sRGB (CMYK, Display P3, Adobe RGB, grey) is converted with relative
  colorimetric intent and black point compensation. CMYK without one follows browsers: (1 - c)(1 - k), JPEGs in Adobe's
  polarity.
- Depth. 16-bit grey is divided by its own full range (TIFFs by their bits a sample). 32-bit integers and floats are
  divided by the smallest of 1, 255 and 65535 that holds all their values, or stretched from minimum to maximum when
  some are negative or larger; NaN and -inf become black, +inf white.
- Size. The megapixel limit is judged on the header, before any pixel is decoded. A baseline JPEG opened at reduced
  scale may be `JPEG_HEADROOM` times larger than the limit, since it is never held in full.
"""

from __future__ import annotations

import stat
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import IO

from PIL import Image, ImageFile, TiffImagePlugin

from imgret_tools.errors import ImageError, own_words
from imgret_tools.pictures import exif
from imgret_tools.pictures.colour import eight_bit, in_srgb

# Tried in this order. AVIF stands before HEIF: both claim the brand `mif1`, and Pillow's AVIF declines what is not AV1.
_FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "AVIF": (".avif", ".avifs"),
    "HEIF": (".heic", ".heics", ".heif", ".heifs", ".hif"),
}

SUFFIXES: frozenset[str] = frozenset(suffix for suffixes in _FORMATS.values() for suffix in suffixes)
"""Lower-case suffixes taken as pictures."""

JPEG_HEADROOM = 4
"""How many times `max_megapixels` a baseline JPEG may have when it is decoded at reduced scale."""

# Remarks on odd metadata would otherwise reach the user's terminal; what matters of them comes back as an ImageError.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\..*ImagePlugin")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class Picture:
    """An opened picture.

    `image` is upright RGB, possibly at reduced scale; `width` and `height` are the upright original's, in pixels.
    `taken` is the camera's local time as ISO 8601; `latitude` and `longitude` are degrees, north and east positive.
    """

    image: Image.Image
    width: int
    height: int
    taken: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None


_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_picture(source: Path | bytes, *, at_least: int | None = None, max_megapixels: int = 200) -> Picture:
    """The picture in `source` (a file, or a file's bytes), upright, in RGB. Safe in threads.

    Args:
        source: a path, or the whole content of an image file.
        at_least: a side in pixels that will be asked of it; the picture may come at reduced scale, both its sides at
            least twice this where the original's are. None gives every pixel.
        max_megapixels: refuse larger ones; a baseline JPEG at reduced scale may have `JPEG_HEADROOM` times as many.

    Raises:
        ImageError: not a picture, truncated, too large, not a regular file; its text is the reason.
    """
    try:
        with _opened(source) as file:
            return _picture(_recognised(file), at_least=at_least, max_megapixels=max_megapixels)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("not enough memory to decode it; make it smaller") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error and more
        raise ImageError(f"broken file: {own_words(error)}") from error


def _opened(source: Path | bytes) -> IO[bytes]:
    """`source` open for reading; never waits on a pipe or a device."""
    if isinstance(source, bytes):
        if not source:
            raise ImageError("empty (zero bytes)")
        return BytesIO(source)
    try:
        facts = source.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise ImageError(f"not an image file but {kind_of_file(facts.st_mode)}")
        if facts.st_size == 0:
            raise ImageError("empty (zero bytes)")
        return source.open("rb")
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot be read: {own_words(error)}") from error


@cache
def _decoders() -> tuple[tuple[str, Callable[..., ImageFile.ImageFile], Callable[[bytes], bool | str] | None], ...]:
    """Pillow's decoders of the formats taken, in the order they are tried.

    `Image.open` would add every format it knows (EPS runs Ghostscript) and a process-wide pixel limit in place of ours.
    """
    import pillow_heif

    Image.init()
    pillow_heif.register_heif_opener()
    return tuple((name, *Image.OPEN[name]) for name in _FORMATS if name in Image.OPEN)


def _recognised(file: IO[bytes]) -> ImageFile.ImageFile:
    """The picture in `file`, header read and pixels not yet decoded."""
    head = file.read(16)
    problem = ""
    for name, factory, accepts in _decoders():
        if accepts is not None and accepts(head) is not True:
            continue
        file.seek(0)
        try:
            return factory(file, "")
        except MemoryError:
            raise
        except Exception as error:
            problem = problem or f"broken {name} file: {own_words(error)}"
    raise ImageError(problem or f"not a picture: the file starts with {head!r}, which no format read here does")


def _picture(image: ImageFile.ImageFile, *, at_least: int | None, max_megapixels: int) -> Picture:
    width, height = image.size
    megapixels = width * height / 1e6
    reduced = False
    if at_least is not None and image.format in ("JPEG", "MPO"):
        image.draft("RGB", (2 * at_least, 2 * at_least))
        reduced = image.size != (width, height) and not image.info.get("progressive")
    limit = max_megapixels * (JPEG_HEADROOM if reduced else 1)
    if megapixels > limit:
        raise ImageError(f"{width} x {height} = {megapixels:.4g} megapixels, limit {limit}; make it smaller")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # Given its memory, a TIFF decodes without asking Pillow's process-wide limit, which is lower than ours.
        image.im = Image.new(image.mode, image._tile_size, None).im
    image.load()
    turn, shot = exif.orientation(image), exif.shot(image)
    if turn in exif.SWAPPING:
        width, height = height, width
    profile = image.info.get("icc_profile")
    plain = eight_bit(image)
    if at_least is not None and (factor := min(plain.size) // (2 * at_least)) > 1:
        plain = plain.reduce(factor)
    plain = in_srgb(plain, profile if isinstance(profile, bytes) else b"")
    if turn in exif.TURNS:
        plain = plain.transpose(exif.TURNS[turn])
    elif plain is image:
        plain = image.copy()
    plain.info = {}  # else a saved copy would carry the old profile, turn and place
    return Picture(plain, width, height, shot.taken, shot.camera, shot.latitude, shot.longitude)


def kind_of_file(mode: int) -> str:
    """What a file of that `st_mode` is, if it is no regular one."""
    return next((name for test, name in _KINDS if test(mode)), "something else")
