"""A map of embeddings: each row's place in a plane, near the rows it is like, or where the rows spread most."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 4096
_LANDMARKS = 3000
"""Rows that t-SNE places itself: its time grows with them, about 10 s of one core for so many."""
_COMPONENTS, _PERPLEXITY, _ROUNDS, _NEAREST = 50, 30.0, 500, 5


def neighbour_map(rows: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Places in a plane that keep neighbours together: t-SNE (van der Maaten, Hinton 2008) of n unit rows (n, d).

    Beyond `_LANDMARKS` rows a seeded choice of them is placed so, each other row in the middle of those nearest to it.

    Returns:
        Places (n, 2) float32, the same on every call; None where there are too few rows, where all are alike, or where
        scikit-learn is not installed: then `principal_plane` is the map.
    """
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:
        return None
    chosen = np.sort(np.random.default_rng(0).permutation(len(rows))[:_LANDMARKS])
    landmarks = rows[chosen]
    if len(rows) < 8 or float(np.ptp(landmarks, axis=0).max()) < 1e-4:
        return None
    components, _ = _principal(landmarks, _COMPONENTS)
    perplexity = min(_PERPLEXITY, (len(chosen) - 1) / 3)
    with threadpool_limits(1):  # its threads wait for each other in a loop, which a busy machine makes ten times slower
        placed = TSNE(2, perplexity=perplexity, init="pca", max_iter=_ROUNDS, random_state=0).fit_transform(components)
    places = np.empty((len(rows), 2), np.float32)
    for start in range(0, len(rows), _BLOCK):
        near = np.argpartition(-(rows[start : start + _BLOCK] @ landmarks.T), _NEAREST, axis=1)[:, :_NEAREST]
        places[start : start + _BLOCK] = np.median(placed[near], axis=1)
    places[chosen] = placed
    return places


def neighbours_kept(rows: NDArray[np.float32], places: NDArray[np.float32], *, k: int = 10, sample: int = 500) -> float:
    """How many of the k nearest unit rows are also among the k nearest places: the mean share in [0, 1] over a seeded sample."""
    count = len(rows)
    k = min(k, count - 1)
    if k < 1:
        return 1.0
    shares = []
    for number in np.random.default_rng(0).permutation(count)[:sample]:
        far = ((places - places[number]) ** 2).sum(axis=1)
        unlike = -(rows @ rows[number])
        far[number] = unlike[number] = np.inf
        shares.append(len(np.intersect1d(np.argpartition(far, k - 1)[:k], np.argpartition(unlike, k - 1)[:k])) / k)
    return float(np.mean(shares))


def principal_plane(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Principal component analysis (Pearson 1901) of n rows (n, d), down to two dimensions.

    Returns:
        Places (n, 2) float32 around 0, and the two shares in [0, 1] of the variance that they show. Of the two directions
        of an axis it is the one in which its largest weight is positive. Memory beyond the result is d x d.
    """
    places, shares = _principal(rows, 2)
    return places, (shares[0], shares[1])


def _principal(rows: NDArray[np.float32], wanted: int) -> tuple[NDArray[np.float32], list[float]]:
    """The first principal components (n, min(wanted, d)) of the rows, at least two columns, and their shares of the variance."""
    count, dim = rows.shape
    places = np.zeros((count, max(2, min(wanted, dim))), np.float32)
    if count < 2:
        return places, [0.0] * places.shape[1]
    mean = np.mean(rows, axis=0, dtype=np.float64)
    scatter = np.zeros((dim, dim))
    for start in range(0, count, _BLOCK):
        block = rows[start : start + _BLOCK] - mean
        scatter += block.T @ block
    variances, axes = np.linalg.eigh(scatter)
    axes = axes[:, ::-1][:, : places.shape[1]]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])])
    for start in range(0, count, _BLOCK):
        block = rows[start : start + _BLOCK] - mean
        places[start : start + _BLOCK, : axes.shape[1]] = block @ axes
    total = float(variances.sum()) or 1.0
    shares = [max(0.0, float(variance)) / total for variance in variances[::-1][: places.shape[1]]]
    return places, shares + [0.0] * (places.shape[1] - len(shares))
