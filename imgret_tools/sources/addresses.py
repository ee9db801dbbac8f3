"""A list of addresses: a .csv or .parquet with a column `url`, or a .txt with an address a line, here or afar.

Columns `id` (or `key`), `label` (or `class`) and `caption` (or `text`) are carried along. Each address is asked for its change mark
(HEAD: etag, time of change, size) and read only when that is another one than before. Web addresses on another host than the list's
own are asked on public machines only.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast
from urllib.parse import urlsplit

from imgret_tools.errors import BadInput, ImgretError, Message, NotFound, own_words
from imgret_tools.pictures.find import PassedOver, patterns
from imgret_tools.records import quoted
from imgret_tools.sources import remote
from imgret_tools.sources.source import OWN_SCHEMES, UNKNOWN, Listed, excluded, inner, is_address, mark_of

_URL = ("url", "URL", "image_url", "image")
_COLUMNS = {
    "key": ("id", "key", "image_id"),
    "label": ("label", "class", "category"),
    "caption": ("caption", "text", "TEXT"),
}
"""What is taken of a table, and the names under which it may stand."""
_ROWS = 2000


@dataclass(frozen=True, slots=True)
class Addresses:
    """The pictures that a list names."""

    root: str
    holds: bool = False

    def listed(self, *, leave_out: Collection[Path], exclude: Sequence[str]) -> Iterator[Listed | PassedOver]:
        """Every address of the list, asked for its change mark."""
        spec = patterns(exclude) if exclude else None

        def entries() -> Iterator[Listed | PassedOver]:
            for row in _rows(inner(self.root)):
                address = _text(row, _URL)
                carried = {name: _text(row, columns) for name, columns in _COLUMNS.items()}
                if not address:
                    continue
                if not is_address(address) or address.startswith((*OWN_SCHEMES, "file:", "local:")):
                    reason = Message(
                        "no address: a list names https://, s3:// and the like, and no files of this machine"
                    )
                    yield PassedOver(address, reason, kind="no address")
                elif spec is not None and spec.match_file(address.partition("://")[2]):
                    yield excluded(address)
                else:
                    yield Listed(
                        address,
                        UNKNOWN,
                        0,
                        mark_of(*carried.values()),
                        label=carried["label"],
                        key=carried["key"],
                        caption=carried["caption"] or None,
                    )

        yield from remote.asked(entries(), guarded=self._leads_away)

    def content(self, path: str, *, size: int = UNKNOWN, place: str = "") -> Path | bytes:
        """The bytes at the address."""
        return remote.read(path, size=size, guarded=self._leads_away(path))

    def _leads_away(self, address: str) -> bool:
        """Whether an address is of another host than the list: who wrote it may not send us into a private network."""
        return urlsplit(address).netloc != urlsplit(inner(self.root)).netloc


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    if is_address(name):
        system, inside = remote.opened(name)
        remote.facts_of(name)  # says what is wrong, if something is
        with system.open(inside, "rb") as file:
            yield cast(IO[bytes], file)
        return
    if not Path(name).is_file():
        raise NotFound("There is no list at {name}; give a .csv, .parquet or .txt of addresses.", name=quoted(name))
    with Path(name).open("rb") as file:
        yield file


def _rows(name: str) -> Iterator[Mapping[str, object]]:
    """The lines of a list, a block at a time in memory."""
    try:
        with _opened(name) as file:
            if name.endswith(".parquet"):
                from pyarrow import parquet

                table = parquet.ParquetFile(file)
                columns = table.schema_arrow.names
                _require(columns, name)
                wanted = [*_URL, *(one for names in _COLUMNS.values() for one in names)]
                for batch in table.iter_batches(_ROWS, columns=[one for one in columns if one in wanted]):
                    yield from batch.to_pylist()
                return
            text = io.TextIOWrapper(file, "utf-8-sig", newline="")
            if name.endswith(".csv"):
                lines = csv.DictReader(text)
                _require(lines.fieldnames or (), name)
                yield from lines
            else:
                for line in text:
                    if line.strip() and not line.startswith("#"):
                        yield {"url": line.strip()}
            text.detach()
    except ImgretError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise BadInput(
            "The list {name} cannot be read ({reason}); give a .csv or .parquet with a column url, or a .txt with an address a line.",
            name=quoted(name),
            reason=own_words(error),
        ) from error


def _require(columns: Sequence[str], name: str) -> None:
    if not any(one in columns for one in _URL):
        raise BadInput(
            "The list {name} has no column url (it has {columns}); name the column of addresses url.",
            name=quoted(name),
            columns=", ".join(map(repr, columns[:20])) or "none",
        )


def _text(row: Mapping[str, object], columns: Sequence[str]) -> str:
    value = next((row[one] for one in columns if row.get(one) is not None), "")
    return str(value).strip().replace("\0", "") if value == value else ""
