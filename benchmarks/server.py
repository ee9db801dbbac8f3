"""A library on a Chroma server beside the same one with an embedded Chroma, and what a second data folder costs.

    python benchmarks/server.py [--rows 5000]

Starts a `chroma run` of its own on loopback. Rows as benchmarks/scale.py makes them. Searches take turns between the two; medians
of 60. `found after` is the time from the end of a label's change on the one data folder to a search on the other that sees it.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scale import Encoder, write_source

from imgret_tools import Runtime, Settings
from imgret_tools.engine import runtime as runtimes
from imgret_tools.engine.labels import give_label
from imgret_tools.engine.query import Query
from imgret_tools.library.filters import parse_where
from imgret_tools.records import SearchKind

QUERIES = 60


def started(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A Chroma server, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    chroma = str(Path(sys.executable).parent / "chroma")
    command = [chroma, "run", "--host", "127.0.0.1", "--port", str(port), "--path", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    return server, f"http://127.0.0.1:{port}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=5_000)
    options = parser.parse_args()
    runtimes.make_encoder = lambda spec, **_: Encoder()  # type: ignore[assignment, return-value]
    runtimes.spec_of = lambda spec: spec  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as made:
        scratch = Path(made)
        write_source(scratch / "all", options.rows)
        server, url = started(scratch / "server")
        try:
            compare(scratch, url)
        finally:
            server.kill()
            server.wait()


def compare(scratch: Path, url: str) -> None:
    """Print each figure."""
    with (
        Runtime.open(Settings(data_dir=scratch / "embedded")) as embedded,
        Runtime.open(Settings(data_dir=scratch / "first", chroma_url=url)) as first,
        Runtime.open(Settings(data_dir=scratch / "second", chroma_url=url)) as second,
    ):
        for name, runtime in (("embedded", embedded), ("server", first)):
            begun = time.perf_counter()
            rows, table = scratch / "all" / "rows.npy", scratch / "all" / "meta.csv"
            runtime.import_rows(rows, table, library="big", encoder="made")
            with runtime.library("big").writing() as writer:
                if reason := writer.open_index("measuring"):
                    raise SystemExit(reason)
                writer.feed()
            print(f"import and Chroma, {name}: {time.perf_counter() - begun:.1f} s")
        begun = time.perf_counter()
        with second.view("big") as view:
            entries = view.entries(np.random.default_rng(3).permutation(view.numbers)[:QUERIES])
            count = len(view)
        took = time.perf_counter() - begun
        print(f"second data folder: {count} pictures taken over in {took:.1f} s ({count / took:.0f} a second)")
        kinds: tuple[tuple[SearchKind, str], ...] = (("hnsw", ""), ("auto", ""), ("auto", "label=tenth"))
        for search, where in kinds:
            times: dict[str, list[float]] = {}
            for entry in entries:
                for name, runtime in (("embedded", embedded), ("server", second)):
                    begun = time.perf_counter()
                    report = runtime.search(
                        Query(image=entry), library="big", search=search, where=parse_where(where or None), refine="off"
                    )
                    times.setdefault(name, []).append(1000 * (time.perf_counter() - begun))
                    if search == "hnsw" and report.search != "hnsw":
                        raise SystemExit(report.notice)
            here, there = (statistics.median(times[name]) for name in ("embedded", "server"))
            asked = f"{search} {where}".strip()
            print(f"{asked}: embedded {here:.1f} ms, server {there:.1f} ms, {there / here:.2f} times")
        waits = []
        for number in range(5):
            give_label(first, [entries[0].id], f"v{number}", library="big")
            begun = time.perf_counter()
            with second.view("big") as view:
                if view.entry(entries[0].id).label != f"v{number}":
                    raise SystemExit("the second data folder does not see the first one's change")
            waits.append(1000 * (time.perf_counter() - begun))
        print(f"found after {statistics.median(waits):.0f} ms")


if __name__ == "__main__":
    main()
