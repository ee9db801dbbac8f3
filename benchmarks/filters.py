"""How long filters take at 400,000 entries: `python benchmarks/filters.py [entries]`.

Prints, for each filter, how many entries it leaves and the best of five times in ms, on the wall and of the processor.
"""

from __future__ import annotations

import sqlite3
import sys
import time

from imgret_tools.library.catalogue import numbers_where
from imgret_tools.library.filters import fold, parse_where, where_sql

TENTH = ("label=label3", "width>=1540", "taken>=2024", "path~beach")
ALL = ("label!=none", "width>=1", "taken>=2000", "path~IMG")
INDEXED = ("label_key", "width", "taken", "path_key")


def catalogue(count: int) -> sqlite3.Connection:
    """A table as a library's catalogue keeps it, with the indexes that filters use."""
    connection = sqlite3.connect(":memory:")
    connection.execute(
        "CREATE TABLE entries (row INTEGER PRIMARY KEY, path TEXT, path_key TEXT, label TEXT, label_key TEXT, "
        "width INTEGER, taken TEXT, sha256 TEXT)"
    )
    for row in range(count):
        label = f"Label{row % 10}"
        part = "beach" if row % 10 == 3 else "city"
        path = f"/home/someone/Pictures/all of them/2024/{label}/{part}-IMG_{row:08d}.jpg"
        taken = f"{2015 + row % 10}-{1 + row % 12:02d}-{1 + row % 28:02d}T{row % 24:02d}:{row % 60:02d}:00"
        connection.execute(
            "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (row, path, fold(path), label, fold(label), 640 + 100 * (row % 10), taken, f"{row:064x}"),
        )
    for column in INDEXED:
        connection.execute(f"CREATE INDEX entries_{column} ON entries ({column})")
    connection.execute("ANALYZE")
    return connection


def main() -> None:
    """Measure and print."""
    connection = catalogue(int(sys.argv[1]) if len(sys.argv) > 1 else 400_000)
    for where in TENTH + ALL:
        conditions = parse_where(where)
        times = []
        for _ in range(5):
            wall, processor = time.perf_counter(), time.process_time()
            left = len(numbers_where(connection, *where_sql(conditions)))
            times.append((time.perf_counter() - wall, time.process_time() - processor))
        best = [1000 * min(column) for column in zip(*times, strict=True)]
        print(f"{where:14} {left:7} left {best[0]:7.1f} ms {best[1]:7.1f} ms of the processor")


if __name__ == "__main__":
    main()
