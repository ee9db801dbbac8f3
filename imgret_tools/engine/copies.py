"""Pictures with the same content are one hit of a search: the first of them stands for all, with their count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from imgret_tools.library.catalogue import Numbers
from imgret_tools.library.view import View


@dataclass(frozen=True, slots=True)
class Distinct:
    """Pictures of which no two have the same content.

    Attributes:
        numbers: their row numbers, ascending.
        counts: of those that stand for several, by row number, how many.
    """

    numbers: Numbers
    counts: dict[int, int] = field(default_factory=dict)

    def copies(self, numbers: Iterable[int]) -> list[int]:
        """How many pictures each of these row numbers stands for, itself included: 1 or more."""
        return [self.counts.get(int(number), 1) for number in numbers]


def distinct(view: View, numbers: Numbers) -> Distinct:
    """The pictures of the row numbers `numbers` (ascending), each content once.

    Of several the one stands that is there, not away, and has the first id.
    """
    if numbers is view.numbers:
        return view.memo("distinct", lambda: _distinct(view, numbers))
    return _distinct(view, numbers)


def places_in(numbers: Numbers, some: Numbers) -> Numbers:
    """Where each of `some` stands in the row numbers `numbers` (ascending), -1 where it does not: no pass over a million others."""
    if not len(numbers):
        return np.full(len(some), -1)
    places = np.searchsorted(numbers, some)
    return np.where(numbers[np.minimum(places, len(numbers) - 1)] == some, places, -1)


def without(numbers: Numbers, gone: Numbers) -> Numbers:
    """Row numbers (ascending, each once) that are not among `gone`."""
    places = places_in(numbers, gone)
    return np.delete(numbers, places[places >= 0])


def _distinct(view: View, numbers: Numbers) -> Distinct:
    twins, groups = view.twins
    if not len(twins):
        return Distinct(numbers)
    among = places_in(numbers, twins) >= 0
    twins, groups = twins[among], groups[among]
    _, first, counts = np.unique(groups, return_index=True, return_counts=True)
    spare = np.delete(twins, first)
    several = counts > 1
    return Distinct(
        without(numbers, spare),
        dict(zip(twins[first[several]].tolist(), counts[several].tolist(), strict=True)),
    )
