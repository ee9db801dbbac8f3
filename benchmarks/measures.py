"""One query under all four measures over pixels: the course's loops, this package, and only reading the bytes.

    python benchmarks/measures.py                  # 360 photos made from those that installed packages bring along
    python benchmarks/measures.py --data FOLDER    # one's own photos (every .jpg, .jpeg and .png below FOLDER)

Two tables, each with the target the project set itself:

1. Photos at 448 x 448. The course opens and resizes every file for every query and measure, in Python loops; here the
   pixels lie in a memory-mapped file that is warm (read before). Both sides are checked to give the same rankings.
2. 10,000 pictures of 64 x 64, with the memory taken on top of the matrix.

"Read" is the fastest one-threaded NumPy pass found that does nothing but read: the exclusive or of the matrix seen as
64-bit numbers. Queries and reads take turns; the figures are medians, since a shared machine is never quiet.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgret_tools.metrics import METRICS, RowStats, all_values, row_stats, top_k
from imgret_tools.records import Measure

NAMES = list(METRICS)
EPSILON = np.finfo(np.float64).eps
Pixels = NDArray[np.uint8]
Mapped = np.memmap[tuple[int, int], np.dtype[np.uint8]]


def opened(path: Path, side: int) -> Pixels:
    """The picture as (side, side, 3) uint8, resized as the course does it."""
    with Image.open(path) as image:
        return np.array(image.convert("RGB").resize((side, side)))


def l1(query: Pixels, image: Pixels) -> float:
    """Sum of absolute differences."""
    return float(np.sum(np.abs(query.astype(np.float64) - image)))


def l2(query: Pixels, image: Pixels) -> float:
    """Mean square difference, which ranks as the Euclidean distance does."""
    return float(np.mean((query.astype(np.float64) - image) ** 2))


def cosine(query: Pixels, image: Pixels) -> float:
    """Cosine with an epsilon in the denominator."""
    a, b = query.astype(np.float64), image.astype(np.float64)
    return float(np.sum(a * b) / (np.sqrt(np.sum(a**2)) * np.sqrt(np.sum(b**2)) + EPSILON))


def pearson(query: Pixels, image: Pixels) -> float:
    """Cosine of the centred pictures, with an epsilon in the denominator."""
    a, b = query - np.mean(query), image - np.mean(image)
    return float(np.sum(a * b) / (np.sqrt(np.sum(a**2)) * np.sqrt(np.sum(b**2)) + EPSILON))


COURSE: dict[Measure, Callable[[Pixels, Pixels], float]] = {"l1": l1, "l2": l2, "cosine": cosine, "pearson": pearson}


def course_rankings(query: Path, paths: list[Path], side: int) -> dict[Measure, list[int]]:
    """The course's way: for each measure a loop that opens and resizes every file anew."""
    rankings: dict[Measure, list[int]] = {}
    for name in NAMES:
        image = opened(query, side)
        values = np.array([COURSE[name](image, opened(path, side)) for path in paths])
        rankings[name] = ranked(name, values)
    return rankings


def ranked(name: Measure, values: NDArray[np.float64]) -> list[int]:
    """All rows by that measure, best first."""
    ids = [f"{number:06d}" for number in range(len(values))]
    return [int(number) for number in top_k(values, ids, len(ids), higher_is_better=METRICS[name].higher_is_better)]


def photos_made(folder: Path, count: int) -> list[Path]:
    """`count` different JPEG files of 500 x 375: crops, some mirrored, of photos in installed packages."""
    sources = []
    for package, inside in (("skimage", "data"), ("sklearn", "datasets/images"), ("gradio", "media_assets/images")):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            sources += sorted((Path(spec.origin).parent / inside).glob("*.jp*g"))
    if not sources:
        raise SystemExit(
            "No photos in scikit-image, scikit-learn or gradio: install one of them or give --data FOLDER."
        )
    random = np.random.default_rng(0)
    paths = []
    for number in range(count):
        with Image.open(sources[number % len(sources)]) as source:
            width, height = source.size
            share = random.uniform(0.4, 0.9)
            left, top = (random.uniform(0, 1 - share, 2) * source.size).astype(int)
            box = (int(left), int(top), int(left + share * width), int(top + share * height))
            image = source.convert("RGB").resize((500, 375), box=box)
        if number % 2:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        paths.append(folder / f"{number:06d}.jpg")
        image.save(paths[-1], quality=92)
    return paths


def matrix(path: Path, shape: tuple[int, int], row: Callable[[int], Pixels]) -> Mapped:
    """A memory-mapped matrix with those rows, opened for reading."""
    written = np.memmap(path, np.uint8, "w+", shape=shape)
    for number in range(shape[0]):
        written[number] = row(number).reshape(-1)
    written.flush()
    return np.memmap(path, np.uint8, "r", shape=shape)


def seconds(work: Callable[[], object]) -> float:
    """How long one call of `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(rows: Mapped, stats: RowStats, rounds: int) -> dict[str, list[float]]:
    """Seconds of a read pass, of each measure and of all four together, taken in turns; the first round is dropped."""
    times: dict[str, list[float]] = {"read": [], "all four": [], **{name: [] for name in NAMES}}
    words = rows.reshape(-1).view(np.uint64)
    for number in range(rounds + 1):
        query = np.array(rows[number % len(rows)])
        taken: dict[str, float] = {
            "read": seconds(partial(np.bitwise_xor.reduce, words)),
            "all four": seconds(partial(all_values, query, rows, NAMES, stats=stats)),
        }
        taken |= {name: seconds(partial(METRICS[name].values, query, rows, stats=stats)) for name in NAMES}
        if number:
            for name, value in taken.items():
                times[name].append(value)
    return times


def peak_megabytes(work: Callable[[], object]) -> float:
    """The most memory that `work` held at once, in MB; NumPy reports its arrays to tracemalloc."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def report(title: str, times: dict[str, list[float]], target: float) -> None:
    """Prints one table, and whether all four measures stay within `target` reads."""
    print(f"\n{title}\n\n| what | ms (median) | ms (best) | in reads |\n|---|---|---|---|")
    read = statistics.median(times["read"])
    for name, values in times.items():
        middle = statistics.median(values)
        print(f"| {name} | {middle * 1e3:.1f} | {min(values) * 1e3:.1f} | {middle / read:.1f} |")
    reached, best = statistics.median(times["all four"]) / read, min(times["all four"]) / min(times["read"])
    met = "met" if reached <= target else "missed"
    print(f"\nAll four in {reached:.1f} reads, {best:.1f} at the best of both; target {target:.0f} at most ({met}).")


def main() -> None:
    """Makes the data, runs both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of one's own photos")
    parser.add_argument("--images", type=int, default=360, help="how many photos (default 360)")
    parser.add_argument("--rounds", type=int, default=15, help="queries a figure (default 15)")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.data is None:
            paths = photos_made(folder, options.images)
        else:
            kinds = (".jpg", ".jpeg", ".png")
            paths = sorted(path for path in options.data.rglob("*") if path.suffix.lower() in kinds)[: options.images]
            if not paths:
                raise SystemExit(f"{options.data} holds no .jpg, .jpeg or .png file: name a folder of photos.")

        rows = matrix(folder / "448.u8", (len(paths), 448 * 448 * 3), lambda number: opened(paths[number], 448))
        start = time.perf_counter()
        stats = row_stats(rows)
        once = time.perf_counter() - start
        times = in_turns(rows, stats, options.rounds)
        report(f"{len(paths)} photos at 448 x 448 x 3 ({rows.nbytes / 1e6:.0f} MB)", times, 4)
        query = len(paths) // 2
        start = time.perf_counter()
        theirs = course_rankings(paths[query], paths, 448)
        course = time.perf_counter() - start
        ours = all_values(np.array(rows[query]), rows, NAMES, stats=stats)
        same = all(ranked(name, ours[name]) == theirs[name] for name in NAMES)
        faster = course / statistics.median(times["all four"])
        print(
            f"The course's four loops: {course:.1f} s for the same query, rankings {'equal' if same else 'NOT EQUAL'}; "
            f"{faster:.0f}x faster here, target 40x ({'met' if faster >= 40 else 'missed'}). "
            f"Row statistics, once a library: {once * 1e3:.0f} ms."
        )

        thumbnails = rows.reshape(len(paths), 448, 448, 3)[:, ::7, ::7]
        random = np.random.default_rng(0)
        shifts = random.integers(0, 64, (10_000, 2))
        rows = matrix(
            folder / "64.u8",
            (10_000, 64 * 64 * 3),
            lambda number: np.roll(thumbnails[number % len(paths)], tuple(shifts[number]), axis=(0, 1)),
        )
        stats = row_stats(rows)
        report(f"10,000 pictures at 64 x 64 x 3 ({rows.nbytes / 1e6:.0f} MB)", in_turns(rows, stats, options.rounds), 5)
        query_row = np.array(rows[0])
        peak = peak_megabytes(lambda: all_values(query_row, rows, NAMES, stats=stats))
        bare = peak_megabytes(lambda: all_values(query_row, rows, NAMES))
        met = "met" if max(peak, bare) <= 200 else "missed"
        print(
            f"Memory on top of the matrix: {peak:.1f} MB, {bare:.1f} MB without kept statistics; target 200 MB ({met})."
        )


if __name__ == "__main__":
    main()
