"""Compare ways to search: one query picture, or a folder of labelled ones, on a library of a runtime."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from imgret_tools.comparing.assemble import compare, compare_set
from imgret_tools.comparing.ranker import Probe, Ranker
from imgret_tools.comparing.report import Comparison, QuerySetComparison
from imgret_tools.engine.indexing import BATCH, no_pictures
from imgret_tools.engine.query import Query
from imgret_tools.engine.runtime import Runtime
from imgret_tools.errors import BadInput
from imgret_tools.library.view import View
from imgret_tools.pictures.find import Scan, content_hash, find_images
from imgret_tools.pictures.pixels import resize_pixels
from imgret_tools.records import Entry, Failure, Progress, Refine


def compare_picture(
    runtime: Runtime,
    image: Path | Image.Image | Entry,
    *,
    library: str = "default",
    k: int = 5,
    label: str | None = None,
    refine: Refine = "auto",
) -> Comparison:
    """One query picture under every measure on every space; images with its very content are left out of its hits.

    Args:
        image: the query.
        library: where.
        k: how many hits count.
        label: what the query shows; left out, it is that of its twin in the library, or its folder's name.
        refine: `auto` adds a row of the refined order where the library has one; `off` leaves it out.
    """
    with runtime.view(library) as view:
        ranker = Ranker(view, k=k, pixel_stats=runtime.pixel_stats(view), refine=refine)
        return compare(ranker, _probe(runtime, view, image, label))


def compare_folder(
    runtime: Runtime,
    folder: Path,
    *,
    library: str = "default",
    k: int = 5,
    refine: Refine = "auto",
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> QuerySetComparison:
    """Every picture under `folder` as a query, the name of its sub-folder as its label: quality with intervals.

    Args:
        folder: the queries, `<class>/<picture>`.
        library: where to search.
        k: how many hits count.
        refine: as in `compare_picture`.
        progress: called with the state of the run.
        cancelled: asked before each batch; the figures then cover what was done.

    Raises:
        BadInput: no picture there can be used.
    """
    scan = find_images(folder)
    if not scan.images:
        raise BadInput(no_pictures(folder, scan))
    with runtime.view(library) as view:
        return _compare_folder(runtime, view, folder, scan, k, refine, progress, cancelled)


def _compare_folder(
    runtime: Runtime,
    view: View,
    folder: Path,
    scan: Scan,
    k: int,
    refine: Refine,
    progress: Callable[[Progress], None] | None,
    cancelled: Callable[[], bool] | None,
) -> QuerySetComparison:
    ranker = Ranker(view, k=k, pixel_stats=runtime.pixel_stats(view), refine=refine)
    failed, total, stopped = list[Failure](), len(scan.images), False

    def opened(path: Path) -> tuple[Image.Image, str] | Failure:
        try:
            return runtime.open_query(path, runtime.at_least(view)), content_hash(path)
        except (BadInput, OSError) as error:
            return Failure(str(path), str(error))

    def probes() -> Iterator[Probe]:
        nonlocal stopped
        with ThreadPoolExecutor(2) as pool:
            for start in range(0, total, BATCH):
                if stopped := cancelled is not None and cancelled():
                    return
                paths = [image.path for image in scan.images[start : start + BATCH]]
                found = list(zip(paths, pool.map(opened, paths), strict=True))
                failed.extend(picture for _, picture in found if isinstance(picture, Failure))
                pictures = [(path, *picture) for path, picture in found if not isinstance(picture, Failure)]
                rows = runtime.encode_images(view, [picture for _, picture, _ in pictures])
                for (path, picture, sha256), row in zip(pictures, rows, strict=True):
                    label = "" if path.parent == folder else path.parent.name
                    pixels = resize_pixels(picture, view.card.pixel_size)
                    yield Probe({"image": str(path)}, row, pixels, label, True, sha256)

    def show(done: int) -> None:
        if progress is not None:
            progress(Progress("compare", done + len(failed), total))

    return compare_set(
        ranker, probes(), folder=str(folder), failed=failed, done=show, cancelled_of=lambda: total if stopped else 0
    )


def _probe(runtime: Runtime, view: View, image: Path | Image.Image | Entry, label: str | None) -> Probe:
    """A query picture in both spaces, opened once and at the scale that indexing opens at."""
    query, told = Query(image=image).described(), label is not None
    shown = {"image": query["image"]}
    if isinstance(image, Entry):
        row, pixels = view.row(image.id), runtime.pixel_row(view, image)
        return Probe(shown, row, pixels, image.label if label is None else label, told, image.sha256)
    started = time.perf_counter()
    sha256 = content_hash(image) if isinstance(image, Path) else ""
    picture = runtime.open_query(image, runtime.at_least(view))
    opened = time.perf_counter()
    row = runtime.encode_image(view, picture)
    encoded = time.perf_counter()
    pixels = resize_pixels(picture, view.card.pixel_size)
    seconds = {"open": opened - started, "embedding": encoded - opened, "pixels": time.perf_counter() - encoded}
    if label is None and isinstance(image, Path):
        twins = (entry.label for entry in view.entries(view.by_content(sha256)) if entry.label)
        label = next(twins, image.resolve().parent.name)
    rounded = {name: round(spent, 4) for name, spent in seconds.items()}
    return Probe(shown, row, pixels, label or "", told, sha256, rounded)
