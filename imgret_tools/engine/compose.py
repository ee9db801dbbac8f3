"""One grammar for a query of several parts: pictures and texts, each with a weight, "not" being a negative weight.

    image=a.jpg  image=b.jpg:0.5  text=red  not_text=text         (query.py, docs/queries.md)
    compose([(row_a, 1.0), (row_b, 0.5), (row_red, TEXT_WEIGHT), (row_text, -TEXT_WEIGHT / 2)])

The row of the query is the weighted sum of the parts' unit rows, unit again: a cosine with it is the weighted sum of
the parts' cosines. A weight of 0 leaves a part out. Parts that cancel each other leave nothing to look for, and are
refused rather than answered with noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imgret_tools.errors import BadInput

MOST_PARTS = 64
HEAVIEST = 100.0
_NOTHING = 1e-3  # length of a sum, over its weights' sum, below which it is rounding and chance


def compose(parts: Sequence[tuple[NDArray[np.float32], float]]) -> NDArray[np.float32]:
    """The unit row (d,) float32 that asks for all parts at once.

    Args:
        parts: (row (d,), weight) of each picture or text; weights in [-100, 100], negative for "not".

    Raises:
        BadInput: no part has a positive weight, a weight is not finite or too large, rows differ in length or are not
            finite, there are more than 64, or the parts cancel each other.
    """
    if len(parts) > MOST_PARTS:
        raise BadInput(
            "The query has {count} parts: expected at most {most_parts}; leave some out.",
            count=len(parts),
            most_parts=MOST_PARTS,
        )
    for number, (row, weight) in enumerate(parts, start=1):
        if not math.isfinite(weight) or abs(weight) > HEAVIEST:
            raise BadInput(
                "Part {number} has weight {weight}: expected -{heaviest:g} to {heaviest:g}, usually 1.",
                number=number,
                weight=weight,
                heaviest=HEAVIEST,
            )
        if row.ndim != 1 or row.shape != parts[0][0].shape or not np.isfinite(row).all():
            raise BadInput(
                "Part {number} is a row of shape {shape}: expected {expected} finite numbers, all parts by the "
                "encoder of one library.",
                number=number,
                shape=row.shape,
                expected=parts[0][0].shape,
            )
    if not any(weight > 0 for _, weight in parts):
        raise BadInput("Nothing is asked for: expected at least one picture or text with a weight above 0.")
    total = np.zeros(parts[0][0].shape, np.float64)
    for row, weight in parts:
        length = float(np.linalg.norm(row.astype(np.float64)))
        total += (weight / length if length > 0 else 0.0) * row.astype(np.float64)
    length = float(np.linalg.norm(total))
    asked = [row for row, weight in parts if weight]
    if len(asked) == 1:  # also a row of zeros, which every measure takes
        return np.asarray(total / length if length > 0 else total, np.float32)
    if length <= _NOTHING * sum(abs(weight) for _, weight in parts):
        raise BadInput("The parts of the query cancel each other: give one of them another weight, or leave one out.")
    return np.asarray(total / length, np.float32)
