"""A library made ready for a comparison: put in order by every measure, on embeddings and pixels, and by Chroma's HNSW.

It works on encoded queries (`Probe`) and one View of a library and knows nothing of files; assemble.py judges the orders.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from imgret_tools.comparing.report import Note, RowSearch, note, row_name
from imgret_tools.engine.neighbourhood import refined_order
from imgret_tools.errors import BadInput, LibraryError
from imgret_tools.library.chroma import HNSW_SPACES, HnswSpace
from imgret_tools.library.view import View
from imgret_tools.metrics import METRICS, RowStats, all_values
from imgret_tools.records import Entry, Measure, Refine, Scalar, Space

MEASURES: tuple[Measure, ...] = tuple(METRICS)
CHROMA_DISTANCE: dict[Measure, str] = {"l2": "squared l2", "cosine": "1 - cosine"}
"""The measures Chroma has a collection for, and what it returns there."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A query, encoded: `embedding` (dim,) float32 unit row, `pixels` (size * size * 3,) uint8.

    `label` is "" where unknown; `told` says whether it was stated, not guessed from a folder's name. Images whose
    content hash is `sha256` are the query itself.
    """

    query: dict[str, Scalar]
    embedding: NDArray[np.float32]
    pixels: NDArray[np.uint8]
    label: str = ""
    told: bool = False
    sha256: str = ""
    seconds: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """The library put in order one way: `numbers` (m,) places in the order of ids, best first, and their `values` (m,).

    `distances` (m,) are Chroma's own, where the order is Chroma's.
    """

    space: Space
    measure: Measure
    search: RowSearch
    numbers: NDArray[np.intp]
    values: NDArray[np.float64]
    seconds: float
    distances: NDArray[np.float64] | None = None

    @property
    def name(self) -> str:
        """Space, measure and search as one short name."""
        return row_name(self.space, self.measure, self.search)


class Ranker:
    """A library made ready for queries to be compared on it.

    Attributes:
        k: how many hits count.
        candidates: how many images the index is asked for.
        notes: what is missing from the comparison, and why.
    """

    def __init__(self, view: View, *, k: int, pixel_stats: RowStats | None, refine: Refine = "off") -> None:
        self.view, self.card, self.k = view, view.card, k
        if not len(view):
            raise BadInput(
                "Library {name!r} holds no images, so nothing can be compared; index a folder into it.",
                name=view.card.name,
            )
        self.candidates = max(4 * k, k + 50)
        self.numbers, self.ids = view.in_order_of_ids()
        self.labels = view.memo(
            "normal labels", lambda: _objects(map(normal, map(str, view.column("label", self.numbers))))
        )
        self.hashes = view.memo("hashes", lambda: _objects(view.column("sha256", self.numbers)))
        self._pixel_matrix = view.pixels
        self._places = view.pixel_places[self.numbers]
        self._place_of_row = np.full(len(view.matrix), -1, np.intp)
        self._place_of_row[self.numbers] = np.arange(len(self.numbers))
        self._pixel_stats = pixel_stats
        self._refine = refine == "auto"
        self.notes: list[Note] = []
        size, missing = view.card.pixel_size, int((self._places < 0).sum())
        if missing == len(self._places):
            self.notes.append(note("pixels_missing", size=size))
        elif missing:
            self.notes.append(note("pixels_partial", missing=missing, size=size))
        self._hnsw = True
        try:
            for space in HNSW_SPACES:  # the first query loads the index: that is not the time of a search
                view.nearest(view.matrix[self.numbers[0]], 1, space=space)
        except LibraryError as error:
            self._hnsw = False
            self.notes.append(note("hnsw_missing", reason=str(error)))

    @cached_property
    def _subset(self) -> NDArray[np.intp] | None:
        """The row numbers in the order of ids; None where that is the order of the rows."""
        whole = len(self.numbers) == len(self.view.matrix) and bool(
            (self.numbers == np.arange(len(self.numbers))).all()
        )
        return None if whole else self.numbers

    def entries(self, places: Sequence[int] | NDArray[np.intp]) -> list[Entry]:
        """The images at those places."""
        return self.view.entries(self.numbers[np.asarray(places, np.intp)])

    @cached_property
    def mean_share(self) -> float:
        """The largest part of a row's length that its mean makes up, in [0, 1]; 0 for rows centred on 0."""
        return self.view.memo(
            "mean share",
            lambda: (
                max(float(np.abs(rows.mean(axis=1, dtype=np.float64)).max()) for rows in self._blocks())
                * float(np.sqrt(self.card.dim))
            ),
        )

    @cached_property
    def unit_rows(self) -> bool:
        """Whether every embedding row has length 1, to a thousandth."""
        return self.view.memo(
            "unit rows",
            lambda: all(bool(np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-3) for rows in self._blocks()),
        )

    def _blocks(self) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(self.numbers), 8192):
            yield self.view.matrix[self.numbers[start : start + 8192]]

    def own(self, probe: Probe) -> NDArray[np.bool_]:
        """Which images (n,) are the query itself."""
        return np.asarray(self.hashes == probe.sha256) if probe.sha256 else np.zeros(len(self.ids), bool)

    def rankings(self, probe: Probe, *, timed: bool) -> list[Ranking]:
        """The library in every order, without the query itself.

        With `timed` each measure is computed by itself for its time; else all in one pass, and `seconds` is NaN.
        """
        others = ~self.own(probe)
        spaces: list[
            tuple[Space, NDArray[np.intp], Callable[[Sequence[Measure]], dict[Measure, NDArray[np.float64]]]]
        ] = [
            (
                "embedding",
                np.flatnonzero(others),
                lambda names: all_values(probe.embedding, self.view.matrix, names, subset=self._subset),
            )
        ]
        if (self._places >= 0).any():
            there = np.flatnonzero(others & (self._places >= 0))
            spaces.append(
                ("pixels", there, lambda names: _gathered(self._pixel_values(probe, names), self._places, len(others)))
            )
        found: list[Ranking] = []
        for space, pool, values_of in spaces:
            together = {} if timed else values_of(MEASURES)
            for measure in MEASURES:
                started = time.perf_counter()
                values = together[measure] if together else values_of([measure])[measure]
                order = best_first(values[pool], measure)
                seconds = time.perf_counter() - started if timed else float("nan")
                numbers = pool[order]
                found.append(Ranking(space, measure, "exact", numbers, values[numbers], seconds))
            if space == "embedding" and self._refine:
                cosine = next(row for row in found if row.measure == "cosine")
                found += self._refined(probe, pool, dict(zip(cosine.numbers.tolist(), cosine.values, strict=True)))
            if space == "embedding" and self._hnsw:
                try:
                    found += self._by_index(probe, {row.measure: row for row in found if row.search == "exact"})
                except LibraryError as error:
                    self._hnsw = False
                    self.notes.append(note("hnsw_missing", reason=str(error)))
        return found

    def _refined(self, probe: Probe, pool: NDArray[np.intp], values: dict[int, float]) -> list[Ranking]:
        """The order that neighbourhoods give the images `pool`, with their cosines; empty where there is none."""
        started = time.perf_counter()
        own = np.flatnonzero(self.own(probe))
        rows = np.sort(self.numbers[pool])
        order = refined_order(
            self.view, probe.embedding, rows, len(rows), own=int(self.numbers[own[0]]) if len(own) else None
        )
        if order is None:
            return []
        seconds = time.perf_counter() - started
        places = self._place_of_row[order[0]]
        of_place = np.array([values[place] for place in places.tolist()])
        return [Ranking("embedding", "cosine", "refined", places, of_place, seconds)]

    def _by_index(self, probe: Probe, exact: dict[Measure, Ranking]) -> list[Ranking]:
        """The rows of the index alone, and of its candidates put in order by each measure."""
        own = self.own(probe)
        near: dict[HnswSpace, tuple[NDArray[np.intp], NDArray[np.float64], float]] = {}
        for space in HNSW_SPACES:
            started = time.perf_counter()
            pairs = self.view.nearest(probe.embedding, self.candidates + int(own.sum()), space=space)
            seconds = time.perf_counter() - started
            kept = [(far, int(self._place_of_row[row])) for row, far in pairs if far is not None]
            kept = sorted(pair for pair in kept if not own[pair[1]])
            near[space] = (
                np.array([number for _, number in kept], dtype=np.intp),
                np.array([distance for distance, _ in kept], dtype=np.float64),
                seconds,
            )
        rows, reranked = [], []
        for measure in MEASURES:
            of_number = np.empty(len(own))
            of_number[exact[measure].numbers] = exact[measure].values
            numbers, distances, seconds = near["l2" if measure == "l2" else "cosine"]
            if measure in CHROMA_DISTANCE:
                rows.append(Ranking("embedding", measure, "hnsw", numbers, of_number[numbers], seconds, distances))
            started = time.perf_counter()
            numbers = np.sort(numbers)
            values = METRICS[measure].values(probe.embedding, self.view.matrix, subset=self.numbers[numbers])
            order = best_first(values, measure)
            seconds += time.perf_counter() - started
            reranked.append(Ranking("embedding", measure, "reranked", numbers[order], values[order], seconds))
        return rows + reranked

    def _pixel_values(self, probe: Probe, names: Sequence[Measure]) -> dict[Measure, NDArray[np.float64]]:
        return all_values(probe.pixels, self._pixel_matrix, names, stats=self._pixel_stats)


def _objects(values: Iterable[object]) -> NDArray[np.object_]:
    return np.array(list(values), dtype=object)


def normal(label: str) -> str:
    """A label as it is compared: file systems spell one accented name in two ways (Unicode NFC and NFD)."""
    return unicodedata.normalize("NFC", label)


def best_first(values: NDArray[np.float64], measure: Measure) -> NDArray[np.intp]:
    """All places of `values` (n,) in order, best first; ties keep their order (ascending ids), NaN last."""
    return np.argsort(-METRICS[measure].score(values), kind="stable")


def _gathered(
    values: dict[Measure, NDArray[np.float64]], places: NDArray[np.intp], count: int
) -> dict[Measure, NDArray[np.float64]]:
    """Values of pixel rows as values of images (count,), NaN for an image without a pixel row."""
    there = places >= 0
    spread = {measure: np.full(count, np.nan) for measure in values}
    for measure, of_rows in values.items():
        spread[measure][there] = of_rows[places[there]]
    return spread
