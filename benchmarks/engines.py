"""Engines for approximate search beside each other, on clustered rows or on a real encoder's: build, disk, time, recall.

    OMP_NUM_THREADS=1 python benchmarks/engines.py --clustered 100000
    OMP_NUM_THREADS=1 python benchmarks/engines.py --crops FOLDER --count 5000 [--encoder mini] [--keep rows.npy]
    OMP_NUM_THREADS=1 python benchmarks/engines.py --rows rows.npy [--multiply 20]

Needs `pip install usearch hnswlib` beside the package. Every engine gives 100 candidates, which are ranked exactly from the
float32 rows; recall@10 is against the exact scan, for 100 queries that are rows of the set themselves, left out of their own
answers. An engine looks twice as far (nprobe, ef) until it finds .99 or reaches its end; the last line of it is printed.
Chroma's own ef stays at its default, as the library uses it. One thread for everything, Chroma's graph apart (two).
Photos are cut into pieces at random, each a row: neighbours are other pieces of the same photo or of like ones. `--multiply`
puts further rows at random between each row and one of its ten neighbours: more rows where a real encoder puts them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DIM, CENTRES, SPREAD, QUERIES, K, CANDIDATES, WANTED = 512, 2_000, 0.8, 100, 10, 100, 0.99
_ADDED = 1_000

Rows = NDArray[np.float32]
Search = Callable[[Rows, int], NDArray[np.intp]]


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine with its rows in it.

    Attributes:
        search: row numbers near a query (dim,), at an effort.
        efforts: what it may be asked to look at, growing.
        build: seconds.
        disk: bytes.
    """

    search: Search
    efforts: tuple[int, ...]
    build: float
    disk: int


def clustered(count: int) -> Rows:
    """Unit rows (count, 512) around 2,000 centres."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((CENTRES, DIM)).astype(np.float32)
    rows = centres[random.integers(0, CENTRES, count)]
    for start in range(0, count, 20_000):
        part = rows[start : start + 20_000]
        part += SPREAD * random.standard_normal(part.shape, np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return rows


def cut(folder: Path, count: int, encoder: str) -> Rows:
    """Unit rows (count, dim) of pieces of the photos below a folder."""
    from imgret_tools.encoders import make_encoder

    made, random = make_encoder(encoder, fingerprint="", device="", cache=None), np.random.default_rng(0)
    photos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    rows: list[Rows] = []
    for number, path in enumerate(photos):
        many = count // len(photos) + (number < count % len(photos))
        with Image.open(path) as opened:
            photo, pieces = opened.convert("RGB"), []
        for _ in range(many):
            side = int(min(photo.size) * random.uniform(0.3, 0.9))
            left, top = (int(random.integers(0, length - side + 1)) for length in photo.size)
            pieces.append(made.prepare(photo.crop((left, top, left + side, top + side))))
        if pieces:
            rows.append(np.asarray(made.encode_images(pieces), np.float32))
        print(f"\r{number + 1} of {len(photos)} photos", end="", file=sys.stderr)
    return np.concatenate(rows)


def multiplied(rows: Rows, times: int) -> Rows:
    """Unit rows (n * times, dim): the rows (n, dim), and others between each and one of its ten neighbours."""
    random, made = np.random.default_rng(2), [rows]
    near = np.concatenate(
        [np.argpartition(-(rows[start : start + 500] @ rows.T), 11)[:, :11] for start in range(0, len(rows), 500)]
    )
    for _ in range(times - 1):
        other = rows[near[np.arange(len(rows)), random.integers(0, 11, len(rows))]]
        between = rows + random.uniform(0.1, 0.9, (len(rows), 1)).astype(np.float32) * (other - rows)
        made.append(between / np.linalg.norm(between, axis=1, keepdims=True))
    return np.ascontiguousarray(np.concatenate(made), np.float32)


def faiss_engine(rows: Rows, scratch: Path) -> Engine:
    """The library's own: an inverted file of about sqrt(n) lists, 8 bits a number."""
    import faiss

    lists = 2 ** round(np.log2(max(np.sqrt(len(rows)), 8)))
    started = time.perf_counter()
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(rows.shape[1]),
        rows.shape[1],
        lists,
        faiss.ScalarQuantizer.QT_8bit,
        faiss.METRIC_INNER_PRODUCT,
    )
    index.train(rows[np.random.default_rng(0).permutation(len(rows))[: 64 * lists]])
    index.add(rows)
    build = time.perf_counter() - started
    faiss.write_index(index, str(scratch / "faiss"))

    def search(query: Rows, effort: int) -> NDArray[np.intp]:
        found = index.search(query[None], CANDIDATES, params=faiss.SearchParametersIVF(nprobe=effort))[1][0]
        return np.asarray(found[found >= 0], np.intp)

    efforts = tuple(2**power for power in range(2, int(np.log2(lists)) + 1))
    return Engine(search, efforts, build, (scratch / "faiss").stat().st_size)


def usearch_engine(rows: Rows, scratch: Path) -> Engine:
    """A graph over 8-bit rows."""
    from usearch.index import Index

    index, started = Index(ndim=rows.shape[1], metric="ip", dtype="i8"), time.perf_counter()
    index.add(np.arange(len(rows)), rows, threads=1)
    build = time.perf_counter() - started
    index.save(str(scratch / "usearch"))

    def search(query: Rows, effort: int) -> NDArray[np.intp]:
        index.expansion_search = effort
        return np.asarray(index.search(query, CANDIDATES, threads=1).keys, np.intp)

    return Engine(search, (100, 200, 400, 800, 1600), build, (scratch / "usearch").stat().st_size)


def hnswlib_engine(rows: Rows, scratch: Path) -> Engine:
    """A graph over float32 rows."""
    import hnswlib

    index, started = hnswlib.Index(space="ip", dim=rows.shape[1]), time.perf_counter()
    index.init_index(max_elements=len(rows), ef_construction=100, M=16, random_seed=0)
    index.set_num_threads(1)
    index.add_items(rows, np.arange(len(rows)))
    build = time.perf_counter() - started
    index.save_index(str(scratch / "hnswlib"))

    def search(query: Rows, effort: int) -> NDArray[np.intp]:
        index.set_ef(effort)
        return np.asarray(index.knn_query(query[None], CANDIDATES)[0][0], np.intp)

    return Engine(search, (100, 200, 400, 800, 1600), build, (scratch / "hnswlib").stat().st_size)


def chroma_engine(rows: Rows, scratch: Path) -> Engine:
    """Chroma's own graph, in one collection, as it comes."""
    import chromadb

    client: Any = chromadb.PersistentClient(
        str(scratch / "chroma"), chromadb.config.Settings(anonymized_telemetry=False)
    )
    collection = client.create_collection("rows", configuration={"hnsw": {"space": "ip"}}, embedding_function=None)
    started = time.perf_counter()
    for start in range(0, len(rows), _ADDED):
        part = rows[start : start + _ADDED]
        collection.add(ids=[str(start + place) for place in range(len(part))], embeddings=part)
    build = time.perf_counter() - started

    def search(query: Rows, effort: int) -> NDArray[np.intp]:
        found = collection.query(query_embeddings=[query.tolist()], n_results=effort, include=[])
        return np.array([int(id_) for id_ in found["ids"][0]], np.intp)

    size = sum(file.stat().st_size for file in (scratch / "chroma").rglob("*") if file.is_file())
    return Engine(search, (CANDIDATES,), build, size)


ENGINES = {
    "faiss IVF SQ8": faiss_engine,
    "usearch i8": usearch_engine,
    "hnswlib float32": hnswlib_engine,
    "Chroma's HNSW": chroma_engine,
}


def best(rows: Rows, query: int, among: NDArray[np.intp] | None) -> NDArray[np.intp]:
    """The `K` best row numbers for a row, itself left out: of all rows, or of `among`."""
    scores = rows @ rows[query] if among is None else rows[among] @ rows[query]
    numbers = np.arange(len(rows)) if among is None else among
    near = np.argpartition(-scores, min(K, len(scores) - 1))[: K + 1]
    ordered = numbers[near[np.argsort(-scores[near])]]
    return ordered[ordered != query][:K]


def timed(call: Callable[[int], NDArray[np.intp]], queries: NDArray[np.intp]) -> tuple[float, list[NDArray[np.intp]]]:
    """Median seconds of a query, and what each found."""
    taken, found = [], []
    for query in queries:
        started = time.perf_counter()
        found.append(call(int(query)))
        taken.append(time.perf_counter() - started)
    return statistics.median(taken), found


def measured(rows: Rows, names: list[str]) -> Iterator[list[str]]:
    """Lines of the table: engine, build, disk, effort, ms a query, times the exact scan, recall@10."""
    queries = np.random.default_rng(1).permutation(len(rows))[:QUERIES]
    exact, truth = timed(lambda query: best(rows, query, None), queries)
    yield ["exact float32 scan", "", f"{rows.nbytes / 1e6:.0f}", "", f"{1000 * exact:.2f}", "1", "1.000"]
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            engine = ENGINES[name](rows, Path(scratch))
            for effort in engine.efforts:

                def ask(query: int, engine: Engine = engine, effort: int = effort) -> NDArray[np.intp]:
                    return best(rows, query, engine.search(rows[query], effort))

                took, found = timed(ask, queries)
                recall = statistics.fmean(len(np.intersect1d(a, b)) / K for a, b in zip(found, truth, strict=True))
                if recall >= WANTED:
                    break
            yield [
                name,
                f"{engine.build:.0f}",
                f"{engine.disk / 1e6:.0f}",
                str(effort),
                f"{1000 * took:.2f}",
                f"{exact / took:.0f}",
                f"{recall:.3f}",
            ]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clustered", type=int, metavar="COUNT")
    parser.add_argument("--crops", type=Path, metavar="FOLDER")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--keep", type=Path, help="write the rows that were made there")
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--multiply", type=int, default=1, metavar="TIMES")
    parser.add_argument("--engines", default=",".join(ENGINES))
    options = parser.parse_args()
    if options.clustered:
        rows = clustered(options.clustered)
    elif options.crops:
        rows = cut(options.crops, options.count, options.encoder)
    elif options.rows:
        rows = np.ascontiguousarray(np.load(options.rows), np.float32)
    else:
        parser.error("one of --clustered, --crops and --rows is needed")
    if options.keep:
        np.save(options.keep, rows)
    if options.multiply > 1:
        rows = multiplied(rows, options.multiply)
    print(f"{len(rows):,} rows of {rows.shape[1]}")
    print("| engine | build s | disk MB | effort | ms | times exact | recall@10 |\n|---|---|---|---|---|---|---|")
    for line in measured(rows, options.engines.split(",")):
        print("| " + " | ".join(line) + " |", flush=True)


if __name__ == "__main__":
    main()
