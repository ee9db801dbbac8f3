"""A library's smoothed rows (refine.py) as they are kept beside its rows: made when a run ends, read by a View."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray

from imgret_tools.engine.copies import places_in
from imgret_tools.engine.query import Query
from imgret_tools.engine.refine import Refined, refine
from imgret_tools.errors import BadInput, StorageError
from imgret_tools.library import derived
from imgret_tools.library.catalogue import Numbers
from imgret_tools.library.view import View
from imgret_tools.metrics import top_k
from imgret_tools.records import Measure

_NAME = "refined-1"
"""Where they are kept; another number whenever `refine` makes other rows of the same ones."""
_MEASURES: tuple[Measure, ...] = ("cosine", "l2")

_log = logging.getLogger(__name__)


def keep_refined(view: View, *, stop: Callable[[], bool] = lambda: False) -> None:
    """Make the smoothed rows of `view` and keep them, unless they are there; the library has to be held for writing.

    A few changes since the last time cost what they change. That smoothing would not help is kept too. Where it fails
    or is stopped, searches have the exact order and the next run tries again.
    """
    if derived.load(view, _NAME) is not None:
        return
    try:
        before, kept = _before(view)
        refined = refine(view.matrix, numbers=view.numbers, before=before, kept=kept, stop=stop)
        if stop():
            return
        derived.save(view, _NAME, {} if refined is None else _arrays(refined))
    except (BadInput, StorageError) as error:
        _log.warning("the order of searches in %s is not refined: %s", view.home, error)


def refined_rows(view: View) -> Refined | None:
    """The smoothed rows of the very rows of `view`, memory-mapped; None where there are none or they would not help."""
    arrays = view.memo("refined", lambda: derived.load(view, _NAME))
    if arrays is None:  # they may have been made since, for the same revision
        arrays = derived.load(view, _NAME)
    return None if arrays is None else _refined(arrays)


def refined_order(
    view: View, query: NDArray[np.float32], pool: Numbers, wanted: int, *, own: int | None
) -> tuple[Numbers, NDArray[np.float64]] | None:
    """The `wanted` best of the rows `pool` for a picture's unit row `query` (dim,) in the refined order, best first.

    Args:
        view: where.
        query: the exact row of the query picture.
        pool: the row numbers that count, ascending.
        wanted: how many.
        own: the row number of the query itself, which then has no say.

    Returns:
        Row numbers and cosines in [-1, 1] of smoothed rows and the smoothed query, (min(wanted, m),) each, ties by
        ascending id; None where the library has no smoothed rows.
    """
    refined = refined_rows(view)
    if refined is None:
        return None
    itself = None if own is None else int(np.searchsorted(view.numbers, own))
    of_all = refined.scores(query, view.matrix, numbers=view.numbers, without=itself)
    scores = of_all[np.searchsorted(view.numbers, pool)].astype(np.float64)
    wanted = min(wanted, len(pool))
    if not wanted:
        return pool[:0], scores[:0]
    near = np.flatnonzero(scores >= np.partition(scores, len(scores) - wanted)[len(scores) - wanted])
    best = near[top_k(scores[near], view.ids(pool[near]), wanted, higher_is_better=True)]
    return pool[best], scores[best]


def is_refinable(query: Query, measure: Measure) -> bool:
    """Whether the order for a query may be refined: of a picture alone, by a measure that ranks unit rows by their angle.

    For words it was not tried, and who asks for l1 or pearson wants its order.
    """
    return query.lone_image is not None and measure in _MEASURES


def _before(view: View) -> tuple[Refined | None, Numbers | None]:
    """What was made last time, and for each row of now its place in it, -1 for a new one."""
    older = derived.load_older(view, _NAME)
    refined = None if older is None else _refined(older[1])
    if older is None or refined is None:
        return None, None
    return refined, places_in(older[0], view.numbers)


def _arrays(refined: Refined) -> derived.Arrays:
    return {
        "rows": refined.rows,
        "centre": refined.centre,
        "neighbours": refined.neighbours,
        "likeness": refined.likeness,
        "changes": np.array(refined.changes),
    }


def _refined(arrays: derived.Arrays) -> Refined | None:
    """What `_arrays` wrote; None of nothing, which is kept where smoothing would not help."""
    if not arrays:
        return None
    return Refined(
        cast("NDArray[np.float32]", arrays["rows"]),
        np.asarray(arrays["centre"], np.float32),
        cast("NDArray[np.int32]", arrays["neighbours"]),
        cast("NDArray[np.float32]", arrays["likeness"]),
        int(arrays["changes"]),
    )
