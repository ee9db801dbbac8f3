"""Rank the rows of a View: a coarse pass over all of them, then the measure's own values for those that may be among the best.

Embedding rows are unit rows, so three of the four measures follow from one product `rows @ query` in float32, as fast as
memory can be read. Its rounding could exchange near neighbours, so all rows within `SLACK` of the last place are measured
again, exactly (metrics.py), and those values rank. L1 has no such shortcut and is measured whole.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgret_tools.library.catalogue import Numbers
from imgret_tools.library.view import View
from imgret_tools.metrics import METRICS, Metric, top_k
from imgret_tools.records import Measure

SLACK = 1e-4
"""More than float32 can be wrong by in a product of two unit rows: d * 2**-24 is 6e-5 at d = 1024, and that is the worst case."""
_FEW = 0.1
"""Up to this share of the rows, measuring the chosen ones exactly is cheaper than a pass over all."""
Values = NDArray[np.float64]


def nearest_rows(
    view: View, query: NDArray[np.float32], measure: Measure, numbers: Numbers | None, wanted: int
) -> tuple[Numbers, Values]:
    """The `wanted` best of the embedding rows `numbers` (None: all) for a unit row `query` (dim,), best first.

    Returns:
        Row numbers and the measure's own values, (min(wanted, m),) each; ties by ascending id.
    """
    metric = METRICS[measure]
    pool = view.numbers if numbers is None else numbers
    if measure != "l1" and wanted < len(pool) and len(pool) > _FEW * len(view.matrix):
        coarse = coarse_scores(view, query, measure)
        if len(pool) < len(coarse):
            coarse = coarse[pool]
        last = np.partition(coarse, len(coarse) - wanted)[len(coarse) - wanted]
        pool = pool[np.flatnonzero(coarse >= last - SLACK)]
    if measure == "l1" and len(pool) == len(view.matrix):
        return ranked(view, pool, metric.values(query, view.matrix), metric, wanted)
    return ranked(view, pool, metric.values(query, view.matrix, subset=pool), metric, wanted)


def coarse_scores(view: View, query: NDArray[np.float32], measure: Measure) -> NDArray[np.float32]:
    """A score (stored,) float32 for every row of the matrix, higher better, within `SLACK` of what orders `measure`."""
    products = np.asarray(view.matrix @ query)
    if measure != "pearson":
        return products
    means, spreads = view.memo("means", lambda: _means(view.matrix))
    mean = float(query.mean(dtype=np.float64))
    spread = float(np.sqrt(max(1.0 - query.size * mean * mean, 1e-12)))
    return np.asarray((products - query.size * mean * means) / (spread * spreads), np.float32)


def _means(matrix: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of each row its mean, and the length of the row less its mean."""
    means = np.empty(len(matrix), np.float32)
    for start in range(0, len(matrix), 8192):
        means[start : start + 8192] = matrix[start : start + 8192].mean(axis=1, dtype=np.float64)
    spreads = np.sqrt(np.maximum(1.0 - matrix.shape[1] * means.astype(np.float64) ** 2, 1e-12))
    return means, spreads.astype(np.float32)


def ranked(view: View, pool: Numbers, values: Values, metric: Metric, wanted: int) -> tuple[Numbers, Values]:
    """The `wanted` best of the rows `pool` (m,) by their `values` (m,), best first; ties by ascending id."""
    wanted = min(wanted, len(pool))
    if not wanted:
        return pool[:0], values[:0]
    scores = np.where(np.isnan(values), -np.inf, metric.score(values))
    last = np.partition(scores, len(scores) - wanted)[len(scores) - wanted]
    near = np.flatnonzero(scores >= last)
    best = near[top_k(values[near], view.ids(pool[near]), wanted, higher_is_better=metric.higher_is_better)]
    return pool[best], values[best]
