"""The typed tools: the same object behind Python, the page, LangChain and MCP.

Strings become types here and paths are held inside the allowed roots; below this layer a `Path` may be read and a text is a
text. What a visitor of a shared, read-only app may see is decided here and nowhere else: ids and pictures that he sends, no
paths, no folders, no coordinates. The docstrings of `TOOLS` are what a model reads.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args

from PIL import Image
from pydantic import BeforeValidator, Field

from imgret_tools.comparing.report import Comparison, QuerySetComparison
from imgret_tools.encoders.unread import is_unicode, shows_nothing
from imgret_tools.engine import overview
from imgret_tools.engine.labels import give_label
from imgret_tools.engine.query import Query, QueryPart, parse_part
from imgret_tools.engine.runtime import Runtime
from imgret_tools.errors import BadInput, ImageError, ImgretError, Message, NotFound, PathRefused, ReadOnly, own_words
from imgret_tools.library.filters import Condition, parse_where, split_where
from imgret_tools.pictures.open import open_picture
from imgret_tools.pictures.thumbnails import thumbnail
from imgret_tools.records import (
    DuplicateReport,
    Entry,
    Group,
    Hit,
    IndexReport,
    LibraryDescription,
    LibraryList,
    Match,
    Measure,
    Progress,
    ReencodeReport,
    Refine,
    Scalar,
    SearchKind,
    SearchReport,
    Shown,
    Sort,
    Space,
    quoted,
)
from imgret_tools.sources.source import inner, is_address, is_under, lies_elsewhere, root_of
from imgret_tools.uploads import MOST_BYTES, UPLOAD, Uploads, of_data_url

TOOLS = (
    "index_folder",
    "search_similar_image",
    "compare_metrics",
    "list_libraries",
    "describe_library",
    "show_image",
    "find_duplicates",
)
"""The public tools, by method name: published as they are by LangChain, MCP and Gradio."""

WRITING = ("index_folder",)
"""Those that change a library: not there in a read-only app."""

MAX_TEXT = 1000
MAX_K = 200
LARGE = 1024
"""Pixels a side, at most, of a picture shown large."""
_ID = re.compile(r"[0-9a-f]{12}(-\d{1,6})?")
_NAMES = 12
"""Most names that an answer lists."""
_PRIVATE = ("path", "folder", "latitude", "longitude")
"""Fields that a shared app tells nobody, not even by a filter."""
_FOLDERS = re.compile(r"(?<![\w.:/\\])(?:[A-Za-z]:)?[\\/](?:[^\\/\s'\"]+[\\/])+")
_NO_PATHS = (
    "This app is shared read-only and reads no paths: give the id of a picture from a result, or send a picture (an upload "
    "or a data:image/...;base64 URL)."
)

_T = TypeVar("_T")
Like = Literal["any", "exact", "near"]
Size = Literal["thumbnail", "large"]


def as_list(value: object) -> object:
    """A list argument as models send it: a list, one text, or a list written as JSON text."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("["):
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if isinstance(found, list):
            return [str(one) for one in found]
    return None if text in ("", "null") else split_where(text)


def as_parts(value: object) -> object:
    """A list of query parts as models send it: a list, one part, or a list written as JSON text."""
    if not isinstance(value, str) or value.strip().startswith("["):
        return as_list(value)
    return [line for line in value.splitlines() if line.strip()] or None


Count = Annotated[int, Field(ge=1, le=MAX_K)]
Filters = Annotated[list[str] | None, BeforeValidator(as_list)]

Parts = Annotated[list[str] | None, BeforeValidator(as_parts)]


class ImageTools:
    """The tools on one runtime.

    Attributes:
        runtime: What they work on.
        uploads: Pictures that callers sent.
    """

    def __init__(self, runtime: Runtime, *, uploads: Uploads | None = None) -> None:
        self.runtime = runtime
        self.uploads = uploads or Uploads(max_megapixels=runtime.settings.max_megapixels)

    @property
    def public(self) -> tuple[str, ...]:
        """The tools that there are in this app."""
        return tuple(name for name in TOOLS if name not in WRITING or not self.runtime.settings.read_only)

    def index_folder(
        self,
        folder: str,
        library: str = "default",
        encoder: str | None = None,
        pixel_size: Annotated[int | None, Field(ge=8, le=1024)] = None,
        dry_run: bool = False,
    ) -> IndexReport:
        """Make the pictures of a folder searchable, or bring them up to date.

        Only new and changed pictures cost time.

        Args:
            folder: Path inside the allowed roots; sub-folder names become labels.
            library: Made when missing.
            encoder: For a new library: auto, mini, fast, multilingual, best, openclip:MODEL/PRETRAINED.
            pixel_size: Pixel side.
            dry_run: Only tell what changes.
        """
        return self.index(folder, library=library, encoder=encoder, pixel_size=pixel_size, dry_run=dry_run)

    def index(
        self,
        folder: str,
        *,
        library: str = "default",
        encoder: str | None = None,
        pixel_size: int | None = None,
        exclude: Sequence[str] | None = None,
        dry_run: bool = False,
        progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        engine: str = "local",
    ) -> IndexReport:
        """`index_folder` for a caller that shows progress (called with the state of the run) and can cancel it."""
        self._require_writable("indexed")
        with self._discreet():
            return self.runtime.index(
                self.source(folder),
                library=library or "default",
                encoder=self._encoder(encoder),
                pixel_size=pixel_size,
                exclude=exclude,
                dry_run=dry_run,
                progress=progress,
                cancelled=cancelled,
                engine=engine,
            )

    def reencode(
        self,
        *,
        library: str = "default",
        encoder: str | None = None,
        progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> ReencodeReport:
        """Encode a library's pictures anew, with another encoder or the newest recipe of its own; ids and labels stay."""
        self._require_writable("encoded")
        with self._discreet():
            return self.runtime.reencode(
                library or "default", encoder=self._encoder(encoder), progress=progress, cancelled=cancelled
            )

    def rename_library(self, library: str, name: str) -> str:
        """Give a library another name, and tell the one that it has now; nothing else of it changes."""
        self._require_writable("renamed")
        with self._discreet():
            return self.runtime.rename(library, name)

    def delete_library(self, library: str) -> int:
        """Delete what a library knows, never a picture, and tell how many pictures it held."""
        self._require_writable("deleted")
        with self._discreet():
            return self.runtime.delete(library)

    def make_default(self, library: str) -> None:
        """Let `default` name a library, and the app open with it from its next start on."""
        self._require_writable("changed")
        with self._discreet():
            self.runtime.make_default(library)

    def index_again(
        self,
        library: str,
        *,
        progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[IndexReport]:
        """Bring a library up to date with all the folders that it was indexed from, one after the other."""
        self._require_writable("indexed")
        with self._discreet():
            reports: list[IndexReport] = []
            for folder in self.runtime.info(library).folders:
                if not (cancelled and cancelled()):
                    reports.append(
                        self.runtime.index(self.source(folder), library=library, progress=progress, cancelled=cancelled)
                    )
            return reports

    def search_similar_image(
        self,
        image: str | None = None,
        text: Annotated[str | None, Field(max_length=MAX_TEXT)] = None,
        k: Count = 5,
        measure: Measure = "cosine",
        space: Space = "embedding",
        library: str = "default",
        search: SearchKind = "auto",
        where: Filters = None,
        not_text: Annotated[str | None, Field(max_length=MAX_TEXT)] = None,
        offset: Annotated[int, Field(ge=0, le=1_000_000)] = 0,
        sort: Sort = "best",
        refine: Refine = "auto",
        also: Parts = None,
        match: Match = "weak",
    ) -> SearchReport:
        """Find pictures in a library that look like a picture, fit a text, or both, best first.

        `where` or `sort` alone browses and counts. Hits have an id for the next `image` and a match.

        Args:
            image: Result id, upload id (upload-1: the first sent), data:image URL, or an allowed path or URL.
            text: What the pictures should show.
            k: How many hits.
            measure: Of l1 and l2, lower is better.
            space: pixels: raw colours, by image only.
            library: Its name.
            search: exact, or hnsw: the vector index.
            where: Filters, e.g. label=dog, width>=1000, taken>=2024, path~beach.
            not_text: What they should not show.
            offset: Hits to skip.
            sort: Their order.
            refine: off: by the measure alone.
            also: More parts: image=ID:0.5, not_image=ID, text=red.
            match: Leaves out weaker hits.
        """
        with self._discreet():
            one_of("refine", refine, get_args(Refine))
            library = self.named(library)
            further = self.parts(also, library)
            if not image and not text and not further:
                if not as_list(where or None) and sort == "best":
                    raise BadInput(
                        "Nothing to search for: give an image (path or id), a text, or both; or where or sort to browse."
                    )
                if not_text:
                    raise BadInput("not_text goes with a text or an image; give one of them, or leave not_text out.")
                return self.browse(library=library, where=where, sort=sort, k=k, offset=offset)
            return self.search(
                Query(
                    self.phrase(text, "text"),
                    self.picture(image, library) if image else None,
                    self.phrase(not_text, "not_text"),
                    further,
                ),
                k=k,
                measure=measure,
                space=space,
                library=library,
                search=search,
                where=where,
                offset=offset,
                sort=sort,
                refine=refine,
                match=match,
            )

    def parts(self, also: Sequence[str] | str | None, library: str) -> tuple[QueryPart, ...]:
        """Parts of a query as their lines write them, with texts checked and the pictures that they name.

        Raises:
            BadInput: a line is no part, or its weight cannot be used.
            NotFound, PathRefused: it names no picture, or one that may not be read.
        """
        lines = as_parts(also) or []
        read = [parse_part(str(line), is_file=self._is_file) for line in lines]  # type: ignore[attr-defined]
        return tuple(self._resolved(part, library) for part in read)

    def _is_file(self, name: str) -> bool:
        return not self.runtime.settings.read_only and len(name) < 4096 and Path(name).is_file()

    def _resolved(self, part: QueryPart, library: str) -> QueryPart:
        """A part with the text checked, or the picture that it names."""
        named = str(part.what)
        if part.is_text:
            return replace(part, what=self.phrase(named, part.kind) or "")
        return replace(part, what=self.picture(named, library), name=named if len(named) < 300 else "uploaded picture")

    def search(
        self,
        query: Query,
        *,
        k: int = 5,
        measure: Measure = "cosine",
        space: Space = "embedding",
        library: str = "default",
        search: SearchKind = "auto",
        where: Sequence[str] | str | None = None,
        offset: int = 0,
        sort: Sort = "best",
        refine: Refine = "auto",
        match: Match = "weak",
    ) -> SearchReport:
        """`search_similar_image` for a query that is typed already, such as an uploaded picture."""
        self._whole_k(k)
        _whole("offset", offset, 0, 1_000_000)
        with self._discreet():
            conditions = self._conditions(where)
            report = self.runtime.search(
                query,
                library=self.named(library),
                k=k,
                offset=offset,
                measure=one_of("measure", measure, get_args(Measure)),
                space=one_of("space", space, get_args(Space)),
                search=one_of("search", search, get_args(SearchKind)),
                where=conditions,
                refine=one_of("refine", refine, get_args(Refine)),
            )
            one_of("sort", sort, get_args(Sort))
            report = judged(report, one_of("match", match, get_args(Match)))
            if sort != "best":
                report = replace(report, hits=sorted(report.hits, key=_ORDER[sort]), sort=sort)
            return self._shown(self._counted(report, conditions))

    def _whole_k(self, k: int) -> None:
        """Strangers may ask for `MAX_K` hits at once, as models may; the shell and Python for all."""
        _whole("k", k, 1, MAX_K if self.runtime.settings.read_only else sys.maxsize)

    def browse(
        self,
        *,
        library: str = "default",
        where: Sequence[str] | str | None = None,
        sort: Sort = "best",
        group: Group = "none",
        k: int = 5,
        offset: int = 0,
    ) -> SearchReport:
        """The pictures that satisfy filters, in an order, without a query; `matching` says how many there are."""
        self._whole_k(k)
        _whole("offset", offset, 0, 1_000_000)
        with self._discreet():
            conditions = self._conditions(where)
            report = overview.browse(
                self.runtime,
                library=self.named(library),
                where=conditions,
                sort=one_of("sort", sort, get_args(Sort)),
                group=one_of("group", group, get_args(Group)),
                k=k,
                offset=offset,
            )
            return self._shown(self._counted(report, conditions))

    def compare_metrics(
        self,
        image: str,
        k: Count = 5,
        library: str = "default",
        label: Annotated[str | None, Field(max_length=200)] = None,
    ) -> Comparison:
        """Compare what four measures find for one picture, on embeddings, pixels and HNSW.

        Rows: hits, time, agreement and, where the label is known, quality (P@k, AP).

        Args:
            image: As in search_similar_image.
            k: How many hits count.
            library: Its name.
            label: The query's label; left out: that of its folder.
        """
        with self._discreet():
            library = self.named(library)
            return self.compare(self.picture(image, library), k=k, library=library, label=label or None)

    def compare(
        self,
        image: Path | Image.Image | Entry,
        *,
        k: int = 5,
        library: str = "default",
        label: str | None = None,
        refine: Refine = "auto",
    ) -> Comparison:
        """`compare_metrics` for a query that is typed already, such as an uploaded picture."""
        self._whole_k(k)
        with self._discreet():
            from imgret_tools.comparing.run import compare_picture

            found = compare_picture(
                self.runtime,
                image,
                library=self.named(library),
                k=k,
                label=self.phrase(label, "label"),
                refine=one_of("refine", refine, get_args(Refine)),
            )
            return self._compared(found)

    def compare_queries(
        self,
        folder: str,
        *,
        k: int = 5,
        library: str = "default",
        refine: Refine = "auto",
        progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> QuerySetComparison:
        """`compare_metrics` for a folder of labelled queries, `<class>/<picture>`: means with intervals, not hits."""
        self._whole_k(k)
        with self._discreet():
            if self.runtime.settings.read_only:
                raise PathRefused(_NO_PATHS)
            from imgret_tools.comparing.run import compare_folder

            found = compare_folder(
                self.runtime,
                self.allowed(folder),
                library=self.named(library),
                k=k,
                refine=one_of("refine", refine, get_args(Refine)),
                progress=progress,
                cancelled=cancelled,
            )
            return replace(found, example=found.example and self._compared(found.example))

    def list_libraries(self) -> LibraryList:
        """List the libraries with how many pictures and labels each has."""
        with self._discreet():
            self.runtime.await_arrivals()
            return overview.list_libraries(self.runtime)

    def describe_library(self, library: str = "default") -> LibraryDescription:
        """Tell what a library holds: size, labels, dates and cameras with counts.

        Args:
            library: Its name.
        """
        with self._discreet():
            found = overview.describe_library(self.runtime, self.named(library))
            return replace(found, folders=None, with_place=0) if self.runtime.settings.read_only else found

    def show_image(self, image: str, library: str = "default", size: Size = "thumbnail") -> Shown:
        """Look at one picture: the picture itself, its date, camera, place and size.

        Args:
            image: As in search_similar_image.
            library: Its name.
            size: thumbnail: 256 px, large: 1024 px.
        """
        with self._discreet():
            side = LARGE if one_of("size", size, get_args(Size)) == "large" else 256
            library = self.named(library)
            found = self.picture(image, library)
            if isinstance(found, Entry):
                return self._shown_entry(found, overview.name_of(self.runtime, library), side)
            sent = found if isinstance(found, Path) and found in self.uploads else self._sent(found)
            return self._shown_upload(sent, found.name if isinstance(found, Path) else "picture", side)

    def find_duplicates(self, library: str = "default", like: Like = "any") -> DuplicateReport:
        """Find pictures that a library holds more than once: the same content, or nearly the same picture.

        Args:
            library: Its name.
            like: exact, near or any.
        """
        return self.duplicates(library, like)

    def duplicates(
        self,
        library: str = "default",
        like: Like = "any",
        *,
        progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> DuplicateReport:
        """`find_duplicates` for who wants to see how far it is; who cancels gets what was found so far."""
        with self._discreet():
            from imgret_tools.engine.duplicates import find_duplicates

            found = find_duplicates(
                self.runtime,
                library=self.named(library),
                like=one_of("like", like, get_args(Like)),
                progress=progress,
                cancelled=cancelled,
            )
            groups = [replace(group, hits=[self._shown_hit(hit) for hit in group.hits]) for group in found.groups]
            return replace(found, groups=groups)

    def label(self, id_: str, label: str, *, library: str = "default") -> Entry:
        """Label an indexed picture by hand; an empty label goes back to its folder's name."""
        return self.label_all([id_], label, library=library)[0]

    def label_all(self, ids: Sequence[str], label: str, *, library: str = "default") -> list[Entry]:
        """Label several indexed pictures by hand, all or none; an empty label goes back to each folder's name."""
        self._require_writable("labelled")
        label = unicodedata.normalize("NFC", label.strip())
        if len(label) > 80 or not label.isprintable():
            raise BadInput("Label {label!r} cannot be used; give at most 80 printable characters.", label=label[:80])
        return give_label(self.runtime, ids, label, library=library)

    def originals(self, ids: Sequence[str], library: str = "default") -> list[Path]:
        """The files of indexed pictures, as they lie on this machine; a shared app gives them to nobody."""
        self._require_writable("copied")
        return [self.allowed(self.entry(id_, library).path) for id_ in ids]

    def jpeg(self, shown: Shown) -> bytes:
        """The picture of a `show_image` as a JPEG of at most `shown.side` px, without its metadata."""
        with self._discreet():
            if UPLOAD.fullmatch(shown.id):
                return thumbnail(self.runtime.open_query(self.uploads.path(shown.id), shown.side), shown.side)
            return self.jpeg_of(self.entry(shown.id, shown.library), shown.side)

    def jpeg_of(self, entry: Entry, side: int | None = None) -> bytes:
        """An indexed picture, upright, as a JPEG of at most `side` px (None: its own size), without its metadata."""
        with self._discreet():
            if side is not None and side <= 256:
                return Path(self.runtime.thumbnail(entry)).read_bytes()
            if not lies_elsewhere(entry.path, entry.folder):
                self.allowed(entry.path)
            side = side or max(entry.width, entry.height)
            return thumbnail(self.runtime.open_query(entry, side), side)

    def entry(self, id_: str, library: str = "default") -> Entry:
        """The indexed picture of that id.

        Raises:
            NotFound: the library has none of that id.
        """
        with self._discreet():
            library = self.named(library)
            found = overview.find_entry(self.runtime, library, id_)
            if found is None:
                raise NotFound(
                    "Library {library!r} has no image {id!r}; ids come from search results.",
                    library=library,
                    id=id_[:40],
                )
            return found

    # What may be seen

    @contextmanager
    def _discreet(self) -> Iterator[None]:
        """What goes wrong inside is told as this app may tell it: a shared one names no folders, and nobody sees an errno."""
        try:
            yield
        except ImgretError as error:
            if self.runtime.settings.read_only:
                error.args = (Message(str(error)).changed(self._without_folders), *error.args[1:])
            raise
        except OSError as error:
            raise BadInput(
                "The disk or a file refused: {reason}. Try another one, or tell the user.", reason=own_words(error)
            ) from error

    def _without_folders(self, text: str) -> str:
        settings = self.runtime.settings
        private = {*settings.roots, settings.data_dir, Path.home(), Path.cwd(), Path(tempfile.gettempdir())}
        for folder in sorted(map(str, private - {Path("/")}), key=len, reverse=True):
            text = text.replace(f"{folder}/", "").replace(f"{folder}\\", "").replace(folder, "...")
        if settings.chroma:
            text = text.replace(settings.chroma.url, "...")
        return _FOLDERS.sub("", text)

    def _shown_hit(self, hit: Hit) -> Hit:
        """The hit as this app may show it: a shared one tells no folders and no places."""
        if not self.runtime.settings.read_only:
            return hit
        metadata: dict[str, Scalar] = {
            **hit.metadata,
            "folder": None,
            **{name: None for name in _PRIVATE[2:] if name in hit.metadata},
        }
        return replace(hit, path=Path(hit.path).name, metadata=metadata)

    def _shown(self, report: SearchReport) -> SearchReport:
        return replace(
            report,
            query=self._shown_query(report.query),
            hits=[self._shown_hit(hit) for hit in report.hits],
            notice=Message(report.notice).changed(self._without_folders)
            if self.runtime.settings.read_only
            else report.notice,
        )

    def _shown_query(self, query: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """The query with an upload under its id."""
        image = query.get("image")
        sent = isinstance(image, str) and Path(image) in self.uploads
        return {**query, "image": Path(str(image)).name} if sent else dict(query)

    def _compared(self, comparison: Comparison) -> Comparison:
        rows = [replace(row, hits=[self._shown_hit(hit) for hit in row.hits]) for row in comparison.rows]
        return replace(comparison, rows=rows, query=self._shown_query(comparison.query))

    def _shown_entry(self, entry: Entry, library: str, side: int) -> Shown:
        shared = self.runtime.settings.read_only
        inside = is_under(entry.path, entry.folder)
        name = entry.path[len(entry.folder) :].lstrip("/\\") if inside and not shared else Path(entry.path).name
        return Shown(
            library=library,
            id=entry.id,
            label=entry.label,
            name=name,
            path=name if shared else entry.path,
            width=entry.width,
            height=entry.height,
            bytes=entry.bytes,
            side=side,
            taken=entry.taken,
            camera=entry.camera,
            latitude=None if shared else entry.latitude,
            longitude=None if shared else entry.longitude,
        )

    def _shown_upload(self, sent: Path, name: str, side: int) -> Shown:
        opened = open_picture(sent, at_least=side, max_megapixels=self.runtime.settings.max_megapixels)
        return Shown(
            library="",
            id=sent.name,
            label="",
            name=name,
            path=name,
            width=opened.width,
            height=opened.height,
            bytes=sent.stat().st_size,
            side=side,
            taken=opened.taken,
            camera=opened.camera,
            latitude=opened.latitude,
            longitude=opened.longitude,
        )

    def _sent(self, picture: Path | Image.Image) -> Path:
        """A file inside the roots, or what a URL answered, as an upload: shown once more by its id."""
        content = picture.read_bytes() if isinstance(picture, Path) else thumbnail(picture, max(picture.size))
        return self.uploads.path(self.uploads.add(content))

    def _conditions(self, where: Sequence[str] | str | None) -> tuple[Condition, ...]:
        conditions = parse_where(as_list(where))  # type: ignore[arg-type]
        if self.runtime.settings.read_only and any(condition.field in _PRIVATE for condition in conditions):
            raise PathRefused(
                "This app is shared read-only and tells no folders, also not by filters; filter by label, size or date."
            )
        return conditions

    def _counted(self, report: SearchReport, conditions: Sequence[Condition]) -> SearchReport:
        """The report with the labels there are, where a filter names one that no picture has."""
        wanted = [condition for condition in conditions if (condition.field, condition.operator) == ("label", "=")]
        if report.matching or not wanted:
            return report
        there = overview.counts(self.runtime, report.library, "label")
        known = {label.casefold() for label in there}
        missing = [one for condition in wanted for one in _values(condition) if one.casefold() not in known]
        if not missing:
            return report
        notice = Message(
            "No picture is labelled {missing}; {there}",
            missing=", ".join(map(quoted, missing[:3])),
            there=_there("labels", missing[0], list(there)),
        )
        return replace(report, notice=Message.joined((report.notice, notice)))

    # From strings to types

    def named(self, library: str | None) -> str:
        """The library that a name means: with one library alone, `default` is that one."""
        if library not in (None, "", "default"):
            return str(library)
        return "default"

    def upload(self, content: bytes) -> str:
        """Keep a picture that a caller sent, for some time and in no library; the id that `image` takes."""
        return self.uploads.add(content)

    def taken_in(self, file: Path) -> Path:
        """A file that the page took in for a visitor; in a shared app it is an upload like any other, under its id.

        Raises:
            BadInput: too large, or no picture that can be opened.
        """
        if not self.runtime.settings.read_only:
            return file
        try:
            with file.open("rb") as opened:
                content = opened.read(MOST_BYTES + 1)
        except OSError as error:
            raise NotFound("The picture that was sent is not there any more; send it again.") from error
        return self.uploads.path(self.upload(content))

    def source(self, name: str) -> str:
        """The root of what `name` names, a folder or another source, if the owner lets this process read there.

        Raises:
            PathRefused: he does not.
        """
        if not is_address(name):
            return str(self.allowed(name))
        if not is_address(inner(name)) and Path(inner(name)).exists():
            self.allowed(inner(name))
            return root_of(name)
        if self.runtime.settings.read_only or not self.runtime.settings.may_read(root_of(name)):
            raise PathRefused(
                "{address!r} lies elsewhere, and only the owner of this process names what is read there: in the shell, as "
                "`imgret index {address}`, or in IMGRET_ROOTS.",
                address=name[:200],
            )
        return root_of(name)

    def allowed(self, path: str) -> Path:
        """The real path of `path`, links followed, if it lies inside the allowed roots.

        Raises:
            PathRefused: it does not, or is no path at all.
        """
        if "\0" in path or len(path) > 4096 or path.startswith(("file:", "data:")):
            raise PathRefused("{path!r} is no path; give the plain path of a file or folder.", path=path[:60])
        try:
            real = Path(path).expanduser().resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise PathRefused(
                "{path!r} is no path; give the plain path of a file or folder.", path=path[:60]
            ) from error
        roots = self.runtime.settings.roots
        if not any(real == root or root in real.parents for root in roots):
            shown = ", ".join(map(str, roots)) or "none: it was started in / or the home folder"
            raise PathRefused(
                "Path {path!r} is outside the folders this process may read ({shown}); IMGRET_ROOTS adds more.",
                path=path,
                shown=shown,
            )
        return real

    def _require_writable(self, done: str) -> None:
        if self.runtime.settings.read_only:
            raise ReadOnly(
                "This app is shared read-only, so nothing can be {done} here; search what is there instead.",
                done=Message(done),
            )

    def _encoder(self, spec: str | None) -> str | None:
        """An encoder's name; a checkpoint in it lies inside the allowed roots."""
        path = checkpoint_of(spec)
        if not spec or not path or spec == self.runtime.settings.encoder:
            return spec or None
        return f"{spec.removesuffix(path)}{self.allowed(path)}"

    def picture(self, image: str, library: str) -> Path | Image.Image | Entry:
        """What `image` names: an indexed picture, one that was sent, a file inside the roots, or what a URL answers.

        Raises:
            NotFound, PathRefused, BadInput: it names none of them.
        """
        image = image.strip()
        if image[:7] == "upload-":
            return self.uploads.path(image)
        if image[:5].lower() == "data:":
            return self.uploads.path(self.uploads.add(of_data_url(image)))
        shared = self.runtime.settings.read_only
        if _ID.fullmatch(image) and (
            (found := overview.find_entry(self.runtime, library, image)) or shared or not Path(image).exists()
        ):
            return found or self.entry(image, library)
        if re.match(r"https?://", image, re.IGNORECASE):
            return self._fetched(image)
        if shared:
            raise PathRefused(_NO_PATHS)
        bare = len(image) < 256 and not image.startswith("~") and not set("/\\\0") & set(image)
        try:
            path = self.allowed(image)
        except PathRefused:
            if not bare:
                raise
            return self._by_name(image, library)
        return path if path.is_file() else self._by_name(image, library)

    def _by_name(self, name: str, library: str) -> Entry:
        """The indexed picture whose file is called `name`, as a hit shows it.

        Raises:
            NotFound: there is none, or more than one; the message names those there are.
        """
        wanted = Path(name).parts[-2:]
        entries = overview.all_entries(self.runtime, library)
        found = [entry for entry in entries if Path(entry.path).parts[-len(wanted) :] == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(f"{entry.id} {quoted(entry.label, 40)}" for entry in found[:_NAMES])
            raise NotFound(
                "{count} pictures are called {name!r}; give the id of one: {ids}.",
                count=len(found),
                name=name[:80],
                ids=ids,
            )
        names = _there("files of the library", Path(name).name, [Path(entry.path).name for entry in entries])
        raise NotFound(
            "There is no picture at {name!r}; give the path of an image file, or an id from a search. {names}",
            name=name[:200],
            names=names,
        )

    def _fetched(self, url: str) -> Image.Image:
        if not self.runtime.settings.allow_urls:
            raise PathRefused(
                "URLs are not allowed here ({url!r}); give a path or an id, or start with --allow-urls.", url=url[:60]
            )
        from imgret_tools.collect.net.guard import fetch_image

        try:
            return open_picture(fetch_image(url), max_megapixels=self.runtime.settings.max_megapixels).image
        except ImageError as error:
            raise BadInput(
                "What {url!r} answers is no usable picture: {error}. Give another address.", url=url[:200], error=error
            ) from error

    @staticmethod
    def phrase(text: str | None, name: str) -> str | None:
        """`text` without outer blanks; None and "" are None.

        Raises:
            BadInput: blank, no valid Unicode, or longer than a sentence needs.
        """
        if text is None or text == "":
            return None
        if not is_unicode(text):
            raise BadInput(
                "Argument {name}, {text}, is not valid Unicode; give it as UTF-8 text.",
                name=name,
                text=quoted(text, 60),
            )
        if shows_nothing(text):
            raise BadInput(
                "Argument {name} is empty or holds only characters that show nothing; write what the pictures "
                "should show, or leave it out.",
                name=name,
            )
        if len(text) > MAX_TEXT:
            raise BadInput(
                "Argument {name} has {count} characters; at most {most} are read. Shorten it.",
                name=name,
                count=len(text),
                most=MAX_TEXT,
            )
        return text.strip()


def judged(report: SearchReport, least: Match) -> SearchReport:
    """The report without hits whose match is less than `least`, and with what is to be said when nothing fits."""
    matches = get_args(Match)  # from the best to the least
    enough = matches[: matches.index(least) + 1]
    hits = [hit for hit in report.hits if hit.match is None or hit.match in enough]
    verdict = ""
    if report.hits and all(hit.match == "weak" for hit in report.hits):
        verdict = "Nothing here fits: every match is weak, as good as chance."
    elif report.hits and not hits:
        verdict = f"Nothing here is a {least} match: the best of {len(report.hits)} is fair."
    if cut := len(report.hits) - len(hits):
        verdict = f"{verdict} {cut} weaker than {least} {'is' if cut == 1 else 'are'} left out.".strip()
    return replace(report, hits=hits, verdict=verdict)


def one_of(name: str, value: _T, known: tuple[_T, ...]) -> _T:
    """`value` if it is one of `known`.

    Raises:
        BadInput: it is not; the message names those there are.
    """
    if value not in known:
        raise BadInput(
            "Unknown {name} {value!r}; one of {known} expected.",
            name=name,
            value=value,
            known=", ".join(map(str, known)),
        )
    return value


def _whole(name: str, value: int, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        span = (
            Message("from {least} to {most}", least=least, most=most)
            if most < sys.maxsize
            else Message("of at least {least}", least=least)
        )
        raise BadInput(
            "Argument {name} is {value!r}; a whole number {span} expected.", name=name, value=value, span=span
        )


def checkpoint_of(spec: str | None) -> str:
    """The path that an encoder's name ends in, `openclip:MODEL:PATH`, "" where there is none."""
    kind, _, rest = (spec or "").partition(":")
    model, _, path = rest.partition(":")
    return path if kind == "openclip" and model != "hf-hub" else ""


_ORDER: dict[Sort, Callable[[Hit], tuple[object, ...]]] = {
    "newest": lambda hit: (not hit.metadata.get("taken"), _backwards(str(hit.metadata.get("taken") or "")), hit.rank),
    "oldest": lambda hit: (not hit.metadata.get("taken"), str(hit.metadata.get("taken") or ""), hit.rank),
    "name": lambda hit: (hit.path.casefold(), hit.rank),
    "largest": lambda hit: (-_area(hit), hit.rank),
}
"""The order of a search's hits when it is not by likeness."""


def _backwards(text: str) -> tuple[int, ...]:
    return tuple(-ord(letter) for letter in text)


def _area(hit: Hit) -> int:
    return int(hit.metadata.get("width") or 0) * int(hit.metadata.get("height") or 0)


def _values(condition: Condition) -> list[str]:
    return [str(value) for value in condition.values]


def _there(what: str, wanted: str, names: Sequence[str]) -> str:
    """Which names there are, those most like `wanted` first."""
    if not names:
        return Message("There are no {what}.", what=Message(what))
    near = difflib.get_close_matches(wanted, names[:20_000], _NAMES, 0.5)
    listed = list(dict.fromkeys([*near, *names[:_NAMES]]))[:_NAMES]
    more = Message(" and {count} more", count=len(names) - len(listed)) if len(names) > len(listed) else ""
    return Message(
        "{what} there are: {names}{more}.",
        what=Message(what),
        names=", ".join(quoted(name, 40) for name in listed),
        more=more,
    )
