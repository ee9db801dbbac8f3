"""What each measure finds on raw pixels and on embeddings, on a labelled collection: the course's story as a table.

    python benchmarks/compare.py                       # photos of scikit-image and Gradio as library and, cropped, as queries
    python benchmarks/compare.py --data FOLDER         # FOLDER/train/<class>/*.jpg indexed, FOLDER/test/<class>/*.jpg asked

Every figure comes with its 95 % bootstrap interval over queries, and with the paired difference to the best row: where
that interval holds 0, these queries do not tell the two apart. How long the measures themselves take, against the course's
loops and against only reading the bytes, is benchmarks/measures.py; here is the time of a whole comparison.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from PIL import Image

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.comparing.report import QuerySetComparison, QuerySetRow
from imgret_tools.pictures.find import find_images

_SCRAPS = 12  # crops of a photo that stand for a class where no collection is given


def interval(row: QuerySetRow, name: str) -> str:
    """A mean with its limits."""
    found = row.intervals.get(name)
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]" if found else "-"


def difference(row: QuerySetRow) -> str:
    """The paired difference to the best row, in words where it is clear."""
    if row.against_best is None:
        return "best"
    verdict = "lower" if row.against_best.high < 0 else "higher" if row.against_best.low > 0 else "not told apart"
    return f"{row.against_best.mean:+.2f} [{row.against_best.low:+.2f}, {row.against_best.high:+.2f}] {verdict}"


def table(comparison: QuerySetComparison) -> str:
    """The comparison in Markdown; the index's rows only where they say something else than the exact ones."""
    k = comparison.k
    lines = [
        f"| space | measure | search | P@1 | P@{k} | mAP | P@{k} against the best | recall@{k} | ms a query |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in comparison.rows:
        if row.search == "reranked":
            continue
        recall = "-" if row.recall_at_k is None else f"{row.recall_at_k:.3f}"
        lines.append(
            f"| {row.space} | {row.measure} | {row.search} | {interval(row, 'precision_at_1')} | "
            f"{interval(row, 'precision_at_k')} | {interval(row, 'map')} | {difference(row)} | {recall} | "
            f"{row.seconds * 1e3:.1f} |"
        )
    return "\n".join(lines)


def scraps(folder: Path) -> Path:
    """A small collection cut from photos of installed packages: pieces of one photo are one class."""
    import importlib.util

    sources: list[Path] = []
    for package, inside in (("skimage", "data"), ("gradio", "media_assets/images")):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            sources += [image.path for image in find_images(Path(spec.origin).parent / inside).images]
    for source in sources:
        with Image.open(source) as picture:
            whole = picture.convert("RGB")
        if min(whole.size) < 200:
            continue
        width, height = whole.width // 2, whole.height // 2
        for number in range(_SCRAPS):
            left, top = number % 4 * width // 3, number // 4 * height // 2
            part = "test" if number == 5 else "train"
            target = folder / part / source.stem / f"{number}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            whole.crop((left, top, left + width, top + height)).save(target, quality=90)
    return folder


def main() -> None:
    """Indexes, compares, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with train/<class> and test/<class>")
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 448], help="sides of the pixel rows")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        data = options.data or scraps(Path(temporary) / "data")
        for part in ("train", "test"):
            if not (data / part).is_dir():
                raise SystemExit(f"{data} has no folder {part!r}: expected train/<class>/ and test/<class>/.")
        settings = Settings(data_dir=Path(temporary) / "library", encoder=options.encoder, roots=(data,))
        with Runtime.open(settings) as runtime:
            tools = ImageTools(runtime)
            for size in options.sizes:
                report = tools.index_folder(str(data / "train"), pixel_size=size)
                one = next(iter(find_images(data / "test").images)).path
                tools.compare_metrics(str(one), k=options.k)  # loads the model and makes the row statistics
                started = time.perf_counter()
                tools.compare_metrics(str(one), k=options.k)
                single = time.perf_counter() - started
                started = time.perf_counter()
                comparison = tools.compare_queries(str(data / "test"), k=options.k)
                seconds = time.perf_counter() - started
                print(
                    f"\n{report.total} images, {comparison.judged} queries, encoder {comparison.encoder}, pixels {size} x "
                    f"{size}. AP is TREC's, over the whole ranking. One warm comparison of one query: {single:.2f} s; "
                    f"all queries: {seconds:.1f} s.\n"
                )
                print(table(comparison))
                print("\n" + "\n".join(f"- {one}" for one in (*comparison.findings, *comparison.by_construction)))


if __name__ == "__main__":
    main()
