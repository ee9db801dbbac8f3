"""A data set of the library `datasets`: a folder that it wrote, or a name that it loads, with a column of pictures.

Every row of every split is an entry, `datasets:NAME/SPLIT/ROW`. The first column of pictures counts; labels are the first column of classes, or
`label`; `caption` (or `text`) and `id` (or `image_id`, `key`) are carried along.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from imgret_tools.errors import BadInput, ImageError, ImgretError, own_words
from imgret_tools.extras import needs
from imgret_tools.pictures.find import PassedOver, patterns
from imgret_tools.records import quoted
from imgret_tools.sources.source import UNKNOWN, Listed, excluded, inner, is_data_set, mark_of, separator


@dataclass(frozen=True, slots=True)
class Rows:
    """The pictures of a data set."""

    root: str
    holds: bool = True

    def listed(self, *, leave_out: Collection[Path], exclude: Sequence[str]) -> Iterator[Listed | PassedOver]:
        """Every row; no picture is read."""
        spec = patterns(exclude) if exclude else None
        _splits.cache_clear()  # what was written anew since is read anew
        mark = separator(self.root)
        for split, (rows, columns, fingerprint) in _splits(inner(self.root)).items():
            names = [name for name in (columns.label, columns.caption, columns.key) if name]
            beside = rows.select_columns(names) if names else None
            for number in range(len(rows)):
                path = f"{self.root}{mark}{split}{mark}{number}"
                if spec is not None and spec.match_file(f"{split}/{number}"):
                    yield excluded(path)
                    continue
                facts = beside[number] if beside is not None else {}
                label = columns.named(facts.get(columns.label))
                caption, key = (facts.get(name) for name in (columns.caption, columns.key))
                yield Listed(
                    path,
                    UNKNOWN,
                    0,
                    mark_of(fingerprint, number, label, caption, key),
                    f"{split}/{number}",
                    label,
                    "" if key is None else str(key),
                    None if caption is None else str(caption),
                )

    def content(self, path: str, *, size: int = UNKNOWN, place: str = "") -> Path | bytes:
        """The picture of a row, as it was written."""
        split, _, number = (place or path[len(self.root) :].strip(f"/{os.sep}").replace(os.sep, "/")).rpartition("/")
        try:
            rows, columns, _fingerprint = _splits(inner(self.root))[split]
            found = rows[int(number)][columns.picture]
        except (LookupError, ValueError) as error:
            raise ImageError("it is not in its data set any more") from error
        if not isinstance(found, Mapping):
            raise ImageError("its row holds no picture")
        if found.get("bytes"):
            return bytes(found["bytes"])
        return Path(str(found.get("path") or ""))


@dataclass(frozen=True, slots=True)
class _Columns:
    """Names of the columns that are read, "" for none; `classes` are the names of label numbers."""

    picture: str
    label: str
    caption: str
    key: str
    classes: tuple[str, ...]

    def named(self, label: object) -> str:
        """A label as text."""
        if self.classes and isinstance(label, int):
            return self.classes[label] if 0 <= label < len(self.classes) else ""
        return "" if label is None else str(label)


@lru_cache(maxsize=2)
def _splits(name: str) -> dict[str, tuple[Any, _Columns, str]]:
    """The splits of a data set, each with its columns and the fingerprint of its content."""
    with needs("remote"):
        import datasets
    try:
        # No revision is pinned: the owner names the data set, and a later one has another fingerprint.
        load = datasets.load_from_disk if is_data_set(Path(name)) else datasets.load_dataset
        found = load(name)
        splits = found if isinstance(found, datasets.DatasetDict) else {"all": found}
        return {split: _prepared(rows, name) for split, rows in splits.items()}
    except ImgretError:
        raise
    except Exception as error:  # of files, formats, the hub and its network
        raise BadInput(
            "The data set {name} cannot be loaded ({reason}); give a folder that `save_to_disk` wrote, or a name that "
            "`datasets.load_dataset` takes.",
            name=quoted(name),
            reason=own_words(error),
        ) from error


def _prepared(rows: Any, name: str) -> tuple[Any, _Columns, str]:
    import datasets

    kinds = rows.features
    picture = next((column for column, kind in kinds.items() if isinstance(kind, datasets.Image)), "")
    if not picture:
        raise BadInput(
            "The data set {name} has no column of pictures (it has {columns}); cast one to datasets.Image.",
            name=quoted(name),
            columns=", ".join(map(repr, list(kinds)[:20])),
        )
    classes = next((column for column, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)), "")

    def first(*names: str) -> str:
        return next((one for one in names if one in kinds), "")

    columns = _Columns(
        picture,
        classes or first("label", "class"),
        first("caption", "text"),
        first("id", "image_id", "key"),
        tuple(kinds[classes].names) if classes else (),
    )
    return rows.cast_column(picture, datasets.Image(decode=False)), columns, str(rows._fingerprint)
