"""Compare ways to search: the same query under four measures, on pixels, on embeddings and through Chroma's HNSW.

`compare` judges one query, `compare_set` many; both say what is so by construction, and claim no winner that chance
could have made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imgret_tools.comparing.findings import findings_of_one, findings_of_set
from imgret_tools.comparing.judge import (
    bootstrap_interval,
    overlap_at_k,
    paired_difference_interval,
    rank_biased_overlap,
)
from imgret_tools.comparing.ranker import CHROMA_DISTANCE, Probe, Ranker, Ranking, normal
from imgret_tools.comparing.report import (
    QUALITIES,
    Agreement,
    ClassQuality,
    Comparison,
    ComparisonRow,
    Note,
    QuerySetComparison,
    QuerySetRow,
    note,
)
from imgret_tools.comparing.weak import Answer, default_way, weaknesses
from imgret_tools.errors import BadInput, Message
from imgret_tools.metrics import METRICS
from imgret_tools.records import Failure, Hit, Scalar

DEPTH = 50
"""Places that rank-biased overlap looks at, or k if that is more; at p = 0.9 the rest weighs half a percent."""
_TIMED = 5
"""Queries of a set whose measures are timed one by one; the others are computed in one pass."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one ranking is worth: each in [0, 1], None where the query's label is not known or has no other image."""

    precision_at_1: float | None = None
    precision_at_k: float | None = None
    average_precision: float | None = None
    average_precision_at_k: float | None = None


def judge(ranking: Ranking, relevant: NDArray[np.bool_], k: int) -> Judgement:
    """Quality of a ranking where `relevant` (n,) marks the right images: as in ranking.py, on arrays of row numbers."""
    right = int(relevant.sum())
    if not right:
        return Judgement()
    places = np.flatnonzero(relevant[ranking.numbers]) + 1
    precisions = np.arange(1, len(places) + 1) / places
    near = places <= k
    return Judgement(
        float(len(places) > 0 and places[0] == 1),
        int(near.sum()) / k,
        float(precisions.sum()) / right,
        float(precisions[near].sum()) / min(k, right),
    )


def compare(ranker: Ranker, probe: Probe) -> Comparison:
    """One query in every way, side by side."""
    started = time.perf_counter()
    rankings, relevant, k = ranker.rankings(probe, timed=True), _relevant(ranker, probe), ranker.k
    recall = _recall(rankings, k)
    agreement = agreement_of(ranker, [rankings])
    rows = [
        ComparisonRow(
            space=ranking.space,
            measure=ranking.measure,
            search=ranking.search,
            hits=_hits(ranker, ranking),
            precision_at_k=(judged := judge(ranking, relevant, k)).precision_at_k,
            average_precision=judged.average_precision,
            average_precision_at_k=judged.average_precision_at_k,
            recall_at_k=found,
            seconds=round(ranking.seconds, 6),
            ranked=len(ranking.numbers),
            higher_is_better=METRICS[ranking.measure].higher_is_better,
            distance=CHROMA_DISTANCE[ranking.measure] if ranking.search == "hnsw" else "",
        )
        for ranking, found in zip(rankings, recall, strict=True)
    ]
    own = ranker.own(probe)
    return Comparison(
        library=ranker.card.name,
        encoder=ranker.card.encoder,
        k=k,
        query=probe.query,
        label=probe.label if probe.told or (ranker.labels == normal(probe.label)).any() else "",
        relevant=int(relevant.sum()),
        images=int((~own).sum()),
        pixel_size=ranker.card.pixel_size,
        rows=rows,
        agreement=agreement,
        by_construction=by_construction(ranker, rankings, int((~own).sum())),
        findings=findings_of_one(rows, agreement),
        notes=[*_notes(ranker, probe, relevant), *ranker.notes, note("one_query")],
        left_out=[ranker.ids[number] for number in np.flatnonzero(own)],
        query_seconds=probe.seconds or {},
        seconds=round(time.perf_counter() - started + sum((probe.seconds or {}).values()), 4),
    )


def compare_set(
    ranker: Ranker,
    probes: Iterable[Probe],
    *,
    folder: str,
    failed: list[Failure],
    done: Callable[[int], None] = lambda _: None,
    cancelled_of: Callable[[], int] = lambda: 0,
) -> QuerySetComparison:
    """Many queries in every way: means with intervals, so that nobody reads noise as a winner.

    Args:
        ranker: the library.
        probes: the queries, encoded while they are taken; none is kept but one.
        folder: where they come from, for the record.
        failed: pictures that could not be opened; may grow while `probes` is taken.
        done: called with the number of queries compared so far.
        cancelled_of: asked once at the end: of how many queries this is the beginning, 0 for all.

    Raises:
        BadInput: there was no query.
    """
    started = time.perf_counter()
    k = ranker.k
    everyone: list[list[Ranking]] = []
    judgements: list[list[Judgement]] = []
    recalls: list[list[float | None]] = []
    labels: list[str] = []
    answers: list[Answer] = []
    counts = dict.fromkeys(("unlabelled", "absent", "own", "alone"), 0)
    absent: set[str] = set()
    example: tuple[float, Probe] | None = None
    for probe in probes:
        rankings, relevant = ranker.rankings(probe, timed=len(everyone) < _TIMED), _relevant(ranker, probe)
        judged = [judge(ranking, relevant, k) for ranking in rankings]
        recalls.append(_recall(rankings, k))
        everyone.append([_shortened(ranking, max(k, DEPTH)) for ranking in rankings])
        judgements.append(judged)
        labels.append(probe.label if relevant.any() else "")
        way = default_way(rankings)
        if relevant.any():
            answers.append(_answer(probe, rankings[way], judged[way], min(k, int(relevant.sum()))))
        counts["own"] += bool(ranker.own(probe).any())
        if not probe.label:
            counts["unlabelled"] += 1
        elif not (ranker.labels == normal(probe.label)).any():
            counts["absent"] += 1
            absent.add(probe.label)
        elif not relevant.any():
            counts["alone"] += 1
        of_exact = [
            one.precision_at_k or 0.0 for one, row in zip(judged, rankings, strict=True) if row.search == "exact"
        ]
        spread = max(of_exact) - min(of_exact)
        if example is None or spread > example[0]:
            example = (spread, probe)
        done(len(everyone))
    if example is None:
        why = Message("; the first could not be opened: {failed}", failed=str(failed[0])) if failed else ""
        raise BadInput(
            "Folder {folder} holds no query picture that can be compared{why}; give a folder <class>/<picture>.",
            folder=folder,
            why=why,
        )
    rows = _set_rows(everyone, judgements, recalls, labels)
    agreement = agreement_of(ranker, everyone)
    total, shown = len(everyone), compare(ranker, example[1])
    told = {
        "unlabelled_queries": counts["unlabelled"],
        "absent_labels": counts["absent"],
        "queries_left_out": counts["own"],
        "alone_labels": counts["alone"],
    }
    named = ", ".join(sorted(absent)[:8]) + (", ..." if len(absent) > 8 else "")
    notes = [note(kind, count=count, queries=total, labels=named) for kind, count in told.items() if count]
    if failed:
        notes.append(note("failed_queries", count=len(failed)))
    if not any(labels):
        notes.append(note("no_quality") if (ranker.labels != "").any() else note("no_labels"))
    if planned := cancelled_of():
        notes.append(note("cancelled", done=total, total=planned))
    return QuerySetComparison(
        library=ranker.card.name,
        encoder=ranker.card.encoder,
        k=k,
        folder=folder,
        queries=total,
        judged=sum(map(bool, labels)),
        images=len(ranker.ids),
        pixel_size=ranker.card.pixel_size,
        rows=rows,
        agreement=agreement,
        by_construction=shown.by_construction,
        findings=findings_of_set(rows, agreement, [[one.precision_at_k for one in judged] for judged in judgements]),
        notes=[*notes, *ranker.notes],
        failed=failed,
        seconds=round(time.perf_counter() - started, 3),
        example=shown,
        weak=weaknesses(ranker, rows[way], answers),
    )


def _answer(probe: Probe, ranking: Ranking, judged: Judgement, count: int) -> Answer:
    return Answer(
        str(probe.query.get("image")),
        probe.label,
        ranking.numbers[:count].copy(),
        ranking.values[:count].copy(),
        judged.precision_at_k or 0.0,
        judged.average_precision or 0.0,
    )


def _set_rows(
    everyone: list[list[Ranking]],
    judgements: list[list[Judgement]],
    recalls: list[list[float | None]],
    labels: list[str],
) -> list[QuerySetRow]:
    """One row a way to search, from what each query found that way."""
    ways = range(len(everyone[0]))
    values: list[dict[str, list[float | None]]] = [
        {
            "precision_at_1": [judged[way].precision_at_1 for judged in judgements],
            "precision_at_k": [judged[way].precision_at_k for judged in judgements],
            "map": [judged[way].average_precision for judged in judgements],
            "map_at_k": [judged[way].average_precision_at_k for judged in judgements],
        }
        for way in ways
    ]
    exact = [way for way in ways if everyone[0][way].search == "exact"]
    best = max(exact, key=lambda way: _mean(values[way]["precision_at_k"]) or 0.0)
    rows = []
    for way in ways:
        first, own = everyone[0][way], values[way]
        columns: dict[str, list[float | None]] = {**own, "recall_at_k": [recall[way] for recall in recalls]}
        found = {name: bootstrap_interval(column) for name, column in columns.items()}
        intervals = {name: interval for name, interval in found.items() if interval is not None}
        means = {name: intervals[name].mean if name in intervals else None for name in columns}
        rows.append(
            QuerySetRow(
                space=first.space,
                measure=first.measure,
                search=first.search,
                queries=len(everyone),
                **means,
                seconds=round(float(np.nanmedian([rankings[way].seconds for rankings in everyone])), 6),
                intervals=intervals,
                against_best=None
                if way == best
                else paired_difference_interval(own["precision_at_k"], values[best]["precision_at_k"]),
                classes=_by_class(own, labels),
            )
        )
    return rows


def _by_class(values: dict[str, list[float | None]], labels: list[str]) -> dict[str, ClassQuality]:
    """The means over the queries of each label, by label."""
    classes: dict[str, ClassQuality] = {}
    for label in sorted(set(labels) - {""}):
        members = [number for number, other in enumerate(labels) if other == label]
        means = {name: _mean([values[name][number] for number in members]) or 0.0 for name in QUALITIES}
        classes[label] = ClassQuality(queries=len(members), **means)
    return classes


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def agreement_of(ranker: Ranker, everyone: list[list[Ranking]]) -> Agreement:
    """How much the ways agree, averaged over queries; each query's rankings come in the same order."""
    k, depth = ranker.k, max(ranker.k, DEPTH)
    ids = ranker.ids
    ways = len(everyone[0])
    overlap = np.full((len(everyone), ways, ways), np.nan)
    biased = np.full((len(everyone), ways, ways), np.nan)
    for number, rankings in enumerate(everyone):
        names = [[ids[row] for row in ranking.numbers[:depth]] for ranking in rankings]
        for a in range(ways):
            for b in range(a, ways):
                shared, expected = overlap_at_k(names[a], names[b], k), rank_biased_overlap(names[a], names[b])
                overlap[number, a, b] = overlap[number, b, a] = np.nan if shared is None else shared
                biased[number, a, b] = biased[number, b, a] = np.nan if expected is None else expected
    return Agreement([row.name for row in everyone[0]], k, depth, _means(overlap), _means(biased))


def _means(matrices: NDArray[np.float64]) -> list[list[float | None]]:
    """The mean over queries of (q, w, w); None where no query has a value."""
    known = ~np.isnan(matrices)
    counts = known.sum(axis=0)
    sums = np.where(known, matrices, 0.0).sum(axis=0)
    return [
        [round(float(value / count), 6) if count else None for value, count in zip(*pair, strict=True)]
        for pair in zip(sums, counts, strict=True)
    ]


def _recall(rankings: Sequence[Ranking], k: int) -> list[float | None]:
    """For each row by the index, the share of the exact row's first k of the same measure that it found; else None."""
    exact = {
        row.measure: set(row.numbers[:k].tolist())
        for row in rankings
        if (row.space, row.search) == ("embedding", "exact")
    }
    return [
        None
        if row.search == "exact" or not exact[row.measure]
        else len(exact[row.measure] & set(row.numbers[:k].tolist())) / len(exact[row.measure])
        for row in rankings
    ]


def _shortened(ranking: Ranking, depth: int) -> Ranking:
    """The first `depth` places: all that is needed of a query once it is judged."""
    return replace(
        ranking, numbers=ranking.numbers[:depth].copy(), values=ranking.values[:depth].copy(), distances=None
    )


def _relevant(ranker: Ranker, probe: Probe) -> NDArray[np.bool_]:
    """Which images (n,) have the query's label, the query itself left out."""
    if not probe.label:
        return np.zeros(len(ranker.ids), bool)
    return np.asarray(ranker.labels == normal(probe.label)) & ~ranker.own(probe)


def _hits(ranker: Ranker, ranking: Ranking) -> list[Hit]:
    metric = METRICS[ranking.measure]
    values = ranking.values[: ranker.k]
    hits = []
    entries = ranker.entries(ranking.numbers[: ranker.k])
    for rank, (entry, value, score) in enumerate(zip(entries, values, metric.score(values), strict=True), 1):
        metadata: dict[str, Scalar] = {"width": entry.width, "height": entry.height}
        if ranking.distances is not None:
            metadata["chroma_distance"] = float(ranking.distances[rank - 1])
        hits.append(Hit(rank, entry.id, entry.path, entry.label, float(score), float(value), metadata))
    return hits


def _notes(ranker: Ranker, probe: Probe, relevant: NDArray[np.bool_]) -> list[Note]:
    """What is to be known about one query before its figures are read."""
    own, k, notes = ranker.own(probe), ranker.k, []
    others, right = int((~own).sum()), int(relevant.sum())
    if own.any():
        notes.append(note("left_out", ids=", ".join(ranker.ids[number] for number in np.flatnonzero(own))))
    if not (ranker.labels != "").any():
        notes.append(note("no_labels"))
    elif right and others and min(right, others) < k:
        few = note("fewer_than_k", images=others, k=k, ceiling=right / k)
        notes.append(few if others < k else note("few_relevant", relevant=right, k=k, ceiling=right / k))
    elif not right and probe.label and (ranker.labels == normal(probe.label)).any():
        notes.append(note("only_itself", label=probe.label))
    elif not right and probe.label and probe.told:
        notes.append(note("label_absent", label=probe.label))
    elif not right:
        notes.append(note("query_label_unknown"))
    if not others:
        notes.append(note("nothing_left"))
    return notes


def by_construction(ranker: Ranker, rankings: Sequence[Ranking], images: int) -> list[Note]:
    """What these rows share because of how they are made, checked on this library's rows."""
    notes = []
    if ranker.unit_rows:
        notes.append(note("unit_rows"))
    if ranker.mean_share <= 0.1:
        notes.append(note("near_zero_means", share=ranker.mean_share))
    if 0 < images <= ranker.k:
        notes.append(note("same_images", k=ranker.k))
    by_index = [row for row in rankings if row.search == "hnsw"]
    if by_index:
        complete = all(len(row.numbers) == images for row in by_index) and images > 0
        notes.append(note("all_candidates") if complete else note("index_misses"))
    return notes
