"""What grows with a library: import, opening, exact, approximate and filtered search, an unchanged import, disk, memory.

    python benchmarks/scale.py [--sizes 10000,100000,1000000] [--plot scale.png]

Rows of 512 numbers made at random around 2,000 centres; each size in a process of its own, so that memory is its own.
Figures of one run compare with each other; those of a busy machine with nothing else.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

DIM, CENTRES, SPREAD, QUERIES, K = 512, 2_000, 0.8, 20, 10
FILTERS = {"10 %": "label=tenth", "1 %": "label=hundredth", ".1 %": "label=thousandth"}


class Encoder:
    """Stands for the one that made the rows; it encodes nothing that is measured."""

    name, fingerprint, dim, side, translates = "made", "0", DIM, 8, False

    def prepare(self, image: object) -> np.ndarray:
        """Nothing."""
        return np.zeros(1, np.float32)

    def encode_images(self, prepared: object) -> np.ndarray:
        """One unit row."""
        return np.full((1, DIM), DIM**-0.5, np.float32)


def write_source(folder: Path, count: int) -> None:
    """Rows and their table, into `folder`."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((CENTRES, DIM)).astype(np.float32)
    rows = np.lib.format.open_memmap(folder / "rows.npy", "w+", np.float32, (count, DIM))
    for start in range(0, count, 20_000):
        many = min(20_000, count - start)
        made = centres[random.integers(0, CENTRES, many)] + SPREAD * random.standard_normal((many, DIM), np.float32)
        rows[start : start + many] = made / np.linalg.norm(made, axis=1, keepdims=True)
    with (folder / "meta.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["path", "label", "width", "height", "taken"])
        for number in range(count):
            label = (
                "thousandth"
                if number % 1000 == 0
                else "hundredth"
                if number % 100 == 1
                else "tenth"
                if number % 10 == 2
                else "other"
            )
            lines.writerow(
                [f"/far/{number % 997}/{number}.jpg", label, 640, 480, f"20{number % 20 + 10}-06-15T10:00:00"]
            )


def seconds(call: Callable[[], object]) -> float:
    """How long `call` takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def measured(count: int) -> dict[str, float]:
    """The figures of one size, in this process."""
    from imgret_tools import Runtime, Settings
    from imgret_tools.engine import runtime
    from imgret_tools.engine.query import Query
    from imgret_tools.library.filters import parse_where

    runtime.make_encoder = lambda spec, **_: Encoder()  # type: ignore[assignment, return-value]
    runtime.spec_of = lambda spec: spec  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_source(folder, count)
        settings = Settings(data_dir=folder / "data")

        def take_in() -> None:
            with Runtime.open(settings) as opened:
                opened.import_rows(folder / "rows.npy", folder / "meta.csv", library="big", encoder="made")

        found = {"pictures": float(count), "import s": seconds(take_in), "import again s": seconds(take_in)}
        with Runtime.open(settings) as opened:
            with opened.view("big") as view:
                chosen = np.random.default_rng(3).permutation(view.numbers)[: QUERIES + 1]
                queries = [Query(image=entry) for entry in view.entries(chosen)]
        with Runtime.open(settings) as opened:
            first = queries.pop()
            found["first answer s"] = seconds(lambda: opened.search(first, library="big", k=K))

            def ask(search: str, where: str = "") -> tuple[float, list[set[str]]]:
                taken, hits = [], []
                for query in queries:
                    started = time.perf_counter()
                    report = opened.search(
                        query, library="big", k=K, search=search, where=parse_where(where or None), refine="off"
                    )  # type: ignore[arg-type]
                    taken.append(time.perf_counter() - started)
                    hits.append({hit.id for hit in report.hits})
                return statistics.median(taken), hits

            found["auto ms"], quick = ask("auto")
            found["exact ms"], exact = ask("exact")
            found |= {name: 1000 * found[name] for name in ("auto ms", "exact ms")}
            found["recall@10"] = statistics.fmean(len(a & b) / K for a, b in zip(quick, exact, strict=True))
            for name, where in FILTERS.items():
                taken, quick = ask("auto", where)
                _, exact = ask("exact", where)
                found[f"filter {name} ms"] = 1000 * taken
                found[f"filter {name} recall"] = statistics.fmean(
                    len(a & b) / max(len(b), 1) for a, b in zip(quick, exact, strict=True)
                )
            home = opened.library("big").home
        found["disk MB"] = sum(file.stat().st_size for file in home.rglob("*") if file.is_file()) / 1e6
        found["peak memory MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return found


def draw(rows: list[dict[str, float]], target: Path) -> None:
    """The figures over the size, as a PNG."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    names = [("import s", "import again s"), ("first answer s",), ("exact ms", "auto ms"), ("filter 10 % ms", "filter 1 % ms", "filter .1 % ms"), ("disk MB", "peak memory MB")]  # fmt: skip
    figure, axes = pyplot.subplots(1, len(names), figsize=(4 * len(names), 3.6), layout="constrained")
    for axis, group in zip(axes, names, strict=True):
        for name in group:
            axis.loglog([row["pictures"] for row in rows], [row[name] for row in rows], marker="o", label=name)
        axis.set_xlabel("pictures")
        axis.grid(visible=True, alpha=0.3)
        axis.legend(frameon=False)
    figure.savefig(target, dpi=110)


def main() -> None:
    """Measure each size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one)))
        return
    rows = []
    for size in options.sizes.split(","):
        done = subprocess.run([sys.executable, __file__, "--one", size], stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    print("| " + " | ".join(["", *(f"{row['pictures']:,.0f}" for row in rows)]) + " |")
    print("|---" * (len(rows) + 1) + "|")
    for name in list(rows[0])[1:]:
        print("| " + " | ".join([name, *(f"{row[name]:.4g}" for row in rows)]) + " |")
    if options.plot:
        draw(rows, options.plot)


if __name__ == "__main__":
    main()
