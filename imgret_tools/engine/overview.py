"""What there is: the libraries, what one holds, and a look through it in an order of its own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from imgret_tools.engine.calibration import Chance
from imgret_tools.engine.runtime import Runtime, hit
from imgret_tools.library.filters import Condition
from imgret_tools.records import (
    DuplicateGroup,
    DuplicateReport,
    Entry,
    LibraryDescription,
    LibraryList,
    Match,
    SearchReport,
    Sort,
)

STRONG, FAIR = 0.995, 0.97
"""Share of chance pairs that a hit must be closer than, to count as a strong or as a fair match."""
NEAR = 0.97
"""Cosine of two pictures' rows from which they count as nearly the same."""
_BLOCK = 1024


def library_names(runtime: Runtime) -> list[str]:
    """The names of the libraries there are, sorted."""
    return [info.name for info in runtime.libraries()]


def list_libraries(runtime: Runtime) -> LibraryList:
    """The libraries with their counts."""
    return LibraryList(
        [
            {"name": info.name, "images": info.images, "labels": len(info.labels), "encoder": info.encoder}
            for info in runtime.libraries()
        ]
    )


def describe_library(runtime: Runtime, library: str) -> LibraryDescription:
    """What a library holds, counted."""
    target = runtime.library(library)
    columns = target.snapshot.columns
    taken = sorted(str(one) for one in columns["taken"] if one)
    return LibraryDescription(
        name=target.card.name,
        images=len(target),
        encoder=target.card.encoder,
        labels=dict(Counter(target.labels()).most_common()),
        years=dict(sorted(Counter(one[:4] for one in taken).items())),
        oldest=taken[0][:10] if taken else None,
        newest=taken[-1][:10] if taken else None,
        cameras=dict(Counter(target.counts("camera")).most_common()),
        with_place=sum(one is not None for one in columns["latitude"]),
        folders=list(target.card.folders),
        revision=target.card.revision,
        notice=target.card.notice,
    )


def find_entry(runtime: Runtime, library: str, id_: str) -> Entry | None:
    """The picture of that id, None when the library has none."""
    snapshot = runtime.library(library).snapshot
    number = snapshot.position.get(id_)
    return None if number is None else snapshot.entry(number)


def all_entries(runtime: Runtime, library: str) -> list[Entry]:
    """Every picture of a library, in the order of its ids."""
    return list(runtime.library(library).snapshot.entries())


def counts(runtime: Runtime, library: str, field: str) -> dict[str, int]:
    """How many pictures each value of a metadata field has."""
    return runtime.library(library).counts(field)


def browse(
    runtime: Runtime, *, library: str, where: Sequence[Condition], sort: Sort, k: int, offset: int
) -> SearchReport:
    """The pictures that satisfy `where`, in the order of `sort`, without a query; those without a date come last."""
    started = time.perf_counter()
    target = runtime.library(library)
    entries = [target.snapshot.entry(int(number)) for number in target.matching(where)]
    if sort in ("newest", "oldest"):
        dated = sorted((entry for entry in entries if entry.taken), key=lambda entry: (str(entry.taken), entry.id))
        entries = [*(dated[::-1] if sort == "newest" else dated), *(entry for entry in entries if not entry.taken)]
    elif sort == "name":
        entries.sort(key=lambda entry: (entry.path.casefold(), entry.id))
    elif sort == "largest":
        entries.sort(key=lambda entry: (-entry.width * entry.height, entry.id))
    return SearchReport(
        library=target.card.name,
        encoder=target.card.encoder,
        query={"text": None, "image": None, "not_text": None},
        measure="cosine",
        space="embedding",
        searched=len(entries),
        seconds=round(time.perf_counter() - started, 4),
        hits=[
            hit(entry, rank=offset + place, value=0.0, score=0.0)
            for place, entry in enumerate(entries[offset : offset + k], 1)
        ],
        total=len(target),
        matching=len(entries),
        sort=sort,
    )


def find_duplicates(runtime: Runtime, *, library: str, like: str) -> DuplicateReport:
    """Pictures of the same content, and those whose rows are nearly the same (cosine of at least `NEAR`)."""
    started = time.perf_counter()
    target = runtime.library(library)
    snapshot = target.snapshot
    group_of = list(range(len(snapshot)))

    def leader(number: int) -> int:
        while group_of[number] != number:
            number = group_of[number]
        return number

    pairs: list[tuple[str, str, float]] = []
    if like != "near":
        first: dict[object, int] = {}
        for number, content in enumerate(snapshot.columns["sha256"]):
            if content in first:
                pairs.append((snapshot.ids[first[content]], snapshot.ids[number], 1.0))
                group_of[leader(number)] = leader(first[content])
            first.setdefault(content, number)
    if like != "exact":
        for start in range(0, len(snapshot), _BLOCK):
            near = np.asarray(snapshot.rows[start : start + _BLOCK]) @ np.asarray(snapshot.rows).T
            for one, other in np.argwhere(near >= NEAR):
                if int(other) > start + int(one) and leader(start + int(one)) != leader(int(other)):
                    score = round(min(1.0, float(near[one, other])), 4)
                    pairs.append((snapshot.ids[start + int(one)], snapshot.ids[int(other)], score))
                    group_of[leader(int(other))] = leader(start + int(one))
    members: dict[int, list[Entry]] = {}
    for number in range(len(snapshot)):
        members.setdefault(leader(number), []).append(snapshot.entry(number))
    groups = []
    for entries in members.values():
        if len(entries) > 1:
            best = sorted(entries, key=lambda entry: (-entry.width * entry.height, -entry.bytes, entry.id))
            same = len({entry.sha256 for entry in entries}) == 1
            hits = [hit(entry, rank=rank, value=1.0, score=1.0) for rank, entry in enumerate(best, 1)]
            groups.append(DuplicateGroup("exact" if same else "near", best[0].id, hits))
    groups.sort(key=lambda group: (-len(group.hits), group.keep))
    return DuplicateReport(target.card.name, groups, pairs, round(time.perf_counter() - started, 4))


def with_matches(chance: Chance, report: SearchReport) -> SearchReport:
    """The report with what each hit's score means in its library, unless that is known already."""
    if not report.hits or report.hits[0].match is not None:
        return report
    shares = chance.closeness(report)
    if not shares:
        return report
    hits = [
        replace(one, closeness=round(share, 4), match=match_of(share))
        for one, share in zip(report.hits, shares, strict=True)
    ]
    return replace(report, hits=hits)


def match_of(closeness: float) -> Match:
    """A share of chance pairs in a word."""
    return "strong" if closeness >= STRONG else "fair" if closeness >= FAIR else "weak"
