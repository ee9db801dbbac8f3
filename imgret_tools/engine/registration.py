"""Whether two pictures are copies of one shot: one is laid on the other, then their details must agree.

Coarsely on grey planes, for many pairs at once: low frequencies of one picture against those of windows of the other, in
the eight orientations. Most pairs end here. What is left is laid by shift and scale (Lucas & Kanade 1981, IJCAI, coarse to
fine; Baker & Matthews 2004, IJCV 56), and the details (a band of middle frequencies) must correlate in most blocks. A
watermark spoils some blocks, another shot nearly all. Colours must agree too, unless one of the two is grey.

A placement is a turn of one of eight and a warp (sx, tx, sy, ty): the turned first picture at (sx * x + tx, sy * y + ty) is
the second one at (x, y); coordinates go from -1 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

AGREEING = 0.6
"""Share of blocks whose details must correlate in copies."""

COARSE, FINE = 64, 128
"""Pixels a side of the planes that are placed, and of the pictures that are laid on each other."""

MEETING = 0.55
"""Correlation of low frequencies in the best placement, from which a pair is worth a close look."""

LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue: what programs that turn a picture grey nearly all weigh them by (ITU-R BT.601)."""

_FREQUENCIES = 12  # a side
_WINDOWS = ((1.0, 0.0), (0.9, -0.1), (0.9, 0.0), (0.9, 0.1))  # scale and shift of an axis
_FLAT = 0.5  # grey levels
_ROUGH, _ROUGH_STEPS = 32, 8  # pixels a side, and steps of Gauss and Newton
_FINER = ((64, 4), (128, 3))
_CELL = 16  # pixels of a block's side, of `FINE`
_CORRELATED, _TEXTURE, _FEWEST = 0.9, 1.5, 6
_PLAIN = 0.995
_COLOUR_GAP, _GREY_SPREAD = 14.0, 3.0
_COLOURS = 32  # pixels a side of the planes of colours
_OVERLAP = 0.75  # share of a picture that must lie on the other one for them to be laid on each other
_HELD = 0.88  # share of the smaller one that must; in a shot from beside it each has something that the other has not
_FITTING = 0.8  # correlation of coarse planes laid on each other, from which it is worth looking at their details
_PROMISING, _CERTAIN = 0.3, AGREEING  # shares between which it is worth laying finer planes

Planes = NDArray[np.float32]
Pixels = NDArray[np.uint8]
_Number = TypeVar("_Number", np.float32, np.uint8)


@dataclass(frozen=True, slots=True)
class Placements:
    """The best placement found of each of n pairs.

    Attributes:
        scores: correlation (n,) of low frequencies there, -1 to 1, higher is better; 1 for two flat planes of one level.
        swapped: (n,) whether the second picture is laid on the first, and not the first on the second.
        turns: (n,) 0 to 7, how the one that is laid is turned before.
        warps: (n, 4).
    """

    scores: NDArray[np.float32]
    swapped: NDArray[np.bool_]
    turns: NDArray[np.intp]
    warps: NDArray[np.float64]

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Placements:
        """Those of the chosen pairs."""
        return Placements(self.scores[chosen], self.swapped[chosen], self.turns[chosen], self.warps[chosen])

    @staticmethod
    def joined(several: Sequence[Placements]) -> Placements:
        """All of them, one after the other; of at least one."""
        return Placements(
            np.concatenate([one.scores for one in several]),
            np.concatenate([one.swapped for one in several]),
            np.concatenate([one.turns for one in several]),
            np.concatenate([one.warps for one in several]),
        )


def turned(picture: NDArray[_Number], turn: int) -> NDArray[_Number]:
    """A picture (h, w, ...) in one of eight orientations: mirrored (1), upside down (2), transposed (4)."""
    found = picture.swapaxes(0, 1) if turn & 4 else picture
    found = found[:, ::-1] if turn & 1 else found
    return found[::-1] if turn & 2 else found


def placed(first: Pixels, second: Pixels) -> Placements:
    """Where each of n grey planes (n, 64, 64) uint8 lies best on its partner.

    Tried are the whole of one on the whole and on each window of the other, which finds crops.
    """
    windows, _ = _waves()
    whole, part = [], []
    for planes in (first, second):
        found = windows @ planes.astype(np.float32) @ windows.T
        count = len(_WINDOWS)
        blocks = found.reshape(-1, count, _FREQUENCIES, count, _FREQUENCIES).swapaxes(2, 3)
        unit = _unit(blocks.reshape(len(planes), count * count, -1))
        part.append(unit)
        whole.append(_all_turns(unit[:, 0]))
    # The second one's windows hold the turned first one where that is a crop, and the other way round.
    scores = np.stack([part[1] @ whole[0], part[0] @ whole[1]], axis=1)  # (n, 2, windows, 8)
    best = scores.reshape(len(first), -1).argmax(axis=1)
    swapped, window, turn = np.unravel_index(best, scores.shape[1:])
    boxes = np.array([(sx, tx, sy, ty) for sy, ty in _WINDOWS for sx, tx in _WINDOWS])[window]
    warps = np.stack([1 / boxes[:, 0], -boxes[:, 1] / boxes[:, 0], 1 / boxes[:, 2], -boxes[:, 3] / boxes[:, 2]], axis=1)
    level = np.take_along_axis(scores.reshape(len(first), -1), best[:, None], axis=1)[:, 0]
    flat = (np.abs(whole[0][:, :, 0]).max(axis=1) == 0) & (np.abs(whole[1][:, :, 0]).max(axis=1) == 0)
    best_ones = Placements(level, swapped.astype(bool), turn.astype(np.intp), warps)
    _lay(first, second, best_ones)
    level[flat] = np.abs(first[flat].mean(axis=(1, 2)) - second[flat].mean(axis=(1, 2))) <= 1
    return best_ones


def _lay(first: Pixels, second: Pixels, placements: Placements) -> None:
    """Refine the warps of planes that meet; those that do not fit there score 0."""
    near = np.flatnonzero(placements.scores >= MEETING)
    smooth = _smooth(COARSE, _ROUGH)
    a, b = (smooth @ planes[near].astype(np.float32) @ smooth.T for planes in (first, second))
    swapped = placements.swapped[near, None, None]
    a, b = np.where(swapped, b, a), np.where(swapped, a, b)
    for turn in range(1, 8):
        own = placements.turns[near] == turn
        a[own] = np.moveaxis(turned(np.moveaxis(a[own], 0, 2), turn), 2, 0)
    warps, fits = _better(a, b, placements.warps[near], _ROUGH_STEPS)
    placements.warps[near] = warps
    placements.scores[near[fits < _FITTING]] = 0


def _better(
    a: Planes, b: Planes, warps: NDArray[np.float64], steps: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Warps (n, 4) after some steps where they fit better then, as they were elsewhere, and how they fit (n,)."""
    refined = _refined(a, b, warps, steps)
    before, after = _fit(a, b, warps), _fit(a, b, refined)
    return np.where((after >= before)[:, None], refined, warps), np.maximum(before, after)


@lru_cache(1)
def _waves() -> tuple[Planes, Planes]:
    """The twelve lowest cosines (4 * 12, 64) of each window, and what each of 12 x 12 frequencies weighs.

    Photos have about 1 / f of each frequency f, so weights of f make them count alike.
    """
    at = np.pi / COARSE * np.outer(np.arange(_FREQUENCIES), np.arange(COARSE) + 0.5)
    waves = (np.cos(at) / COARSE).astype(np.float32)
    scales, shifts = np.array(_WINDOWS).T
    windows = waves @ samples(COARSE, scales, shifts)[0]
    lines = np.arange(_FREQUENCIES)
    return windows.reshape(-1, COARSE), np.hypot(lines[:, None], lines[None, :]).astype(np.float32)


def _unit(found: Planes) -> Planes:
    """Weighted low frequencies (..., 144) of length 1; 0 for flat planes."""
    _, weights = _waves()
    weighted = found * weights.reshape(-1)
    lengths = np.linalg.norm(weighted, axis=-1, keepdims=True)
    return np.where(lengths > _FLAT, weighted / np.maximum(lengths, _FLAT), np.float32(0))


def _all_turns(unit: Planes) -> Planes:
    """Low frequencies (n, 144, 8) as they were in each of the eight orientations."""
    low = unit.reshape(-1, _FREQUENCIES, _FREQUENCIES)
    return np.stack([oriented(low, turn) for turn in range(8)], axis=2)


def oriented(low: Planes, turn: int) -> Planes:
    """Low frequencies (n, f * f) as those of pictures, (n, f, f), were if the pictures were `turned`."""
    signs = (-1.0) ** np.arange(low.shape[1], dtype=np.float32)
    found = low.swapaxes(1, 2) if turn & 4 else low
    found = found * signs[None, None, :] if turn & 1 else found
    found = found * signs[None, :, None] if turn & 2 else found
    return np.ascontiguousarray(found.reshape(len(low), -1))


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture squashed to a square, as it is laid on another one.

    Attributes:
        grey: (128, 128), 0 to 255.
        chroma: red and blue less green (2, 32, 32), -255 to 255.
    """

    grey: Planes
    chroma: Planes

    def plane(self) -> Pixels:
        """Its grey plane (64, 64), as `placed` takes it."""
        cells = means(FINE, COARSE)
        return (cells @ self.grey @ cells.T + 0.5).astype(np.uint8)

    def turned(self, turn: int) -> Picture:
        """It in one of eight orientations."""
        return Picture(turned(self.grey, turn), np.stack([turned(plane, turn) for plane in self.chroma]))


def of_pixels(pixels: Pixels) -> Picture:
    """The picture of pixels (128, 128, 3) uint8."""
    red, green, blue = np.moveaxis(pixels, 2, 0).astype(np.float32)
    few = means(FINE, _COLOURS)
    return Picture(
        LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue, few @ np.stack([red - green, blue - green]) @ few.T
    )


def agreement(a: Pixels, b: Pixels) -> float:
    """How far two pictures (128, 128, 3) uint8, squashed to squares, are copies of one shot: 0 to 1 of their blocks.

    0 also where their colours differ, or where so little of them overlaps that it could be chance.
    """
    one, other = of_pixels(a), of_pixels(b)
    found = placed(one.plane()[None], other.plane()[None])
    if found.scores[0] < MEETING:
        return float(np.array_equal(a, b))
    if found.swapped[0]:
        one, other = other, one
    return float(agreements([one.turned(int(found.turns[0]))], [other], found.warps)[0])


def agreements(first: Sequence[Picture], second: Sequence[Picture], warps: NDArray[np.float64]) -> NDArray[np.float32]:
    """`agreement` (n,) of pairs of pictures of which the first ones are turned, from warps (n, 4) near the true ones."""
    a, b = (np.stack([picture.grey for picture in pictures]) for pictures in (first, second))
    shares, warps = _agreeing(a, b, warps), warps.copy()
    unsure = np.flatnonzero((shares < _CERTAIN) & (shares >= _PROMISING))
    if len(unsure):
        laid = warps[unsure]
        for size, steps in _FINER:
            smooth = _smooth(FINE, size)
            small_a, small_b = (np.asarray(smooth @ planes[unsure] @ smooth.T, np.float32) for planes in (a, b))
            laid, _ = _better(small_a, small_b, laid, steps)
        again = _agreeing(a[unsure], b[unsure], laid)
        better = again > shares[unsure]
        shares[unsure[better]], warps[unsure[better]] = again[better], laid[better]
    for number in np.flatnonzero(shares >= AGREEING).tolist():
        if not _same_colours(first[number].chroma, second[number].chroma, warps[number]):
            shares[number] = 0
    for number in np.flatnonzero((a == b).all(axis=(1, 2))).tolist():
        if np.array_equal(first[number].chroma, second[number].chroma):
            shares[number] = 1
    return shares


def _refined(a: Planes, b: Planes, warps: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """Warps (n, 4) after some Gauss-Newton steps of Lucas & Kanade."""
    size = a.shape[1]
    at = np.linspace(-1, 1, size, dtype=np.float32)
    warps, moving = warps.copy(), np.arange(len(warps))
    for _ in range(steps):
        if not len(moving):
            break
        warp = warps[moving]
        warped, inside = _warped(a[moving], warp)
        counts = inside.sum(axis=(1, 2))
        scales = warp[:, [0, 2]]
        usable = (counts >= _OVERLAP / 2 * size * size) & ((scales > 0.7) & (scales < 1.45)).all(axis=1)
        counts = np.maximum(counts, 1)
        level, target = _centred(warped, inside, counts), _centred(b[moving], inside, counts)
        spread = np.einsum("nij,nij->n", level, level) / counts
        usable &= spread > 1e-6
        spread = np.maximum(spread, 1e-6)
        gain = np.einsum("nij,nij->n", level, target) / counts / spread
        rest = target / np.where(gain > 0.2, gain, 1)[:, None, None].astype(np.float32) - level
        dy, dx = np.gradient(warped, np.float32(2 / (size - 1)), axis=(1, 2))
        dx /= warp[:, 0, None, None].astype(np.float32)
        dy /= warp[:, 2, None, None].astype(np.float32)
        slopes = np.stack([dx * at, dx, dy * at[:, None], dy], axis=1)
        slopes = _centred(slopes, inside[:, None], counts[:, None]).reshape(len(moving), 4, -1)
        normal = (slopes @ slopes.swapaxes(1, 2)).astype(np.float64)
        normal += np.eye(4) * 1e-4 * (np.trace(normal, axis1=1, axis2=2) + 1e-6)[:, None, None]
        right = slopes @ rest.reshape(len(moving), -1, 1)
        step = np.clip(np.linalg.solve(normal, right.astype(np.float64))[..., 0], -0.1, 0.1)
        warps[moving[usable]] += step[usable]
        moving = moving[usable & (np.abs(step).max(axis=1) >= 2e-4)]
    return warps


def _centred(planes: Planes, inside: Planes, counts: NDArray[np.float32]) -> Planes:
    """Planes (..., s, s) less their mean inside, 0 outside."""
    masked = planes * inside
    means = np.asarray(masked.sum(axis=(-2, -1)) / counts, np.float32)
    return np.asarray(masked - means[..., None, None] * inside, np.float32)


def _warped(a: Planes, warps: NDArray[np.float64]) -> tuple[Planes, Planes]:
    """Planes (n, s, s) sampled at (sx * x + tx, sy * y + ty), and 1 where that lies inside them, else 0."""
    size = a.shape[1]
    columns, in_x = samples(size, warps[:, 0], warps[:, 1])
    lines, in_y = samples(size, warps[:, 2], warps[:, 3])
    return np.asarray(lines @ a @ columns.swapaxes(1, 2), np.float32), in_y[:, :, None] * in_x[:, None, :]


def samples(size: int, scales: NDArray[np.float64], shifts: NDArray[np.float64]) -> tuple[Planes, Planes]:
    """Matrices (n, size, size) that sample lines linearly at scale * x + shift, and 1 for samples that lie on them."""
    at = (scales[:, None] * np.linspace(-1, 1, size) + shifts[:, None] + 1) * (size - 1) / 2
    inside = (at >= -0.01) & (at <= size - 0.99)
    at = np.clip(at, 0, size - 1)
    low = np.minimum(at.astype(np.intp), size - 2)
    high = (at - low).astype(np.float32)
    matrices = np.zeros((len(at), size, size), np.float32)
    pairs, own = np.arange(len(at))[:, None], np.arange(size)
    matrices[pairs, own, low] = 1 - high
    matrices[pairs, own, low + 1] = high
    return matrices, inside.astype(np.float32)


def _fit(a: Planes, b: Planes, warps: NDArray[np.float64]) -> NDArray[np.float32]:
    """Correlation (n,) of planes where they meet, -1 where that is too little."""
    warped, inside = _warped(a, warps)
    return np.where(inside.mean(axis=(1, 2)) >= _OVERLAP, _correlation(warped, b, inside), np.float32(-1))


def _correlation(a: Planes, b: Planes, inside: Planes) -> NDArray[np.float32]:
    counts = np.maximum(inside.sum(axis=(1, 2)), 1)
    a, b = _centred(a, inside, counts), _centred(b, inside, counts)
    lengths = np.linalg.norm(a, axis=(1, 2)) * np.linalg.norm(b, axis=(1, 2))
    return np.where(lengths > 1e-6, np.einsum("nij,nij->n", a, b) / np.maximum(lengths, 1e-6), np.float32(0))


def _agreeing(a: Planes, b: Planes, warps: NDArray[np.float64]) -> NDArray[np.float32]:
    """The share (n,) of blocks of `b` whose details `a` has too, where it lies on them."""
    warped, inside = _warped(a, warps)
    whole = inside.mean(axis=(1, 2))
    first, second = (_details(planes) for planes in (np.where(inside > 0, warped, b), b))
    there = _cells(inside).mean(axis=2) > 0.9
    first, second = (cells - cells.mean(axis=2, keepdims=True) for cells in (_cells(first), _cells(second)))
    spreads = [np.sqrt(np.einsum("ncp,ncp->nc", cells, cells) / _CELL**2) for cells in (first, second)]
    stronger = np.maximum(*spreads)
    telling = there & (stronger > _TEXTURE)
    products = np.einsum("ncp,ncp->nc", first, second) / _CELL**2 / np.maximum(spreads[0] * spreads[1], 1e-6)
    counts = telling.sum(axis=1)
    shares = ((products >= _CORRELATED) & telling).sum(axis=1) / np.maximum(counts, 1)
    plain = counts < _FEWEST
    if plain.any():
        alike = _correlation(warped[plain], b[plain], inside[plain]) >= _PLAIN
        shares[plain] = (whole[plain] > 0.9) & alike
    held = whole * np.maximum(1, warps[:, 0] * warps[:, 2])
    return np.where((whole >= _OVERLAP) & (held >= _HELD), shares, 0).astype(np.float32)


def _details(planes: Planes) -> Planes:
    fine, rough = _blur(FINE, 1.0), _blur(FINE, 4.0)
    return np.asarray(fine @ planes @ fine.T - rough @ planes @ rough.T, np.float32)


def _cells(planes: Planes) -> Planes:
    """Blocks (n, 64, 256) of planes (n, 128, 128)."""
    count = FINE // _CELL
    return planes.reshape(-1, count, _CELL, count, _CELL).swapaxes(2, 3).reshape(len(planes), count**2, _CELL**2)


def _same_colours(a: Planes, b: Planes, warp: NDArray[np.float64]) -> bool:
    """Whether colours (2, 32, 32) agree where two pictures meet, or one of them has none."""
    if any(float(np.abs(chroma).mean(axis=(1, 2)).max()) < _GREY_SPREAD for chroma in (a, b)):
        return True
    warped, inside = _warped(a, np.stack([warp, warp]))
    gaps = (np.abs(warped - b) * inside).sum(axis=(1, 2)) / np.maximum(inside.sum(axis=(1, 2)), 1)
    return bool(gaps.max() <= _COLOUR_GAP)


@lru_cache(8)
def means(size: int, less: int) -> Planes:
    """The matrix (less, size) that resamples a line of `size` pixels by the means of what each of `less` pixels covers."""
    edges = np.arange(less + 1) * size / less
    at = np.arange(size)
    covered = np.minimum(edges[1:, None], at + 1) - np.maximum(edges[:-1, None], at)
    return (covered.clip(0) * less / size).astype(np.float32)


@lru_cache(8)
def _smooth(size: int, less: int) -> Planes:
    """The matrix (less, size) that makes a line shorter and smooth enough for its slopes to lead far."""
    return _blur(less, less / 32) @ means(size, less)


@lru_cache(8)
def _blur(size: int, sigma: float) -> Planes:
    """The matrix (size, size) that blurs lines by a Gaussian."""
    at = np.arange(size)
    weights = np.exp(-((at[:, None] - at[None, :]) ** 2) / (2 * sigma**2))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
