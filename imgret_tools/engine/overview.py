"""What there is: the libraries, what one holds, and a look through it in an order of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from imgret_tools.engine.runtime import Runtime
from imgret_tools.library.filters import Condition, parse_where
from imgret_tools.records import (
    Entry,
    Group,
    LibraryDescription,
    LibraryList,
    Order,
    Scalar,
    SearchReport,
    Sort,
)


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
    runtime: Runtime, *, library: str, where: Sequence[Condition], sort: Sort, group: Group, k: int, offset: int
) -> SearchReport:
    """The pictures that satisfy `where`, by `group` in the order of `sort`, without a query; `best` is the newest first."""
    order: Order = "newest" if sort == "best" else sort
    report = runtime.browse(library=library, where=where, sort=order, group=group, k=k, offset=offset)
    return replace(report, sort=sort)
