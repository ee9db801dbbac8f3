"""Why this match: which regions of the two pictures speak for it, and which classes carried a text's hit.

Embeddings are explained by occlusion (Zeiler & Fergus 2014, arXiv:1311.2901): cover a cell of a picture with its mean
colour, encode it again, and see how far the score falls. That asks the encoder itself and works with any of them. Pixel
measures are sums over pixels, so their cells' parts are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgret_tools.engine.query import Query
from imgret_tools.engine.runtime import Runtime
from imgret_tools.errors import BadInput
from imgret_tools.library.view import View
from imgret_tools.metrics import METRICS, Metric
from imgret_tools.records import Measure, Record, Scalar, Space, quoted

GRID = 7
"""Cells on each side of a map: fine enough to point, coarse enough for one batch or two."""
_SHOWN = 448
_TOP = 3
Side = Literal["query", "hit"]
Grid = NDArray[np.float64]


@runtime_checkable
class NamesClasses(Protocol):
    """An encoder that knows classes by name."""

    def classify(self, prepared: NDArray[np.float32], *, top: int = 5) -> list[tuple[str, float]]:
        """The likeliest classes of one prepared picture, best first: (name, probability in [0, 1])."""

    def why_text(self, prepared: NDArray[np.float32], text: str, *, top: int = 3) -> list[tuple[str, float]]:
        """The classes that carry a text's hit, most first: (name, share of the cosine)."""


@dataclass(frozen=True, slots=True)
class Regions(Record):
    """What each cell of a picture adds to the score, rows first; positive speaks for the match, negative against it."""

    side: Side
    cells: list[list[float]]


@dataclass(frozen=True, slots=True)
class ClassShare(Record):
    """A class: its probability in [0, 1] in a picture, or its share of a text's cosine (all shares sum to 1)."""

    name: str
    share: float


@dataclass(frozen=True, slots=True)
class Explanation(Record):
    """Why the image `id` matches the query: its `value` by `measure` on `space`, and where it comes from.

    `classes` are by "query" and "hit" for a picture (what the encoder takes them for) and by "text" for a text.
    """

    library: str
    id: str
    query: dict[str, Scalar]
    space: Space
    measure: Measure
    value: float
    method: str
    regions: list[Regions]
    classes: dict[str, list[ClassShare]] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [
            f"Image {self.id} matches with {self.measure} {self.value:.4g} on {self.space}. Method: {self.method}."
        ]
        for regions in self.regions:
            cells = np.array(regions.cells)
            row, column = np.unravel_index(int(cells.argmax()), cells.shape)
            lines.append(
                f"{regions.side}: most for it is row {row + 1}, column {column + 1} of {len(cells)} x {len(cells)} "
                f"({cells.max():+.3g})."
            )
        for side, classes in self.classes.items():
            lines.append(
                f"classes ({side}): " + ", ".join(f"{quoted(one.name, 40)} {one.share:.2f}" for one in classes)
            )
        return "\n".join(lines)


def explain(
    runtime: Runtime,
    query: Query,
    id_: str,
    *,
    library: str = "default",
    space: Space = "embedding",
    measure: Measure = "cosine",
    regions: bool = True,
) -> Explanation:
    """Why the image `id_` answers `query`.

    A query of picture and text together is explained on the hit alone. Without `regions` only the classes are told, in a
    small part of the time: an occlusion encodes 50 pictures a side.

    Raises:
        NotFound: no such library or image, or its file is gone.
        BadInput: nothing was asked, or pixels of a text.
    """
    with runtime.view(library) as view:
        return _explain(runtime, view, query, id_, space, METRICS[measure], occlude=regions)


def _explain(
    runtime: Runtime, view: View, query: Query, id_: str, space: Space, metric: Metric, *, occlude: bool
) -> Explanation:
    entry = view.entry(id_)
    if space == "pixels":
        if query.lone_image is None:
            raise BadInput("Pixels can be explained for a query picture alone; take the embedding space for a text.")
        value, cells = _pixel_parts(metric, runtime.pixel_row(view, query.lone_image), runtime.pixel_row(view, entry))
        method = (
            f"exact parts of the {metric.name} of all pixels in a cell"
            if metric.higher_is_better
            else f"{metric.name} of the pixels in a cell, as part of the whole, under the mean of all cells"
        )
        sides: tuple[Side, Side] = ("query", "hit")
        return _explanation(view, id_, query, space, metric, value, method, [(side, cells) for side in sides])
    if not query.parts:
        raise BadInput("There is nothing to explain: give the picture or the text that was searched for.")
    side = runtime.encoder_of(view.card).side
    asked, held = runtime.vector(view, query), view.row(id_)
    picture = _shrunk(runtime.open_query(entry, side), side)
    regions: list[tuple[Side, Grid]] = []
    classes: dict[str, list[ClassShare]] = {}
    if query.lone_image is not None:
        own = _shrunk(runtime.open_query(query.lone_image, side), side)
        if occlude:
            regions.append(("query", _occlusion(runtime, view, own, held, metric)))
        classes |= _seen_in(runtime, view, query=own, hit=picture)
    elif query.text and query.image is None:
        classes |= _carried_by(runtime, view, picture, query.text)
    if occlude:
        regions.append(("hit", _occlusion(runtime, view, picture, asked, metric)))
    method = f"occlusion: how far the score falls when one of {GRID} x {GRID} cells is covered with the mean colour"
    return _explanation(view, id_, query, space, metric, metric.value(asked, held), method, regions, classes)


def _explanation(
    view: View,
    id_: str,
    query: Query,
    space: Space,
    metric: Metric,
    value: float,
    method: str,
    regions: Sequence[tuple[Side, Grid]],
    classes: dict[str, list[ClassShare]] | None = None,
) -> Explanation:
    found = [Regions(side, [[round(float(cell), 6) for cell in row] for row in cells]) for side, cells in regions]
    return Explanation(view.card.name, id_, query.described(), space, metric.name, value, method, found, classes or {})


def overlays(runtime: Runtime, query: Query, explanation: Explanation) -> dict[Side, Image.Image]:
    """The pictures with what speaks for the match in warm and what speaks against it in cold colours."""
    drawn: dict[Side, Image.Image] = {}
    for regions in explanation.regions:
        source = runtime.entry(explanation.id, explanation.library) if regions.side == "hit" else query.image
        if source is not None:
            picture = runtime.open_query(source, _SHOWN)
            picture.thumbnail((_SHOWN, _SHOWN))
            drawn[regions.side] = overlay(picture, np.array(regions.cells))
    return drawn


def overlay(picture: Image.Image, cells: Grid) -> Image.Image:
    """`picture` with `cells` (g, g) laid over it: orange where positive, blue where negative, stronger for more."""
    most = float(np.abs(cells).max()) or 1.0
    smooth = Image.fromarray((cells / most).astype(np.float32)).resize(picture.size, Image.Resampling.BILINEAR)
    strength = np.asarray(smooth)[..., None]
    colour = np.where(strength > 0, (255.0, 140.0, 0.0), (30.0, 90.0, 255.0))
    weight = np.clip(np.abs(strength), 0, 1) * 0.65
    grey = np.asarray(picture.convert("L").convert("RGB"), dtype=np.float64)
    return Image.fromarray((grey * (1 - weight) + colour * weight).round().astype(np.uint8))


def _occlusion(runtime: Runtime, view: View, picture: Image.Image, other: NDArray[np.float32], metric: Metric) -> Grid:
    """How far the score to `other` falls for each covered cell, (GRID, GRID)."""
    rows = runtime.encode_images(view, [picture, *covered(picture, GRID)])
    scores = metric.score(metric.values(other, rows))
    falls: Grid = scores[0] - scores[1:]
    return falls.reshape(GRID, GRID)


def covered(picture: Image.Image, cells: int) -> list[Image.Image]:
    """`picture` once for each of cells x cells cells, rows first, that cell covered with the mean colour."""
    pixels = np.asarray(picture)
    mean = pixels.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)
    rows = np.linspace(0, picture.height, cells + 1).round().astype(int)
    columns = np.linspace(0, picture.width, cells + 1).round().astype(int)
    pictures = []
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            copy = pixels.copy()
            copy[top:bottom, left:right] = mean
            pictures.append(Image.fromarray(copy))
    return pictures


def _shrunk(picture: Image.Image, side: int) -> Image.Image:
    """`picture` in its own proportions, its shorter side a little above the encoder's: many copies of it are made."""
    scale = min(1.0, 1.25 * side / min(picture.size))
    width, height = picture.size
    return picture.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BICUBIC)


def _pixel_parts(metric: Metric, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> tuple[float, Grid]:
    """The measure of two pixel rows, and each cell's part of it: they sum to a likeness, and to 0 for a distance."""
    value = metric.value(a, b)
    size = round((len(a) / 3) ** 0.5)
    x, y = a.astype(np.float64), b.astype(np.float64)
    if metric.name == "pearson":
        x, y = x - x.mean(), y - y.mean()
    if metric.higher_is_better:
        parts = x * y / (float(np.linalg.norm(x) * np.linalg.norm(y)) or 1.0)
    else:
        parts = np.abs(x - y) if metric.name == "l1" else (x - y) ** 2
        parts = parts / (parts.sum() or 1.0)
    edges = np.linspace(0, size, min(GRID, size) + 1).round().astype(int)[:-1]
    cells = np.add.reduceat(np.add.reduceat(parts.reshape(size, size, 3).sum(axis=2), edges, axis=0), edges, axis=1)
    return value, cells if metric.higher_is_better else cells.mean() - cells


def _seen_in(runtime: Runtime, view: View, *, query: Image.Image, hit: Image.Image) -> dict[str, list[ClassShare]]:
    """What the encoder takes the two pictures for, if it knows classes."""
    encoder = runtime.encoder_of(view.card)
    if not isinstance(encoder, NamesClasses):
        return {}
    return {
        side: [
            ClassShare(name, round(share, 4)) for name, share in encoder.classify(encoder.prepare(picture), top=_TOP)
        ]
        for side, picture in (("query", query), ("hit", hit))
    }


def _carried_by(runtime: Runtime, view: View, hit: Image.Image, text: str) -> dict[str, list[ClassShare]]:
    """The classes that carried a text's hit, if the encoder works through classes."""
    encoder = runtime.encoder_of(view.card)
    if not isinstance(encoder, NamesClasses):
        return {}
    return {"text": [ClassShare(name, round(share, 4)) for name, share in encoder.why_text(encoder.prepare(hit), text)]}
