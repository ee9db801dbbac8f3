"""A file or its bytes opened as an upright picture in true RGB. The only place that decodes image files.

What `open_picture` promises, whatever the file: mode RGB, the first frame or page, the camera's turn applied once,
white where the file is see-through, sRGB colours, every pixel decoded or an `ImageError`. How the odd ones get there:

- Turn. JPEG, PNG, WebP, MPO and AVIF come from Pillow with the tag still to apply (for AVIF Pillow reports the
  container's own turn in its place). TIFF is turned by Pillow, HEIF and JPEG XL by their decoders: their tags are not applied again.
- Colour. An embedded profile that is not sRGB (CMYK, Display P3, Adobe RGB, grey) is converted with relative
  colorimetric intent and black point compensation. CMYK without one follows browsers: (1 - c)(1 - k), JPEGs in Adobe's
  polarity.
- Depth. 16-bit grey is divided by its own full range (TIFFs by their bits a sample). 32-bit integers and floats are
  divided by the smallest of 1, 255 and 65535 that holds all their values, or stretched from minimum to maximum when
  some are negative or larger; NaN and -inf become black, +inf white.
- Size. The megapixel limit is judged on the header, before any pixel is decoded. A baseline JPEG opened at reduced
  scale may be `JPEG_HEADROOM` times larger than the limit, since it is never held in full.
- Raw files show the preview that the camera embedded (`raw`), drawings are drawn (`drawings`), icons are their largest.
- End. A JPEG that lacks only its end marker is opened with a remark; every pixel must be in the file (`jpeg_end`).
- Date. When the shutter opened, else when it was digitized, else the date in the file's name, else the file's own time;
  never the time of an editor's change.
"""

from __future__ import annotations

import stat
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import IO

from PIL import Image, ImageFile, TiffImagePlugin

from imgret_tools.errors import ImageError, Message, own_words
from imgret_tools.pictures import exif
from imgret_tools.pictures.colour import eight_bit, in_srgb
from imgret_tools.pictures.formats import FORMATS, HEAD, SUFFIXES, format_of, missing, other_kind, suffix_of
from imgret_tools.pictures.jpeg_end import with_end
from imgret_tools.pictures.tiff import decoded, trusted
from imgret_tools.pictures.wording import Wording, wording

JPEG_HEADROOM = 4
"""How many times `max_megapixels` a baseline JPEG may have when it is decoded at reduced scale."""

# Remarks on odd metadata would otherwise reach the user's terminal; what matters of them comes back as an ImageError.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\..*ImagePlugin")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class Picture:
    """An opened picture.

    `image` is upright RGB, possibly at reduced scale; `width` and `height` are the upright original's, in pixels.
    `taken` is local time as ISO 8601; `latitude` and `longitude` are degrees, north and east positive. `keywords`,
    `rating` (-1 rejected, 0 none, 1 to 5 stars) and `caption` are what people wrote into it. `remark` says what is
    wrong with a file that can be searched all the same.
    """

    image: Image.Image
    width: int
    height: int
    taken: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    keywords: tuple[str, ...] = ()
    rating: int | None = None
    caption: str | None = None
    remark: str = ""


@dataclass(slots=True)
class _Recognised:
    """A picture whose header is read: pixels not yet decoded, with what its own header does not tell.

    `turn` is the orientation still to apply (None: ask the picture), `size` the original's as stored, `tags` the file's
    own EXIF and `words` where people's words stand, where the picture itself has neither.
    """

    image: Image.Image
    turn: int | None = None
    size: tuple[int, int] | None = None
    tags: Image.Exif | None = None
    words: ImageFile.ImageFile | None = None
    remark: str = ""


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
            found = _recognised(file, source, at_least, max_megapixels)
            try:
                picture = _picture(found, at_least=at_least, max_megapixels=max_megapixels)
            except OSError:
                width, height = found.image.size
                if found.image.format not in ("JPEG", "MPO") or width * height > max_megapixels * 1e6:
                    raise
                file.seek(0)
                whole = with_end(file.read())
                if whole is None:
                    raise
                remark = "its end marker is missing; every pixel is there"
                found = _Recognised(_decoder("JPEG")(BytesIO(whole), ""), remark=remark)
                picture = _picture(found, at_least=at_least, max_megapixels=max_megapixels)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("not enough memory to decode it; make it smaller") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error and more
        raise ImageError("broken file: {reason}", reason=own_words(error)) from error
    if picture.taken is None and isinstance(source, Path):
        return replace(picture, taken=exif.date_in_name(source.stem) or _file_time(source))
    return picture


def _file_time(path: Path) -> str | None:
    """When the file was last written, as local time."""
    try:
        return datetime.fromtimestamp(int(path.stat().st_mtime)).isoformat()
    except (OSError, ValueError, OverflowError):
        return None


def _opened(source: Path | bytes) -> IO[bytes]:
    """`source` open for reading; never waits on a pipe or a device."""
    if isinstance(source, bytes):
        if not source:
            raise ImageError("empty (zero bytes)")
        return BytesIO(source)
    try:
        facts = source.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise ImageError("not an image file but {kind}", kind=kind_of_file(facts.st_mode))
        if facts.st_size == 0:
            raise ImageError("empty (zero bytes)")
        return source.open("rb")
    except (OSError, ValueError) as error:
        raise ImageError("cannot be read: {reason}", reason=own_words(error)) from error


@cache
def _decoders() -> dict[str, tuple[Callable[..., ImageFile.ImageFile], Callable[[bytes], bool | str] | None]]:
    """Pillow's decoders of the formats taken, in the order they are tried.

    `Image.open` would add every format it knows (EPS runs Ghostscript) and a process-wide pixel limit in place of ours.
    """
    import pillow_heif

    Image.init()
    pillow_heif.register_heif_opener()
    if not missing("JXL"):
        import pillow_jxl  # noqa: F401, registers itself
    return {form.name: Image.OPEN[form.name] for form in FORMATS if form.name in Image.OPEN}


def _decoder(name: str) -> Callable[..., ImageFile.ImageFile]:
    return _decoders()[name][0]


def _recognised(file: IO[bytes], source: Path | bytes, at_least: int | None, max_megapixels: int) -> _Recognised:
    """The picture in `file`, header read and pixels not yet decoded."""
    head = file.read(HEAD)
    promised = SUFFIXES.get(suffix_of(source.name)) if isinstance(source, Path) else None
    found = format_of(head)
    if found == "RAW" or (found == "TIFF" and _is_raw(file, head)):
        return _raw(file, max_megapixels)
    if not found and promised is not None and promised.name == "SVG":
        found = "SVG"  # a drawing may begin with anything that XML allows
    if found == "SVG":
        return _drawing(file, at_least)
    if found and (reason := missing(found)):
        raise ImageError(reason)
    problem = ""
    for name, (factory, accepts) in _decoders().items():
        if name == "TGA" and found:
            continue  # its files have no sign of their own: anything might pass for one
        if accepts is not None and accepts(head[:16]) is not True:
            continue
        file.seek(0)
        try:
            image = factory(file, "")
            if isinstance(image, TiffImagePlugin.TiffImageFile) and not trusted(image):
                return _tiff(file, max_megapixels, image)
            return _Recognised(image)
        except (MemoryError, ImageError):
            raise
        except Exception as error:
            if name != "TGA" or (promised is not None and promised.name == "TGA"):
                problem = problem or Message("broken {name} file: {reason}", name=name, reason=own_words(error))
    if found == "TIFF" and not missing("RAW") and promised is not None and promised.name == "RAW":
        return _raw(file, max_megapixels)
    if found == "TIFF" and ("unknown pixel mode" in problem or head.startswith(b"MM\0+")):
        return _tiff(file, max_megapixels)
    if problem:
        raise ImageError(problem)
    kind = other_kind(head)
    what = "" if kind in ("unknown", "text") else Message(" but a file of another kind ({kind})", kind=kind)
    raise ImageError(
        "not a picture{what}: the file starts with {head}, which no format read here does",
        what=what,
        head=repr(head[:16]),
    )


def _is_raw(file: IO[bytes], head: bytes) -> bool:
    """Whether a TIFF is a camera's raw file: a DNG, a mosaic of a sensor, or a small picture with others inside."""
    with suppress(Exception):
        directory = TiffImagePlugin.ImageFileDirectory_v2(head[: 16 if head[2:3] == b"+" or head[3:4] == b"+" else 8])
        file.seek(directory.next)
        directory.load(file)
        return bool(
            0xC612 in directory
            or directory.get(262) in (32803, 34892)
            or (directory.get(254) == 1 and 330 in directory)
        )
    return False


def _tiff(file: IO[bytes], max_megapixels: int, words: TiffImagePlugin.TiffImageFile | None = None) -> _Recognised:
    """A TIFF that Pillow does not open, or does not decode as it is meant; `words` as Pillow read its tags."""
    image, turn = decoded(file, max_megapixels=max_megapixels)
    return _Recognised(image, turn, tags=words.getexif() if words is not None else _tags(file), words=words)


def _tags(file: IO[bytes]) -> Image.Exif:
    tags = Image.Exif()
    with suppress(Exception):
        file.seek(0)
        tags.load_from_fp(file)
    return tags


def _raw(file: IO[bytes], max_megapixels: int) -> _Recognised:
    if reason := missing("RAW"):
        raise ImageError(reason)
    from imgret_tools.pictures.raw import preview

    image, turn, size = preview(file, max_megapixels=max_megapixels)
    tags = _tags(file)
    return _Recognised(image, turn, size, tags if 0x010F in tags or 0x8769 in tags else None)


def _drawing(file: IO[bytes], at_least: int | None) -> _Recognised:
    if reason := missing("SVG"):
        raise ImageError(reason)
    from imgret_tools.pictures.drawings import LONGEST, drawn

    file.seek(0)
    png, width, height = drawn(file.read(), longest=max(LONGEST, 4 * (at_least or 0)))
    return _Recognised(_decoder("PNG")(BytesIO(png), ""), size=(width, height))


def _picture(found: _Recognised, *, at_least: int | None, max_megapixels: int) -> Picture:
    image = found.image
    width, height = image.size
    megapixels = width * height / 1e6
    reduced = False
    if at_least is not None and image.format in ("JPEG", "MPO"):
        image.draft("RGB", (2 * at_least, 2 * at_least))
        reduced = image.size != (width, height) and not image.info.get("progressive")
    limit = max_megapixels * (JPEG_HEADROOM if reduced else 1)
    if megapixels > limit:
        raise ImageError(
            "{width} x {height} = {megapixels:.4g} megapixels, limit {limit}; make it smaller",
            width=width,
            height=height,
            megapixels=megapixels,
            limit=limit,
        )
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # Given its memory, a TIFF decodes without asking Pillow's process-wide limit, which is lower than ours.
        image.im = Image.new(image.mode, image._tile_size, None).im
    image.load()
    turn = exif.orientation(image) if found.turn is None else found.turn
    shot, words = _facts(found)
    width, height = found.size or (width, height)
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
    return Picture(
        plain,
        width,
        height,
        shot.taken or words.taken or shot.digitized or words.digitized,
        shot.camera,
        shot.latitude,
        shot.longitude,
        words.keywords,
        words.rating,
        words.caption,
        found.remark,
    )


def _facts(found: _Recognised) -> tuple[exif.Shot, Wording]:
    """What is written beside the pixels, whatever state it is in."""
    shot, words = exif.Shot(), Wording()
    with suppress(Exception):
        shot = exif.shot(found.tags if found.tags is not None else found.image.getexif())
    with suppress(Exception):
        words_in = found.words or found.image
        if isinstance(words_in, ImageFile.ImageFile):
            words = wording(words_in)
    return shot, words


def kind_of_file(mode: int) -> str:
    """What a file of that `st_mode` is, if it is no regular one."""
    return Message(next((name for test, name in _KINDS if test(mode)), "something else"))
