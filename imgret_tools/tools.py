"""The typed tools: the same object behind Python, the page, LangChain and MCP.

Strings become types here and paths are held inside the allowed roots; below this layer a `Path` may be read and a text is a
text. The docstrings of `TOOLS` are what a model reads.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeVar, get_args

from PIL import Image
from pydantic import Field

from imgret_tools.comparing.report import Comparison, QuerySetComparison
from imgret_tools.comparing.run import compare_folder, compare_picture
from imgret_tools.encoders.unread import is_unicode, shows_nothing
from imgret_tools.engine.labels import give_label
from imgret_tools.engine.query import Query
from imgret_tools.engine.runtime import Runtime
from imgret_tools.errors import BadInput, ImageError, NotFound, PathRefused, ReadOnly
from imgret_tools.library.filters import parse_where
from imgret_tools.pictures.open import open_picture
from imgret_tools.records import Entry, Hit, IndexReport, Measure, Progress, SearchKind, SearchReport, Space, quoted

TOOLS = ("index_folder", "search_similar_image", "compare_metrics")
"""The public tools, by method name: published as they are by LangChain, MCP and Gradio."""

MAX_TEXT = 1000
MAX_K = 200
_ID = re.compile(r"[0-9a-f]{12}(-\d{1,6})?")

_T = TypeVar("_T")
Count = Annotated[int, Field(ge=1, le=MAX_K)]


class ImageTools:
    """The tools on one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def index_folder(
        self,
        folder: str,
        library: str = "default",
        encoder: str | None = None,
        pixel_size: Annotated[int | None, Field(ge=8, le=1024)] = None,
        dry_run: bool = False,
    ) -> IndexReport:
        """Make the pictures of a folder searchable, or bring them up to date after files changed.

        Call this first when a library is missing or its folder has changed; only new and changed pictures cost time.
        Returns how many were added, updated, removed and failed (with reasons).

        Args:
            folder: Path of a folder of pictures inside the allowed roots; sub-folder names become labels.
            library: Name of the library to fill; made when missing.
            encoder: For a new library only: auto, mini or openclip:MODEL/PRETRAINED; leave out for the default.
            pixel_size: Side of the stored pixel rows; leave out to keep it.
            dry_run: Only tell what would change.
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
    ) -> IndexReport:
        """`index_folder` for a caller that shows progress (called with the state of the run) and can cancel it."""
        if self.runtime.settings.read_only:
            raise ReadOnly(
                "This app is shared read-only, so nothing can be indexed here; search what is there instead."
            )
        return self.runtime.index(
            self.allowed(folder),
            library=library,
            encoder=encoder,
            pixel_size=pixel_size,
            exclude=exclude,
            dry_run=dry_run,
            progress=progress,
            cancelled=cancelled,
        )

    def search_similar_image(
        self,
        image: str | None = None,
        text: Annotated[str | None, Field(max_length=MAX_TEXT)] = None,
        k: Count = 5,
        measure: Measure = "cosine",
        space: Space = "embedding",
        library: str = "default",
        search: SearchKind = "auto",
        where: list[str] | str | None = None,
        not_text: Annotated[str | None, Field(max_length=MAX_TEXT)] = None,
        offset: Annotated[int, Field(ge=0, le=1_000_000)] = 0,
    ) -> SearchReport:
        """Find pictures in an indexed library that look like a picture, fit a text, or both.

        Give `image`, `text` or both. Returns ranked hits, best first, each with an id that the `image` argument of the next
        call accepts ("more like this").

        Args:
            image: An id from an earlier result, a path inside the allowed roots, or a URL where the app allows it.
            text: What the pictures should show, in plain words.
            k: How many hits.
            measure: cosine and pearson: higher is better; l1 and l2 are distances: lower is better.
            space: embedding compares what pictures show; pixels compares raw colours (image queries only).
            library: Name of the library.
            search: exact scans all pictures, hnsw asks the vector index, auto picks.
            where: Filters such as label=dog, width>=1000, taken=2024-06, path~beach; all must hold. label=dog|cat is either, label="a|b" one.
            not_text: What the pictures should not show.
            offset: Hits to skip, for the next page.
        """
        if not image and not text:
            raise BadInput("Nothing to search for: give an image (path or id), a text, or both.")
        return self.search(
            Query(
                self.phrase(text, "text"),
                self.picture(image, library) if image else None,
                self.phrase(not_text, "not_text"),
            ),
            k=k,
            measure=measure,
            space=space,
            library=library,
            search=search,
            where=where,
            offset=offset,
        )

    def search(
        self,
        query: Query,
        *,
        k: int = 5,
        measure: Measure = "cosine",
        space: Space = "embedding",
        library: str = "default",
        search: SearchKind = "auto",
        where: list[str] | str | None = None,
        offset: int = 0,
    ) -> SearchReport:
        """`search_similar_image` for a query that is typed already, such as an uploaded picture."""
        self._whole_k(k)
        _whole("offset", offset, 0, 1_000_000)
        conditions = parse_where(where)
        if self.runtime.settings.read_only and any(condition.field in ("path", "folder") for condition in conditions):
            raise PathRefused(
                "This app is shared read-only and tells no folders, also not by filters; filter by label, size or date."
            )
        report = self.runtime.search(
            query,
            library=library,
            k=k,
            offset=offset,
            measure=one_of("measure", measure, get_args(Measure)),
            space=one_of("space", space, get_args(Space)),
            search=one_of("search", search, get_args(SearchKind)),
            where=conditions,
        )
        return replace(report, hits=[self._shown(hit) for hit in report.hits])

    def _whole_k(self, k: int) -> None:
        """Strangers may ask for `MAX_K` hits at once, as models may; the shell and Python for all."""
        _whole("k", k, 1, MAX_K if self.runtime.settings.read_only else sys.maxsize)

    def _shown(self, hit: Hit) -> Hit:
        """The hit as this app may show it: a shared one tells no folders."""
        if not self.runtime.settings.read_only:
            return hit
        return replace(hit, path=Path(hit.path).name, metadata={**hit.metadata, "folder": None})

    def label(self, id_: str, label: str, *, library: str = "default") -> Entry:
        """Label an indexed picture by hand; an empty label goes back to its folder's name."""
        if self.runtime.settings.read_only:
            raise ReadOnly(
                "This app is shared read-only, so nothing can be labelled here; search what is there instead."
            )
        label = unicodedata.normalize("NFC", label.strip())
        if len(label) > 80 or not label.isprintable():
            raise BadInput(f"Label {label[:80]!r} cannot be used; give at most 80 printable characters.")
        return give_label(self.runtime, id_, label, library=library)

    def compare_metrics(
        self,
        image: str,
        k: Count = 5,
        library: str = "default",
        label: Annotated[str | None, Field(max_length=200)] = None,
    ) -> Comparison:
        """Compare what each of four measures finds for one query picture, on embeddings, on pixels and through HNSW.

        Returns a row for each way to search: its hits with values, time, agreement with the other rows and, where the
        query's label is known, quality (P@k, AP). Use it to choose a measure or to explain why results differ.

        Args:
            image: An id from an earlier result, a path inside the allowed roots, or a URL where the app allows it.
            k: How many hits count.
            library: Name of the library.
            label: What the query shows, as the library labels it; leave out to take it from the picture's folder.
        """
        return self.compare(self.picture(image, library), k=k, library=library, label=label)

    def compare(
        self, image: Path | Image.Image | Entry, *, k: int = 5, library: str = "default", label: str | None = None
    ) -> Comparison:
        """`compare_metrics` for a query that is typed already, such as an uploaded picture."""
        self._whole_k(k)
        found = compare_picture(self.runtime, image, library=library, k=k, label=self.phrase(label, "label"))
        return self._discreet(found)

    def _discreet(self, comparison: Comparison) -> Comparison:
        """The comparison as this app may show it."""
        rows = [replace(row, hits=[self._shown(hit) for hit in row.hits]) for row in comparison.rows]
        return replace(comparison, rows=rows)

    def compare_queries(
        self,
        folder: str,
        *,
        k: int = 5,
        library: str = "default",
        progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> QuerySetComparison:
        """`compare_metrics` for a folder of labelled queries, `<class>/<picture>`: means with intervals, not hits."""
        self._whole_k(k)
        found = compare_folder(
            self.runtime, self.allowed(folder), library=library, k=k, progress=progress, cancelled=cancelled
        )
        return replace(found, example=found.example and self._discreet(found.example))

    # From strings to types

    def allowed(self, path: str) -> Path:
        """The real path of `path`, links followed, if it lies inside the allowed roots.

        Raises:
            PathRefused: it does not, or is no path at all.
        """
        if "\0" in path or len(path) > 4096 or path.startswith(("file:", "data:")):
            raise PathRefused(f"{path[:60]!r} is no path; give the plain path of a file or folder.")
        real = Path(path).expanduser().resolve()
        roots = self.runtime.settings.roots
        if not any(real == root or root in real.parents for root in roots):
            shown = ", ".join(map(str, roots))
            raise PathRefused(
                f"Path {path!r} is outside the folders this process may read ({shown}); IMGRET_ROOTS adds more."
            )
        return real

    def picture(self, image: str, library: str) -> Path | Image.Image | Entry:
        """What `image` names: an indexed picture by id, a file inside the roots, or the picture behind a URL.

        Raises:
            NotFound, PathRefused, BadInput: it names none of them.
        """
        if _ID.fullmatch(image):
            with self.runtime.view(library) as view:
                if view.find(image) is not None or not Path(image).exists():
                    return view.entry(image)
        if re.match(r"https?://", image):
            return self._fetched(image)
        path = self.allowed(image)
        if not path.is_file():
            raise NotFound(f"There is no picture at {image!r}; give the path of an image file, or an id from a search.")
        return path

    def _fetched(self, url: str) -> Image.Image:
        if not self.runtime.settings.allow_urls:
            raise PathRefused(
                f"URLs are not allowed here ({url[:60]!r}); give a path or an id, or start with --allow-urls."
            )
        from imgret_tools.collect.net.guard import fetch_image

        try:
            return open_picture(fetch_image(url), max_megapixels=self.runtime.settings.max_megapixels).image
        except ImageError as error:
            raise BadInput(
                f"What {url[:200]!r} answers is no usable picture: {error}. Give another address."
            ) from error

    @staticmethod
    def phrase(text: str | None, name: str) -> str | None:
        """`text` without outer blanks; None stays None.

        Raises:
            BadInput: blank, no valid Unicode, or longer than a sentence needs.
        """
        if text is None:
            return None
        if not is_unicode(text):
            raise BadInput(f"Argument {name}, {quoted(text, 60)}, is not valid Unicode; give it as UTF-8 text.")
        if shows_nothing(text):
            raise BadInput(
                f"Argument {name} is empty or holds only characters that show nothing; write what the pictures should "
                "show, or leave it out."
            )
        if len(text) > MAX_TEXT:
            raise BadInput(f"Argument {name} has {len(text)} characters; at most {MAX_TEXT} are read. Shorten it.")
        return text.strip()


def one_of(name: str, value: _T, known: tuple[_T, ...]) -> _T:
    """`value` if it is one of `known`.

    Raises:
        BadInput: it is not; the message names those there are.
    """
    if value not in known:
        raise BadInput(f"Unknown {name} {value!r}; one of {', '.join(map(str, known))} expected.")
    return value


def _whole(name: str, value: int, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        span = f"from {least} to {most}" if most < sys.maxsize else f"of at least {least}"
        raise BadInput(f"Argument {name} is {value!r}; a whole number {span} expected.")
