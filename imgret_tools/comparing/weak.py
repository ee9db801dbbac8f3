"""Where search is weak: which classes and queries of a labelled set fail, and what they are taken for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgret_tools.comparing.ranker import Ranker, Ranking, normal
from imgret_tools.comparing.report import Confusion, MissedQuery, QuerySetRow, Weaknesses
from imgret_tools.metrics import METRICS
from imgret_tools.records import Hit

MOST = 50
"""Confusions and queries that a record holds at most, the worst first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one labelled query found: the first `min(k, right images)` places (m,) and their values, and its quality."""

    query: str
    label: str
    numbers: NDArray[np.intp]
    values: NDArray[np.float64]
    precision_at_k: float
    average_precision: float


def default_way(rankings: Sequence[Ranking]) -> int:
    """The place of the row that a search without options takes: the refined order where there is one, else exact cosine."""
    for search in ("refined", "exact"):
        for place, row in enumerate(rankings):
            if (row.space, row.measure, row.search) == ("embedding", "cosine", search):
                return place
    raise AssertionError("a comparison has an exact cosine row")


def weaknesses(ranker: Ranker, row: QuerySetRow, answers: Sequence[Answer]) -> Weaknesses | None:
    """What fails by that row; None where no query has a label. Only places that a right image could have had count."""
    if not answers:
        return None
    metric = METRICS[row.measure]
    wrong = [ranker.labels[answer.numbers] != normal(answer.label) for answer in answers]
    places = np.unique(np.concatenate([answer.numbers[which] for answer, which in zip(answers, wrong, strict=True)]))
    entries = dict(zip(places.tolist(), ranker.entries(places), strict=True))
    taken: dict[tuple[str, str], list[tuple[int, int, str]]] = {}  # (query, rank, id) of every wrong hit
    missed = []
    for number, (answer, which) in enumerate(zip(answers, wrong, strict=True)):
        for at in np.flatnonzero(which):
            entry = entries[int(answer.numbers[at])]
            taken.setdefault((answer.label, entry.label), []).append((number, int(at) + 1, entry.id))
        if which.any():
            first = int(np.flatnonzero(which)[0])
            entry, value = entries[int(answer.numbers[first])], answer.values[first : first + 1]
            hit = Hit(first + 1, entry.id, entry.path, entry.label, float(metric.score(value)[0]), float(value[0]))
            missed.append(MissedQuery(answer.query, answer.label, answer.precision_at_k, answer.average_precision, hit))
    confusions = []
    for (label, other), found in taken.items():
        query, _, id_ = min(found, key=lambda one: one[1])
        confusions.append(
            Confusion(label, other, len({number for number, _, _ in found}), len(found), answers[query].query, id_)
        )
    return Weaknesses(
        row.name,
        sorted(row.classes, key=lambda label: (row.classes[label].map, label)),
        sorted(confusions, key=lambda one: (-one.places, -one.queries, one.label, one.taken_for))[:MOST],
        sorted(missed, key=lambda one: (one.average_precision, one.query))[:MOST],
    )
