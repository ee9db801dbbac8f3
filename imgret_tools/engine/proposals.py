"""Which pairs of a library's pictures may be copies: proposed by their rows, and refused where their pixel rows do not meet.

In blocks and without opening a file:

1. Proposed are pairs alike in the low frequencies of their grey pixel rows (DCT, whitened over the library; as in pHash:
   Zauner 2010), in any of the eight orientations or one cropped by a tenth, and pairs whose embedding rows are near.
2. Refused are those that do not meet however one is turned or cropped (`registration.placed`). Of groceries, where nearly
   every picture has eight near neighbours, four in five of the pairs that are no copies end here, in a tenth of a
   millisecond each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgret_tools.engine.parallel import each
from imgret_tools.engine.registration import (
    COARSE,
    LUMA,
    MEETING,
    Pixels,
    Placements,
    Planes,
    means,
    oriented,
    placed,
    samples,
)
from imgret_tools.library.view import View

PAIRS_AT_ONCE = 256

_LOW = 7  # frequencies a side
_ALIKE, _NEAR, _NEIGHBOURS = 0.5, 0.8, 8
_CROPS = ((1.0, 0.0, 1.0, 0.0), (0.9, 0.0, 0.9, 0.0), *((0.9, x, 0.9, y) for x in (-0.1, 0.1) for y in (-0.1, 0.1)))
_FEW = 128  # pictures of which every pair is looked at
_BLOCK = 256
_ENOUGH = 32  # pixels a side of a pixel row that can be placed

Pairs = NDArray[np.intp]
Numbers = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Proposals:
    """Pairs (n, 2) of pictures, the lower number first, with their best placement."""

    pairs: Pairs
    placements: Placements

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Proposals:
        """Those of the chosen pairs."""
        return Proposals(self.pairs[chosen], self.placements.where(chosen))

    def __len__(self) -> int:
        return len(self.pairs)


def candidates(
    view: View, numbers: Numbers, *, stop: Callable[[], bool] = lambda: False
) -> Iterator[tuple[int, Pairs]]:
    """Pairs (m, 2) of row numbers among `numbers` that may be copies, the lower first, for block after block of pictures.

    With each block, how many pictures it has. A pair may come twice.
    """
    places = view.pixel_places[numbers]
    with_pixels = np.flatnonzero(places >= 0)
    whole, *parts = _low_frequencies(view, places[with_pixels])
    turns = [oriented(whole, turn) for turn in range(8)]
    cropped = [oriented(part, 0) for part in parts]
    rows = np.asarray(view.matrix[numbers])

    def look(start: int) -> tuple[int, Pairs]:
        block = rows[start : start + _BLOCK]
        found = [_best(block @ rows.T, np.arange(start, start + len(block)), _NEAR)]
        own = np.flatnonzero((with_pixels >= start) & (with_pixels < start + len(block)))
        if len(own):
            waves = turns[0][own]
            scores = waves @ turns[0].T
            for other in (*turns[1:], *cropped):
                np.maximum(scores, waves @ other.T, out=scores)
            found.append(with_pixels[_best(scores, own, _ALIKE)])
        return len(block), numbers[np.sort(np.concatenate(found), axis=1)]

    if len(numbers) <= _FEW:
        yield len(numbers), numbers[np.stack(np.triu_indices(len(numbers), 1), axis=1)]
    else:
        yield from each(look, range(0, len(rows), _BLOCK), stop=stop)


def refused(
    view: View,
    pairs: Pairs,
    *,
    plane: Callable[[int], Pixels | None],
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[int, Proposals]]:
    """Those of pairs (n, 2) of row numbers that meet somewhere, for block after block, with how many pairs it has.

    `plane` gives the grey plane (64, 64) of a row number that has no pixel row, None where it cannot.
    """
    places = view.pixel_places if view.card.pixel_size >= _ENOUGH else np.full(view.card.stored, -1, np.intp)

    def look(start: int) -> tuple[int, Proposals]:
        block = pairs[start : start + PAIRS_AT_ONCE]
        numbers, at = np.unique(block, return_inverse=True)
        planes, there = np.zeros((len(numbers), COARSE, COARSE), np.uint8), places[numbers] >= 0
        planes[there] = _grey(view, places[numbers[there]], COARSE) + np.float32(0.5)
        seen = there.copy()
        for place in np.flatnonzero(~there):
            if (drawn := plane(int(numbers[place]))) is not None:
                planes[place], seen[place] = drawn, True
        at = at.reshape(block.shape)
        whole = np.asarray(seen[at].all(axis=1), np.bool_)
        block, at = block[whole], at[whole]
        found = placed(planes[at[:, 0]], planes[at[:, 1]])
        meeting = found.scores >= MEETING
        return len(whole), Proposals(block, found).where(meeting)

    yield from each(look, range(0, len(pairs), PAIRS_AT_ONCE), stop=stop)


def _best(scores: Planes, own: Numbers, least: float) -> Pairs:
    """(row's own column, column) of the up to `_NEIGHBOURS` highest scores of each row, from `least` on, less the own one."""
    scores[np.arange(len(scores)), own] = -1
    limit = np.full((len(scores), 1), least, np.float32)
    if scores.shape[1] > _NEIGHBOURS:
        kept = scores.shape[1] - _NEIGHBOURS
        np.maximum(limit, np.partition(scores, kept, axis=1)[:, kept, None], out=limit)
    rows, columns = np.nonzero(scores >= limit)
    return np.stack([own[rows], columns], axis=1)


def _low_frequencies(view: View, places: Numbers) -> Planes:
    """The whitened low frequencies (6, n, 7, 7) of grey pixel rows and of windows of them, unit; 0 for flat pictures."""
    size = view.card.pixel_size
    waves = np.cos(np.pi / size * np.outer(np.arange(_LOW), np.arange(size) + 0.5)).astype(np.float32)
    crops = np.array(_CROPS)
    columns = waves @ samples(size, crops[:, 0], crops[:, 1])[0]
    lines = waves @ samples(size, crops[:, 2], crops[:, 3])[0]
    found = np.empty((len(crops), len(places), _LOW, _LOW), np.float32)
    for start in range(0, len(places), _BLOCK):
        grey = _grey(view, places[start : start + _BLOCK], size)
        found[:, start : start + len(grey)] = lines[:, None] @ grey @ columns[:, None].swapaxes(2, 3) / size
    found[..., 0, 0] = 0
    # A picture and its transpose are weighed alike.
    power = (found[0] ** 2).mean(axis=0) if len(places) else np.ones((_LOW, _LOW), np.float32)
    found /= np.sqrt((power + power.T) / 2) + 0.5
    lengths = np.linalg.norm(found, axis=(2, 3), keepdims=True)
    return np.asarray(np.where(lengths > 1e-3, found / np.maximum(lengths, 1e-3), 0), np.float32)


def _grey(view: View, places: Numbers, side: int) -> Planes:
    """Grey planes (n, side, side), 0 to 255, of pixel rows."""
    size = view.card.pixel_size
    pixels = np.asarray(view.pixels[places]).reshape(-1, size, size, 3)
    red, green, blue = (pixels[..., colour].astype(np.float32) for colour in range(3))
    grey = np.asarray(LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue, np.float32)
    if side == size:
        return grey
    fewer = means(size, side)
    return np.asarray(fewer @ grey @ fewer.T, np.float32)
