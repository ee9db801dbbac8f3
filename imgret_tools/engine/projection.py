"""A map of embeddings: each row's place in the plane in which the rows spread most."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 4096


def principal_plane(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Principal component analysis (Pearson 1901) of n rows (n, d), down to two dimensions.

    Returns:
        Places (n, 2) float32 around 0, and the two shares in [0, 1] of the variance that they show. Of the two directions
        of an axis it is the one in which its largest weight is positive. Memory beyond the result is d x d.
    """
    count, dim = rows.shape
    places = np.zeros((count, 2), np.float32)
    if count < 2:
        return places, (0.0, 0.0)
    mean = np.mean(rows, axis=0, dtype=np.float64)
    scatter = np.zeros((dim, dim))
    for start in range(0, count, _BLOCK):
        block = rows[start : start + _BLOCK] - mean
        scatter += block.T @ block
    variances, axes = np.linalg.eigh(scatter)
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])])
    for start in range(0, count, _BLOCK):
        block = rows[start : start + _BLOCK] - mean
        places[start : start + _BLOCK, : axes.shape[1]] = block @ axes
    total = float(variances.sum()) or 1.0
    shares = [max(0.0, float(variance)) / total for variance in variances[::-1][:2]]
    return places, (shares[0], shares[1] if len(shares) > 1 else 0.0)
