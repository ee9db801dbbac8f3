"""Search of large libraries: candidates of an inverted file (library/ivf.py), ranked by the measure itself, exactly.

    up to 50,000 pictures      exact scan
    more                       candidates of the index, and whatever it does not cover yet
    a filter leaves a tenth    exact scan of what it leaves

The index is made when a run ends and checked against the exact scan on rows of the library: it looks into as many lists
as recall@10 of .995 takes, and a measure for which .99 is out of reach goes on being scanned.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgret_tools.engine.search import Values, nearest_rows
from imgret_tools.errors import StorageError
from imgret_tools.library import ivf
from imgret_tools.library.catalogue import Numbers
from imgret_tools.library.ivf import Ivf, IvfCard
from imgret_tools.library.view import View
from imgret_tools.records import Measure

EXACT_UP_TO = 50_000
"""Larger libraries have an index; below, an exact scan is as fast (measured: docs/SCALE.md)."""
_WANTED_RECALL, _LEAST_RECALL = 0.995, 0.99
_SAMPLE, _K = 40, 10
_STALE = 0.1
"""Share of the rows that the index may lack before it is made anew."""
_SELECTIVE = 0.1
"""A filter that leaves up to this share is scanned: exact, and as fast."""
_MOST_CANDIDATES = 20_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Approximate:
    """What an approximate search found: row numbers and the measure's own values, best first, and the index's recall."""

    numbers: Numbers
    values: Values
    recall: float


def keep_index(view: View, *, stop: Callable[[], bool] = lambda: False) -> None:
    """Make the index of `view`'s rows and keep it, where the library is large and what is kept covers too little.

    A run that adds a few pictures makes none: they are scanned. Where it fails, searches scan exactly.
    """
    if len(view) <= EXACT_UP_TO or stop():
        return
    card = ivf.read_card(view)
    if card is not None and len(view.matrix) - card.covered <= _STALE * len(view.matrix):
        return
    try:
        made = ivf.build(view)
        if not stop():
            probes, recall = _measured(view, made)
            ivf.save(view, made, probes=probes, recall=recall)
    except StorageError as error:
        _log.warning("searches in %s scan all rows: %s", view.home, error)


def approximate_rows(
    view: View, query: NDArray[np.float32], measure: Measure, numbers: Numbers | None, wanted: int, *, own: int | None
) -> Approximate | None:
    """The `wanted` best of the rows `numbers` (None: all but `own`) for a unit row `query` (dim,), nearly always.

    Returns:
        None where the exact scan is to be used: no index of these rows, too selective a filter, too many wanted, or a
        measure that the index does not find well.
    """
    left = len(view) - (own is not None) if numbers is None else len(numbers)
    if (
        len(view) <= EXACT_UP_TO
        or _candidates(wanted) > min(_MOST_CANDIDATES, left // 10)
        or left <= _SELECTIVE * len(view)
    ):
        return None
    card, index = view.memo("ivf", lambda: _opened(view))
    if card is None or index is None or card.recall.get(measure, 0.0) < _LEAST_RECALL:
        return None
    probes = card.probes * max(1, round(len(view) / left))
    found = _found(view, index, card.covered, query, numbers, wanted, probes=probes, own=own)
    if len(found) < wanted:
        return None
    best, values = nearest_rows(view, query, measure, found, wanted)
    return Approximate(best, values, card.recall[measure])


def _opened(view: View) -> tuple[IvfCard | None, Ivf | None]:
    card = ivf.read_card(view)
    return card, None if card is None else ivf.load(view, card)


def _candidates(wanted: int) -> int:
    return max(8 * wanted, wanted + 100)


def _found(
    view: View,
    index: Ivf,
    covered: int,
    query: NDArray[np.float32],
    numbers: Numbers | None,
    wanted: int,
    *,
    probes: int,
    own: int | None,
) -> Numbers:
    """Row numbers, ascending, that the best are likely among: of the index, and of the rows that it does not cover."""
    among = _counting(view) if numbers is None else _mask(view, numbers)
    most = _candidates(wanted)
    parts = [index.nearest(query, most + 1, probes=probes, among=among)]
    if covered < len(view.matrix):
        scores = np.asarray(view.matrix[covered:] @ query)
        if among is not None:
            scores[~among[covered:]] = -np.inf
        best = np.argpartition(-scores, min(most, len(scores) - 1))[: most + 1]
        parts.append(covered + best[np.isfinite(scores[best])])
    found = np.unique(np.concatenate(parts))
    return found[found != own] if own is not None else found


def _counting(view: View) -> NDArray[np.bool_] | None:
    """For each row number whether a picture has it; None where all do."""
    if view.card.images == view.card.stored:
        return None
    return view.memo("counting", lambda: _mask(view, view.numbers))


def _mask(view: View, numbers: Numbers) -> NDArray[np.bool_]:
    mask = np.zeros(len(view.matrix), np.bool_)
    mask[numbers] = True
    return mask


def _measured(view: View, index: Ivf) -> tuple[int, dict[str, float]]:
    """How many lists to look into, and the recall@10 that this gives by measure, on rows of the library."""
    chosen = np.sort(np.random.default_rng(1).permutation(view.numbers)[:_SAMPLE])
    probes, recall = 4, 0.0
    truth = {int(own): _exact(view, int(own), "cosine") for own in chosen}
    while recall < _WANTED_RECALL and probes < index.lists:
        probes *= 2
        recall = _recall(view, index, probes, truth, "cosine")
    measured = {"cosine": recall, "l2": recall}
    others: tuple[Measure, ...] = ("pearson", "l1")
    for measure in others:
        truth = {int(own): _exact(view, int(own), measure) for own in chosen[:: _SAMPLE // 8]}
        measured[measure] = _recall(view, index, probes, truth, measure)
    return probes, {measure: round(found, 4) for measure, found in measured.items()}


def _exact(view: View, own: int, measure: Measure) -> Numbers:
    found, _ = nearest_rows(view, np.asarray(view.matrix[own]), measure, None, _K + 1)
    return found[found != own][:_K]


def _recall(view: View, index: Ivf, probes: int, truth: dict[int, Numbers], measure: Measure) -> float:
    shares = []
    for own, exact in truth.items():
        query = np.asarray(view.matrix[own])
        found = _found(view, index, len(view.matrix), query, None, _K, probes=probes, own=own)
        best, _ = nearest_rows(view, query, measure, found, _K)
        shares.append(len(np.intersect1d(best, exact)) / len(exact))
    return float(np.mean(shares))
