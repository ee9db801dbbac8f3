"""Four measures between images: how far apart or how alike two vectors are.

A vector is an embedding (float32, unit length) or a picture's pixels, flattened (uint8). Distances (`l1`, `l2`) are
better when lower, likenesses (`cosine`, `pearson`) when higher; `Metric.score` makes higher better for all.

Every measure is a short function of a few sums over the elements (`Sums`), so one pass over the rows serves all four.
For uint8 those sums are exact integers, whatever the block size or number of threads; for the rest they are float64.
Where each row's own sums are kept (`row_stats`), a query over pixels needs two more a row: sum(a*b) and sum(min(a, b)).
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numkong
import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgret_tools.errors import BadInput
from imgret_tools.records import Measure

Values = NDArray[np.float64]
Indices = NDArray[np.intp]
Matrix = NDArray[np.uint8] | NDArray[np.float32] | NDArray[np.float64]
Need = Literal["absolute", "squared", "plain", "centred"]

_BYTES = 1 << 19  # pixels a thread works on at once
_FLOATS = 1 << 16  # float64 numbers a thread works on at once
_WIDTH = 1 << 15  # columns of them: 255 * 255 * 2**15 < 2**31, and the query's part stays in a core's cache
_ONES = np.ones(_WIDTH, np.uint8)
_WORKERS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Products:
    """Inner products of a query and n rows: `dot` (n,) of both, `query` and `rows` (n,) of each with itself."""

    dot: Values
    query: float
    rows: Values


@dataclass(frozen=True, slots=True)
class Sums:
    """What the measures are made of, (n,) float64 each; those no measure asked for are zeros.

    `absolute` sum|a-b|, `squared` sum(a-b)^2, `plain` the inner products, `centred` those of a and b less their means.
    """

    absolute: Values
    squared: Values
    plain: Products
    centred: Products


@dataclass(frozen=True, slots=True)
class RowStats:
    """Sum and sum of squares of each row, (n,): int64 and exact for uint8 rows, float64 for others."""

    sums: NDArray[np.int64] | Values
    squares: NDArray[np.int64] | Values


@dataclass(frozen=True, slots=True)
class Metric:
    """One measure: its direction, range, source, and the function that makes its values from `Sums`."""

    name: Measure
    higher_is_better: bool
    range: str
    bounds: tuple[float, float]
    formula: str
    source: str
    needs: Need
    function: Callable[[Sums], Values]

    def values(
        self, query: ArrayLike, rows: Matrix, *, stats: RowStats | None = None, subset: Indices | None = None
    ) -> Values:
        """This measure between `query` (d,) and every row of `rows` (n, d), or of `rows[subset]`: (n,) or (m,) float64.

        Args:
            query: (d,) numbers.
            rows: (n, d) uint8 or float; may be memory-mapped, and is read in blocks.
            stats: `row_stats(rows)` of all n rows, where they are kept; without it they are computed here.
            subset: (m,) indices of the rows to measure.

        Raises:
            BadInput: the shapes do not fit each other.
        """
        return all_values(query, rows, [self.name], stats=stats, subset=subset)[self.name]

    def value(self, a: ArrayLike, b: ArrayLike) -> float:
        """This measure between two vectors (d,)."""
        return float(self.values(a, np.asarray(b)[None])[0])

    def score(self, values: Values) -> Values:
        """`values` with higher always better: likenesses as they are, distances negated."""
        return values if self.higher_is_better else -values


@np.errstate(over="ignore", invalid="ignore")
def _cosine(products: Products) -> Values:
    """dot / (norm * norm) in [-1, 1]; 0 where a norm is 0, as with an epsilon in the denominator."""
    norms = np.sqrt(products.query * products.rows)
    ratio = np.divide(products.dot, norms, out=np.zeros_like(norms), where=norms != 0)
    return np.clip(ratio, -1.0, 1.0)


METRICS: dict[Measure, Metric] = {
    "cosine": Metric(
        name="cosine",
        higher_is_better=True,
        range="[-1, 1]",
        bounds=(-1.0, 1.0),
        formula="sum(a*b) / (sqrt(sum(a*a)) * sqrt(sum(b*b))); 0 for a zero vector",
        source="Salton & McGill 1983, Introduction to Modern Information Retrieval",
        needs="plain",
        function=lambda sums: _cosine(sums.plain),
    ),
    "l2": Metric(
        name="l2",
        higher_is_better=False,
        range="[0, inf)",
        bounds=(0.0, float("inf")),
        formula="sqrt(sum((a-b)**2))",
        source="Euclidean distance",
        needs="squared",
        function=lambda sums: np.sqrt(sums.squared),
    ),
    "l1": Metric(
        name="l1",
        higher_is_better=False,
        range="[0, inf)",
        bounds=(0.0, float("inf")),
        formula="sum(|a-b|)",
        source="Manhattan distance",
        needs="absolute",
        function=lambda sums: sums.absolute,
    ),
    "pearson": Metric(
        name="pearson",
        higher_is_better=True,
        range="[-1, 1]",
        bounds=(-1.0, 1.0),
        formula="cosine of a - mean(a) and b - mean(b); 0 for a constant vector",
        source="Pearson 1895, Proc. Royal Society 58",
        needs="centred",
        function=lambda sums: _cosine(sums.centred),
    ),
}


def all_values(
    query: ArrayLike,
    rows: Matrix,
    measures: Sequence[Measure],
    *,
    stats: RowStats | None = None,
    subset: Indices | None = None,
) -> dict[Measure, Values]:
    """Every measure of `measures` between `query` (d,) and the rows (n, d), in one pass over them: (n,) float64 each.

    Args:
        query: (d,) numbers.
        rows: (n, d) uint8 or float; may be memory-mapped, and is read in blocks.
        measures: which measures.
        stats: `row_stats(rows)` of all n rows, where kept; else uint8 rows are read once more to make them.
        subset: (m,) indices of the rows to measure; the values are then (m,).

    Raises:
        BadInput: the shapes do not fit each other.
    """
    vector = np.asarray(query)
    if vector.ndim != 1 or rows.ndim != 2 or vector.shape[0] != rows.shape[1]:
        raise BadInput(
            f"A query of shape {vector.shape} cannot be compared with rows of shape {rows.shape}: expected (d,) and "
            "(n, d) with the same d. Make both with the same encoder or pixel size."
        )
    if stats is not None and len(stats.sums) != len(rows):
        raise BadInput(
            f"Row statistics of {len(stats.sums)} rows came with {len(rows)} rows: make them anew with row_stats(rows)."
        )
    needs = {METRICS[measure].needs for measure in measures}
    if rows.dtype == np.uint8 and vector.dtype == np.uint8:
        sums = _integer_sums(vector, rows, needs, stats, subset)
    else:
        sums = _float_sums(vector.astype(np.float64), rows, needs, stats, subset)
    return {measure: METRICS[measure].function(sums) for measure in measures}


def row_stats(rows: Matrix, *, subset: Indices | None = None) -> RowStats:
    """Sum and sum of squares of each row of `rows` (n, d), or of `rows[subset]`: made once, they serve every query."""
    count, dim = len(rows) if subset is None else len(subset), rows.shape[1]
    sums, squares = np.zeros((2, count))

    def whole(parts: Iterator[slice]) -> None:
        for part in parts:
            for columns in _tiles(dim):
                block = _take(rows, part, subset, columns)
                sums[part] += _byte_sums(block)
                squares[part] += _byte_products(block, block)

    def real(parts: Iterator[slice]) -> None:
        for part in parts:
            block = _take(rows, part, subset).astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                sums[part], squares[part] = block.sum(axis=1), np.vecdot(block, block)

    if rows.dtype != np.uint8:
        _share(real, count, dim, _FLOATS)
        return RowStats(sums=sums, squares=squares)
    _share(whole, count, min(dim, _WIDTH), _BYTES)  # float64 holds these whole numbers exactly, up to 2**53
    return RowStats(sums=sums.astype(np.int64), squares=squares.astype(np.int64))


def _take(rows: Matrix, part: slice, subset: Indices | None, columns: slice = slice(None)) -> Matrix:
    """The columns of one part of the rows; a view where no subset is asked for."""
    return rows[part, columns] if subset is None else rows[subset[part], columns]


def _share(work: Callable[[Iterator[slice]], None], count: int, width: int, block: int) -> None:
    """Has `work` take slices that cover `count` rows, about `block` elements each, in threads where there are enough.

    NumPy lets go of the interpreter lock while it computes, so threads help; but passing the lock on costs as much as
    an operation on ten thousand elements or more, so blocks are larger than the cache alone would ask for.
    """
    step = max(1, block // max(1, width))
    parts = [slice(start, min(start + step, count)) for start in range(0, count, step)]
    workers = min(_WORKERS, len(parts) // 2)
    if workers < 2:
        work(iter(parts))
        return
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, [iter(parts)] * workers))  # one iterator for all: whoever is done takes the next part


def _tiles(dim: int) -> Iterator[slice]:
    """Column slices of up to `_WIDTH` that cover `dim`."""
    return (slice(start, min(start + _WIDTH, dim)) for start in range(0, dim, _WIDTH))


def _byte_products(block: Matrix, other: Matrix) -> Values:
    """Exact inner products of the rows of `block` (k, w) uint8 with `other` (k, w) or (w,) uint8, (k,) float64; w <= `_WIDTH`.

    NumKong's kernels read bytes nearly as fast as memory gives them (docs/benchmarks.md) and add in 32 bits. They take rows
    of bytes that lie side by side, in ascending order, and answer wrongly for some others.
    """
    block, other = _side_by_side(block), _side_by_side(other if other.ndim == 2 else other[None])
    found = numkong.dot(block, other) if len(other) == len(block) else numkong.cdist(other, block, metric="dot")
    return np.asarray(found, np.float64).reshape(-1)


def _side_by_side(block: Matrix) -> Matrix:
    """`block` (k, w), copied unless its bytes lie as NumKong expects them."""
    between, inside = block.strides
    if inside == 1 and between >= block.shape[1]:
        return block
    return np.ascontiguousarray(block)  # type: ignore[return-value]  # of the same kind


def _byte_sums(block: Matrix) -> Values:
    """Exact sums of the rows of `block` (k, w) uint8, (k,) float64; w <= `_WIDTH`."""
    return _byte_products(block, _ONES[: block.shape[1]])


def _integer_sums(
    query: NDArray[np.uint8], rows: Matrix, needs: set[Need], stats: RowStats | None, subset: Indices | None
) -> Sums:
    """`Sums` of uint8 vectors, exact: all follow from sum(a*b), sum(min(a, b)) and the rows' own statistics."""
    dim = len(query)
    own = row_stats(query[None])
    query_sum, query_squares = int(own.sums[0]), int(own.squares[0])
    if stats is None:
        stats = row_stats(rows, subset=subset)
    elif subset is not None:
        stats = RowStats(sums=stats.sums[subset], squares=stats.squares[subset])
    row_sums, row_squares = stats.sums, stats.squares
    dot, least = np.zeros((2, len(row_sums)), np.int64)

    def work(parts: Iterator[slice]) -> None:
        scratch = np.empty(_BYTES, np.uint8)
        for part in parts:
            for columns in _tiles(dim):
                block = _take(rows, part, subset, columns)
                smaller = scratch[: block.size].reshape(block.shape)
                if "absolute" in needs:
                    np.minimum(block, query[columns], out=smaller)
                if needs - {"absolute"}:
                    dot[part] += _byte_products(block, query[columns]).astype(np.int64)
                if "absolute" in needs:
                    least[part] += _byte_sums(smaller).astype(np.int64)

    _share(work, len(dot), min(dim, _WIDTH), _BYTES)
    # Centred on whole numbers near the means everything stays exact and small; what is left of the means is below 1/2.
    size = max(1, dim)
    query_mean, row_means = (2 * query_sum + size) // (2 * size), (2 * row_sums + size) // (2 * size)
    query_rest, row_rests = query_sum - dim * query_mean, row_sums - dim * row_means
    spread = query_squares - 2 * query_mean * query_sum + dim * query_mean**2 - query_rest * query_rest / size
    spreads = row_squares - 2 * row_means * row_sums + dim * row_means**2 - row_rests * row_rests / size
    common = dot - query_mean * row_sums - row_means * query_sum + dim * query_mean * row_means
    return Sums(
        absolute=(query_sum + row_sums - 2 * least).astype(np.float64),
        squared=(query_squares + row_squares - 2 * dot).astype(np.float64),
        plain=Products(dot.astype(np.float64), float(query_squares), row_squares.astype(np.float64)),
        centred=Products(common - query_rest * row_rests / size, spread, spreads),
    )


def _float_sums(
    query: NDArray[np.float64], rows: Matrix, needs: set[Need], stats: RowStats | None, subset: Indices | None
) -> Sums:
    """`Sums` in float64; differences and means are taken element by element, so nothing cancels."""
    count, dim = len(rows) if subset is None else len(subset), len(query)
    with np.errstate(invalid="ignore"):
        centred = _centred(query[None], np.empty((1, dim)))[0]
    known = None if stats is None else stats.squares if subset is None else stats.squares[subset]
    absolute, squared, dot, squares, common, spreads = np.zeros((6, count))

    def work(parts: Iterator[slice]) -> None:
        with np.errstate(over="ignore", invalid="ignore"):  # an infinite or missing number spoils its own row, no more
            scratch = np.empty((2, max(_FLOATS, dim)))
            for part in parts:
                size = (part.stop - part.start) * dim
                block, other = scratch[:, :size].reshape(2, part.stop - part.start, dim)
                np.copyto(block, _take(rows, part, subset))
                if "plain" in needs:
                    dot[part] = np.vecdot(block, query)
                    squares[part] = np.vecdot(block, block) if known is None else known[part]
                if "centred" in needs:
                    deviation = _centred(block, other)
                    common[part], spreads[part] = np.vecdot(deviation, centred), np.vecdot(deviation, deviation)
                if needs & {"absolute", "squared"}:
                    difference = np.abs(np.subtract(block, query, out=other), out=other)
                    absolute[part], squared[part] = difference.sum(axis=1), np.vecdot(difference, difference)

    _share(work, count, dim, _FLOATS)
    return Sums(
        absolute=absolute,
        squared=squared,
        plain=Products(dot, float(query @ query), squares),
        centred=Products(common, float(centred @ centred), spreads),
    )


def _centred(block: Values, out: Values) -> Values:
    """Each row of `block` (n, d) less its mean, in `out`; 0 for equal numbers, however their mean was rounded."""
    if block.size:
        np.subtract(block, block.mean(axis=1, keepdims=True), out=out)
        out[block.max(axis=1) == block.min(axis=1)] = 0.0
    return out


def top_k(values: Values, ids: Sequence[str], k: int, *, higher_is_better: bool) -> Indices:
    """Indices of the `k` best of `values` (n,), best first, (min(k, n),) intp; ties by id ascending, NaN last.

    Selects in O(n) and sorts only what is selected.

    Raises:
        BadInput: `k` is negative, or there is not one id a value.
    """
    if k < 0 or len(ids) != len(values):
        raise BadInput(f"The best {k} of {len(values)} values with {len(ids)} ids: expected k >= 0 and one id a value.")
    missing = np.isnan(values)
    known = np.flatnonzero(~missing)
    costs = -values[known] if higher_is_better else values[known]
    chosen: list[int] = []
    if 0 < k < len(known):
        worst = np.partition(costs, k - 1)[k - 1]
        better, tied = known[costs < worst], known[costs == worst]
        chosen = heapq.nsmallest(k - len(better), tied.tolist(), key=ids.__getitem__)
        known, costs = better, costs[costs < worst]
    elif k == 0:
        known = known[:0]
    ranked = sorted(zip(costs.tolist(), known.tolist(), strict=False), key=lambda pair: (pair[0], ids[pair[1]]))
    best = [index for _, index in ranked] + chosen
    best += heapq.nsmallest(k - len(best), np.flatnonzero(missing).tolist(), key=ids.__getitem__)
    return np.array(best, dtype=np.intp)
