"""The library's own neighbourhoods smooth the order of a picture search: rows made once, when a run ends.

Rows are centred by the library's mean; each becomes the mean of itself and its nearest neighbours, weighted by the cube
of their cosine (database-side augmentation: Turcot & Lowe 2009, ICCV workshops; the weights: Radenovic et al. 2019,
arXiv:1711.02512). A query is expanded by its nearest rows in the same way. What one photo shows badly, its neighbours
show: measured in docs/results.md, beside k-reciprocal re-ranking and diffusion, which gain no more and cost more.

Only the *order* is refined: the exact rows stay, and a hit's value is the measure's own value on them. Smoothing needs
neighbourhoods that are real. `refine` says None, and nothing changes, where a library is small, where its neighbours
are no more alike than chance makes them, or where it is so large that finding all neighbours would take minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgret_tools.errors import BadInput

Rows = NDArray[np.float32]
Numbers = NDArray[np.intp]

SMALLEST, LARGEST = 20, 50_000
"""How many pictures a library must and may have to be refined: below, neighbours are strangers; above, the work of n
squared takes minutes, and `search="auto"` leaves the exact scan too."""
COHESION = 1.4
"""How alike two neighbours of one row must be, in spreads of the cosine between any two rows (measured: docs/results.md)."""

_NEIGHBOURS, _POWER = 6, 3
_QUERY_NEIGHBOURS, _QUERY_ITSELF = 2, 0.5
_STALE = 0.1  # share of rows that may come and go before the centre is measured anew
_SAMPLE = 512
_QUERIES_AT_ONCE, _ROWS_AT_ONCE = 512, 2048


@dataclass(frozen=True, slots=True, eq=False)
class Refined:
    """A library's smoothed rows and what is needed to change a few of them.

    Attributes:
        rows: (n, d) float32, unit: each row smoothed by its neighbours.
        centre: (d,) float32, the mean of the exact rows when it was last measured.
        neighbours: (n, 6) int32 places in `rows` of the nearest, nearest first.
        likeness: (n, 6) float32 cosines in [-1, 1] of the centred exact rows with those.
        changes: how many rows came or went since the centre was measured.
    """

    rows: Rows
    centre: Rows
    neighbours: NDArray[np.int32]
    likeness: Rows
    changes: int = 0

    def scores(self, query: Rows, exact: Rows, *, numbers: Numbers | None = None, without: int | None = None) -> Rows:
        """How well each row fits a query, (n,) float32 in [-1, 1], higher is better: cosines with the smoothed query.

        Args:
            query: (d,) exact row of the query picture.
            exact: the exact rows that were refined: (n, d), or the matrix that `numbers` picks them from.
            numbers: (n,) which rows of `exact`, as given to `refine`.
            without: the place of the query itself among them, which then is not its own neighbour.

        Raises:
            BadInput: the query is no finite (d,) row, or there is another number of exact rows.
        """
        query = np.asarray(query, np.float32)
        count = len(exact) if numbers is None else len(numbers)
        if query.shape != self.centre.shape or not np.isfinite(query).all():
            raise BadInput(f"A query of shape {query.shape}: expected {self.centre.shape} finite numbers.")
        if count != len(self.rows):
            raise BadInput(f"{count} exact rows against {len(self.rows)} refined ones: refine the library again.")
        own = _unit((query - self.centre)[None])
        itself = None if without is None else np.array([without])
        nearest, likeness = _nearest(own, exact, numbers, self.centre, _QUERY_NEIGHBOURS, without=itself)
        near = _centred(exact, _picked(numbers, nearest[0]), self.centre)
        expanded = _unit(_unit(own + _weights(likeness) @ near) + _QUERY_ITSELF * own)
        return np.asarray(self.rows @ expanded[0], np.float32)


def refine(
    exact: Rows,
    *,
    numbers: Numbers | None = None,
    before: Refined | None = None,
    kept: Numbers | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Refined | None:
    """The smoothed rows of a library, or None where smoothing would not help.

    Flat memory beside the result: blocks of some MB, whatever n. All of it costs n * n * d products: 2 s at 5,000 rows
    of 768 numbers and 6 s at 10,000, measured on two cores; by n squared that is minutes at 50,000. With `before` it costs (changes) * n * d: only rows that
    changed, whose neighbours went, or that a new row is near to are made again; the result is then the same as that
    of the whole under the old centre. The centre is measured anew, and all is made again, when a tenth has changed.

    Args:
        exact: (n, d) float32 rows, or a larger matrix (memory-mapped or not) that `numbers` picks n rows from.
        numbers: (n,) which rows of `exact` belong to the library, in the order the result has.
        before: what `refine` made last time.
        kept: (n,) for each row its place in `before`, -1 for a row that is new or was changed.
        stop: asked between blocks of 512 rows; once it says yes the result is None and says nothing.

    Raises:
        BadInput: rows that are not finite, or a `kept` that does not fit.
    """
    if exact.ndim != 2:
        raise BadInput(f"Rows of shape {exact.shape} cannot be refined: expected (n, d).")
    count = len(exact) if numbers is None else len(numbers)
    if not SMALLEST <= count <= LARGEST:
        return None
    if before is not None and kept is not None:
        if len(kept) != count or (len(kept) and kept.max() >= len(before.rows)):
            raise BadInput(f"{len(kept)} places in {len(before.rows)} old rows for {count} rows: expected one a row.")
        came, went = int((kept < 0).sum()), len(before.rows) - int((kept >= 0).sum())
        changes = before.changes + came + went
        if changes <= _STALE * count and before.centre.shape == exact.shape[1:]:
            return _checked(_changed(exact, numbers, before, kept, changes), exact, numbers)
    centre = _mean(exact, numbers, count)
    neighbours, likeness = _all_neighbours(exact, numbers, centre, np.arange(count), stop)
    if stop():
        return None
    found = Refined(np.empty((0, exact.shape[1]), np.float32), centre, neighbours, likeness)
    if cohesion(found, exact, numbers=numbers) < COHESION:
        return None
    return Refined(_smoothed(found, exact, numbers, np.arange(count)), centre, neighbours, likeness)


def cohesion(refined: Refined, exact: Rows, *, numbers: Numbers | None = None) -> float:
    """How alike two neighbours of one row are, in spreads of the cosine between any two rows; 0 where rows are all equal.

    Two neighbours of a row that belong together are near each other too; by chance they are not. Needs no labels. Of
    up to 512 rows, seeded.
    """
    count, k = refined.neighbours.shape
    chosen = np.sort(np.random.default_rng(0).permutation(count)[:_SAMPLE])
    sample = _centred(exact, _picked(numbers, chosen), refined.centre)
    between = (sample @ sample.T)[~np.eye(len(sample), dtype=bool)]
    spread = float(between.std())
    if spread < 1e-6 or k < 2:
        return 0.0
    alike = []
    for row in chosen:
        near = _centred(exact, _picked(numbers, refined.neighbours[row]), refined.centre)
        total = near.sum(axis=0)
        alike.append((float(total @ total) - float((near * near).sum())) / (k * (k - 1)))
    return float(np.mean(alike)) / spread


def _checked(refined: Refined, exact: Rows, numbers: Numbers | None) -> Refined | None:
    return refined if cohesion(refined, exact, numbers=numbers) >= COHESION else None


def _changed(exact: Rows, numbers: Numbers | None, before: Refined, kept: Numbers, changes: int) -> Refined:
    """`before` brought up to date with the rows that came and went, under its own centre."""
    count, k = len(kept), before.neighbours.shape[1]
    old, new = np.flatnonzero(kept >= 0), np.flatnonzero(kept < 0)
    place = np.full(len(before.rows), -1, np.int32)
    place[kept[old]] = old
    neighbours = np.full((count, k), -1, np.int32)
    likeness = np.zeros((count, k), np.float32)
    rows = np.zeros((count, exact.shape[1]), np.float32)
    neighbours[old] = place[before.neighbours[kept[old]]]
    likeness[old], rows[old] = before.likeness[kept[old]], before.rows[kept[old]]
    again = np.flatnonzero((neighbours < 0).any(axis=1))
    neighbours[again], likeness[again] = _all_neighbours(exact, numbers, before.centre, again)
    others = np.setdiff1d(old, again)
    touched = [again]
    arrivals = _centred(exact, _picked(numbers, new), before.centre)
    for block in _blocks(others, _QUERIES_AT_ONCE) if len(new) else ():
        products = _centred(exact, _picked(numbers, block), before.centre) @ arrivals.T
        nearer = block[(products > likeness[block, -1:]).any(axis=1)]
        touched.append(nearer)
        products = products[np.isin(block, nearer)]
        places = np.hstack([neighbours[nearer], np.broadcast_to(new.astype(np.int32), (len(nearer), len(new)))])
        neighbours[nearer], likeness[nearer] = _best(places, np.hstack([likeness[nearer], products]), k)
    result = Refined(rows, before.centre, neighbours, likeness, changes)
    anew = np.concatenate(touched)
    rows[anew] = _smoothed(result, exact, numbers, anew)
    return result


def _smoothed(refined: Refined, exact: Rows, numbers: Numbers | None, wanted: Numbers) -> Rows:
    """The smoothed rows (len(wanted), d) of the rows at these places."""
    rows = np.zeros((len(wanted), exact.shape[1]), np.float32)
    for start in range(0, len(wanted), _QUERIES_AT_ONCE):
        block = wanted[start : start + _QUERIES_AT_ONCE]
        total = _centred(exact, _picked(numbers, block), refined.centre)
        weights = _weights(refined.likeness[block])
        for number in range(refined.neighbours.shape[1]):
            near = _centred(exact, _picked(numbers, refined.neighbours[block, number]), refined.centre)
            total = total + weights[:, number : number + 1] * near
        rows[start : start + len(block)] = _unit(total)
    return rows


def _all_neighbours(
    exact: Rows,
    numbers: Numbers | None,
    centre: Rows,
    wanted: Numbers,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[NDArray[np.int32], Rows]:
    """The nearest other rows of those at places `wanted`: places (m, 6) and cosines (m, 6), nearest first."""
    places = np.zeros((len(wanted), _NEIGHBOURS), np.int32)
    likeness = np.zeros((len(wanted), _NEIGHBOURS), np.float32)
    for start in range(0, len(wanted), _QUERIES_AT_ONCE):
        if stop():
            break
        block = wanted[start : start + _QUERIES_AT_ONCE]
        own = _centred(exact, _picked(numbers, block), centre)
        end = start + len(block)
        places[start:end], likeness[start:end] = _nearest(own, exact, numbers, centre, _NEIGHBOURS, without=block)
    return places, likeness


def _nearest(
    queries: Rows, exact: Rows, numbers: Numbers | None, centre: Rows, k: int, *, without: Numbers | None = None
) -> tuple[NDArray[np.int32], Rows]:
    """Places (m, k) and cosines (m, k) of the rows nearest to centred queries (m, d), each less its own place."""
    count = len(exact) if numbers is None else len(numbers)
    places = np.full((len(queries), k), -1, np.int32)
    likeness = np.full((len(queries), k), -np.inf, np.float32)
    for start in range(0, count, _ROWS_AT_ONCE):
        block = np.arange(start, min(start + _ROWS_AT_ONCE, count))
        products = queries @ _centred(exact, _picked(numbers, block), centre).T
        if without is not None:
            inside = np.flatnonzero((without >= start) & (without < start + len(block)))
            products[inside, without[inside] - start] = -np.inf
        among = np.broadcast_to(block.astype(np.int32), products.shape)
        places, likeness = _best(np.hstack([places, among]), np.hstack([likeness, products]), k)
    return places, likeness


def _best(places: NDArray[np.int32], likeness: Rows, k: int) -> tuple[NDArray[np.int32], Rows]:
    """The k largest of each row of (m, p), largest first, ties by place."""
    if likeness.shape[1] > k:
        chosen = np.argpartition(-likeness, k - 1, axis=1)[:, :k]
        places, likeness = np.take_along_axis(places, chosen, 1), np.take_along_axis(likeness, chosen, 1)
    order = np.lexsort((places, -likeness), axis=1)
    return np.take_along_axis(places, order, 1), np.take_along_axis(likeness, order, 1)


def _mean(exact: Rows, numbers: Numbers | None, count: int) -> Rows:
    """The mean (d,) of the rows, after a look at each that it is finite."""
    total = np.zeros(exact.shape[1], np.float64)
    for block in _blocks(np.arange(count), _ROWS_AT_ONCE):
        total += np.asarray(exact[_picked(numbers, block)], np.float64).sum(axis=0)
    if not np.isfinite(total).all():
        raise BadInput("The library holds rows that are not finite: expected numbers; run `imgret doctor --rebuild`.")
    return np.asarray(total / count, np.float32)


def _blocks(numbers: Numbers, size: int) -> Iterator[Numbers]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


def _picked(numbers: Numbers | None, places: NDArray[np.int32] | Numbers) -> Numbers:
    return np.asarray(places if numbers is None else numbers[places], np.intp)


def _centred(exact: Rows, places: Numbers, centre: Rows) -> Rows:
    return _unit(np.asarray(exact[places], np.float32) - centre)


def _weights(likeness: Rows) -> Rows:
    """How much a neighbour counts beside the row itself, in [0, 1]: the cube of its cosine, 0 where it points away."""
    return np.asarray(np.maximum(likeness, 0) ** _POWER, np.float32)


def _unit(rows: Rows) -> Rows:
    """`rows` (n, d) scaled to length 1; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 1e-12, lengths, 1), np.float32)
