"""Judges rankings: how good one is, how much two agree, and how sure an average over queries is.

It knows nothing of vectors. A ranking is a sequence of ids, best first, each at most once; `relevant` is the set of ids
that are right for the query. Every quality is in [0, 1], higher is better, and None where nothing is relevant: such a
query says nothing about the ranking, and belongs in no mean. `k` above the ranking's length asks for places that stayed
empty, and counts them as wrong. `k` is at least 1.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgret_tools.errors import BadInput


def precision_at_k(ranking: Sequence[str], relevant: Collection[str], k: int) -> float | None:
    """Share of the first `k` places that hold a relevant id, in [0, 1]; empty places count as wrong."""
    flags = _flags(ranking, relevant, k)
    return sum(flags) / k if relevant else None


def recall_at_k(ranking: Sequence[str], relevant: Collection[str], k: int) -> float | None:
    """Share of the relevant ids that are among the first `k`, in [0, 1]."""
    flags = _flags(ranking, relevant, k)
    return sum(flags) / len(set(relevant)) if relevant else None


def average_precision(ranking: Sequence[str], relevant: Collection[str]) -> float | None:
    """AP: the precision at the place of each relevant id, summed, over the number of relevant ids; in [0, 1].

    A relevant id that is not ranked adds 0. This is the AP of TREC (trec_eval's `map`), over the whole ranking.
    """
    return _average_precision(_flags(ranking, relevant), len(set(relevant)))


def average_precision_at_k(ranking: Sequence[str], relevant: Collection[str], k: int) -> float | None:
    """AP@k: as `average_precision` over the first `k` places, divided by min(k, relevant ids); in [0, 1].

    With this divisor a perfect top `k` scores 1 however many more are relevant. trec_eval's `map_cut` divides by all of
    the relevant ids instead, and is lower where there are more than `k`.
    """
    return _average_precision(_flags(ranking, relevant, k), min(k, len(set(relevant))))


def reciprocal_rank(ranking: Sequence[str], relevant: Collection[str]) -> float | None:
    """1 / place of the first relevant id, in [0, 1]; 0 where none is ranked."""
    flags = _flags(ranking, relevant)
    if not relevant:
        return None
    return 1 / (flags.index(True) + 1) if True in flags else 0.0


def ndcg_at_k(ranking: Sequence[str], relevant: Collection[str], k: int) -> float | None:
    """nDCG@k for right-or-wrong ids, in [0, 1]: each relevant id gains 1 / log2(place + 1), over the best possible sum.

    Source: Järvelin and Kekäläinen 2002, ACM TOIS 20(4), with the discount of trec_eval's `ndcg_cut`.
    """
    flags = _flags(ranking, relevant, k)
    if not relevant:
        return None
    best = _gain([True] * min(k, len(set(relevant))))
    return _gain(flags) / best


def overlap_at_k(first: Sequence[str], second: Sequence[str], k: int) -> float | None:
    """Ids that both rankings have among their first `k`, over `k`; in [0, 1], whatever their order there.

    Where a ranking is shorter, `k` is the longer one's length if that is less; None where both are empty.
    """
    _positive(k)
    _distinct(first, second)
    depth = min(k, max(len(first), len(second)))
    return len(set(first[:k]) & set(second[:k])) / depth if depth else None


def rank_biased_overlap(first: Sequence[str], second: Sequence[str], *, p: float = 0.9) -> float | None:
    """RBO, extrapolated: expected overlap for a reader who goes on to the next place with probability `p`; in [0, 1].

    1 for equal rankings, 0 for disjoint ones. At p = 0.9 the first ten places carry 86 % of the weight. Rankings may
    have different lengths and different ids. None where either is empty.

    Source: Webber, Moffat and Zobel 2010, ACM TOIS 28(4), "A similarity measure for indefinite rankings", equation 32.

    Raises:
        BadInput: `p` is not between 0 and 1, or an id is ranked twice.
    """
    if not 0 < p < 1:
        raise BadInput(f"p is {p}: expected a number between 0 and 1, such as 0.9.")
    _distinct(first, second)
    short, long = sorted((first, second), key=len)
    if not short:
        return None
    s, depth = len(short), len(long)
    seen_short: set[str] = set()
    seen_long: set[str] = set()
    shared = shared_at_s = 0
    total = 0.0
    for d in range(1, depth + 1):
        seen_long.add(long[d - 1])
        shared += long[d - 1] in seen_short
        if d <= s:
            seen_short.add(short[d - 1])
            shared += short[d - 1] in seen_long
            shared_at_s = shared
        total += shared / d * p**d
        if d > s:  # below the shorter one's end, its agreement is taken to stay what it was there
            total += shared_at_s * (d - s) / (s * d) * p**d
    rest = (shared - shared_at_s) / depth + shared_at_s / s
    return min(1.0, (1 - p) / p * total + rest * p**depth)


def kendall_tau(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Kendall's tau-b over the ids that both rankings hold, in [-1, 1]: 1 same order, -1 opposite order.

    Pairs in the same order less pairs in the opposite one, over all pairs. A ranking has no ties (equal values are
    already ordered by id), so tau-a and tau-b are the same. None where fewer than two ids are common.

    Source: Kendall 1938, Biometrika 30.
    """
    _distinct(first, second)
    place = {name: index for index, name in enumerate(second)}
    order = [place[name] for name in first if name in place]
    pairs = len(order) * (len(order) - 1) // 2
    return 1 - 2 * _inversions(order)[0] / pairs if pairs else None


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with the limits between which it lies with the stated `confidence`; `count` is over how many queries."""

    mean: float
    low: float
    high: float
    confidence: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_interval(
    values: Sequence[float | None], *, confidence: float = 0.95, samples: int = 2000, seed: int = 0
) -> Interval | None:
    """The mean of `values` (one a query) and its percentile bootstrap interval; None where no value is known.

    Queries are drawn again with replacement `samples` times; the limits are quantiles of their means. Values that are
    None are left out. The same values and seed give the same limits. One value alone gives limits equal to it: `count`
    says so.

    Source: Efron 1979, Annals of Statistics 7; for retrieval Sakai 2006, SIGIR.

    Raises:
        BadInput: `confidence` is not between 0 and 1, or `samples` is below 1.
    """
    if not 0 < confidence < 1 or samples < 1:
        raise BadInput(f"confidence {confidence} and samples {samples}: expected 0 < confidence < 1 and samples >= 1.")
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    if not len(known):
        return None
    means = _resampled_means(known, samples, seed)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(known.mean()), float(low), float(high), confidence, len(known))


def paired_difference_interval(
    a: Sequence[float | None],
    b: Sequence[float | None],
    *,
    confidence: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """The mean of a - b over the same queries, with its interval; None where no query has both values.

    Only where the interval leaves out 0 do the queries tell the two apart: otherwise there is no winner. Pairing takes
    out what makes a query hard for both, so this says more than two separate intervals.

    Raises:
        BadInput: there is not one value a query on both sides, or as `bootstrap_interval`.
    """
    if len(a) != len(b):
        raise BadInput(f"{len(a)} values against {len(b)}: expected one a query on both sides, in the same order.")
    both = [x - y if x is not None and y is not None else None for x, y in zip(a, b, strict=True)]
    return bootstrap_interval(both, confidence=confidence, samples=samples, seed=seed)


def _positive(k: int) -> None:
    if k < 1:
        raise BadInput(f"k is {k}: expected at least 1.")


def _distinct(*rankings: Sequence[str]) -> None:
    if any(len(set(ranking)) != len(ranking) for ranking in rankings):
        raise BadInput("A ranking holds an id twice: expected every id at most once, best first.")


def _flags(ranking: Sequence[str], relevant: Collection[str], k: int | None = None) -> list[bool]:
    """Whether each of the first `k` ids, or of all, is relevant."""
    if k is not None:
        _positive(k)
    _distinct(ranking)
    wanted = set(relevant)
    return [name in wanted for name in ranking[:k]]


def _average_precision(flags: Sequence[bool], divisor: int) -> float | None:
    """Sum of the precision at every relevant place, over `divisor`."""
    found, total = 0, 0.0
    for place, flag in enumerate(flags, start=1):
        if flag:
            found += 1
            total += found / place
    return total / divisor if divisor else None


def _gain(flags: Sequence[bool]) -> float:
    """Discounted cumulative gain of right-or-wrong places."""
    return math.fsum(1 / math.log2(place + 1) for place, flag in enumerate(flags, start=1) if flag)


def _inversions(order: list[int]) -> tuple[int, list[int]]:
    """How many pairs of `order` are out of order, and `order` sorted, by merging in O(n log n)."""
    if len(order) < 2:
        return 0, order
    middle = len(order) // 2
    (left_count, left), (right_count, right) = _inversions(order[:middle]), _inversions(order[middle:])
    count, taken, merged = left_count + right_count, 0, []
    for value in left:
        while taken < len(right) and right[taken] < value:
            merged.append(right[taken])
            taken += 1
        merged.append(value)
        count += taken
    return count, merged + right[taken:]


def _resampled_means(values: NDArray[np.float64], samples: int, seed: int) -> NDArray[np.float64]:
    """Means of `samples` draws with replacement of all `values`, (samples,); a few MB at a time."""
    random = np.random.default_rng(seed)
    step = max(1, (1 << 20) // len(values))
    return np.concatenate(
        [
            values[random.integers(0, len(values), (min(step, samples - start), len(values)))].mean(axis=1)
            for start in range(0, samples, step)
        ]
    )
