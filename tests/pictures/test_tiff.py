"""TIFFs of every combination of sample type, planes, compression, byte order, photometric and tiles: right or refused."""

from __future__ import annotations

import itertools
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import samples
import tifffile
from numpy.typing import NDArray
from PIL import Image

from imgret_tools.errors import ImageError
from imgret_tools.pictures.open import open_picture

KINDS = {
    "minisblack": 1,
    "miniswhite": 1,
    "la": 2,
    "rgb": 3,
    "rgba": 4,
    "separated": 4,
    "palette": 1,
    "ycbcr": 3,
}
"""Photometric interpretations (with alpha too) by their samples a pixel."""

COLOURS = (np.random.default_rng(3).integers(0, 256, (3, 256)) * 257).astype(np.uint16)


def scene(samples_a_pixel: int) -> NDArray[np.uint8]:
    """A smooth picture (64, 80, n)."""
    coarse = (np.random.default_rng(0).random((6, 8, 4)) * 255).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((80, 64), Image.Resampling.BICUBIC))[..., :samples_a_pixel]


def stored(eight: NDArray[np.uint8], dtype: str) -> NDArray[np.generic]:
    """The same picture in another type, over its own full range (floats from 0 to 1, signed integers from 0)."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return (eight / 255).astype(kind)
    if kind.kind == "u":
        return eight.astype(kind) * kind.type(np.iinfo(kind).max // 255)  # type: ignore[no-any-return]
    return (eight / 255 * np.iinfo(kind).max).astype(kind)


def seen(kind: str, eight: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What a reader has to show of it: RGB on white."""
    shares = eight.astype(np.float64) / 255
    if kind in ("la", "rgba"):
        colour = np.repeat(shares[..., :1], 3, -1) if kind == "la" else shares[..., :3]
        return 255 * (colour * shares[..., -1:] + 1 - shares[..., -1:])
    if kind == "rgb":
        return 255 * shares
    if kind == "separated":
        return 255 * (1 - shares[..., :3]) * (1 - shares[..., 3:])
    if kind == "palette":
        return np.moveaxis(COLOURS[:, eight[..., 0]] / 257, 0, -1)
    if kind == "ycbcr":
        return np.asarray(Image.frombytes("YCbCr", (80, 64), eight.tobytes()).convert("RGB"), np.float64)
    grey = np.repeat(shares[..., :1], 3, -1) * 255
    return 255 - grey if kind == "miniswhite" else grey


def written(
    kind: str, dtype: str, *, planar: str, compression: str | None, order: str, tiled: bool, predictor: bool, big: bool
) -> bytes:
    count = KINDS[kind]
    values = stored(scene(count), dtype)
    values = values[..., 0] if count == 1 else np.moveaxis(values, -1, 0) if planar == "separate" else values
    out = BytesIO()
    tifffile.imwrite(
        out,
        np.ascontiguousarray(values),
        photometric={"la": "minisblack", "rgba": "rgb"}.get(kind, kind),
        planarconfig=planar if count > 1 else None,
        extrasamples=["unassalpha"] if kind in ("la", "rgba") else None,
        colormap=COLOURS if kind == "palette" else None,
        compression=compression,
        predictor=predictor,
        byteorder=order,
        tile=(16, 32) if tiled else None,
        bigtiff=big,
        metadata=None,
        subsampling=(1, 1) if kind == "ycbcr" else None,
    )
    return out.getvalue()


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (kind, dtype)
        for kind in KINDS
        for dtype in ("u1", "u2", "u4", "u8", "i1", "i2", "f2", "f4", "f8")
        if dtype == "u1" or kind not in ("palette", "ycbcr")
    ],
)
def test_every_combination_is_right_or_refused(kind: str, dtype: str) -> None:
    """Separate planes of 16 bits came out as noise, without a word, and were searched as that."""
    wrong: list[tuple[object, ...]] = []
    right = 0
    for planar, compression, order, tiled, predictor, big in itertools.product(
        ("contig", "separate"), (None, "zlib", "packbits"), "<>", (False, True), (False, True), (False, True)
    ):
        if (planar == "separate" and KINDS[kind] == 1) or (big and (tiled or predictor)):
            continue
        if predictor and (compression is None or dtype == "u8" or dtype == "f2"):
            continue
        options = {
            "planar": planar,
            "compression": compression,
            "order": order,
            "tiled": tiled,
            "predictor": predictor,
            "big": big,
        }
        try:
            data = written(kind, dtype, **options)  # type: ignore[arg-type]
        except (ValueError, RuntimeError, NotImplementedError, TypeError, AttributeError, KeyError):
            continue  # tifffile writes no such file by itself
        try:
            shown = np.asarray(open_picture(data).image, np.float64)
        except ImageError:
            continue
        right += 1
        if shown.shape != (64, 80, 3) or np.abs(shown - seen(kind, scene(KINDS[kind]))).mean() > 2:
            wrong.append(tuple(options.values()))
    assert wrong == []
    assert right >= 8


def test_a_predictor_that_readers_understand_differently_is_refused() -> None:
    """libtiff passes over it, tifffile applies it: one of them shows noise."""
    out = BytesIO()
    samples.corners().save(out, "TIFF", compression="packbits", dpi=(72, 72))
    data = out.getvalue()
    assert samples.seen(open_picture(data).image) == samples.CORNERS
    # The entry of ResolutionUnit (296, a short of value 2) becomes that of a predictor (317) of 2.
    at = data.index(struct.pack("<HHIH", 296, 3, 1, 2))
    with pytest.raises(ImageError, match="predictor"):
        open_picture(data[:at] + struct.pack("<H", 317) + data[at + 2 :])


@pytest.mark.parametrize(("order", "dtype"), [("<", "u2"), (">", "u2"), ("<", "f4")])
def test_a_truncated_file_is_refused_whoever_decodes_it(order: str, dtype: str) -> None:
    data = written(
        "rgb", dtype, planar="separate", compression=None, order=order, tiled=False, predictor=False, big=False
    )
    for share in (0.3, 0.7, 0.97, 0.999):
        with pytest.raises(ImageError):
            open_picture(data[: int(len(data) * share)])
    with pytest.raises(ImageError, match="megapixels"):
        open_picture(data, max_megapixels=0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns_are_applied_once_whoever_decodes_it(orientation: int) -> None:
    turn = samples.STORED[orientation]
    image = samples.corners() if turn is None else samples.corners().transpose(turn)
    values = np.moveaxis(np.asarray(image).astype(np.uint16) * 257, -1, 0)
    out = BytesIO()
    tifffile.imwrite(
        out,
        np.ascontiguousarray(values),
        photometric="rgb",
        planarconfig="separate",
        metadata=None,
        extratags=[(274, 3, 1, orientation, True), (34675, 7, None, samples.srgb(), True)],
    )
    picture = open_picture(out.getvalue())
    assert (picture.width, picture.height) == samples.SIZE
    assert samples.seen(picture.image) == samples.CORNERS


def test_time_and_words_are_read_whoever_decodes_it(tmp_path: Path) -> None:
    packet = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><r:RDF xmlns:r='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>"
    packet += b"<r:Description xmlns:xmp='http://ns.adobe.com/xap/1.0/' xmp:Rating='4'/></r:RDF></x:xmpmeta>"
    values = np.moveaxis(np.asarray(samples.corners()).astype(np.uint16) * 257, -1, 0)
    tifffile.imwrite(
        tmp_path / "scan.tif",
        np.ascontiguousarray(values),
        photometric="rgb",
        planarconfig="separate",
        metadata=None,
        extratags=[(700, 1, None, packet, True), (271, 2, None, "Epson", True)],
    )
    picture = open_picture(tmp_path / "scan.tif")
    assert (picture.camera, picture.rating) == ("Epson", 4)


def test_associated_alpha_is_not_multiplied_twice() -> None:
    values = np.zeros((8, 8, 4), np.uint16)
    values[...] = (32768, 0, 0, 32768)  # half a red, already halved
    out = BytesIO()
    tifffile.imwrite(
        out,
        np.moveaxis(values, -1, 0).copy(),
        photometric="rgb",
        planarconfig="separate",
        extrasamples=["assocalpha"],
        metadata=None,
    )
    red, green, blue = open_picture(out.getvalue()).image.getpixel((4, 4))  # type: ignore[misc]
    assert red == pytest.approx(255, abs=1)
    assert green == blue == pytest.approx(127, abs=1)
