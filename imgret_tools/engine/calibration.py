"""What a score means in a given library: how seldom a pair picked by chance scores as high.

A cosine of 0.3 is a poor match between two pictures and an excellent one between a text and a picture, and every encoder has
its own range. The share of chance pairs below a score means the same for all of them: of 0.99, one pair in a hundred is closer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgret_tools.engine.runtime import TEXT_WEIGHT, Runtime
from imgret_tools.library.view import View
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

    def closeness(self, report: SearchReport) -> list[float]:
        """For each hit, the share in [0, 1] of chance pairs in its library that score lower than it.

        Chance pairs are up to 64 queries of the same kind (pictures of the library, everyday words, or one of each) with
        up to 2,048 pictures of the library, seeded; a picture is not paired with itself. Empty without two pictures.
        """
        with self._runtime.view(report.library) as view:
            return self._closeness(view, report)

    def _closeness(self, view: View, report: SearchReport) -> list[float]:
        image, text = report.query.get("image") is not None, report.query.get("text") is not None
        kind = ("chance", report.measure, report.space, image, text)
        metric, pixels = METRICS[report.measure], report.space == "pixels"
        scores = view.memo(kind, lambda: _scores(self._runtime, view, metric, pixels, image, text))
        if not len(scores):
            return []
        # Of the values, not the scores: those of a refined order are of another kind.
        found = metric.score(np.array([hit.value for hit in report.hits], np.float64))
        below = np.searchsorted(scores, found, side="left")
        return [float(share) for share in below / len(scores)]


def _scores(runtime: Runtime, view: View, metric: Metric, pixels: bool, image: bool, text: bool) -> NDArray[np.float64]:
    """The scores of chance pairs, ascending."""
    chosen = view.numbers[np.random.default_rng(0).permutation(len(view))[:_ROWS]]
    rows: NDArray[np.float32] | NDArray[np.uint8] = np.asarray(view.matrix[chosen])
    if pixels:
        places = view.pixel_places[chosen]
        places = places[places >= 0][: max(2, _PIXEL_BYTES // view.pixels.shape[1])]
        rows = np.asarray(view.pixels[places])
    queries = rows[:_QUERIES]
    if text or not image:
        words = runtime.encode_texts(view, _WORDS.split(","))
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
