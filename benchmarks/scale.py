"""What grows with a library: import, opening, exact, approximate and filtered search, incremental runs, disk, memory.

    OMP_NUM_THREADS=1 python benchmarks/scale.py [--sizes 10000,100000,1000000] [--plot docs/scale.svg]

Rows of 512 numbers made at random around 2,000 centres. Each step is a process of its own, so that memory is its own and
nothing is loaded before: `first answer` counts from the start of Python, its modules included. A step's wall time says something
on a quiet machine only; beside it stands the processor time. Searches take turns (indexed, exact, filtered, filtered
exactly), so that their ratios hold on a busy machine too; medians of 20. Memory is the peak of what is resident, mapped
files included: after the indexed searches alone, and after scans of all rows too.
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
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from imgret_tools import Runtime
    from imgret_tools.records import SearchKind

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


def write_source(folder: Path, count: int, *, first: int = 0) -> None:
    """Rows and their table, into `folder`; they are numbered from `first` on."""
    folder.mkdir(exist_ok=True)
    centres = np.random.default_rng(0).standard_normal((CENTRES, DIM)).astype(np.float32)
    random = np.random.default_rng(1 + first)
    rows = np.lib.format.open_memmap(folder / "rows.npy", "w+", np.float32, (count, DIM))
    for start in range(0, count, 20_000):
        many = min(20_000, count - start)
        made = centres[random.integers(0, CENTRES, many)] + SPREAD * random.standard_normal((many, DIM), np.float32)
        rows[start : start + many] = made / np.linalg.norm(made, axis=1, keepdims=True)
    with (folder / "meta.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["path", "label", "width", "height", "taken"])
        for number in range(first, first + count):
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


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """How long `call` takes, and how much processor time."""
    started, worked = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - started, time.process_time() - worked


def peak() -> float:
    """The most that this process had in memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def take_in(folder: Path, source: str) -> dict[str, float]:
    """Import rows and their table into the library of `folder`."""
    with opened(folder) as runtime:
        took, worked = seconds(
            lambda: runtime.import_rows(
                folder / source / "rows.npy", folder / source / "meta.csv", library="big", encoder="made"
            )
        )
    return {"s": took, "processor s": worked, "peak MB": peak()}


def opened(folder: Path) -> Runtime:
    """A runtime over the library of `folder`."""
    from imgret_tools import Runtime, Settings
    from imgret_tools.engine import runtime

    runtime.make_encoder = lambda spec, **_: Encoder()  # type: ignore[assignment, return-value]
    runtime.spec_of = lambda spec: spec  # type: ignore[assignment]
    return Runtime.open(Settings(data_dir=folder / "data"))


def searches(folder: Path, began: float) -> dict[str, float]:
    """Times and recall of searches in the library of `folder`."""
    from imgret_tools.engine.query import Query
    from imgret_tools.library.filters import parse_where

    with opened(folder) as runtime:
        with runtime.view("big") as view:
            queries = [Query(image=view.entry(view.ids([0])[0]))]
        runtime.search(queries[0], library="big", k=K)
        found = {"first answer s": time.time() - began}
        with runtime.view("big") as view:
            chosen = np.random.default_rng(3).permutation(view.numbers)[:QUERIES]
            queries = [Query(image=entry) for entry in view.entries(chosen)]

        def ask(query: Query, search: SearchKind, where: str) -> tuple[float, set[str]]:
            started = time.perf_counter()
            report = runtime.search(
                query, library="big", k=K, search=search, where=parse_where(where or None), refine="off"
            )
            return 1000 * (time.perf_counter() - started), {hit.id for hit in report.hits}

        for query in queries:
            ask(query, "auto", "")
        found["memory indexed MB"] = peak()
        times: dict[str, list[float]] = {}
        recall: dict[str, list[float]] = {}
        for query in queries:
            for name, where in {"": "", **FILTERS}.items():
                took, quick = ask(query, "auto", where)
                scanned, exact = ask(query, "exact", where)
                times.setdefault(f"filter {name} ms" if name else "auto ms", []).append(took)
                times.setdefault(f"filter {name} exact ms" if name else "exact ms", []).append(scanned)
                recall.setdefault(f"filter {name} recall@10" if name else "recall@10", []).append(
                    len(quick & exact) / max(len(exact), 1)
                )
        found |= {name: statistics.median(taken) for name, taken in times.items()}
        found |= {name: statistics.fmean(shares) for name, shares in recall.items()}
        found["times faster"] = found["exact ms"] / found["auto ms"]
        found["memory scanned MB"] = peak()
        home = runtime.library("big").home
    found["disk MB"] = sum(file.stat().st_size for file in home.rglob("*") if file.is_file()) / 1e6
    return found


def apart(step: str, folder: Path, *more: str) -> dict[str, float]:
    """What a step finds in a process of its own."""
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder), *more]
    done = subprocess.run([*command, "--began", str(time.time())], stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measured(count: int, scratch: Path | None) -> dict[str, float]:
    """The figures of one size."""
    with tempfile.TemporaryDirectory(dir=scratch) as made:
        folder = Path(made)
        write_source(folder / "all", count)
        write_source(folder / "new", max(count // 100, 1), first=count)
        found = {"pictures": float(count), "rows MB": count * DIM * 4 / 1e6}
        found |= {f"import {name}": value for name, value in apart("import", folder, "--source", "all").items()}
        found |= apart("search", folder)
        for name, source in {"unchanged": "all", "1 % more": "new"}.items():
            taken = apart("import", folder, "--source", source)
            found |= {f"{name} s": taken["s"], f"{name} processor s": taken["processor s"]}
    return found


PANELS = {
    "search, ms": ("exact ms", "auto ms"),
    "filtered search, ms": ("filter 10 % ms", "filter 1 % ms", "filter .1 % ms"),
    "open to first answer, s": ("first answer s",),
    "runs, processor s": ("import processor s", "unchanged processor s", "1 % more processor s"),
    "disk and memory, MB": ("rows MB", "disk MB", "memory indexed MB", "memory scanned MB"),
}


def draw(rows: list[dict[str, float]], target: Path) -> None:
    """The figures over the size, as SVG or PNG by the ending of `target`."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.fonttype"] = "none"
    matplotlib.rcParams["svg.hashsalt"] = "scale"
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(3.4 * len(PANELS), 3.2), layout="constrained")
    for axis, (title, names) in zip(axes, PANELS.items(), strict=True):
        for name in names:
            label = name.removesuffix(" ms").removesuffix(" MB").removesuffix(" s").removesuffix(" processor")
            axis.loglog([row["pictures"] for row in rows], [row[name] for row in rows], marker="o", label=label)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("pictures")
        axis.minorticks_off()
        axis.set_xticks([row["pictures"] for row in rows])
        axis.grid(visible=True, alpha=0.3)
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(target, dpi=90, metadata={"Date": None} if target.suffix == ".svg" else None)


def main() -> None:
    """Measure each size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--scratch", type=Path, help="where the libraries are made; a million takes 6 GB")
    parser.add_argument("--keep", type=Path, help="a JSON file that figures are added to, and read from, size by size")
    parser.add_argument("--step", choices=["import", "search"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--source", help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step = (
            take_in(options.folder, options.source)
            if options.step == "import"
            else searches(options.folder, options.began)
        )
        print(json.dumps(step))
        return
    known = json.loads(options.keep.read_text()) if options.keep and options.keep.exists() else {}
    for size in filter(None, options.sizes.split(",")):
        known[size] = measured(int(size), options.scratch)
        if options.keep:
            options.keep.write_text(json.dumps(known))
    rows = [known[size] for size in sorted(known, key=int)]
    print("| " + " | ".join(["", *(f"{row['pictures']:,.0f}" for row in rows)]) + " |")
    print("|---" * (len(rows) + 1) + "|")
    for name in list(rows[0])[1:]:
        print("| " + " | ".join([name, *(f"{row[name]:.4g}" for row in rows)]) + " |")
    if options.plot:
        draw(rows, options.plot)


if __name__ == "__main__":
    main()
