"""What there is: the libraries, what one holds, and a look through it in an order of its own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from imgret_tools.engine.runtime import Runtime, hit
from imgret_tools.library.filters import Condition, parse_where
from imgret_tools.records import (
    DuplicateGroup,
    DuplicateReport,
    Entry,
    LibraryDescription,
    LibraryList,
    Order,
    Scalar,
    SearchReport,
    Sort,
)

NEAR = 0.97
"""Cosine of two pictures' rows from which they count as nearly the same."""
_BLOCK = 1024


def list_libraries(runtime: Runtime) -> LibraryList:
    """The libraries with their counts."""
    found: list[dict[str, Scalar]] = []
    for info in runtime.libraries():
        found.append({"name": info.name, "images": info.images, "labels": len(info.labels), "encoder": info.encoder})
        if info.damaged:
            found[-1]["damaged"] = info.damaged
    return LibraryList(found)


def name_of(runtime: Runtime, library: str) -> str:
    """The name that a library has, where `library` may be `default`."""
    return runtime.library(library).card.name


def describe_library(runtime: Runtime, library: str) -> LibraryDescription:
    """What a library holds, counted."""
    with runtime.view(library) as view:
        years: Counter[str] = Counter()
        for taken, count in view.counts("taken").items():
            years[taken[:4]] += count
        oldest, newest = view.span("taken")
        return LibraryDescription(
            name=view.card.name,
            images=len(view),
            encoder=view.card.encoder,
            labels=dict(Counter(view.labels()).most_common()),
            years=dict(sorted(years.items())),
            oldest=str(oldest)[:10] if oldest else None,
            newest=str(newest)[:10] if newest else None,
            cameras=dict(Counter(view.counts("camera")).most_common()),
            with_place=view.count(parse_where(["latitude>=-90"])),
            folders=list(view.card.folders),
            revision=view.card.revision,
            notice=view.card.notice,
        )


def find_entry(runtime: Runtime, library: str, id_: str) -> Entry | None:
    """The picture of that id, None when the library has none."""
    with runtime.view(library) as view:
        number = view.find(id_)
        return None if number is None else view.entries([number])[0]


def all_entries(runtime: Runtime, library: str) -> list[Entry]:
    """Every picture of a library, in the order of its ids."""
    with runtime.view(library) as view:
        return view.entries(view.in_order_of_ids()[0])


def counts(runtime: Runtime, library: str, field: str) -> dict[str, int]:
    """How many pictures each value of a metadata field has."""
    with runtime.view(library) as view:
        return view.counts(field)


def browse(
    runtime: Runtime, *, library: str, where: Sequence[Condition], sort: Sort, k: int, offset: int
) -> SearchReport:
    """The pictures that satisfy `where`, in the order of `sort`, without a query; `best` is the newest first."""
    order: Order = "newest" if sort == "best" else sort
    report = runtime.browse(library=library, where=where, sort=order, k=k, offset=offset)
    return replace(report, sort=sort)


def find_duplicates(runtime: Runtime, *, library: str, like: str) -> DuplicateReport:
    """Pictures of the same content, and those whose rows are nearly the same (cosine of at least `NEAR`)."""
    started = time.perf_counter()
    with runtime.view(library) as view:
        name, entries = view.card.name, view.entries()
        rows = np.asarray(view.matrix[view.numbers])
    group_of = list(range(len(entries)))

    def leader(number: int) -> int:
        while group_of[number] != number:
            number = group_of[number]
        return number

    pairs: list[tuple[str, str, float]] = []
    if like != "near":
        first: dict[object, int] = {}
        for number, content in enumerate(entry.sha256 for entry in entries):
            if content in first:
                pairs.append((entries[first[content]].id, entries[number].id, 1.0))
                group_of[leader(number)] = leader(first[content])
            first.setdefault(content, number)
    if like != "exact":
        for start in range(0, len(entries), _BLOCK):
            near = rows[start : start + _BLOCK] @ rows.T
            for one, other in np.argwhere(near >= NEAR):
                if int(other) > start + int(one) and leader(start + int(one)) != leader(int(other)):
                    score = round(min(1.0, float(near[one, other])), 4)
                    pairs.append((entries[start + int(one)].id, entries[int(other)].id, score))
                    group_of[leader(int(other))] = leader(start + int(one))
    members: dict[int, list[Entry]] = {}
    for number, entry in enumerate(entries):
        members.setdefault(leader(number), []).append(entry)
    groups = []
    for alike in members.values():
        if len(alike) > 1:
            best = sorted(alike, key=lambda entry: (-entry.width * entry.height, -entry.bytes, entry.id))
            same = len({entry.sha256 for entry in alike}) == 1
            hits = [hit(entry, rank=rank, value=1.0, score=1.0) for rank, entry in enumerate(best, 1)]
            groups.append(DuplicateGroup("exact" if same else "near", best[0].id, hits))
    groups.sort(key=lambda group: (-len(group.hits), group.keep))
    return DuplicateReport(name, groups, pairs, round(time.perf_counter() - started, 4))
