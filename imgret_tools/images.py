"""Pictures: found in a folder, opened upright in true RGB, drawn small. The only place that decodes image files.

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

import hashlib
import os
import re
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageCms, ImageFile, TiffImagePlugin

from imgret_tools import exif
from imgret_tools.errors import BadInput, ImageError, NotFound
from imgret_tools.records import Failure, quoted

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
class FoundImage:
    """A file to index: `bytes` long, last changed at `mtime` ns."""

    path: Path
    bytes: int
    mtime: int


@dataclass(frozen=True, slots=True)
class Scan:
    """What a folder holds, sorted by path; letter case decides only between equals.

    `others` counts the files that are no pictures by their suffix.
    """

    images: list[FoundImage]
    skipped: list[Failure]
    others: int


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


def find_images(folder: Path) -> Scan:
    """Every picture under `folder`, sorted by path, with what was passed over and why.

    Hidden names (a leading dot), empty files, pipes, sockets and devices are skipped. Links to files inside `folder`
    are followed, links that leave it are not; links to folders never are, so a cycle cannot trap the walk.

    Raises:
        NotFound: there is no such folder.
        BadInput: it is a file, or may not be read.
    """
    if not os.path.lexists(folder):
        raise NotFound(f"No folder at {quoted(str(folder))}; give the path of an existing folder with pictures.")
    if not folder.is_dir():
        raise BadInput(f"{quoted(str(folder))} is not a folder; give the folder that holds the pictures.")
    try:
        root, top = folder.resolve(), _listed(folder)
    except OSError as error:
        raise BadInput(
            f"The folder {quoted(str(folder))} cannot be read ({_why(error)}); grant access or choose another."
        ) from error
    images: list[FoundImage] = []
    skipped: list[Failure] = []
    others = 0
    pending = [top]
    while pending:
        for entry in pending.pop():
            verdict = _judged(entry, root)
            if isinstance(verdict, FoundImage):
                images.append(verdict)
            elif isinstance(verdict, str):
                skipped.append(Failure(path=_printable(entry.path), reason=verdict))
            elif verdict is _FOLDER:
                try:
                    pending.append(_listed(Path(entry.path)))
                except OSError as error:
                    skipped.append(Failure(path=_printable(entry.path), reason=f"unreadable folder: {_why(error)}"))
            else:
                others += 1
    images.sort(key=lambda found: _order(str(found.path)))
    skipped.sort(key=lambda failure: _order(failure.path))
    return Scan(images=images, skipped=skipped, others=others)


_FOLDER = object()
_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def _judged(entry: os.DirEntry[str], root: Path) -> FoundImage | str | object | None:
    """A picture, a reason to skip, `_FOLDER` to walk into, or None for a file that is no picture."""
    is_picture = Path(entry.name).suffix.lower() in SUFFIXES
    hidden = entry.name.startswith(".")
    try:
        if entry.is_symlink():
            if entry.is_dir():
                return f"link to a folder ({_printable(str(Path(entry.path).readlink()))}); index that folder itself"
            if not is_picture:
                return None
            if not Path(entry.path).resolve(strict=True).is_relative_to(root):
                return f"link leaving the folder ({_printable(str(Path(entry.path).readlink()))})"
        elif entry.is_dir():
            return "hidden folder" if hidden else _FOLDER
        if not is_picture:
            return None
        if hidden:
            return "hidden"
        facts = entry.stat()
        if not stat.S_ISREG(facts.st_mode):
            return f"not a regular file but {_kind(facts.st_mode)}"
        if facts.st_size == 0:
            return "empty (zero bytes)"
        entry.path.encode()
    except UnicodeEncodeError:
        return "the name is not valid UTF-8; rename the file"
    except FileNotFoundError:
        return "link to nothing" if entry.is_symlink() else "vanished while the folder was read"
    except (OSError, RuntimeError) as error:
        return f"unreadable: {_why(error)}"
    return FoundImage(path=Path(entry.path), bytes=facts.st_size, mtime=facts.st_mtime_ns)


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _order(path: str) -> tuple[list[str], str]:
    return [*Path(path.casefold()).parts], path


def _printable(path: str) -> str:
    return path.encode(errors="surrogateescape").decode(errors="replace")


def _kind(mode: int) -> str:
    return next((name for test, name in _KINDS if test(mode)), "something else")


def _why(error: BaseException) -> str:
    """One line of an exception's own words."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return re.sub(r"[\x00-\x1f\x7f\s]+", " ", words).strip()[:200] or type(error).__name__


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
        raise ImageError(f"broken file: {_why(error)}") from error


def _opened(source: Path | bytes) -> IO[bytes]:
    """`source` open for reading; never waits on a pipe or a device."""
    if isinstance(source, bytes):
        if not source:
            raise ImageError("empty (zero bytes)")
        return BytesIO(source)
    try:
        facts = source.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise ImageError(f"not an image file but {_kind(facts.st_mode)}")
        if facts.st_size == 0:
            raise ImageError("empty (zero bytes)")
        return source.open("rb")
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot be read: {_why(error)}") from error


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
            problem = problem or f"broken {name} file: {_why(error)}"
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
    plain = _eight_bit(image)
    if at_least is not None and (factor := min(plain.size) // (2 * at_least)) > 1:
        plain = plain.reduce(factor)
    plain = _in_srgb(plain, profile if isinstance(profile, bytes) else b"")
    if turn in exif.TURNS:
        plain = plain.transpose(exif.TURNS[turn])
    elif plain is image:
        plain = image.copy()
    plain.info = {}  # else a saved copy would carry the old profile, turn and place
    return Picture(plain, width, height, shot.taken, shot.camera, shot.latitude, shot.longitude)


def _eight_bit(image: ImageFile.ImageFile) -> Image.Image:
    """`image` as L, RGB, CMYK or LAB, eight bits a band, on white where it is see-through."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _scaled_grey(image)
    if image.has_transparency_data:
        grey = image.mode in ("1", "L", "LA", "La")
        layered = image.convert("LA" if grey else "RGBA")
        ground = Image.new("L" if grey else "RGB", image.size, "white")
        ground.paste(layered.convert(ground.mode), mask=layered.getchannel("A"))
        return ground
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _scaled_grey(image: ImageFile.ImageFile) -> Image.Image:
    """A grey picture of more than eight bits as L; the rule is in this module's docstring."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    low, high = 0.0, 65535.0
    if image.mode.startswith("I;16"):
        bits = tags.get(258, 16)
        high = float(2 ** int(bits[0] if isinstance(bits, tuple) else bits) - 1)
    elif image.format != "PPM" or image.mode == "F":  # Pillow brings integer PGM to 0..65535 itself
        finite = values[np.isfinite(values)]
        least, most = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        fitting = next((top for top in (1.0, 255.0, 65535.0) if least >= 0 and most <= top), None)
        low, high = (0.0, fitting) if fitting else (least, most) if most > least else (least - 1, least)
    white_is_zero = tags.get(262) == 0
    grey = np.empty(values.shape, np.uint8)
    step = max(1, 2**20 // max(1, values.shape[1]))
    for top in range(0, len(values), step):  # in bands, so that doubles of a large picture are never all in memory
        band = np.clip((values[top : top + step].astype(np.float64) - low) / (high - low), 0, 1)
        band = np.nan_to_num(1 - band if white_is_zero else band, nan=0.0)
        grey[top : top + step] = np.rint(band * 255)
    return Image.fromarray(grey)


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """`image` (L, RGB, CMYK or LAB) as RGB in sRGB."""
    if profile or image.mode == "LAB":
        transform = _to_srgb(profile, image.mode)
        if transform is not None:
            converted = ImageCms.applyTransform(image, transform)
            if converted is not None:
                return converted
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache(maxsize=32)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """How to bring `mode` to sRGB; None when the profile is broken, of another kind, or as good as sRGB itself."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile) if profile else ImageCms.createProfile("LAB"))
        space = source.profile.xcolor_space.strip().upper()
        if {"RGB": "RGB", "CMYK": "CMYK", "GRAY": "L", "LAB": "LAB"}.get(space) != mode:
            return _to_srgb(b"", mode) if mode == "LAB" and profile else None
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode == "RGB":
            steps = np.linspace(0, 255, 6).astype(np.uint8)
            probe = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(6, 36, 3)
            moved = np.asarray(ImageCms.applyTransform(Image.fromarray(probe), transform))
            if int(np.abs(moved.astype(int) - probe).max()) <= 3:
                return None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):
        return None
    return transform


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits. Raises OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def thumbnail(image: Image.Image, side: int = 256) -> bytes:
    """`image` as a JPEG of at most `side` x `side` pixels in its own proportions, never larger than it is."""
    scale = min(1.0, side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    out = BytesIO()
    small.convert("RGB").save(out, "JPEG", quality=85)
    return out.getvalue()


class ThumbnailCache:
    """Small JPEGs in a private folder, made when first asked for; deleting the folder at any time costs only time.

    A thumbnail is filed under hashes of its `key` (an image id or path, never part of a file name) and its `stamp`
    (content hash, or size and mtime): a new stamp makes a new file and drops the old one.
    """

    def __init__(self, folder: Path, *, side: int = 256) -> None:
        self.folder = folder
        self._side = side

    def get(self, key: str, source: Path, stamp: object) -> Path:
        """The thumbnail's file, drawn from `source` if it is not there yet. Raises ImageError for a broken `source`."""
        target = self._target(key, stamp)
        with suppress(OSError):
            if target.stat().st_size:
                return target
        return self.put(key, stamp, open_picture(source, at_least=self._side).image)

    def put(self, key: str, stamp: object, image: Image.Image) -> Path:
        """The file of a thumbnail drawn from `image` (upright RGB), in the place of earlier ones of `key`."""
        target = self._target(key, stamp)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        part = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            part.write_bytes(thumbnail(image, self._side))
            part.chmod(0o600)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        for old in self._files(key):
            if old != target:
                old.unlink(missing_ok=True)
        return target

    def remove(self, key: str) -> None:
        """Forget `key`; nothing happens when it is not there."""
        for old in self._files(key):
            old.unlink(missing_ok=True)

    def _target(self, key: str, stamp: object) -> Path:
        name = _digest(key)
        return self.folder / name[:2] / f"{name}-{_digest(repr(stamp))[:16]}.jpg"

    def _files(self, key: str) -> Iterator[Path]:
        name = _digest(key)
        return (self.folder / name[:2]).glob(f"{name}-*.jpg")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]
