"""The records that travel between the layers: frozen, slotted, and JSON-ready through `to_dict`.

`str(record)` is what a language model or a terminal reads: short, one fact a line, with ids the next call accepts.
File names and labels are data: `quoted` puts them in quotes with control characters and line breaks made visible.
"""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from imgret_tools.errors import Message

Measure = Literal["cosine", "l2", "l1", "pearson"]
Space = Literal["embedding", "pixels"]
SearchKind = Literal["auto", "exact", "hnsw"]
Refine = Literal["auto", "off"]
Order = Literal["newest", "oldest", "name", "largest"]
Sort = Literal["best", "newest", "oldest", "name", "largest"]
Group = Literal["none", "label", "month"]
Match = Literal["strong", "fair", "weak"]
Scalar = str | int | float | bool | None


LONG_PATH = 4096
"""No system's paths are longer: a path is said whole, so that it can be told from others and opened."""

_BLANK_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0")
"""Marks and letters for Unicode, nothing for a reader's eye."""


def visible(text: str) -> str:
    r"""`text` on one line, in the order it is stored: what breaks, turns or hides text stands as \n, \uXXXX, as in JSON.

    That is every control, format and unassigned character (line and paragraph ends, bidirectional overrides and isolates,
    zero-width ones, tags), halves of a letter as file names that are no Unicode leave them, and letters that show nothing.
    """
    return "".join(letter if _shows(letter) else _escape(letter) for letter in text)


def _shows(letter: str) -> bool:
    return (letter.isprintable() or unicodedata.category(letter) == "Zs") and letter not in _BLANK_LETTERS


def _escape(letter: str) -> str:
    return "\\u007f" if letter == "\x7f" else json.dumps(letter)[1:-1]


def quoted(text: str, limit: int = 120) -> str:
    """`text` as one quoted line of at most about `limit` characters, so that data can never pass for instructions."""
    if len(text) > limit:
        text = text[: limit // 2 - 1] + "…" + text[-(limit // 2) :]
    return visible(json.dumps(text, ensure_ascii=False))


class Record:
    """Gives a dataclass its JSON form."""

    __slots__ = ()

    def to_dict(self) -> dict[str, object]:
        """This record and the records inside it as plain dicts, lists and scalars."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True, slots=True)
class Entry(Record):
    """One indexed picture.

    `id` is the first 12 hex digits of the content hash when the picture was first seen (`-2`, `-3`... for further copies);
    it stays when the file is renamed or edited. `width` and `height` are of the upright picture. `mtime` is in ns.
    `keywords` stand in one text, U+001F between them. `away`: the file's drive or folder was not there at the last look.
    """

    id: str
    path: str
    folder: str
    label: str
    width: int
    height: int
    bytes: int
    mtime: int
    sha256: str
    taken: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    rating: int | None = None
    keywords: str | None = None
    caption: str | None = None
    label_by_user: bool = False
    away: bool = False


@dataclass(frozen=True, slots=True)
class Failure(Record):
    """A file that was passed over, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return Message("{path}: {reason}", path=quoted(self.path, LONG_PATH), reason=self.reason)


@dataclass(frozen=True, slots=True)
class Progress(Record):
    """Where a long run stands: `done` of `total` items, items a second, seconds left (None while unknown)."""

    stage: str
    done: int
    total: int
    rate: float = 0.0
    seconds_left: float | None = None
    current: str = ""


@dataclass(frozen=True, slots=True)
class IndexReport(Record):
    """What an index run did.

    `skipped` are files and folders that were passed over with their reasons (of each kind the first ones), and
    `skipped_kinds` counts all of them by kind: pictures + failed + the files among these are every file seen. `remarks` name pictures that are
    damaged and searchable all the same; `away` counts those whose drive or folder is not there.
    """

    library: str
    folder: str
    encoder: str
    added: int
    updated: int
    unchanged: int
    removed: int
    failed: list[Failure]
    seconds: float
    images_per_second: float
    stages: dict[str, float]
    renamed: int = 0
    away: int = 0
    skipped: list[Failure] = field(default_factory=list)
    skipped_kinds: dict[str, int] = field(default_factory=dict)
    remarks: list[Failure] = field(default_factory=list)
    total: int = 0
    cancelled: bool = False
    dry_run: bool = False
    notice: str = ""

    def __str__(self) -> str:
        would = "would be " if self.dry_run else ""
        lines = [
            f"Library {quoted(self.library)} holds {self.total} images of {quoted(self.folder, LONG_PATH)} (encoder {self.encoder}).",
            f"{would}added {self.added}, updated {self.updated}, renamed {self.renamed}, unchanged {self.unchanged}, "
            f"removed {self.removed}, failed {len(self.failed)}, skipped {sum(self.skipped_kinds.values()) or len(self.skipped)}; "
            f"{self.seconds:.1f} s, {self.images_per_second:.1f} images/s.",
        ]
        if self.skipped_kinds:
            kinds = sorted(self.skipped_kinds.items(), key=lambda kind: (-kind[1], kind[0]))
            lines.append("skipped: " + ", ".join(f"{kind} {count}" for kind, count in kinds))
            lines += dict.fromkeys(failure.reason for failure in self.skipped if "pip install" in failure.reason)
        if self.cancelled:
            lines.append("Cancelled: what was done is kept; index the folder again to go on.")
        if self.notice:
            lines.append(self.notice)
        shown = self.failed[:5]
        lines += [f"failed {failure}" for failure in shown]
        lines += [f"remark {remark}" for remark in self.remarks[:5]]
        if len(self.failed) > len(shown):
            lines.append(f"... and {len(self.failed) - len(shown)} more failures")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class ReencodeReport(Record):
    """What encoding a library anew did. `failed` are pictures that left, with reasons: their labels by hand are remembered.

    `from_thumbnails` counts those whose file is not there or broken: their rows are of their small pictures.
    """

    library: str
    before: str
    encoder: str
    images: int
    failed: list[Failure]
    from_thumbnails: int
    seconds: float
    images_per_second: float
    cancelled: bool = False
    notice: str = ""

    def __str__(self) -> str:
        if self.cancelled:
            return f"Cancelled: library {quoted(self.library)} is as it was, with encoder {self.before}."
        lines = [
            f"Library {quoted(self.library)}: {self.images} images have rows of encoder {self.encoder}; "
            f"{self.seconds:.1f} s, {self.images_per_second:.1f} images/s."
        ]
        if self.from_thumbnails:
            lines.append(
                f"{self.from_thumbnails} of them were read from thumbnails: their files are not there or broken."
            )
        if self.notice:
            lines.append(self.notice)
        lines += [f"failed {failure}" for failure in self.failed[:5]]
        if len(self.failed) > 5:
            lines.append(f"... and {len(self.failed) - 5} more failures")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class ImportReport(Record):
    """What an import of rows did. `failed` names the first rows that could not be used, `failures` counts all of them.

    `away` counts rows whose file is not there; they are found all the same.
    """

    library: str
    encoder: str
    added: int
    updated: int
    unchanged: int
    away: int
    failed: list[Failure]
    failures: int
    seconds: float
    total: int
    cancelled: bool = False
    notice: str = ""

    def __str__(self) -> str:
        lines = [
            f"Library {quoted(self.library)} holds {self.total} images (encoder {self.encoder}).",
            f"added {self.added}, updated {self.updated}, unchanged {self.unchanged}, failed {self.failures}; "
            f"{self.seconds:.1f} s.",
        ]
        if self.away:
            lines.append(f"{self.away} of these rows have no file here: they are found, and have no picture to show.")
        if self.cancelled:
            lines.append("Cancelled: what was stored stays; import the same again to go on.")
        if self.notice:
            lines.append(self.notice)
        lines += [f"failed {failure}" for failure in self.failed[:5]]
        if self.failures > 5:
            lines.append(f"... and {self.failures - 5} more failures")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class ExportReport(Record):
    """What an export wrote: n rows (n, dim) float32 into one file, a line for each into another."""

    library: str
    encoder: str
    images: int
    dim: int
    rows: str
    table: str
    seconds: float

    def __str__(self) -> str:
        return (
            f"Wrote {self.images} rows of {self.dim} numbers (encoder {self.encoder}) to {quoted(self.rows, LONG_PATH)} and "
            f"their table to {quoted(self.table, LONG_PATH)}; {self.seconds:.1f} s."
        )


@dataclass(frozen=True, slots=True)
class EncoderInfo(Record):
    """An encoder worth knowing: `figures` are its authors', by name; `here` says that nothing has to be downloaded."""

    name: str
    encoder: str
    purpose: str
    megabytes: int
    licence: str
    here: bool
    figures: dict[str, float] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True, slots=True)
class EncoderList(Record):
    """The encoders worth knowing."""

    encoders: list[EncoderInfo]

    def __str__(self) -> str:
        lines = []
        for one in self.encoders:
            size = "here" if one.here else f"{one.megabytes} MB to download"
            lines.append(f"{one.name:<13}{one.purpose} ({size}; {one.licence})")
            figures = ", ".join(f"{name} {value:.3f}" for name, value in one.figures.items())
            lines.append(f"{'':<13}{one.encoder}" + (f": {figures} by {one.source}" if figures else ""))
        lines.append(
            "The figures are their authors', not run here; any other model: openclip:MODEL/PRETRAINED or a checkpoint."
        )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Hit(Record):
    """One retrieved picture. `value` is the measure's own value, `score` the same with higher always better.

    `closeness` in [0, 1] says how well it fits against what chance brings in this library (0: no better; from 0.5 a fair
    match, from 0.75 a strong one), `match` the same in a word; None where nothing was asked. `copies` is how many of the
    pictures that could be found have this content, the hit itself included: a search shows them once.
    """

    rank: int
    id: str
    path: str
    label: str
    score: float
    value: float
    metadata: dict[str, Scalar] = field(default_factory=dict)
    closeness: float | None = None
    match: Match | None = None
    copies: int = 1

    @property
    def name(self) -> str:
        """The file inside its indexed folder, without the sub-folder that its label repeats; all of it without a folder."""
        folder = str(self.metadata.get("folder") or "").rstrip("/\\")
        inside = self.path.startswith(folder) and self.path[len(folder) : len(folder) + 1] in ("/", "\\")
        name = self.path[len(folder) + 1 :] if folder and inside else self.path
        return name.removeprefix(f"{self.label}/") if self.label else name

    def __str__(self) -> str:
        label = f" {quoted(self.label, 40)}" if self.label else ""
        match = f" {self.match} {self.value:.2g}" if self.match else ""
        taken = f" {str(self.metadata['taken'])[:10]}" if self.metadata.get("taken") else ""
        away = " (away: its file is not there)" if self.metadata.get("away") else ""
        name = quoted(self.name, 60 if self.metadata.get("folder") else LONG_PATH)
        copies = f" ({self.copies} copies)" if self.copies > 1 else ""
        return f"{self.rank}. {self.id}{label}{match} {name}{taken}{away}{copies}"


@dataclass(frozen=True, slots=True)
class SearchReport(Record):
    """A ranking, best first. `matching` is how many pictures satisfy the filters, `searched` how many were compared: each
    content once.

    `refined` says that hits are in the order of their neighbourhoods (engine/refine.py): a hit's `score` is what it was put
    in order by, and its `value` is the measure's own, which may then rise and fall.

    `query` is what was asked. Without text and picture it is a look through the library in the order of `sort`: its hits
    have no match, and value and score say nothing. `verdict` says in words when nothing fits, and is empty otherwise.
    """

    library: str
    encoder: str
    query: dict[str, Scalar]
    measure: Measure
    space: Space
    searched: int
    seconds: float
    hits: list[Hit]
    search: Literal["exact", "hnsw", "ivf"] = "exact"
    total: int = 0
    notice: str = ""
    matching: int = 0
    sort: Sort = "best"
    refined: bool = False
    verdict: str = ""

    def __str__(self) -> str:
        wanted = ", ".join(
            f"{name} {quoted(str(value))}"
            for name in ("text", "image", "not_text", "also")
            if (value := self.query.get(name)) is not None
        )
        better = "higher" if self.measure in ("cosine", "pearson") else "lower"
        how = (
            f"{self.measure}, {better} is better"
            if self.space == "embedding"
            else f"{self.measure} on pixels, {better} is better"
        )
        best = "best first, order refined by what their neighbours show" if self.refined else "best first"
        order = f" for {wanted} ({how}), {best}" if wanted else f", {ORDERS[self.sort]}"
        columns = "rank. id label match value file date" if wanted else "rank. id label file date"
        lines = [f"{len(self.hits)} of {self.matching} matching pictures in {quoted(self.library)}{order}: {columns}"]
        lines += [str(hit) for hit in self.hits]
        cameras: dict[str, list[str]] = {}
        for hit in self.hits:
            if hit.metadata.get("camera"):
                cameras.setdefault(str(hit.metadata["camera"]), []).append(str(hit.rank))
        if cameras:
            lines.append(
                "cameras: " + "; ".join(f"{quoted(name, 30)} {' '.join(ranks)}" for name, ranks in cameras.items())
            )
        if self.verdict:
            lines.append(self.verdict)
        if self.notice:
            lines.append(self.notice)
        return "\n".join(lines)


ORDERS: dict[Sort, str] = {
    "best": "newest first",
    "newest": "newest first",
    "oldest": "oldest first",
    "name": "by name",
    "largest": "largest first",
}
"""What a look through a library is sorted by."""


@dataclass(frozen=True, slots=True)
class LibraryInfo(Record):
    """What a library is and holds; of one that cannot be opened, `damaged` says why and the rest is empty.

    `place` is its folder, `changed` when its files were last written: local time, ISO 8601.
    """

    name: str
    encoder: str
    fingerprint: str
    dim: int
    images: int
    labels: dict[str, int]
    folders: list[str]
    pixel_size: int
    revision: int
    bytes_on_disk: int
    notice: str = ""
    away: int = 0
    damaged: str = ""
    place: str = ""
    changed: str = ""

    def __str__(self) -> str:
        if self.damaged:
            return f"Library {quoted(self.name)} cannot be opened: {self.damaged}"
        labels = ", ".join(f"{quoted(name, 40)} {count}" for name, count in list(self.labels.items())[:12])
        more = f", ... {len(self.labels) - 12} more" if len(self.labels) > 12 else ""
        lines = [
            f"Library {quoted(self.name)}: {self.images} images, encoder {self.encoder} ({self.dim}-d), "
            f"pixels {self.pixel_size} x {self.pixel_size}, {self.bytes_on_disk / 1e6:.1f} MB.",
            f"labels: {labels}{more}" if labels else "labels: none (pictures in sub-folders get the sub-folder's name)",
            "folders: " + (", ".join(quoted(folder, LONG_PATH) for folder in self.folders) or "none"),
        ]
        if self.away:
            lines.append(f"away: {self.away} images whose drive or folder was not there at the last look")
        if self.notice:
            lines.append(self.notice)
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class LibraryList(Record):
    """The libraries there are, by name: pictures and labels of each, as counts."""

    libraries: list[dict[str, Scalar]]

    def __str__(self) -> str:
        if not self.libraries:
            return "There is no library yet; index a folder to make one."
        return "Libraries there are:\n" + "\n".join(
            f"{quoted(str(one['name']), 60)}: cannot be opened: {one['damaged']}"
            if one.get("damaged")
            else f"{quoted(str(one['name']), 60)}: {one['images']} pictures, {one['labels']} labels, encoder {one['encoder']}"
            for one in self.libraries
        )


@dataclass(frozen=True, slots=True)
class LibraryDescription(Record):
    """What a library holds, counted: labels, years and cameras with their pictures, most first; `folders` unless shared.

    `oldest` and `newest` are the first and the last day a picture was taken, ISO 8601.
    """

    name: str
    images: int
    encoder: str
    labels: dict[str, int]
    years: dict[str, int]
    oldest: str | None
    newest: str | None
    cameras: dict[str, int]
    with_place: int
    folders: list[str] | None
    revision: int
    notice: str = ""

    def __str__(self) -> str:
        lines = [
            f"Library {quoted(self.name)}: {self.images} pictures, encoder {self.encoder}.",
            f"labels ({len(self.labels)}): {_counted(self.labels, 30) or 'none'}",
        ]
        if self.oldest:
            lines.append(f"taken {self.oldest} to {self.newest}: {_counted(self.years, 20)}")
        else:
            lines.append("no dates known")
        if self.cameras:
            lines.append(f"cameras: {_counted(self.cameras, 10)}")
        if self.with_place:
            lines.append(f"with place: {self.with_place}")
        if self.folders is not None:
            lines.append("folders: " + (", ".join(quoted(folder) for folder in self.folders[:10]) or "none"))
        return "\n".join([*lines, *([self.notice] if self.notice else [])])


def _counted(counts: Mapping[str, int], most: int) -> str:
    named = ", ".join(f"{quoted(name, 40)} {count}" for name, count in list(counts.items())[:most])
    return named + (f", and {len(counts) - most} more" if len(counts) > most else "")


@dataclass(frozen=True, slots=True)
class Shown(Record):
    """One picture and what is known of it; its pixels travel beside it, as JPEG of at most `side` px."""

    library: str
    id: str
    label: str
    name: str
    path: str
    width: int
    height: int
    bytes: int
    side: int
    taken: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None

    def __str__(self) -> str:
        place = "" if self.latitude is None else f", at {self.latitude:.5f} {self.longitude:.5f}"
        facts = [
            f"{self.id} {quoted(self.name, 80)}{f', label {quoted(self.label, 40)}' if self.label else ''}: "
            f"{self.width} x {self.height} px, {self.bytes / 1e6:.2g} MB",
            f"date taken: {self.taken or 'unknown'}; camera: {quoted(self.camera or 'unknown', 60)}{place}",
        ]
        return "\n".join(facts)


@dataclass(frozen=True, slots=True)
class DuplicateGroup(Record):
    """Copies of one picture: `exact` have the same content, `near` show the same shot. `keep` is the id to keep, `reason` why."""

    like: Literal["exact", "near"]
    keep: str
    hits: list[Hit]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DuplicateReport(Record):
    """Groups of pictures alike, the largest first; `pairs` are (id, id, score) of near ones, score 1 for the same.

    `cancelled` says that not all pairs were compared.
    """

    library: str
    groups: list[DuplicateGroup]
    pairs: list[tuple[str, str, float]]
    seconds: float = 0.0
    notice: str = ""
    cancelled: bool = False

    def __str__(self) -> str:
        spare = sum(len(group.hits) - 1 for group in self.groups)
        lines = [
            f"{len(self.groups)} groups of pictures alike in {quoted(self.library)}, {spare} could go (nothing is deleted):"
            if self.groups
            else f"There are no duplicates in {quoted(self.library)}: no picture is there twice, nor a copy of another."
        ]
        for number, group in enumerate(self.groups[:10], 1):
            others = ", ".join(f"{hit.id} {quoted(hit.name, 40)}" for hit in group.hits[:4] if hit.id != group.keep)
            more = f" and {len(group.hits) - 4} more" if len(group.hits) > 4 else ""
            lines.append(f"{number}. {group.like}: keep {group.keep} ({group.reason}), like it {others}{more}")
        if len(self.groups) > 10:
            lines.append(f"... and {len(self.groups) - 10} more groups")
        return "\n".join([*lines, *([self.notice] if self.notice else [])])


Where = Mapping[str, Scalar]
