"""A comparison as files: one PNG for papers and slides (by matplotlib, without a screen), one self-contained HTML page.

The figure is the course's (the query and its first hits, a row a way to search) with quality, intervals and agreement
below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from imgret_tools.comparing.html import MOST_HITS, MOST_MISSED, WORDS, fragment, page
from imgret_tools.comparing.report import (
    Comparison,
    ComparisonRow,
    Note,
    QuerySetComparison,
    QuerySetRow,
    shown,
    telling,
)
from imgret_tools.engine.runtime import Runtime
from imgret_tools.errors import BadInput, ImgretError
from imgret_tools.pictures.thumbnails import data_url, thumbnail

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Compared = Comparison | QuerySetComparison

_RIGHT, _WRONG, _UNKNOWN = "#1a9850", "#d73027", "#888888"
_BLUE = "#4575b4"
_SIDE = 128


def png_of(comparison: Compared, runtime: Runtime) -> bytes:
    """The comparison as a PNG picture of 150 dots an inch."""
    drawn = BytesIO()
    figure_of(comparison, runtime).savefig(drawn, format="png", dpi=150)
    return drawn.getvalue()


def page_of(
    comparison: Compared,
    runtime: Runtime,
    *,
    words: Mapping[str, str] = WORDS,
    sentence: Callable[[Note], str] = str,
    language: str = "en",
) -> str:
    """The comparison as a whole HTML page that loads nothing; arguments as `comparison_html.page`."""
    return page(comparison, data_uris(comparison, runtime), words=words, sentence=sentence, language=language)


def write_png(comparison: Compared, path: Path, runtime: Runtime) -> None:
    """Write `png_of` into a file.

    Raises:
        BadInput: the file cannot be written.
    """
    _write(path, png_of(comparison, runtime))


def write_html(comparison: Compared, path: Path, runtime: Runtime) -> None:
    """Write `page_of` into a file.

    Raises:
        BadInput: the file cannot be written.
    """
    _write(path, page_of(comparison, runtime).encode())


def html_of(
    comparison: Compared,
    runtime: Runtime,
    *,
    words: Mapping[str, str] = WORDS,
    sentence: Callable[[Note], str] = str,
) -> str:
    """The comparison as a piece of HTML for a page, pictures included."""
    return fragment(comparison, data_uris(comparison, runtime), words=words, sentence=sentence)


def data_uris(comparison: Compared, runtime: Runtime) -> dict[str, str]:
    """Small pictures of what the comparison shows as data URIs, by id; the query's own under ""."""
    return {name: data_url(thumbnail(picture, _SIDE)) for name, picture in pictures_of(comparison, runtime).items()}


def pictures_of(comparison: Compared, runtime: Runtime) -> dict[str, Image.Image]:
    """Thumbnails of the hits drawn, by id, and of the query under ""; those that cannot be opened are left out."""
    single = comparison if isinstance(comparison, Comparison) else comparison.example
    if single is None:
        return {}
    found: dict[str, Image.Image] = {}
    for id_ in {hit.id for row in telling(single.rows) for hit in row.hits[:MOST_HITS]}:
        if (picture := thumbnail_of(single.library, runtime, id_)) is not None:
            found[id_] = picture
    query = _query_picture(single, runtime)
    weak = comparison.weak if isinstance(comparison, QuerySetComparison) else None
    for one in weak.queries[:MOST_MISSED] if weak is not None else ():
        for name, picture in (
            (one.query, _opened(one.query, runtime)),
            (one.hit.id, thumbnail_of(single.library, runtime, one.hit.id)),
        ):
            if picture is not None:
                found[name] = picture
    return found if query is None else {**found, "": query}


def _query_picture(comparison: Comparison, runtime: Runtime) -> Image.Image | None:
    name = str(comparison.query.get("image") or "")
    for id_ in filter(None, (name, *comparison.left_out)):
        if (picture := thumbnail_of(comparison.library, runtime, id_)) is not None:
            return picture
    return _opened(name, runtime)


def _opened(name: str, runtime: Runtime) -> Image.Image | None:
    try:
        return runtime.open_query(Path(name), _SIDE) if name else None
    except ImgretError:
        return None


def thumbnail_of(library: str, runtime: Runtime, id_: str) -> Image.Image | None:
    """The thumbnail of an indexed picture, None once the picture has gone."""
    try:
        with Image.open(runtime.thumbnail(runtime.entry(id_, library))) as picture:
            return picture.convert("RGB")
    except (ImgretError, OSError):
        return None


def figure_of(comparison: Compared, runtime: Runtime) -> Figure:
    """The comparison as a matplotlib figure."""
    from matplotlib.figure import Figure

    single = comparison if isinstance(comparison, Comparison) else comparison.example
    rows = telling(single.rows) if single is not None else []
    columns = min(comparison.k, MOST_HITS)
    ways = len(comparison.rows)
    below = 0.28 * ways + 1.6
    sentences = [str(one) for one in (*comparison.findings, *comparison.by_construction, *comparison.notes)]
    text_height = 0.25 * len(sentences) + 0.4
    grid_height = 1.45 * len(rows) + 0.5
    figure = Figure(figsize=(max(9.5, 2.4 + 1.3 * columns), grid_height + below + text_height), layout="constrained")
    parts = figure.subfigures(3, 1, squeeze=False, height_ratios=[grid_height, below, text_height])
    top, middle, bottom = parts[:, 0]
    if single is not None:
        _draw_grid(top, single, columns, pictures_of(comparison, runtime))
    quality, agreement = middle.subplots(1, 2, width_ratios=[1.1, 1])
    _draw_quality(quality, comparison)
    _draw_agreement(agreement, comparison)
    for number, sentence in enumerate(sentences):
        line = _drawable(sentence if len(sentence) < 170 else sentence[:168] + "…")
        bottom.text(0.01, 1 - (number + 0.8) / (len(sentences) + 1), line, fontsize=8, va="top", parse_math=False)
    return figure


def _draw_grid(figure: SubFigure, comparison: Comparison, columns: int, pictures: Mapping[str, Image.Image]) -> None:
    """A row a way to search: the query in front, then its hits with their values, framed by right and wrong."""
    rows = telling(comparison.rows)
    figure.suptitle(
        _drawable(f"library {comparison.library}, encoder {comparison.encoder}, {comparison.images} images"),
        fontsize=10,
        parse_math=False,
    )
    axes = figure.subplots(len(rows), columns + 1, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        _draw_picture(line[0], pictures.get(""), "black")
        line[0].set_ylabel(
            f"{row.space}\n{row.measure}\n{row.search}", rotation=0, ha="right", va="center", fontsize=9, labelpad=6
        )
        title = f"query: {comparison.label or 'label unknown'}" if row is rows[0] else ""
        _caption(line[0], title, f"P@{comparison.k} {shown(row.precision_at_k, 2)}")
        for place in range(columns):
            if place >= len(row.hits):
                line[place + 1].axis("off")
                continue
            hit = row.hits[place]
            right = comparison.is_right(hit)
            colour = _UNKNOWN if not comparison.relevant else _RIGHT if right else _WRONG
            _draw_picture(line[place + 1], pictures.get(hit.id), colour)
            sign = "" if not comparison.relevant else "✓ " if right else "✗ "
            value = f"{hit.value:.4g}"
            if row.distance:
                value += f" ({row.distance} {hit.metadata['chroma_distance']:.3g})"
            _caption(line[place + 1], sign + (hit.label or hit.id), value)


def _draw_picture(axes: Axes, picture: Image.Image | None, colour: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    if picture is not None:
        axes.imshow(np.asarray(picture))
    for side in axes.spines.values():
        side.set(color=colour, linewidth=3)


def _caption(axes: Axes, above: str, below: str) -> None:
    short = above if len(above) <= 20 else above[:19] + "…"
    axes.set_title(_drawable(short), fontsize=7, pad=3, parse_math=False)
    axes.set_xlabel(_drawable(below), fontsize=7, labelpad=2, parse_math=False)


def _draw_quality(axes: Axes, comparison: Compared) -> None:
    """Bars of P@k, with intervals where there are many queries."""
    rows: Sequence[ComparisonRow | QuerySetRow] = comparison.rows
    names = [f"{number}. {row.name}" for number, row in enumerate(rows, 1)]
    places = np.arange(len(names))
    means = [row.precision_at_k for row in rows]
    if all(mean is None for mean in means):
        axes.text(0.5, 0.5, "quality unknown: no labels to judge by", ha="center", transform=axes.transAxes, fontsize=9)
    else:
        heights = np.array([0.0 if mean is None else mean for mean in means])
        axes.barh(places, heights, color=_BLUE)
        if isinstance(comparison, QuerySetComparison):
            intervals = [row.intervals["precision_at_k"] for row in comparison.rows]
            low, high = np.array([[one.low, one.high] for one in intervals]).T
            axes.errorbar(heights, places, xerr=[heights - low, high - heights], fmt="none", ecolor="black", capsize=2)
    over = (
        f", {comparison.judged} queries, 95 % intervals"
        if isinstance(comparison, QuerySetComparison)
        else ", one query"
    )
    axes.set(yticks=places, xlim=(0, 1))
    axes.set_yticklabels(names, fontsize=8)
    axes.set_title(f"P@{comparison.k}{over}", fontsize=9)
    axes.invert_yaxis()


def _draw_agreement(axes: Axes, comparison: Compared) -> None:
    """Overlap@k of every two rows as a heat map with its numbers."""
    matrix = np.array(
        [[np.nan if value is None else value for value in row] for row in comparison.agreement.overlap_at_k]
    )
    axes.imshow(matrix, vmin=0, vmax=1, cmap="Blues")
    for (y, x), value in np.ndenumerate(matrix):
        if not np.isnan(value):
            colour = "white" if value > 0.6 else "black"
            axes.text(x, y, f"{value:.1f}", ha="center", va="center", fontsize=6, color=colour)
    numbers: Sequence[str] = [str(number) for number in range(1, len(matrix) + 1)]
    axes.set_xticks(range(len(matrix)), numbers, fontsize=7)
    axes.set_yticks(range(len(matrix)), numbers, fontsize=7)
    axes.set_title(f"overlap@{comparison.k} between rows", fontsize=9)


@cache
def _glyphs() -> frozenset[int]:
    """Code points that matplotlib's own font can draw."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap())


def _drawable(text: str) -> str:
    """`text` with a box for every character the font lacks: matplotlib would warn, once for each."""
    return "".join(character if ord(character) in _glyphs() else "□" for character in text)


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise BadInput(
            "Cannot write {path} ({strerror}); give a file in a folder that is there and writable.",
            path=path,
            strerror=error.strerror,
        ) from error
