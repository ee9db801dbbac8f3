"""Which colours a picture has, as a row beside what a network sees in it: packs of two juices differ in little else.

A soft histogram of luma and the two colour differences (4 x 8 x 8 bins, each pixel shared among its eight nearest, the
middle of the picture counted most), its square root (Hellinger's distance; Arandjelovic & Zisserman 2012, RootSIFT),
less what pictures have in common. That common part is the mean over the photos of Tux Paint's stamps and of the demo
library, which were not used for measuring; it lies beside this file as float16. Without it the row gains half as much
(docs/results.md).
"""

from __future__ import annotations

import re
from functools import cache, reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgret_tools.encoders.protocol import Rows
from imgret_tools.encoders.rows import shipped, unit

FILE = Path(__file__).with_name("palette_mean.npy")
COLOURS = {
    "black": (20, 20, 20), "white": (240, 240, 240), "grey": (128, 128, 128), "red": (200, 30, 35), "green": (75, 140, 45),
    "yellow": (235, 200, 50), "blue": (40, 90, 190), "brown": (130, 85, 50), "purple": (95, 45, 90), "pink": (235, 130, 160),
    "orange": (240, 130, 30), "gray": (128, 128, 128), "violet": (95, 45, 90),
}  # fmt: skip
"""The basic colour terms of English (Berlin & Kay 1969) as things have them, sRGB, and two other spellings."""
_SHADES = (0.45, 0.6, 0.75, 0.9, 1.05, 1.2)  # times its brightness: a thing lies partly in the light
BINS = (4, 8, 8)
"""Of luma, blue less luma and red less luma."""
DIM = BINS[0] * BINS[1] * BINS[2]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_GAIN = 1.4  # colour differences beyond 0.5 / 1.4 = 0.36 share the last bin: few pictures have them
_WORD = re.compile("[a-z]+")
_STEP = 4  # pixels of the prepared picture that are averaged, each way
_SPREAD = 0.5  # of the window around the middle, in halves of the side


def palettes(pictures: NDArray[np.float32]) -> Rows:
    """Unit rows (n, 256) float32 of n prepared pictures (n, 3, side, side) in [-1, 1]; the side is a multiple of 4."""
    return unit(np.stack([histogram(picture) for picture in pictures]) - common())


def histogram(picture: NDArray[np.float32]) -> Rows:
    """The unit square root of the colours' shares, (256,) float32, of one prepared picture (3, side, side) in [-1, 1]."""
    small = picture.shape[1] // _STEP
    columns = reduce(np.add, [picture[:, :, place::_STEP] for place in range(_STEP)])
    pixels = columns.reshape(3, small, _STEP, small).sum(axis=2).reshape(3, -1) / (2 * _STEP**2) + 0.5
    luma = pixels[0] * _LUMA[0] + pixels[1] * _LUMA[1] + pixels[2] * _LUMA[2]
    differences = np.clip((pixels[[2, 0]] - luma) * _GAIN + 0.5, 0, 1)
    places, weights = np.zeros((1, luma.size), np.intp), _window(small)[None]
    for values, bins in zip((luma, *differences), BINS, strict=True):  # each pixel's corners become twice as many
        below, share = _shares(values, bins)
        sides = np.stack([below, np.minimum(below + 1, bins - 1)])
        places = (places[:, None] * bins + sides).reshape(-1, luma.size)
        weights = (weights[:, None] * np.stack([1 - share, share])).reshape(-1, luma.size)
    root = np.sqrt(np.bincount(places.ravel(), weights.ravel(), DIM))
    return np.asarray(root / max(float(np.linalg.norm(root)), 1e-12), np.float32)


def of_words(english: str) -> Rows | None:
    """The unit row (256,) of the colours that an English text names; None where it names none."""
    named = [word for word in _WORD.findall(english.lower()) if word in COLOURS]
    if not named:
        return None
    return np.asarray(unit(np.sum([_of_colour(word) for word in named], axis=0, keepdims=True))[0])


@cache
def _of_colour(name: str) -> Rows:
    shades = np.clip(np.outer(_SHADES, COLOURS[name]), 0, 255) / 127.5 - 1
    flat = np.broadcast_to(shades[:, :, None, None].astype(np.float32), (len(_SHADES), 3, 2 * _STEP, 2 * _STEP))
    counts = np.mean([histogram(picture) ** 2 for picture in flat], axis=0)
    return np.asarray(unit((np.sqrt(counts) - common())[None])[0])


@cache
def common() -> Rows:
    """What pictures have in common: the mean (256,) of such histograms."""
    return shipped(FILE, (DIM,))


def _shares(values: NDArray[np.float32], bins: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """For values (n,) in [0, 1] the bin below each and the share in [0, 1] of the one above it, (n,) each."""
    places = values * (bins - 1)
    below = places.astype(np.intp)
    return below, places - below


@cache
def _window(side: int) -> Rows:
    """How much each of side x side pixels counts, (side * side,), 1 in the middle."""
    along = np.linspace(-1, 1, side, dtype=np.float32) ** 2
    return np.asarray(np.exp(-(along[:, None] + along[None]) / (2 * _SPREAD**2)), np.float32).ravel()
