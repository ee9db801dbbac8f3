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


def _distinct(view: View, numbers: Numbers) -> Distinct:
    twins, groups = view.twins
    if not len(twins):
        return Distinct(numbers)
    among = np.isin(twins, numbers)
    twins, groups = twins[among], groups[among]
    _, first, counts = np.unique(groups, return_index=True, return_counts=True)
    spare = np.delete(twins, first)
    several = counts > 1
    return Distinct(
        np.setdiff1d(numbers, spare, assume_unique=True),
        dict(zip(twins[first[several]].tolist(), counts[several].tolist(), strict=True)),
    )
