"""What a score means in a given library: how seldom a pair picked by chance scores as high.

A cosine of 0.3 is a poor match between two pictures and an excellent one between a text and a picture, and every encoder has
its own range. The share of chance pairs below a score means the same for all of them: of 0.99, one pair in a hundred is closer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgret_tools.engine.runtime import TEXT_WEIGHT, Runtime
from imgret_tools.library.library import Library
from imgret_tools.metrics import METRICS, Metric
from imgret_tools.records import SearchReport

_QUERIES, _ROWS = 64, 2048
_PIXEL_BYTES = 16_000_000
_WORDS = (
    "a dog,a cat,a bird,a horse,a fish,an insect,a flower,a tree,a forest,a mountain,a beach,the sea,a river,the sky,snow,night,"
    "a street,a house,a tower,a bridge,a church,a room,a kitchen,a chair,a table,a bed,a lamp,a window,a door,a book,a page of text,"
    "a map,a clock,a phone,a computer,a camera,a car,a bus,a train,a plane,a boat,a bicycle,a motorcycle,a road,bread,fruit,"
    "vegetables,meat,a cake,a drink,a bottle,a cup,a plate,a shoe,a hat,a dress,a toy,a ball,a person,a child,a face,a hand,a crowd,"
    "a sport"
)
"""What people look for: the texts of chance pairs, parted by commas."""


class Chance:
    """Knows, for libraries of one runtime, how scores of chance pairs are spread; measured when first asked for."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._known: dict[tuple[str, ...], tuple[int, NDArray[np.float64]]] = {}

    def closeness(self, report: SearchReport) -> list[float]:
        """For each hit, the share in [0, 1] of chance pairs in its library that score lower than it.

        Chance pairs are up to 64 queries of the same kind (pictures of the library, everyday words, or one of each) with
        up to 2,048 pictures of the library, seeded; a picture is not paired with itself. Empty without two pictures.
        """
        library = self._runtime.library(report.library)
        image, text = report.query.get("image") is not None, report.query.get("text") is not None
        kind = (library.card.name, report.measure, report.space, f"{image} {text}")
        known = self._known.get(kind)
        if known is None or known[0] != library.card.revision:
            scores = _scores(self._runtime, library, METRICS[report.measure], report.space == "pixels", image, text)
            known = self._known[kind] = (library.card.revision, scores)
        scores = known[1]
        if not len(scores):
            return []
        below = np.searchsorted(scores, [hit.score for hit in report.hits], side="left")
        return [float(share) for share in below / len(scores)]


def _scores(
    runtime: Runtime, library: Library, metric: Metric, pixels: bool, image: bool, text: bool
) -> NDArray[np.float64]:
    """The scores of chance pairs, ascending."""
    snapshot = library.snapshot
    chosen = np.random.default_rng(0).permutation(len(snapshot))[:_ROWS]
    rows: NDArray[np.float32] | NDArray[np.uint8] = np.asarray(snapshot.rows[chosen])
    if pixels:
        places = library.pixels.numbers([str(snapshot.columns["sha256"][number]) for number in chosen])
        places = places[places >= 0][: max(2, _PIXEL_BYTES // library.pixels.dim)]
        rows = np.asarray(library.pixels.matrix()[places])
    queries = rows[:_QUERIES]
    if text or not image:
        words = runtime.encode_texts(library, _WORDS.split(","))
        if not image:
            queries = words
        else:
            mixed = queries + TEXT_WEIGHT * words[: len(queries)]
            queries = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    found = []
    for number, query in enumerate(queries):
        scores = metric.score(metric.values(query, rows))
        found.append(np.delete(scores, number) if image else scores)
    return np.sort(np.concatenate(found)) if found else np.empty(0)
