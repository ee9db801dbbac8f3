"""TIFFs that Pillow decodes wrongly or not at all: known by their tags, decoded by tifffile, or refused with a reason.

Compared over every combination of sample type, planes, compression, byte order, photometric interpretation, strips or
tiles, predictor and BigTIFF that tifffile writes (tests/pictures/test_tiff.py). What Pillow 12 gets wrong without a
word: separate planes of 16 bits, uncompressed (noise); grey with alpha in separate planes; uncompressed YCbCr; signed
bytes; signed and float samples compressed in big-endian order; a predictor beside a compression for which it is not
defined. What it does not open: floats and 32 bits in colour, 64 bits, 16-bit grey with alpha, BigTIFF in big-endian order.
"""

from __future__ import annotations

import logging
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from imgret_tools.errors import ImageError, own_words

_PREDICTABLE = frozenset({5, 8, 32946, 34925, 50000})
"""Compressions with a predictor: LZW, both Deflates, LZMA, Zstandard."""

_LARGEST = 2_000_000_000

# tifffile tells its log about every oddity that we tell the user ourselves.
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)


def trusted(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether Pillow decodes `image`, its header read, as it is meant.

    Raises:
        ImageError: nobody can tell how it is meant.
    """
    tags = image.tag_v2
    bits, samples = _all(tags.get(258, 1)), int(tags.get(277, 1))
    compression, photometric = int(tags.get(259, 1)), int(tags.get(262, 1))
    if int(tags.get(317, 1)) != 1 and compression not in _PREDICTABLE:
        if compression == 1:
            return True  # readers agree to pass over it
        raise ImageError(
            "a TIFF with a predictor beside compression {compression}, which readers understand differently; "
            "save it anew",
            compression=compression,
        )
    formats = set(_all(tags.get(339, 1)))
    apart = int(tags.get(284, 1)) == 2 and samples > 1
    return not (
        (apart and (samples == 2 or (compression == 1 and max(bits) > 8)))
        or (photometric == 6 and compression == 1)
        or (2 in formats and max(bits) == 8)
        or (image.tag_v2.prefix == b"MM" and compression != 1 and not formats.isdisjoint((2, 3)))
    )


def _all(value: object) -> tuple[int, ...]:
    return tuple(int(part) for part in value) if isinstance(value, tuple) else (int(value),)  # type: ignore[call-overload]


def decoded(file: IO[bytes], *, max_megapixels: int) -> tuple[Image.Image, int]:
    """The first page of a TIFF as L, RGB, RGBA, LA or CMYK with its profile, and the orientation still to apply.

    Integers are divided by their own full range, floats as `open` says of grey ones.

    Raises:
        ImageError: broken, too large, or of a kind that is not read.
    """
    import tifffile

    file.seek(0)
    try:
        with tifffile.TiffFile(file) as opened:
            page = opened.pages[0]
            if not isinstance(page, tifffile.TiffPage):
                raise ImageError("broken TIFF file: its first page has no tags")
            width, height = page.imagewidth, page.imagelength
            if width * height > max_megapixels * 1e6 or page.nbytes > _LARGEST:
                raise ImageError(
                    "{width} x {height} = {megapixels:.4g} megapixels ({size:.0f} MB decoded), limit {max_megapixels}; "
                    "make it smaller",
                    width=width,
                    height=height,
                    megapixels=width * height / 1e6,
                    size=page.nbytes / 1e6,
                    max_megapixels=max_megapixels,
                )
            end = file.seek(0, 2)
            if any(at + count > end for at, count in zip(page.dataoffsets, page.databytecounts, strict=True)):
                raise ImageError("broken file: image file is truncated")
            if page.compression == 1 and sum(page.databytecounts) < page.nbytes:
                raise ImageError("broken file: fewer bytes than its pixels need")
            if int(page.predictor) != 1 and int(page.compression) not in _PREDICTABLE | {1}:
                raise ImageError(
                    "a TIFF with a predictor beside compression {compression}; save it anew",
                    compression=int(page.compression),
                )
            image = _picture(page, page.asarray(maxworkers=1))
            tags = {name: page.tags[name].value for name in ("InterColorProfile", "Orientation") if name in page.tags}
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(
            "a TIFF of a kind that is not read here: {reason}; save it as PNG", reason=own_words(error)
        ) from error
    profile = tags.get("InterColorProfile")
    if isinstance(profile, bytes):
        image.info["icc_profile"] = profile
    turn = tags.get("Orientation", 1)
    return image, turn if isinstance(turn, int) else 1


def _picture(page: object, values: NDArray[np.generic]) -> Image.Image:
    """The samples of a page as a picture, eight bits each."""
    photometric, samples = page.photometric.name, page.samplesperpixel  # type: ignore[attr-defined]
    height, width = page.imagelength, page.imagewidth  # type: ignore[attr-defined]
    if samples > 1 and int(page.planarconfig) == 2:  # type: ignore[attr-defined]
        values = np.moveaxis(values.reshape(samples, height, width), 0, -1)
    else:
        values = values.reshape(height, width, samples)
    if photometric == "PALETTE":
        table = (np.asarray(page.colormap) >> 8).astype(np.uint8).T  # type: ignore[attr-defined]
        return Image.fromarray(table[values[..., 0]])
    whole = _bytes(values, page.bitspersample)  # type: ignore[attr-defined]
    if photometric == "MINISWHITE":
        whole[..., 0] = 255 - whole[..., 0]
    colours = {"MINISBLACK": 1, "MINISWHITE": 1, "RGB": 3, "YCBCR": 3, "SEPARATED": 4}.get(photometric, 0)
    if not colours or samples < colours:
        raise ImageError(
            "a TIFF of {kind} with {samples} samples, which is not read here; save it as PNG",
            kind=photometric.lower(),
            samples=samples,
        )
    if photometric == "YCBCR" and "YCbCrSubSampling" in page.tags and page.tags["YCbCrSubSampling"].value != (1, 1):  # type: ignore[attr-defined]
        raise ImageError("a TIFF of uncompressed, subsampled YCbCr, which is not read here; save it as PNG")
    alpha = whole[..., colours] if samples > colours and 2 in page.extrasamples[:1] else None  # type: ignore[attr-defined]
    if samples > colours and 1 in page.extrasamples[:1] and colours < 4:  # type: ignore[attr-defined]
        # Colours already multiplied by their opacity: what is missing to white is what the ground shows.
        whole = np.minimum(whole[..., :colours].astype(np.uint16) + 255 - whole[..., colours : colours + 1], 255)
        whole = whole.astype(np.uint8)
    own = np.ascontiguousarray(whole[..., 0] if colours == 1 else whole[..., :colours])
    mode = {"YCBCR": "YCbCr", "SEPARATED": "CMYK"}.get(photometric, "L" if colours == 1 else "RGB")
    image = Image.frombytes(mode, (width, height), own.tobytes())
    if alpha is not None and colours < 4:
        image.putalpha(Image.fromarray(np.ascontiguousarray(alpha)))
    return image


def _bytes(values: NDArray[np.generic], bits: int) -> NDArray[np.uint8]:
    """Samples (h, w, n) of any type as eight bits, in bands so that doubles of all of them are never in memory."""
    low, high = 0.0, float(2 ** min(bits, 8 * values.dtype.itemsize) - 1)
    if values.dtype.kind == "b":
        high = 1.0
    elif values.dtype.kind == "i":
        low, high = (
            (float(values.min()), float(values.max())) if values.min() < 0 else (0.0, float(2 ** (bits - 1) - 1))
        )
    elif values.dtype.kind == "f":
        finite = values[np.isfinite(values)]
        least, most = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        fitting = next((top for top in (1.0, 255.0, 65535.0) if least >= 0 and most <= top), None)
        low, high = (0.0, fitting) if fitting else (least, most)
    whole = np.empty(values.shape, np.uint8)
    step = max(1, 2**20 // max(1, values.shape[1] * values.shape[2]))
    for top in range(0, len(values), step):
        band = (values[top : top + step].astype(np.float64) - low) / ((high - low) or 1.0)
        whole[top : top + step] = np.rint(np.nan_to_num(np.clip(band, 0, 1), nan=0.0) * 255)
    return whole
