"""Rows and their table as other programs write them: read a block at a time, and written the same way.

    ROWS.npy and META.csv or META.parquet   (n, dim) numbers, and a line for each row
    a folder of clip-retrieval's            img_emb/img_emb_0.npy, ... and metadata/metadata_0.parquet, ...

Columns go by their usual names (`COLUMNS`); what a table has beyond them is passed over. Only a path is needed.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from imgret_tools.errors import BadInput, NotFound, own_words
from imgret_tools.files import atomic_write
from imgret_tools.records import Scalar

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet  # type: ignore[import-untyped]

COLUMNS: dict[str, tuple[str, ...]] = {
    "path": ("path", "image_path", "filepath", "file_path", "filename", "file_name", "file", "url"),
    "id": ("id",),
    "folder": ("folder",),
    "label": ("label", "class", "category"),
    "width": ("width",),
    "height": ("height",),
    "bytes": ("bytes", "size"),
    "mtime": ("mtime",),
    "sha256": ("sha256",),
    "taken": ("taken", "date", "datetime"),
    "camera": ("camera",),
    "latitude": ("latitude", "lat"),
    "longitude": ("longitude", "lon", "lng"),
    "rating": ("rating",),
    "keywords": ("keywords",),
    "caption": ("caption", "text"),
    "label_by_user": ("label_by_user",),
}
"""The fields of an entry, and the columns they are read from, the first that is there."""

BLOCK = 10_000
"""Rows read, checked and stored at a time."""
Line = dict[str, Scalar]
"""One row of a table: field -> value, as it stands there (text, of a CSV)."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows: those from number `start` on, (m, dim) as they lie on disk, and their lines (m)."""

    start: int
    rows: NDArray[np.generic]
    lines: list[Line]


@dataclass(frozen=True, slots=True)
class _Part:
    rows: Path
    table: Path
    matrix: NDArray[np.generic]
    start: int


class Tables:
    """Rows with a line each, in one or more pairs of files.

    Attributes:
        count: how many rows there are.
        dim: their width.
        home: the folder of the first table; relative paths start there.
    """

    def __init__(self, rows: Path, table: Path | None = None) -> None:
        """Find the files, look at their shapes and count the lines; no row is read yet.

        Args:
            rows: a .npy file, or a folder of clip-retrieval's.
            table: the .csv or .parquet file of `rows`; of a folder None.

        Raises:
            NotFound: a file is not there.
            BadInput: not of these kinds, shapes that do not fit each other, or a table without paths.
        """
        self._parts: list[_Part] = []
        self.count = 0
        for one, other in _pairs(rows, table):
            self._parts.append(_Part(one, other, _open_rows(one), self.count))
            self.count += len(self._parts[-1].matrix)
        widths = {part.matrix.shape[1]: part for part in self._parts}
        if len(widths) > 1:
            named = ", ".join(f"{part.rows.name} {width}" for width, part in widths.items())
            raise BadInput(f"Rows of several widths ({named}); import what one encoder made at a time.")
        (self.dim,) = widths
        self.home = self._parts[0].table.resolve().parent
        for part in self._parts:
            if (lines := _count(part.table)) != len(part.matrix):
                raise BadInput(
                    f"{part.table.name} has {lines} lines for the {len(part.matrix)} rows of {part.rows.name}; give the table "
                    "that was written with them, a line a row."
                )

    def blocks(self) -> Iterator[Block]:
        """The rows in their order with their lines, `BLOCK` at a time."""
        start = 0
        for part in self._parts:
            for lines in _lines(part.table):
                place = start
                start += len(lines)
                yield Block(place, part.matrix[place - part.start : start - part.start], lines)


def _pairs(rows: Path, table: Path | None) -> list[tuple[Path, Path]]:
    if not rows.exists():
        raise NotFound(
            f"There is no file {rows}; give the .npy file of the rows, or a folder that clip-retrieval wrote."
        )
    if table is not None:
        if not table.is_file():
            raise NotFound(f"There is no file {table}; give the .csv or .parquet file that has a line for each row.")
        return [(rows, table)]
    if rows.is_file():
        raise BadInput(f"{rows.name} needs the .csv or .parquet file that says whose rows they are, behind it.")
    found = sorted(rows.glob("img_emb/img_emb_*.npy"), key=lambda file: _number(file.stem))
    pairs = [(file, rows / "metadata" / f"metadata_{_number(file.stem)[1]}.parquet") for file in found]
    if not pairs:
        inside = "holds a data set of img2dataset's without rows: `imgret index` it, or let clip-retrieval encode it"
        reason = inside if any(rows.glob("*_stats.json")) else "has no img_emb/img_emb_*.npy"
        raise BadInput(f"{rows} {reason}; to import are a .npy and its table, or a folder that clip-retrieval wrote.")
    if lacking := [other for _, other in pairs if not other.is_file()]:
        raise NotFound(f"There is no file {lacking[0]}; clip-retrieval writes it with --enable_metadata or by itself.")
    return pairs


def _number(stem: str) -> tuple[int, str]:
    digits = stem.rpartition("_")[2]
    return (int(digits) if digits.isdigit() else -1), digits


def _open_rows(path: Path) -> NDArray[np.generic]:
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"{path.name} is no array of NumPy's ({own_words(error)}); write it with numpy.save.") from error
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or matrix.dtype.kind != "f" or not all(matrix.shape):
        found = f"{matrix.dtype} of shape {matrix.shape}" if isinstance(matrix, np.ndarray) else "an archive"
        raise BadInput(f"{path.name} holds {found}; expected float rows of shape (n, dim), at least one.")
    return matrix


# Tables


def _lines(table: Path) -> Iterator[list[Line]]:
    if table.suffix.lower() == ".csv":
        return _csv_lines(table)
    if table.suffix.lower() in (".parquet", ".pq"):
        return _parquet_lines(table)
    raise BadInput(f"{table.name} is neither .csv nor .parquet; write the table as one of them.")


def _count(table: Path) -> int:
    """How many lines a table has below its head."""
    if table.suffix.lower() in (".parquet", ".pq"):
        with _parquet(table) as file:
            _chosen(table, file.schema_arrow.names)
            return int(file.metadata.num_rows)
    return sum(map(len, _lines(table)))


def _chosen(table: Path, columns: Sequence[str]) -> dict[str, str]:
    """Which column each field is read from."""
    there = {name.strip().casefold(): name for name in reversed(columns)}
    found = {field: there[name] for field, names in COLUMNS.items() for name in reversed(names) if name in there}
    if "path" not in found:
        named = ", ".join(columns[:12]) or "none"
        raise BadInput(
            f"{table.name} has no column of paths (it has {named}); name one of its columns {', '.join(COLUMNS['path'][:2])} "
            "or url."
        )
    return found


def _csv_lines(table: Path) -> Iterator[list[Line]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            header = next(lines, [])
            chosen = [(field, header.index(column)) for field, column in _chosen(table, header).items()]
            block: list[Line] = []
            for line in lines:
                if not line:
                    continue
                if len(line) < len(header):
                    raise BadInput(
                        f"{table.name}, line {lines.line_num}: {len(line)} values where the head names {len(header)}; mend it."
                    )
                block.append({field: line[place] for field, place in chosen})
                if len(block) == BLOCK:
                    yield block
                    block = []
            if block:
                yield block
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{table.name} is no CSV in UTF-8 ({own_words(error)}); write it anew as such.") from error


@contextmanager
def _parquet(table: Path) -> Iterator[parquet.ParquetFile]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(table, memory_map=True) as file:
            yield file
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInput(f"{table.name} cannot be read as Parquet ({own_words(error)}); write it anew.") from error


def _parquet_lines(table: Path) -> Iterator[list[Line]]:
    with _parquet(table) as file:
        chosen = _chosen(table, file.schema_arrow.names)
        for batch in file.iter_batches(BLOCK, columns=list(dict.fromkeys(chosen.values()))):
            columns = {field: batch.column(name).to_pylist() for field, name in chosen.items()}
            yield [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


# Writing


class RowsWriter:
    """Writes n rows (n, dim) float32 into a .npy file, a block after another."""

    def __init__(self, file: object, count: int, dim: int) -> None:
        self._file = file
        np.lib.format.write_array_header_1_0(
            file,  # type: ignore[arg-type]
            {"descr": "<f4", "fortran_order": False, "shape": (count, dim)},
        )

    def write(self, rows: NDArray[np.float32]) -> None:
        """The next rows (m, dim)."""
        self._file.write(np.ascontiguousarray(rows, "<f4").tobytes())  # type: ignore[attr-defined]


@contextmanager
def written(path: Path, count: int, dim: int) -> Iterator[RowsWriter]:
    """A .npy file for `count` rows; it is there when all of them are written, and else not."""
    with _said(path), atomic_write(path) as file:
        yield RowsWriter(file, count, dim)


class TableWriter:
    """Writes lines into a CSV or Parquet file, a block after another."""

    def __init__(self, file: object, fields: Sequence[str], *, as_csv: bool) -> None:
        self._file, self._fields, self._as_csv = file, fields, as_csv
        self._parquet: object = None
        if as_csv:
            self._write_csv([list(fields)])

    def write(self, lines: Sequence[Line]) -> None:
        """The next lines."""
        if self._as_csv:
            self._write_csv(
                [["" if (found := line[name]) is None else found for name in self._fields] for line in lines]
            )
            return
        import pyarrow
        from pyarrow import parquet

        schema = pyarrow.schema([(name, _arrow_type(name)) for name in self._fields])
        if self._parquet is None:
            self._parquet = parquet.ParquetWriter(self._file, schema)
        columns = {name: [line[name] for line in lines] for name in self._fields}
        self._parquet.write_table(pyarrow.table(columns, schema))  # type: ignore[attr-defined]

    def close(self) -> None:
        """Write the end."""
        if not self._as_csv:
            if self._parquet is None:
                self.write([])
            self._parquet.close()  # type: ignore[attr-defined]

    def _write_csv(self, lines: Sequence[Sequence[Scalar]]) -> None:
        text = io.StringIO()
        csv.writer(text).writerows(lines)
        self._file.write(text.getvalue().encode("utf-8", "surrogateescape"))  # type: ignore[attr-defined]


def _arrow_type(field: str) -> pyarrow.DataType:
    import pyarrow

    whole, flags, numbers = (
        ("width", "height", "bytes", "mtime", "rating"),
        ("label_by_user",),
        ("latitude", "longitude"),
    )
    if field in whole:
        return pyarrow.int64()
    return pyarrow.float64() if field in numbers else pyarrow.bool_() if field in flags else pyarrow.string()


@contextmanager
def table_written(path: Path, fields: Sequence[str]) -> Iterator[TableWriter]:
    """A .csv or .parquet file of these columns; it is there when the block ends well, and else not.

    Raises:
        BadInput: another ending, or it cannot be written.
    """
    ending = path.suffix.lower()
    if ending not in (".csv", ".parquet", ".pq"):
        raise BadInput(f"{path.name} is neither .csv nor .parquet; give the table one of these endings.")
    with _said(path), atomic_write(path) as file:
        writer = TableWriter(file, fields, as_csv=ending == ".csv")
        yield writer
        writer.close()


@contextmanager
def _said(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(f"Cannot write {path} ({own_words(error)}); give a file in a folder that is there.") from error


# Values


_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")


def whole(value: Scalar, field: str) -> int | None:
    """`value` as a whole number, None where there is none.

    Raises:
        BadInput: it is no whole number.
    """
    if value is None or value == "" or value != value:
        return None
    if isinstance(value, str) and not _WHOLE.fullmatch(value.strip()):
        raise BadInput(f"{field} {value[:40]!r} is no whole number")
    with suppress(ValueError, OverflowError):
        number = int(value) if not isinstance(value, str) else int(value.strip().partition(".")[0])
        if -(2**63) <= number < 2**63 and (isinstance(value, str) or number == value):
            return number
    raise BadInput(f"{field} {str(value)[:40]!r} is no whole number")


def real(value: Scalar, field: str) -> float | None:
    """`value` as a finite number, None where there is none.

    Raises:
        BadInput: it is no number.
    """
    if value is None or value == "" or value != value:
        return None
    with suppress(ValueError):
        number = float(cast("str | float", value))
        if np.isfinite(number):
            return number
    raise BadInput(f"{field} {str(value)[:40]!r} is no number")
