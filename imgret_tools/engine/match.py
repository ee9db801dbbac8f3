"""How well a hit fits, in a word and as a number, whatever the measure, the encoder and the library.

A cosine of 0.3 is a poor match between two pictures and an excellent one between a text and a picture, and every
encoder and library has its own range. So each part of a query gets four `Anchors`, cosines that say what chance, a fair,
a strong and the best match would be *here*, and the closeness of a hit is read off between them. It is always judged
on the cosine of the exact rows (on pixels: their Pearson correlation), so a hit has the same match whatever measure or
order it was found by.

- *Pictures*: chance is measured on pairs of the library's own pictures (the lower half of them: the upper one holds the
  kinds it has many of) and on pairs of a dozen unlike photos that scikit-image ships, which bound it: a library of
  oranges alone does not make oranges strangers to each other.
- *Texts*: chance is measured on the names of the 1,000 ImageNet classes against the library. A text must stand out of
  it the further, the better the encoder knows what it means, that is, the nearer to it the nearest of those names is:
  "a piano", absent, finds pictures somewhat like a piano, but far less than a piano would be. Cohort normalisation of
  scores, as in speaker verification (Auckenthaler, Carey & Lloyd-Thomas 2000, Digital Signal Processing 10), twice.

Limits were chosen on two thirds of the lists in benchmarks/lists and measured on the rest: docs/matches.md.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgret_tools.encoders.class_meanings import class_names
from imgret_tools.encoders.protocol import Encoder
from imgret_tools.files import atomic_write
from imgret_tools.library.view import View
from imgret_tools.metrics import METRICS
from imgret_tools.pictures.open import open_picture
from imgret_tools.pictures.pixels import resize_pixels
from imgret_tools.records import Match

FAIR, STRONG = 0.5, 0.75
"""Closeness from which a hit counts as a fair and as a strong match."""

_UNLIKE = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png",
    "grass.png", "hubble_deep_field.jpg", "motorcycle_left.png", "page.png", "rocket.jpg",
)  # fmt: skip
_SIDE = 320  # of the unlike photos, in pixels
_SAMPLE = 1024  # pictures of the library
_PAIRED = 512  # of them, paired with each other
_PIXELS = 4_000_000  # bytes of pixel rows paired with each other
_FEW = 10  # pictures of a library that weigh as much as the unlike photos
_PICTURE_SPREADS, _UNLIKE_SPREADS, _MOST_OF_WAY = 3.0, 3.5, 0.7
_TEXT_SHARES = (0.52, 0.75, 1.6)  # of a text's nearness to its nearest name, for fair, strong and best
_TEXT_SPREADS = (2.5, 3.2, 3.8)  # but at least: below lies what letters without a meaning reach
_LEAST_SPREAD = 1e-6
_REVISION = 2  # part of the cache's key: a new number whenever an encoder reads the same names or photos otherwise under the same fingerprint

_log = logging.getLogger(__name__)
Row = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a query: its unit row (d,), its weight (negative: "not"), and whether it is a text.

    `read` says whether the encoder reads anything of the text. `judged` is the unit row by which it is judged whether a
    picture fits, where that is not `row`, which puts pictures in order.
    """

    row: Row
    weight: float
    is_text: bool = False
    read: bool = True
    judged: Row | None = None

    @property
    def plain(self) -> Row:
        """The row that fits are judged by."""
        return self.row if self.judged is None else self.judged


@dataclass(frozen=True, slots=True)
class Anchors:
    """Scores, ascending, that are chance, a fair, a strong and the best match: closeness 0, 0.5, 0.75 and 1."""

    chance: float
    fair: float
    strong: float
    best: float

    def closeness(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """The closeness (n,) in [0, 1] of scores (n,), 0 for NaN."""
        known = np.nan_to_num(scores, nan=self.chance)
        return np.interp(known, [self.chance, self.fair, self.strong, self.best], [0.0, FAIR, STRONG, 1.0])


@dataclass(frozen=True, slots=True)
class _Names:
    """The class names: unit rows (1000, d), and the mean and the spread of the cosine between two of them."""

    rows: Row
    mean: float
    spread: float


def match_of(closeness: float) -> Match:
    """A closeness in a word."""
    return "strong" if closeness >= STRONG else "fair" if closeness >= FAIR else "weak"


class Matcher:
    """Judges hits of searches with one encoder; what it knows of the encoder is computed once and kept in `cache`."""

    def __init__(self, encoder: Encoder, cache: Path | None) -> None:
        self._encoder, self._cache = encoder, cache
        self._lock = threading.Lock()
        self._known_names: _Names | None = None
        self._known_unlike: tuple[float, float] | None = None

    def closeness(self, view: View, parts: Sequence[Part], rows: Row) -> NDArray[np.float64]:
        """How close hits are to a query of these parts, (n,) in [0, 1]; `FAIR` and `STRONG` are the limits.

        The cosine with the weighted sum of the parts is the weighted sum of their cosines, and so are its anchors. A
        part that speaks against, or that is not read, asks for nothing better than chance.

        Args:
            view: the library.
            parts: of the query, as `compose` takes them.
            rows: (n, d) of the hits.
        """
        asked = [part for part in parts if part.weight]
        if not any(part.weight > 0 and part.read for part in asked):
            return np.zeros(len(rows))
        whole = np.sum([part.weight * part.plain.astype(np.float64) for part in asked], axis=0)
        length = max(float(np.linalg.norm(whole)), _LEAST_SPREAD)
        totals = np.zeros(4)
        for part in asked:
            found = self._of_text(view, part.plain) if part.is_text else self._of_pictures(view)
            chance, *better = (found.chance, found.fair, found.strong, found.best)
            wanted = part.weight > 0 and part.read
            totals += part.weight * np.array([chance, *(better if wanted else [chance] * 3)])
        return Anchors(*(totals / length).tolist()).closeness(np.asarray(rows, np.float64) @ whole / length)

    def closeness_of_pixels(self, view: View, row: NDArray[np.uint8], places: NDArray[np.intp]) -> NDArray[np.float64]:
        """How close the pixel rows at `places` are to the pixel row `row` (size * size * 3,), (n,) in [0, 1]."""
        size = view.card.pixel_size
        pearson = METRICS["pearson"]

        def anchors() -> Anchors:
            unlike = [resize_pixels(image, size) for image in unlike_photos()]
            between = np.concatenate([pearson.values(one, np.array(unlike)) for one in unlike] or [np.zeros(0)])
            apart = between[between < 1 - _LEAST_SPREAD]
            order = np.random.default_rng(0).permutation(len(view.pixels))
            rows = np.asarray(view.pixels[np.sort(order[: min(128, max(2, _PIXELS // view.pixels.shape[1]))])])
            pairs = [np.delete(pearson.values(one, rows), number) for number, one in enumerate(rows)]
            return _between_pictures(np.concatenate(pairs or [np.zeros(0)]), len(rows), *_centre(apart))

        return view.memo("match pixels", anchors).closeness(pearson.values(row, view.pixels, subset=places))

    def _of_pictures(self, view: View) -> Anchors:
        def anchors() -> Anchors:
            rows = _sample(view)[:_PAIRED]
            return _between_pictures(_pairs(rows), len(view), *self._unlike())

        return view.memo("match pictures", anchors)

    def _of_text(self, view: View, row: Row) -> Anchors:
        names = self._names()

        def chance() -> tuple[float, float]:
            scores = names.rows @ _sample(view).T
            return float(scores.mean()), max(float(scores.std()), _LEAST_SPREAD)

        mean, spread = view.memo("match texts", chance) if len(view) else (0.0, 1.0)
        nearest = (float((names.rows @ row).max()) - names.mean) / names.spread
        limits = [max(share * nearest, least) for share, least in zip(_TEXT_SHARES, _TEXT_SPREADS, strict=True)]
        return Anchors(mean, *(mean + spread * limit for limit in limits))

    def _names(self) -> _Names:
        with self._lock:
            if self._known_names is None:
                names = class_names()
                rows = self._kept("names", len(names), lambda: self._encoder.encode_texts(list(names)))
                self._known_names = _Names(rows, *_centre(_pairs(rows)))
            return self._known_names

    def _unlike(self) -> tuple[float, float]:
        """The mean and the spread of the cosine between two unlike photos."""
        with self._lock:
            if self._known_unlike is None:
                photos = unlike_photos()
                prepare = self._encoder.prepare
                rows = self._kept(
                    "unlike", len(photos), lambda: self._encoder.encode_images([prepare(image) for image in photos])
                )
                self._known_unlike = _centre(_pairs(rows))
            return self._known_unlike

    def _kept(self, kind: str, count: int, make: Callable[[], Row]) -> Row:
        """Rows (count, dim) of the encoder, from the cache where they are there and whole."""
        if self._cache is None:
            return make()
        key = f"{_REVISION} {kind} {self._encoder.name} {self._encoder.fingerprint} {_UNLIKE}"
        file = self._cache / f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
        try:
            rows = np.load(file, allow_pickle=False)
            if rows.shape == (count, self._encoder.dim) and np.isfinite(rows).all():
                return np.asarray(rows, np.float32)
        except (OSError, ValueError, EOFError):
            _log.info("%s is not there or cannot be read: made anew", file)
        rows = np.asarray(make(), np.float32)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(file) as out:
                np.save(out, rows)
        except OSError:
            _log.info("rows of %s cannot be kept in %s", self._encoder.name, file, exc_info=True)
        return rows


@cache
def unlike_photos() -> tuple[Image.Image, ...]:
    """A dozen photos of unlike things, upright RGB, that scikit-image ships; those of them that are installed."""
    spec = importlib.util.find_spec("skimage")
    folder = Path(spec.origin).parent / "data" if spec is not None and spec.origin else None
    files = [folder / name for name in _UNLIKE if (folder / name).is_file()] if folder else []
    found = [open_picture(file, at_least=_SIDE).image for file in files]
    for image in found:
        image.thumbnail((_SIDE, _SIDE))
    return tuple(found)


def _sample(view: View) -> Row:
    """Rows of up to `_SAMPLE` pictures, seeded."""
    chosen = view.numbers[np.random.default_rng(0).permutation(len(view))[:_SAMPLE]]
    return np.asarray(view.matrix[chosen])


def _pairs(rows: Row) -> NDArray[np.float32]:
    """The cosines between two different rows of (n, d) unit rows, (n * (n - 1),)."""
    return np.asarray((rows @ rows.T)[~np.eye(len(rows), dtype=bool)], np.float32)


def _centre(pairs: NDArray[np.floating]) -> tuple[float, float]:
    """The mean and the spread of the scores of pairs."""
    return (float(pairs.mean()), max(float(pairs.std()), _LEAST_SPREAD)) if len(pairs) else (0.0, 0.1)


def _between_pictures(pairs: NDArray[np.floating], count: int, mean: float, spread: float) -> Anchors:
    """Anchors for pictures: from `pairs` of a library of `count`, and from two unlike photos' `mean` and `spread`."""
    least = mean + min(_UNLIKE_SPREADS * spread, _MOST_OF_WAY * (1 - mean))
    middle, width = mean, spread
    if len(pairs):
        share = count / (count + _FEW)
        median = float(np.median(pairs))
        below = pairs[pairs <= median]
        middle = share * median + (1 - share) * mean
        width = share * float(np.sqrt(((below - median) ** 2).mean())) + (1 - share) * spread
    fair = float(np.clip(middle + _PICTURE_SPREADS * width, least, least + (1 - least) / 3))
    return Anchors(min(middle, fair - 0.1 * (1 - fair)), fair, fair + (1 - fair) / 3, 1.0)
