"""Pictures that a library holds more than once: the same file, or a copy of the same shot.

A copy may be re-encoded, resized, cropped by a tenth, mirrored, turned, watermarked or grey. Two shots of a burst and two
packs of one product are no copies, however alike: their details do not fall on each other. So rows only *propose* pairs,
and pixels decide:

1. Proposed, in blocks: pairs alike in the low frequencies of their grey pixel rows (DCT, whitened over the library; as in
   pHash: Zauner 2010), in any of the eight orientations, and pairs whose embedding rows are near. Nothing is opened.
2. Decided on the two thumbnails: one is laid on the other by shift and scale (Lucas & Kanade 1981, IJCAI, coarse to fine;
   Baker & Matthews 2004, IJCV 56), then their details (a band of middle frequencies) must correlate in most blocks. A
   watermark spoils some blocks, another shot nearly all. Colours must agree too, unless one of the two is grey.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgret_tools.engine.runtime import Runtime, hit
from imgret_tools.errors import ImgretError, Message
from imgret_tools.library.view import View
from imgret_tools.records import DuplicateGroup, DuplicateReport, Entry

AGREEING = 0.8
"""Share of blocks whose details must correlate in copies."""

_LOW, _GREY = 7, 32  # frequencies a side, of a grey picture of so many pixels a side
_ALIKE, _NEAR, _NEIGHBOURS = 0.5, 0.8, 8
_BLOCK = 1024
_COARSE, _FINE = 32, 128  # pixels a side
_STEPS = {_COARSE: 8, _FINE: 4}
_CELL = 16  # pixels of a block's side, of `_FINE`
_CORRELATED, _TEXTURE, _FEWEST = 0.7, 1.5, 6
_PLAIN = 0.995
_COLOUR_GAP, _GREY_SPREAD = 14.0, 3.0
_OVERLAP = 0.55
_STARTS = (1.0, 0.9, 1 / 0.9)
_AS_IT_IS = np.array([1.0, 0.0, 1.0, 0.0])
_MEETING = 0.6  # correlation of coarse planes from which it is worth laying fine ones on each other
_CERTAIN = 0.85
_KEPT = 4096  # thumbnails in memory
_MOST = 10  # ids that a notice names at most

Plane = NDArray[np.float32]
Pair = tuple[int, int, float]
_Number = TypeVar("_Number", np.float32, np.uint8)


def find_duplicates(runtime: Runtime, *, library: str, like: str) -> DuplicateReport:
    """Groups of pictures with the same content (`exact`), of copies of one shot (`near`), or of both (`any`).

    Nothing is deleted; each group says which picture to keep and why.
    """
    started = time.perf_counter()
    with runtime.view(library) as view:
        entries = view.entries()
        pairs = _same_content(entries) if like != "near" else []
        unseen: set[int] = set()
        if like != "exact":
            pairs += _copies(runtime, view, entries, unseen)
        groups = [_group([entries[number] for number in members]) for members in _connected(len(entries), pairs)]
        groups.sort(key=lambda group: (-len(group.hits), group.keep))
        named = ", ".join(sorted(entries[number].id for number in unseen)[:_MOST])
        return DuplicateReport(
            view.card.name,
            groups,
            [(entries[one].id, entries[other].id, round(score, 4)) for one, other, score in pairs],
            round(time.perf_counter() - started, 4),
            notice=Message(
                "{count} pictures could not be opened to be compared ({named}).", count=len(unseen), named=named
            )
            if unseen
            else "",
        )


def _same_content(entries: Sequence[Entry]) -> list[Pair]:
    first: dict[str, int] = {}
    return [
        (first[entry.sha256], number, 1.0)
        for number, entry in enumerate(entries)
        if first.setdefault(entry.sha256, number) != number
    ]


def _copies(runtime: Runtime, view: View, entries: Sequence[Entry], unseen: set[int]) -> list[Pair]:
    """Pairs of copies that differ in content, with the share of blocks that agree."""
    contents: dict[str, int] = {}
    distinct = np.array([n for n, entry in enumerate(entries) if contents.setdefault(entry.sha256, n) == n], np.intp)

    @lru_cache(_KEPT)
    def opened(number: int) -> NDArray[np.uint8] | None:
        try:
            with Image.open(runtime.thumbnail(entries[number])) as image:
                return np.asarray(image.convert("RGB").resize((_FINE, _FINE), Image.Resampling.BOX))
        except (ImgretError, OSError):
            unseen.add(number)
            return None

    found: list[Pair] = []
    for one, other in sorted(candidates(view, distinct)):
        a, b = opened(one), opened(other)
        if a is not None and b is not None and (share := agreement(a, b)) >= AGREEING:
            found.append((one, other, share))
    return found


def candidates(view: View, chosen: NDArray[np.intp]) -> set[tuple[int, int]]:
    """Pairs (lower, higher) of places among `view.numbers[chosen]` that may be copies, as places in `view.numbers`.

    Flat memory: blocks of 1,024 pictures against all.
    """
    numbers = view.numbers[chosen]
    places = view.pixel_places[numbers]
    found: set[tuple[int, int]] = set()
    with_pixels = np.flatnonzero(places >= 0)
    if len(with_pixels) > 1:
        low = _low_frequencies(view, places[with_pixels])
        turned = [_oriented(low, turn) for turn in range(8)]
        for start in range(0, len(low), _BLOCK):
            block = low[start : start + _BLOCK].reshape(-1, _LOW * _LOW)
            scores = block @ turned[0].T
            for other in turned[1:]:
                np.maximum(scores, block @ other.T, out=scores)
            for one, two in _best(scores, start, _ALIKE):
                found.add(_ordered(chosen[with_pixels[one]], chosen[with_pixels[two]]))
    rows = np.asarray(view.matrix[numbers])
    for start in range(0, len(rows), _BLOCK):
        for one, two in _best(rows[start : start + _BLOCK] @ rows.T, start, _NEAR):
            found.add(_ordered(chosen[one], chosen[two]))
    return found


def _ordered(one: np.intp, other: np.intp) -> tuple[int, int]:
    return (int(one), int(other)) if one < other else (int(other), int(one))


def _best(scores: Plane, start: int, least: float) -> Iterator[tuple[int, int]]:
    """(row, column) of the up to `_NEIGHBOURS` highest scores of each row, from `least` on, less the row itself."""
    own = np.arange(len(scores))
    scores[own, start + own] = -1
    if scores.shape[1] > _NEIGHBOURS:
        columns = np.argpartition(-scores, _NEIGHBOURS - 1, axis=1)[:, :_NEIGHBOURS]
    else:
        columns = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    for row, column in np.argwhere(np.take_along_axis(scores, columns, axis=1) >= least):
        yield start + int(row), int(columns[row, column])


def _low_frequencies(view: View, places: NDArray[np.intp]) -> Plane:
    """The whitened low frequencies (n, 7, 7) of grey pixel rows, unit; 0 for flat pictures."""
    size = view.card.pixel_size
    waves = np.cos(np.pi / size * np.outer(np.arange(_LOW), np.arange(size) + 0.5)).astype(np.float32)
    found = np.empty((len(places), _LOW, _LOW), np.float32)
    for start in range(0, len(places), _BLOCK):
        pixels = np.asarray(view.pixels[places[start : start + _BLOCK]])
        grey = pixels.reshape(-1, size, size, 3).mean(axis=3, dtype=np.float32)
        found[start : start + len(grey)] = waves @ grey @ waves.T / size
    found[:, 0, 0] = 0
    # A picture and its transpose are weighed alike.
    power = (found**2).mean(axis=0)
    found /= np.sqrt((power + power.T) / 2) + 0.5
    lengths = np.linalg.norm(found, axis=(1, 2), keepdims=True)
    return np.asarray(np.where(lengths > 1e-3, found / np.maximum(lengths, 1e-3), 0), np.float32)


def _oriented(low: Plane, turn: int) -> Plane:
    """Low frequencies (n, 49) as they were if the pictures were oriented as `_turned(picture, turn)`."""
    signs = (-1.0) ** np.arange(_LOW, dtype=np.float32)
    turned = low.transpose(0, 2, 1) if turn & 4 else low
    if turn & 1:
        turned = turned * signs[None, None, :]
    if turn & 2:
        turned = turned * signs[None, :, None]
    return np.ascontiguousarray(turned.reshape(len(low), -1))


def _turned(plane: NDArray[_Number], turn: int) -> NDArray[_Number]:
    """A picture in one of eight orientations: mirrored (1), upside down (2), transposed (4)."""
    turned = plane.swapaxes(0, 1) if turn & 4 else plane
    turned = turned[:, ::-1] if turn & 1 else turned
    return turned[::-1] if turn & 2 else turned


def agreement(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """How far two pictures (128, 128, 3) uint8, squashed to squares, are copies of one shot: 0 to 1 of their blocks.

    0 also where their colours differ, or where so little of them overlaps that it could be chance.
    """
    if np.array_equal(a, b):
        return 1.0
    grey_a, grey_b = (picture.mean(axis=2, dtype=np.float32) for picture in (a, b))
    small_a, small_b = _shrunk(grey_a), _shrunk(grey_b)
    likely = sorted(range(8), key=lambda turn: -_correlation(_turned(small_a, turn), small_b))[:2]
    best = 0.0
    for turn in likely:
        turned = _turned(grey_a, turn)
        share, warp = _agreeing(turned, grey_b, _AS_IT_IS), _AS_IT_IS
        if share < _CERTAIN and (laid := _laid(_turned(small_a, turn), small_b, turned, grey_b)) is not None:
            share, warp = max((share, warp), (_agreeing(turned, grey_b, laid), laid), key=lambda found: found[0])
        if share > best and _same_colours(_turned(a, turn), b, warp):
            best = share
        if best >= _CERTAIN:
            break
    return best


def _laid(small_a: Plane, small_b: Plane, a: Plane, b: Plane) -> NDArray[np.float64] | None:
    """Scales and shifts (sx, tx, sy, ty) that lay `a` on `b`, coordinates from -1 to 1; None where they do not meet."""
    starts = [_refined(small_a, small_b, np.array([scale, 0.0, scale, 0.0])) for scale in _STARTS]
    best = max(starts, key=lambda warp: _fit(small_a, small_b, warp))
    if _fit(small_a, small_b, best) < _MEETING:
        return None
    warp = _refined(a, b, best)
    return warp if _fit(a, b, warp) >= _fit(a, b, best) else best


def _refined(a: Plane, b: Plane, warp: NDArray[np.float64]) -> NDArray[np.float64]:
    """`warp` after some Gauss-Newton steps of Lucas & Kanade."""
    size = len(a)
    blur = _blur(size, size / 32)
    a, b = np.asarray(blur @ a @ blur.T, np.float32), np.asarray(blur @ b @ blur.T, np.float32)
    at = np.linspace(-1, 1, size, dtype=np.float32)
    for _ in range(_STEPS[size]):
        warped, inside = _warped(a, warp)
        count = int(inside.sum())
        if count < _OVERLAP / 2 * size * size or not 0.7 < warp[0] < 1.45 or not 0.7 < warp[2] < 1.45:
            break
        dy, dx = np.gradient(warped, 2 / (size - 1))
        dx, dy = dx / warp[0], dy / warp[2]
        level, target = warped[inside], b[inside]
        spread = float(level.std())
        if spread < 1e-3:
            break
        gain = float(((level - level.mean()) * (target - target.mean())).mean()) / spread**2
        gain = gain if gain > 0.2 else 1.0
        rest = (target - target.mean()) / gain - (level - level.mean())
        slopes = np.stack([(dx * at[None, :])[inside], dx[inside], (dy * at[:, None])[inside], dy[inside]], axis=1)
        slopes -= slopes.mean(axis=0)
        normal = slopes.T @ slopes
        normal += np.eye(4, dtype=np.float32) * 1e-4 * (np.trace(normal) + 1e-6)
        step = np.clip(np.linalg.solve(normal, slopes.T @ rest), -0.1, 0.1)
        warp = warp + step
        if float(np.abs(step).max()) < 2e-4:
            break
    return warp


def _warped(a: Plane, warp: NDArray[np.float64]) -> tuple[Plane, NDArray[np.bool_]]:
    """`a` sampled at (sx * x + tx, sy * y + ty), and where that lies inside it."""
    (columns, in_x), (lines, in_y) = _samples(len(a), warp[0], warp[1]), _samples(len(a), warp[2], warp[3])
    return np.asarray(lines @ a @ columns.T, np.float32), in_y[:, None] & in_x[None, :]


def _samples(size: int, scale: float, shift: float) -> tuple[Plane, NDArray[np.bool_]]:
    """The matrix (size, size) that samples a line linearly at scale * x + shift, and which samples lie on it."""
    at = (scale * np.linspace(-1, 1, size) + shift + 1) * (size - 1) / 2
    inside = (at >= -0.01) & (at <= size - 0.99)
    at = np.clip(at, 0, size - 1)
    low = np.minimum(at.astype(np.intp), size - 2)
    matrix = np.zeros((size, size), np.float32)
    own = np.arange(size)
    matrix[own, low] = low + 1 - at
    matrix[own, low + 1] = at - low
    return matrix, inside


def _fit(a: Plane, b: Plane, warp: NDArray[np.float64]) -> float:
    warped, inside = _warped(a, warp)
    return _correlation(warped[inside], b[inside]) if inside.mean() >= _OVERLAP else -1.0


def _correlation(a: Plane, b: Plane) -> float:
    a, b = a - a.mean(), b - b.mean()
    lengths = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float((a * b).sum()) / lengths if lengths > 1e-6 else 0.0


def _agreeing(a: Plane, b: Plane, warp: NDArray[np.float64]) -> float:
    """The share of blocks of `b` whose details `a` has too, where it lies on them."""
    warped, inside = _warped(a, warp)
    if inside.mean() < _OVERLAP:
        return 0.0
    whole = inside.mean()
    details = []
    for plane in (np.where(inside, warped, b), b):
        fine, rough = _blur(_FINE, 1.0), _blur(_FINE, 4.0)
        details.append(fine @ plane @ fine.T - rough @ plane @ rough.T)
    cells = [
        detail.reshape(_FINE // _CELL, _CELL, _FINE // _CELL, _CELL).swapaxes(1, 2).reshape(-1, _CELL * _CELL)
        for detail in [*details, inside.astype(np.float32)]
    ]
    there = cells[2].mean(axis=1) > 0.9
    first, second = (cell - cell.mean(axis=1, keepdims=True) for cell in cells[:2])
    spreads = np.sqrt((first**2).mean(axis=1)), np.sqrt((second**2).mean(axis=1))
    telling = there & (np.maximum(*spreads) > _TEXTURE)
    if int(telling.sum()) < _FEWEST:
        return 1.0 if whole > 0.9 and _correlation(warped[inside], b[inside]) >= _PLAIN else 0.0
    products = (first * second).mean(axis=1) / np.maximum(spreads[0] * spreads[1], 1e-6)
    return float((products[telling] >= _CORRELATED).mean())


def _same_colours(a: NDArray[np.uint8], b: NDArray[np.uint8], warp: NDArray[np.float64]) -> bool:
    """Whether colours agree where the pictures meet, or one of them has none."""
    chroma = []
    for picture in (a, b):
        planes = picture.astype(np.float32)
        chroma.append((planes[..., 0] - planes[..., 1], planes[..., 2] - planes[..., 1]))
    if any(max(float(np.abs(plane).mean()) for plane in planes) < _GREY_SPREAD for planes in chroma):
        return True
    gaps = []
    for first, second in zip(*chroma, strict=True):
        warped, inside = _warped(first, warp)
        gaps.append(float(np.abs(warped - second)[inside].mean()))
    return max(gaps) <= _COLOUR_GAP


def _shrunk(plane: Plane) -> Plane:
    cell = _FINE // _COARSE
    return np.asarray(plane.reshape(_COARSE, cell, _COARSE, cell).mean(axis=(1, 3)), np.float32)


@lru_cache(8)
def _blur(size: int, sigma: float) -> Plane:
    """The matrix (size, size) that blurs lines by a Gaussian."""
    at = np.arange(size)
    weights = np.exp(-((at[:, None] - at[None, :]) ** 2) / (2 * sigma**2))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _connected(count: int, pairs: Sequence[Pair]) -> list[list[int]]:
    """The members of each group that pairs hold together."""
    leader = list(range(count))

    def of(number: int) -> int:
        while leader[number] != number:
            leader[number] = leader[leader[number]]
            number = leader[number]
        return number

    for one, other, _ in pairs:
        leader[max(of(one), of(other))] = min(of(one), of(other))
    members: dict[int, list[int]] = {}
    for number in sorted({number for one, other, _ in pairs for number in (one, other)}):
        members.setdefault(of(number), []).append(number)
    return list(members.values())


def _group(alike: Sequence[Entry]) -> DuplicateGroup:
    best = sorted(alike, key=_worth)
    same = len({entry.sha256 for entry in alike}) == 1
    hits = [hit(entry, rank=rank, value=1.0, score=1.0) for rank, entry in enumerate(best, 1)]
    return DuplicateGroup("exact" if same else "near", best[0].id, hits, _reason(best[0], best[1]))


def _facts(entry: Entry) -> int:
    """How much is known of a picture besides its pixels."""
    known = (entry.taken, entry.camera, entry.latitude, entry.rating, entry.keywords, entry.caption)
    return sum(fact is not None for fact in known) + entry.label_by_user


def _worth(entry: Entry) -> tuple[object, ...]:
    """What to keep sorts first: there, larger, with metadata, sharper (more bytes a pixel), older."""
    area = entry.width * entry.height
    return (entry.away, -area, -_facts(entry), -entry.bytes, entry.mtime, len(Path(entry.path).name), entry.id)


def _reason(best: Entry, next_best: Entry) -> str:
    """Why `best` is worth more than `next_best`."""
    if best.away != next_best.away:
        return "its file is there"
    if best.width * best.height != next_best.width * next_best.height:
        return f"larger: {best.width} x {best.height}"
    if _facts(best) != _facts(next_best):
        return "more metadata"
    if best.bytes != next_best.bytes:
        return "sharper: less compressed"
    return "older" if best.mtime != next_best.mtime else "the first of equals"
