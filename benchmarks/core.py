"""What a library costs as it grows: open, filter, label by hand, scan, and a run over files that did not change.

    python benchmarks/core.py [--sizes 29 10000 100000 400000]

Libraries of rows around 200 random centres; the files of the unchanged run are links to one real picture, so that walking
and comparing are real and nothing has to be decoded. Prints one table; every figure is the median of several.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from imgret_tools.engine.search import nearest_rows
from imgret_tools.library.catalogue import Card
from imgret_tools.library.filters import parse_where
from imgret_tools.library.library import Library
from imgret_tools.library.writer import Picture
from imgret_tools.records import Entry

DIM = 512
FILTERS = {
    "label=": ("label=class 3", "label!=nothing"),
    "width>=": ("width>=5400", "width>=1"),
    "taken>=": ("taken>=2024-06", "taken>=1990"),
    "path~": ("path~album 0007", "path~album"),
}
RUN = """
import sys, time
from pathlib import Path
from imgret_tools.engine import indexing
from imgret_tools.library.library import Library
class Encoder:
    name, fingerprint, dim, side, translates = "none", "0", 512, 64, False
def memory(line):  # of this process alone: what getrusage calls the maximum begins with the parent's
    return next(int(row.split()[1]) for row in open("/proc/self/status") if row.startswith(line)) / 1024
library = Library(Path(sys.argv[1]))
len(library)
start = memory("VmRSS")
began = time.perf_counter()
report = indexing.index_folder(library, Encoder(), Path(sys.argv[2]))
assert report.unchanged == int(sys.argv[3]), report
print(memory("VmHWM") - start, time.perf_counter() - began)
"""


def milliseconds(work: Callable[[], object], runs: int = 7) -> float:
    """Median time of `work` in ms, after one call that is not counted."""
    work()
    found = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        found.append(1000 * (time.perf_counter() - started))
    return statistics.median(found)


def made(home: Path, photos: Path, count: int) -> Library:
    """A library of `count` pictures whose files exist."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(200, DIM)).astype(np.float32)
    library = Library.create(home, Card("bench", "none", "0", DIM, 8, folders=(str(photos),)))
    photos.mkdir()
    picture = photos.parent / "one.jpg"
    picture.write_bytes(b"x" * 1000)
    with library.writing() as writer:
        for start in range(0, count, 5000):
            number = min(5000, count - start)
            rows = centres[random.integers(0, 200, number)] + 0.7 * random.normal(size=(number, DIM)).astype(np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            pictures = []
            for n in range(start, start + number):
                path = photos / f"album {n // 1000:04}" / f"IMG_{n:07}.jpg"
                if n % 1000 == 0:
                    path.parent.mkdir()
                path.write_bytes(b"x")
                status = path.stat()
                pictures.append(
                    Picture(
                        Entry(
                            id=f"{n:012x}", path=str(path), folder=str(photos), label=f"class {n % 500}",
                            width=100 + n * 7919 % 5900, height=100, bytes=status.st_size, mtime=status.st_mtime_ns,
                            sha256=f"{n:064x}", taken=f"{2000 + n % 25}-{1 + n % 12:02}-05T10:00:00", camera="Canon",
                        ),
                        rows[n - start], None if n else np.zeros(8 * 8 * 3, np.uint8), status.st_ctime_ns,
                    )
                )  # fmt: skip
            writer.store(pictures)
        writer._connection.execute("UPDATE entries SET pixel = 0, fed = changed")
    return library


def measure(count: int) -> dict[str, float]:
    """All figures of one size."""
    with tempfile.TemporaryDirectory() as scratch:
        home, photos = Path(scratch) / "library", Path(scratch) / "photos"
        library = made(home, photos, count)

        def open_it() -> None:
            fresh = Library(home)
            with fresh.view() as view:
                view.entries(view.numbers[:5])
            fresh.close()

        found = {"open, ms": milliseconds(open_it)}

        def label() -> None:
            with library.writing("labelling") as writer:
                entry = writer.entry(f"{count // 2:012x}")
                assert entry is not None
                writer.describe([entry])

        found["label by hand, ms"] = milliseconds(label)
        with library.view() as view:
            for name, (few, all_) in FILTERS.items():
                found[f"{name} few, ms"] = milliseconds(lambda text=few: view.matching(parse_where(text)))  # type: ignore[misc]
                found[f"{name} all, ms"] = milliseconds(lambda text=all_: view.matching(parse_where(text)))  # type: ignore[misc]
            query = np.array(view.matrix[count // 3])
            matrix = np.array(view.matrix)
            product = milliseconds(lambda: matrix @ query)
            scan = milliseconds(lambda: nearest_rows(view, query, "cosine", None, 10))
            found |= {"one product, ms": product, "exact scan, ms": scan, "scan / product": scan / product}
        library.close()
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(home), str(photos), str(count)],
            check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        memory, seconds = map(float, done.stdout.split())
        return found | {"unchanged run, MB above start": memory, "unchanged run, s": seconds}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[29, 10_000, 100_000, 400_000])
    sizes = parser.parse_args().sizes
    figures = [measure(size) for size in sizes]
    print("| | " + " | ".join(f"{size:,}" for size in sizes) + " |")
    print("|---|" + "---|" * len(sizes))
    for name in figures[0]:
        print(f"| {name} | " + " | ".join(f"{found[name]:.3g}" for found in figures) + " |")


if __name__ == "__main__":
    main()
