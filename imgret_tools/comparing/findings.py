"""What a comparison shows, in a few sentences that claim no more than the figures do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product

from imgret_tools.comparing.judge import paired_difference_interval
from imgret_tools.comparing.report import Agreement, ComparisonRow, Note, QuerySetRow, note


def findings_of_one(rows: Sequence[ComparisonRow], agreement: Agreement) -> list[Note]:
    """Which exact rows share a first hit, and how much the spaces overlap."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        if row.search == "exact" and row.hits:
            groups.setdefault(row.hits[0].id, []).append(f"{row.space} {row.measure}")
    notes = []
    if groups:
        notes.append(
            note("first_hits", groups="; ".join(f"{id_} ({', '.join(names)})" for id_, names in groups.items()))
        )
    return [*notes, *_overlap(agreement)]


def findings_of_set(
    rows: Sequence[QuerySetRow], agreement: Agreement, precisions: Sequence[Sequence[float | None]]
) -> list[Note]:
    """The best row, which rows the queries cannot tell from it, embedding against pixels, and the index's recall.

    `precisions` are P@k, a list a query with one value a row.
    """
    notes: list[Note] = []
    exact = [number for number, row in enumerate(rows) if row.search == "exact" and row.precision_at_k is not None]
    if exact:
        best = max(exact, key=lambda number: rows[number].precision_at_k or 0.0)
        notes += _against(rows, best, exact, precisions, agreement.k)
        notes += _spaces(rows, exact, precisions, agreement.k)
        notes += _classes(rows[best], agreement.k)
    recall = {row.measure: row.recall_at_k for row in rows if row.search == "hnsw"}
    if recall.get("l2") is not None and recall.get("cosine") is not None:
        notes.append(note("recall", l2=recall["l2"], cosine=recall["cosine"], k=agreement.k))
    return [*notes, *_overlap(agreement)]


def _column(precisions: Sequence[Sequence[float | None]], way: int) -> list[float | None]:
    return [of_query[way] for of_query in precisions]


def _against(
    rows: Sequence[QuerySetRow], best: int, exact: Sequence[int], precisions: Sequence[Sequence[float | None]], k: int
) -> Iterator[Note]:
    interval = rows[best].intervals["precision_at_k"]
    yield note(
        "best",
        row=rows[best].name,
        mean=interval.mean,
        low=interval.low,
        high=interval.high,
        queries=interval.count,
        k=k,
    )
    tied: list[str] = []
    worse: list[str] = []
    for number in exact:
        if number == best:
            continue
        difference = paired_difference_interval(_column(precisions, number), _column(precisions, best))
        clear = difference is not None and difference.count > 1 and difference.high < 0
        (worse if clear else tied).append(rows[number].name)
    if tied:
        yield note("tied", rows="; ".join(tied))
    if worse:
        yield note("worse", rows="; ".join(worse))


def _spaces(
    rows: Sequence[QuerySetRow], exact: Sequence[int], precisions: Sequence[Sequence[float | None]], k: int
) -> Iterator[Note]:
    best = {}
    for space in ("embedding", "pixels"):
        if members := [number for number in exact if rows[number].space == space]:
            best[space] = max(members, key=lambda number: rows[number].precision_at_k or 0.0)
    if len(best) < 2:
        return
    difference = paired_difference_interval(_column(precisions, best["embedding"]), _column(precisions, best["pixels"]))
    if difference is None:
        return
    if difference.count < 2 or difference.low <= 0 <= difference.high:
        yield note("spaces_tied", mean=difference.mean, low=difference.low, high=difference.high, k=k)
        return
    low, high = sorted((abs(difference.low), abs(difference.high)))
    better, worse = ("embeddings", "pixels") if difference.mean > 0 else ("pixels", "embeddings")
    yield note("spaces_differ", better=better, worse=worse, mean=abs(difference.mean), low=low, high=high, k=k)


def _classes(row: QuerySetRow, k: int) -> Iterator[Note]:
    if len(row.classes) > 1:
        by_quality = sorted(row.classes, key=lambda label: row.classes[label].precision_at_k)
        low, high = row.classes[by_quality[0]].precision_at_k, row.classes[by_quality[-1]].precision_at_k
        if low < high:
            yield note("unequal_classes", worst=by_quality[0], top=by_quality[-1], low=low, high=high, k=k)


def _overlap(agreement: Agreement) -> Iterator[Note]:
    """Mean overlap@k within each space and between the two, over the exact rows."""
    exact = {
        space: [
            number for number, name in enumerate(agreement.rows) if name.startswith(space) and name.endswith("exact")
        ]
        for space in ("embedding", "pixels")
    }
    pairs = {
        "embedding": list(combinations(exact["embedding"], 2)),
        "pixels": list(combinations(exact["pixels"], 2)),
        "between": list(product(exact["embedding"], exact["pixels"])),
    }
    means = {}
    for name, of_pair in pairs.items():
        known = [value for a, b in of_pair if (value := agreement.overlap_at_k[a][b]) is not None]
        if not known:
            return
        means[name] = sum(known) / len(known)
    yield note("space_overlap", k=agreement.k, **means)
