"""The runtime: the encoders in use and the open libraries. The only stateful object; everything else is called through it.

One encoder of a name is loaded once and serves every library made with it; whoever encodes waits for its turn at that
encoder and at nothing else. A call takes one View of its library at its start and reads everything through it.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgret_tools.encoders import choose, has_newer_recipe, make_encoder, spec_of
from imgret_tools.encoders.glossary.vietnamese import translate
from imgret_tools.encoders.protocol import Encoder, SeesColours
from imgret_tools.encoders.unread import Unread, unread
from imgret_tools.engine.approximate import EXACT_UP_TO, approximate_rows
from imgret_tools.engine.compose import MOST_PARTS, compose
from imgret_tools.engine.copies import distinct, without
from imgret_tools.engine.match import Matcher, Part, match_of
from imgret_tools.engine.neighbourhood import is_refinable, refined_order
from imgret_tools.engine.query import Query
from imgret_tools.engine.search import nearest_rows, ranked
from imgret_tools.engine.turns import one_at_a_time
from imgret_tools.engine.upkeep import keep_up
from imgret_tools.errors import (
    BadInput,
    EncoderError,
    ImageError,
    ImgretError,
    IndexUnavailable,
    LibraryLocked,
    Message,
    NotFound,
)
from imgret_tools.files import atomic_write
from imgret_tools.library import doctor
from imgret_tools.library.catalogue import Card
from imgret_tools.library.chroma import HnswSpace
from imgret_tools.library.faults import said_plainly
from imgret_tools.library.filters import FIELDS, Condition, nothing_holds
from imgret_tools.library.library import Library, folder_name, require
from imgret_tools.library.sharing import find_shared, given_of, is_its_file
from imgret_tools.library.view import View
from imgret_tools.metrics import METRICS, RowStats, row_stats
from imgret_tools.pictures.find import content_hash
from imgret_tools.pictures.open import open_picture
from imgret_tools.pictures.pixels import resize_pixels
from imgret_tools.pictures.thumbnails import ThumbnailCache
from imgret_tools.records import (
    Entry,
    ExportReport,
    Group,
    Hit,
    ImportReport,
    IndexReport,
    LibraryInfo,
    Measure,
    Order,
    Progress,
    ReencodeReport,
    Refine,
    Scalar,
    SearchKind,
    SearchReport,
    Space,
)
from imgret_tools.settings import Settings
from imgret_tools.sources.choose import content_of, source_of
from imgret_tools.sources.source import inner, is_address, is_under, lies_elsewhere, root_of

TEXT_WEIGHT = 2.5
"""How much a text counts beside a picture in a query of both: cosines of text and picture spread so much less (`mini` on the demo)."""
_ROW_IS_NOT_ITS_PICTURE = 0.98
"""Cosine below which a stored row and the one made of the file now are of two pictures: decoders of two versions differ less."""

THUMBNAIL = 256
"""Side in pixels of the pictures in the cache."""
_ARRIVAL = 120.0
"""Seconds that a call waits for a library that is being made (`Runtime.arriving`)."""

_log = logging.getLogger(__name__)


class Runtime:
    """Opens, indexes and searches libraries under one `Settings`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._libraries: dict[str, Library] = {}
        self._encoders: dict[tuple[str, str], Encoder] = {}
        self._matchers: dict[tuple[str, str], Matcher] = {}
        self._loading: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._arriving: dict[str, threading.Event] = {}
        self.thumbnails = ThumbnailCache(settings.data_dir / "thumbnails")

    @classmethod
    def open(cls, settings: Settings | None = None) -> Runtime:
        """A runtime for `settings`, or for the environment's; use it in a `with` block."""
        return cls(settings or Settings.from_env())

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the libraries and the encoders."""
        with self._lock:
            libraries = list(self._libraries.values())
            self._libraries.clear()
            self._encoders.clear()
            self._matchers.clear()
        for library in libraries:
            library.close()

    # Libraries

    @property
    def _homes(self) -> Path:
        return self.settings.data_dir / "libraries"

    def libraries(self) -> list[LibraryInfo]:
        """All libraries of the data folder, by name; one that cannot be opened says why and hides none of the others."""
        homes = sorted(home for home in self._homes.glob("*") if not home.name.startswith(".") and self._there(home))
        return sorted((self._info(home) for home in homes), key=lambda info: info.name)

    def _there(self, home: Path) -> bool:
        """Whether there is a library at `home` for this process."""
        only = self.settings.only
        return (only is None or home.name in map(folder_name, only)) and Library.exists(home)

    def _info(self, home: Path) -> LibraryInfo:
        try:
            return self._at(home).info()
        except ImgretError as error:
            _log.warning("library %s cannot be opened", home, exc_info=True)
            return LibraryInfo(home.name, "", "", 0, 0, {}, [], 0, 0, 0, damaged=str(error), place=str(home))

    def library(self, name: str = "default") -> Library:
        """The library of that name; `default` is the property's, or the only one, while there is no library called so.

        Raises:
            NotFound: there is none; the message names those there are.
        """
        home = self._homes / folder_name(name)
        if name == "default" and not self._there(home):
            home = self._homes / folder_name(self.default)
        self.await_arrivals(home.name)
        if not self._there(home):
            infos = self.libraries()
            if not (name == "default" and infos) and self._attached_by_name(name):
                return self._at(home)
            if name == "default" and len(infos) == 1 and not infos[0].damaged:
                return self.library(infos[0].name)
            there = (
                Message("there are {names}", names=", ".join(repr(info.name) for info in infos))
                if infos
                else Message("there is none yet")
            )
            raise NotFound("There is no library {name!r}; {there}. Index a folder to make one.", name=name, there=there)
        return self._at(home)

    def attach(self, name: str) -> str:
        """Share a library that another data folder gave the Chroma server: its pictures are found here, and here too it can be
        indexed. Returns what it is called here.

        Args:
            name: what it is called there, `NAME@OWNER` where several are called so.

        Raises:
            BadInput: there is no server, or this data folder has another library of that name.
            NotFound: the server has no such library; the message names those it has.
            IndexUnavailable: the server cannot be asked.
        """
        server = self.settings.chroma
        if server is None:
            raise BadInput("Libraries are shared by a Chroma server; set IMGRET_CHROMA_URL to its address.")
        shared = find_shared(name, folder_name(name), server)
        called = name.partition("@")[0].strip() or shared.library
        home = self._homes / folder_name(called)
        if Library.exists(home):
            if self._at(home).index.given.owner == shared.owner:
                return called
            raise BadInput("There is a library {name!r} already; choose another name.", name=called)
        card = replace(shared.card, name=called)
        Library.create(home, card, server=server, upkeep=keep_up, given=given_of(shared, server))
        if behind := self._at(home).follow():
            _log.warning("%s is empty yet: %s", home, behind)
        return called

    def _attached_by_name(self, name: str) -> bool:
        """Whether the server has one library of a name that is not here, and it is shared now; a shared app shares none."""
        if not self.settings.chroma_url or self.settings.read_only or self.settings.only is not None:
            return False
        try:
            self.attach(name)
        except (NotFound, IndexUnavailable) as error:
            _log.info("%s", error)
            return False
        return True

    @contextmanager
    def view(self, library: str = "default") -> Iterator[View]:
        """The library of that name as it is now, unchanged until the block ends.

        Raises:
            NotFound: there is none; the message names those there are.
        """
        with self.library(library).view() as view:
            yield view

    @contextmanager
    def arriving(self, library: str) -> Iterator[None]:
        """While a library that is not there yet is made inside, whoever asks for it by `library` or `view` waits for the end."""
        home = self._homes / folder_name(library)
        arrival = threading.Event()
        if not Library.exists(home):
            self._arriving[home.name] = arrival
        try:
            yield
        finally:
            self._arriving.pop(home.name, None)
            arrival.set()

    def await_arrivals(self, home: str | None = None) -> None:
        """Wait for the libraries that are being made inside `arriving`, or for the one of that folder; else return at once."""
        for name, arrival in list(self._arriving.items()):
            if home in (None, name):
                arrival.wait(_ARRIVAL)

    def is_arriving(self, library: str) -> bool:
        """Whether a library is being made now that others wait for."""
        return folder_name(library) in self._arriving

    def entry(self, id_: str, library: str = "default") -> Entry:
        """An indexed picture as it is known now; callers with a View ask that.

        Raises:
            NotFound: no such library or id.
        """
        with self.view(library) as view:
            return view.entry(id_)

    def _at(self, home: Path) -> Library:
        with self._lock:
            library = self._libraries.get(home.name)
        if library is None:
            made = Library(home, server=self.settings.chroma, upkeep=keep_up)
            with self._lock:
                library = self._libraries.setdefault(home.name, made)
        return library

    def index(
        self,
        folder: Path | str,
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
        """Bring `library` up to date with `folder`; a library that is not there is made first.

        Args:
            folder: where the pictures are: a folder, or the address of another source (`sources`), as a text.
            library: its name.
            encoder: for a new library, by name or nickname (default: the settings'); an existing one keeps its own, another is
                refused.
            pixel_size: side of the pixel rows in pixels, 8 to 1024.
            exclude: see `indexing.index_folder`.
            dry_run: tell what would be done, change nothing.
            progress: see `indexing.index_folder`.
            cancelled: see `indexing.index_folder`.
            engine: see `indexing.index_folder`.
        """
        if engine not in ("local", "ray") and not engine.startswith("ray://"):
            raise BadInput("Engine {engine!r} is not known; give local, ray or ray://HOST:PORT.", engine=engine)
        if pixel_size is not None and not 8 <= pixel_size <= 1024:
            raise BadInput("Pixel size {pixel_size} cannot be used; give 8 to 1024.", pixel_size=pixel_size)
        encoder = spec_of(encoder) if encoder else encoder
        home = self._homes / folder_name(library)
        with tempfile.TemporaryDirectory() as scratch:
            new = not Library.exists(home)
            if new:
                target = self._create(Path(scratch) / "dry" if dry_run else home, library, encoder, pixel_size)
            else:
                target = self._at(home)
            card = target.card
            spec = encoder if encoder not in (None, "", "auto") else card.encoder
            if not new and not card.images and spec != card.encoder:
                target = self._begun_again(target, library, str(spec), pixel_size)
            try:
                used = self.encoder_of(target.card) if spec == card.encoder else self.encoder(str(spec))
                from imgret_tools.engine.indexing import index_folder

                report = index_folder(
                    target,
                    used,
                    folder,
                    thumbnails=self.thumbnails,
                    pixel_size=pixel_size,
                    max_megapixels=self.settings.max_megapixels,
                    leave_out=(self.settings.data_dir,),
                    exclude=exclude,
                    dry_run=dry_run,
                    progress=progress,
                    cancelled=cancelled,
                    engine=engine,
                    make_encoder=partial(
                        make_encoder, used.name, fingerprint=used.fingerprint, device=self.settings.device
                    ),
                )
                return replace(report, notice=Message.joined((report.notice, self.offer(target.card))))
            except BaseException:
                if new and not dry_run and not len(target):
                    with suppress(LibraryLocked):  # another process fills it now
                        self._take_back(target, only_empty=True)
                raise
            finally:
                if new and dry_run:
                    target.close()

    def import_rows(
        self,
        rows: Path,
        table: Path | None = None,
        *,
        library: str = "default",
        encoder: str | None = None,
        normalize: bool = False,
        progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> ImportReport:
        """Take rows made elsewhere into `library`; one that is not there is made first.

        Args:
            rows: a .npy file (n, dim), or a folder that clip-retrieval wrote.
            table: a .csv or .parquet file with a line for each row; of a folder None.
            library: its name.
            encoder: what made the rows, by name or nickname; a new library needs it.
            normalize: see `exchange.import_rows`.
            progress: see `exchange.import_rows`.
            cancelled: see `exchange.import_rows`.

        Raises:
            BadInput: no encoder named, or what `exchange.import_rows` refuses.
        """
        from imgret_tools.engine.exchange import import_rows
        from imgret_tools.engine.tables import Tables

        source = Tables(rows, table)
        home = self._homes / folder_name(library)
        new = not Library.exists(home)
        if new and not encoder:
            raise BadInput(
                "Library {library!r} is new: name the encoder that made the rows with --encoder.", library=library
            )
        target = self._create(home, library, spec_of(str(encoder)), None) if new else self._at(home)
        try:
            if not new and encoder not in (None, "", "auto"):
                require(target.card, encoder=spec_of(str(encoder)), fingerprint=target.card.fingerprint)
            return import_rows(target, source, normalize=normalize, progress=progress, cancelled=cancelled)
        except BaseException:
            if new and not len(target):
                with suppress(LibraryLocked):
                    self._take_back(target, only_empty=True)
            raise

    def export_rows(
        self,
        rows: Path,
        table: Path,
        *,
        library: str = "default",
        progress: Callable[[Progress], None] | None = None,
    ) -> ExportReport:
        """Write a library's rows and their table for other programs; see `exchange.export_rows`."""
        from imgret_tools.engine.exchange import export_rows

        return export_rows(self.library(library), rows, table, progress=progress)

    def _create(self, home: Path, name: str, encoder: str | None, pixel_size: int | None) -> Library:
        """A new library; its encoder is loaded and tried first, so that one that fails leaves no name taken."""
        made, notice = self._tried(encoder or self.settings.encoder)
        card = Card(
            name,
            made.name,
            made.fingerprint,
            made.dim,
            pixel_size or self.settings.pixel_size,
            notice=notice,
        )
        return Library.create(home, card, server=self.settings.chroma, upkeep=keep_up)

    def _tried(self, spec: str) -> tuple[Encoder, str]:
        """The encoder that `spec` means now, which has encoded a picture, and what is to be said of the choice."""
        notice = ""
        if spec == "auto":
            choice = choose()
            spec, notice = choice.spec, choice.notice
        made = self.encoder(spec)
        made.encode_images([made.prepare(Image.new("RGB", (8, 8)))])
        return made, notice

    def reencode(
        self,
        library: str = "default",
        *,
        encoder: str | None = None,
        progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> ReencodeReport:
        """Give a library's pictures rows of another encoder, or of a newer recipe of its own; ids and labels stay.

        Args:
            library: its name.
            encoder: name or nickname; left out, the library's own in its present recipe and with the weights that are here.
            progress: see `reencoding.reencode`.
            cancelled: see `reencoding.reencode`.

        Raises:
            NotFound: no such library, or pictures of which neither file nor thumbnail is there.
        """
        from imgret_tools.engine.reencoding import reencode

        target = self.library(library)
        made, notice = self._tried(encoder or target.card.encoder)
        return reencode(
            target,
            made,
            thumbnails=self.thumbnails,
            max_megapixels=self.settings.max_megapixels,
            notice=notice,
            progress=progress,
            cancelled=cancelled,
        )

    def offer(self, card: Card) -> str:
        """That `reencode` would give a library better rows, as a sentence, or "" where it would not."""
        if not _outdated(card):
            return ""
        return Message(
            "Its rows are of an older recipe of {encoder}: `imgret reencode --library {name}` makes better "
            "ones and keeps ids and labels.",
            encoder=card.encoder,
            name=card.name,
        )

    def is_outdated(self, library: str = "default") -> bool:
        """Whether a library was made with an older recipe of its encoder."""
        return _outdated(self.library(library).card)

    def info(self, library: str = "default") -> LibraryInfo:
        """What a library is and holds, and whether encoding it anew is worth it."""
        target = self.library(library)
        info = target.info()
        return replace(info, notice=Message.joined((info.notice, self.offer(target.card))))

    def _begun_again(self, empty: Library, name: str, encoder: str, pixel_size: int | None) -> Library:
        """An empty library in place of one that was made for another encoder and never held a picture."""
        home = empty.home
        self._take_back(empty)
        return self._create(home, name, encoder, pixel_size)

    def _take_back(self, library: Library, *, only_empty: bool = False) -> None:
        with self._lock:
            self._libraries.pop(library.home.name, None)
        library.delete(only_empty=only_empty)

    def forget(self, what: Sequence[str], *, library: str = "default") -> int:
        """Take pictures out of a library, by id or by the folder they were indexed from; no picture file is touched.

        Returns:
            How many pictures left.

        Raises:
            NotFound: something named is neither an id nor a folder that the library knows.
        """
        target = self.library(library)
        with target.writing("forgetting") as writer:
            gone: set[str] = set()
            folders = set(writer.card.folders)
            for name in what:
                folder = root_of(name)
                survey = writer.survey(folder, holds=source_of(folder).holds)
                if writer.entry(name) is not None:
                    gone.add(name)
                elif (ids := survey.ids()) or folder in folders:
                    gone.update(ids)
                    folders = {root for root in folders if root != folder and not is_under(root, folder)}
                else:
                    known = ", ".join(writer.card.folders) or "none"
                    raise NotFound(
                        "{name!r} is neither an id of library {library!r} nor a folder it knows; folders: {known}.",
                        name=name,
                        library=writer.card.name,
                        known=known,
                    )
            shas = {entry.sha256 for entry in map(writer.entry, gone) if entry is not None}
            count = writer.remove(gone, forget_labels=True)
            writer.set_folders(sorted(folders))
            for sha256 in shas:
                if not writer.holds_content(sha256):
                    self.thumbnails.remove(sha256)
            writer.compact()
            writer.sweep()
            with target.view() as view:
                keep_up(view)
        return count

    def rename(self, library: str, name: str) -> str:
        """Give a library another name; ids, labels and rows stay. Returns the name that it has now.

        Raises:
            NotFound: no such library.
            BadInput: the name cannot be used, or another library has it.
            LibraryLocked: the library is being written.
        """
        from imgret_tools.engine.reencoding import feed

        target = self.library(library)
        old, home = target.card.name, self._homes / folder_name(name)
        if home == target.home:
            return old
        if Library.exists(home):
            raise BadInput("There is a library {name!r} already; choose another name.", name=name.strip())
        target.rename(name, home)
        with self._lock:
            self._libraries.pop(target.home.name, None)
        if folder_name(self.default) == target.home.name:
            self.make_default(name)
        with self._at(home).writing("renaming") as writer:
            feed(writer)
        return self._at(home).card.name

    @property
    def default(self) -> str:
        """The library that `default` names while none is called so: the settings', else the one that was made it."""
        if self.settings.library != "default":
            return self.settings.library
        try:
            return self._chosen.read_text("utf-8").strip() or "default"
        except OSError:
            return "default"

    def make_default(self, library: str) -> None:
        """Let `default` name a library, now and for the processes of this data folder to come.

        Raises:
            NotFound: no such library.
            BadInput: a library is called `default` itself.
        """
        name = self.library(library).card.name
        if name != "default" and self._there(self._homes / "default"):
            raise BadInput("There is a library 'default', and it is the default one; rename it first.")
        with said_plainly(self._chosen), atomic_write(self._chosen) as file:
            file.write(name.encode())
        self.settings = replace(self.settings, library=name)

    @property
    def _chosen(self) -> Path:
        return self._homes / ".default"

    def delete(self, library: str) -> int:
        """Delete a library's index, damaged or not; no picture file is touched. Returns how many pictures it held."""
        home = self._homes / folder_name(library)
        if not Library.exists(home):
            self.library(library)
        try:
            target = self._at(home)
            count = len(target)
        except ImgretError:
            target, count = Library.broken(home), 0
        self._take_back(target)
        return count

    def check(self, library: str = "default", *, sample: int = doctor.SAMPLE) -> list[str]:
        """What is wrong with a library, one sentence each; a sample of its pictures is encoded again and compared."""
        target = self.library(library)

        def judge(entries: Sequence[Entry], rows: NDArray[np.float32]) -> list[str]:
            return self._wrong_rows(target.card, entries, rows)

        return doctor.check(target, sample=sample, judge=judge)

    def rebuild(self, library: str = "default") -> int:
        """Make a library whole again out of what is left of it; returns how many pictures it holds."""
        target = self.library(library)
        count = doctor.rebuild(target)
        if self._wrong_rows_are_marked(target):
            _log.info("pictures of %s are to be encoded anew", target.home)
        return count

    def _wrong_rows(self, card: Card, entries: Sequence[Entry], rows: NDArray[np.float32]) -> list[str]:
        wrong = self._of_other_content(card, entries, rows)
        if not wrong:
            return []
        return [
            f"{len(wrong)} of {len(entries)} sampled pictures have a row or a hash that is not their file's "
            f"({wrong[0].path} first); `imgret doctor --rebuild`, then `imgret index` of their folders encodes them anew."
        ]

    def _of_other_content(self, card: Card, entries: Sequence[Entry], rows: NDArray[np.float32]) -> list[Entry]:
        encoder = self.encoder_of(card)
        require(card, encoder=encoder.name, fingerprint=encoder.fingerprint)
        wrong = []
        for entry, row in zip(entries, rows, strict=True):
            path = Path(entry.path)
            try:
                status = path.stat()
                if (status.st_size, status.st_mtime_ns) != (entry.bytes, entry.mtime):
                    continue  # changed since: the next run sees it
                if content_hash(path) == entry.sha256:
                    picture = open_picture(
                        path, at_least=max(encoder.side, card.pixel_size), max_megapixels=self.settings.max_megapixels
                    )
                    now = encoder.encode_images([encoder.prepare(picture.image)])[0]
                    if float(now @ row) >= _ROW_IS_NOT_ITS_PICTURE:
                        continue
            except (OSError, ImageError):
                continue  # away, or broken since: nothing can be said
            wrong.append(entry)
        return wrong

    def _wrong_rows_are_marked(self, target: Library) -> bool:
        """Mark pictures whose row is not their file's, so that the next run encodes them; all of them are looked at."""
        marked = False
        with target.view() as view:
            for start in range(0, len(view), 256):
                numbers = view.numbers[start : start + 256]
                wrong = self._of_other_content(view.card, view.entries(numbers), np.asarray(view.matrix[numbers]))
                if wrong:
                    marked = True
                    with target.writing("rebuilding") as writer:
                        writer.distrust([entry.id for entry in wrong])
        return marked

    # Encoding

    def encoder(self, spec: str, *, fingerprint: str = "") -> Encoder:
        """The encoder of that name, loaded once; everyone who encodes with it takes turns, whatever they are doing.

        Args:
            spec: name or nickname, as `make_encoder` takes it.
            fingerprint: what a library recorded beside it; an older library gets the recipe that it was made with.
        """
        spec = spec_of(spec)
        with self._lock:
            loading = self._loading.setdefault(spec, threading.Lock())
        with loading:  # another encoder's loading is not waited for
            found = self._encoders.get((spec, fingerprint))
            if found is None:
                made = make_encoder(
                    spec,
                    fingerprint=fingerprint,
                    device=self.settings.device,
                    cache=self.settings.cache_dir,
                )
                known = self._encoders.get((spec, made.fingerprint))
                found = known or one_at_a_time(made)
                self._encoders[spec, fingerprint] = self._encoders[spec, made.fingerprint] = found
        return found

    def encoder_of(self, card: Card) -> Encoder:
        """The encoder that a library was made with."""
        return self.encoder(card.encoder, fingerprint=card.fingerprint)

    def encode_image(self, view: View, image: Image.Image) -> NDArray[np.float32]:
        """The unit row (dim,) of a picture, by the library's own encoder."""
        return np.asarray(self.encode_images(view, [image])[0])

    def encode_images(self, view: View, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """The unit rows (n, dim) of n pictures, by the library's own encoder."""
        encoder = self._checked(view)
        return np.asarray(encoder.encode_images([encoder.prepare(image) for image in images]))

    def encode_text(self, view: View, text: str) -> NDArray[np.float32]:
        """The unit row (dim,) of a text, by the library's own encoder."""
        return np.asarray(self.encode_texts(view, [text])[0])

    def encode_texts(self, view: View, texts: Sequence[str]) -> NDArray[np.float32]:
        """The unit rows (n, dim) of n texts, by the library's own encoder."""
        return np.asarray(self._checked(view).encode_texts(texts))

    def unread(self, view: View, text: str) -> Unread:
        """What of a text the library's encoder does not read, behind its glossary where it has one."""
        encoder = self._checked(view)
        translation = translate(text) if encoder.translates else None
        if translation is None:
            return unread(text, encoder.reading)
        return unread(text, encoder.reading, english=translation.english or None, unknown=translation.unknown)

    def _checked(self, view: View) -> Encoder:
        encoder = self.encoder_of(view.card)
        require(view.card, encoder=encoder.name, fingerprint=encoder.fingerprint)
        return encoder

    def open_query(self, image: Path | Image.Image | Entry, at_least: int) -> Image.Image:
        """The pixels of a query picture, upright RGB.

        Raises:
            NotFound: the file is gone.
            BadInput: it cannot be opened; with the reason.
        """
        if isinstance(image, Image.Image):
            return image
        if isinstance(image, Entry) and lies_elsewhere(image.path, image.folder):
            return self._open_elsewhere(image, at_least)
        path = Path(image.path) if isinstance(image, Entry) else image
        if not path.is_file() or (isinstance(image, Entry) and image.away and not is_its_file(image)):
            raise NotFound(
                "There is no picture at {path}; give the path of an image file, or an id from a search.", path=path
            )
        try:
            return open_picture(path, at_least=at_least, max_megapixels=self.settings.max_megapixels).image
        except ImageError as error:
            raise BadInput(
                "Query picture {name} cannot be used: {error}. Give another picture.", name=path.name, error=error
            ) from error

    def _open_elsewhere(self, entry: Entry, at_least: int) -> Image.Image:
        """An indexed picture of another source: from the cache as far as that goes, or where it may not be read."""
        small = self.thumbnails.made(entry.sha256)
        if small is not None and (at_least <= THUMBNAIL or not self._may_read(entry)):
            return open_picture(small).image
        try:
            return open_picture(self._content_elsewhere(entry), at_least=at_least).image
        except (ImgretError, OSError) as error:
            if small is not None:
                return open_picture(small).image
            raise BadInput(
                "Query picture {name} cannot be used: {error}. Give another picture.", name=entry.path, error=error
            ) from error

    def _content_elsewhere(self, entry: Entry) -> bytes | Path:
        if not self._may_read(entry):
            raise ImageError("it lies elsewhere, and this process may not read there; index its source again")
        return content_of(entry.path, entry.folder)

    def _may_read(self, entry: Entry) -> bool:
        if self.settings.read_only:
            return False
        place = inner(entry.folder)
        if not is_address(place) and any(Path(place).is_relative_to(root) for root in self.settings.roots):
            return True  # a file inside the roots: what it packs or lists may be read with it
        return self.settings.may_read(entry.path) or self.settings.may_read(entry.folder)

    def thumbnail(self, entry: Entry) -> Path:
        """The cached thumbnail file of an indexed picture, made when it is missing.

        Raises:
            ImageError: it is missing and the picture cannot be opened any more.
        """
        if lies_elsewhere(entry.path, entry.folder):
            made = self.thumbnails.made(entry.sha256)
            if made is None:
                picture = open_picture(self._content_elsewhere(entry), at_least=THUMBNAIL)
                made = self.thumbnails.put(entry.sha256, picture.image)
            return made
        if entry.away and not is_its_file(entry):
            if (made := self.thumbnails.made(entry.sha256)) is not None:
                return made
            raise ImageError("its file is not on this machine, or another one is at its place")
        return self.thumbnails.get(entry.sha256, Path(entry.path))

    def parts(self, view: View, query: Query) -> list[Part]:
        """The parts of a query as unit rows (dim,) with their weights; a text beside a picture counts `TEXT_WEIGHT` times.

        Raises:
            BadInput: a picture cannot be opened.
        """
        asked = [part for part in query.parts if part.weight]
        if len(asked) > MOST_PARTS:
            raise BadInput(
                "The query has {count} parts: expected at most {most_parts}; leave some out.",
                count=len(asked),
                most_parts=MOST_PARTS,
            )
        factor = 1.0 if all(part.is_text for part in asked) else TEXT_WEIGHT
        found = []
        for part in asked:
            if isinstance(part.what, str):
                row, read = self.encode_text(view, part.what), not self.unread(view, part.what).nothing
                encoder = self.encoder_of(view.card)
                wanted = encoder.coloured(part.what, row) if isinstance(encoder, SeesColours) else row
                found.append(Part(wanted, factor * part.signed, is_text=True, read=read, judged=row))
            elif isinstance(part.what, Entry):
                found.append(Part(view.row(part.what.id), part.signed))
            else:
                picture = self.open_query(part.what, self.encoder_of(view.card).side)
                found.append(Part(self.encode_image(view, picture), part.signed))
        return found

    def vector(self, view: View, query: Query) -> NDArray[np.float32]:
        """The unit row (dim,) of a query in the library's embedding space.

        Raises:
            BadInput: nothing is asked for, or its parts cancel each other.
        """
        return compose([(part.row, part.weight) for part in self.parts(view, query)])

    def matcher(self, view: View) -> Matcher:
        """What judges how well hits fit, for the library's encoder."""
        encoder = self._checked(view)
        with self._lock:
            return self._matchers.setdefault(
                (encoder.name, encoder.fingerprint), Matcher(encoder, self.settings.cache_dir)
            )

    def pixel_row(self, view: View, image: Path | Image.Image | Entry) -> NDArray[np.uint8]:
        """The pixel row (size * size * 3,) of a query picture at the library's size."""
        if isinstance(image, Entry):
            number = view.find(image.id)
            place = -1 if number is None else int(view.pixel_places[number])
            if place >= 0:
                return np.asarray(view.pixels[place])
        return resize_pixels(self.open_query(image, self.at_least(view)), view.card.pixel_size)

    def at_least(self, view: View) -> int:
        """The side in pixels at which pictures are opened, as indexing does.

        A JPEG decoded at another scale has slightly other pixels.
        """
        return max(self.encoder_of(view.card).side, view.card.pixel_size)

    def pixel_stats(self, view: View) -> RowStats:
        """Sums over the library's pixel rows that every comparison needs; made once for a revision."""
        return view.memo("pixel stats", lambda: row_stats(view.pixels))

    # Searching

    def search(
        self,
        query: Query,
        *,
        library: str = "default",
        k: int = 5,
        offset: int = 0,
        measure: Measure = "cosine",
        space: Space = "embedding",
        search: SearchKind = "auto",
        where: Sequence[Condition] = (),
        refine: Refine = "auto",
    ) -> SearchReport:
        """Rank the library's pictures by likeness to `query`; an indexed picture is left out of its own hits.

        Pictures with the same content are one hit (`Hit.copies`), and places count such hits.

        Args:
            query: what to search for.
            library: where.
            k: how many hits.
            offset: how many better ones to pass over (paging).
            measure: how to compare rows.
            space: which rows to compare; pixels know no text.
            search: `exact` scans all rows; `hnsw` asks Chroma's index for candidates and ranks them by `measure`, exactly;
                `auto` scans small libraries and asks an index for the candidates of large ones (engine/approximate.py).
            where: conditions the hits must satisfy; with those that leave few, and with `hnsw`, the scan is exact.
            refine: `auto` puts the hits of a picture alone in the order of their neighbourhoods where that helps (cosine
                and l2, `search` left to `auto`; engine/refine.py); `off` keeps the measure's own order.
        """
        started = time.perf_counter()
        with self.view(library) as view:
            return self._search(view, query, k, offset, measure, space, search, where, refine, started)

    def _search(
        self,
        view: View,
        query: Query,
        k: int,
        offset: int,
        measure: Measure,
        space: Space,
        search: SearchKind,
        where: Sequence[Condition],
        refine: Refine,
        started: float,
    ) -> SearchReport:
        metric, wanted = METRICS[measure], offset + k
        matching = view.matching(where)
        own = view.find(query.image.id) if isinstance(query.image, Entry) else None
        if own is not None:
            matching = without(matching, np.array([own]))
        contents = distinct(view, matching)
        numbers = contents.numbers
        searched, refined = len(numbers), None
        notices: list[str] = (
            [Message("It may lack what other machines changed: {reason}", reason=view.behind)] if view.behind else []
        )
        kind: Literal["exact", "hnsw", "ivf"] = self._kind(search, space, where, len(view))
        if search == "hnsw" and kind == "exact":
            notices.append("Exact scan: HNSW knows embeddings without filters only.")
        if space == "pixels":
            if query.lone_image is None:
                raise BadInput(
                    "Pixels can be searched by one picture alone; leave texts and other pictures out, or search in space 'embedding'."
                )
            there = numbers[view.pixel_places[numbers] >= 0]
            if missing := searched - len(there):
                notices.append(
                    Message(
                        "{missing} images have no pixel rows yet; index their folders again to make them.",
                        missing=missing,
                    )
                )
            places = view.pixel_places[there]
            pixels = self.pixel_row(view, query.lone_image)
            values = metric.values(pixels, view.pixels, subset=places)
            found, values = ranked(view, there, values, metric, wanted)
            found, values = found[offset:], values[offset:]
            scores = metric.score(values)
            closeness = self.matcher(view).closeness_of_pixels(view, pixels, view.pixel_places[found])
        else:
            parts = self.parts(view, query)
            row = compose([(part.row, part.weight) for part in parts])
            notices += [
                str(left)
                for part in query.parts
                if isinstance(part.what, str) and (left := self.unread(view, part.what))
            ]
            pool: NDArray[np.intp] | None = None if searched == len(view) else numbers
            quick = None
            if search == "auto":
                among = numbers if where or contents.counts else None
                quick = approximate_rows(view, row, measure, among, wanted, own=own)
            if quick is not None:
                kind = "ivf"
                notices.append(
                    Message(
                        "Candidates of an index, ranked exactly: it finds {share:.1f} % of the ten best on a sample.",
                        share=100 * quick.recall,
                    )
                )
            if kind == "hnsw":
                near: HnswSpace = "l2" if measure == "l2" else "cosine"
                try:
                    pairs = view.nearest(row, max(4 * wanted, wanted + 50), space=near)
                    near_ones = np.intersect1d([number for number, _ in pairs], numbers)
                    if len(near_ones) >= min(wanted, searched):
                        pool = near_ones
                    else:
                        kind = "exact"
                        notices.append(Message("Exact scan: the index's candidates are mostly copies of each other."))
                except IndexUnavailable as error:
                    kind = "exact"
                    notices.append(Message("Exact scan: {error}", error=error))
            if refine == "auto" and search == "auto" and kind == "exact" and is_refinable(query, measure):
                refined = refined_order(view, row, numbers, wanted, own=own)
            if quick is not None:
                found, values, scores = quick.numbers, quick.values, metric.score(quick.values)
            elif refined is not None:
                found, scores = refined
                values = metric.values(row, view.matrix, subset=found)
            else:
                found, values = nearest_rows(view, row, measure, pool, wanted)
                scores = metric.score(values)
            found, values, scores = found[offset:], values[offset:], scores[offset:]
            closeness = self.matcher(view).closeness(view, parts, np.asarray(view.matrix[found]))
        if not searched and where:
            notices += self._nothing_matches(view, where)
        elif wanted > searched:
            copies = len(matching) - searched
            told = (
                "{searched} images could be searched ({copies} more are copies of these), fewer than the {wanted} asked for."
                if copies
                else "{searched} images could be searched, fewer than the {wanted} asked for."
            )
            notices.append(Message(told, searched=searched, copies=copies, wanted=wanted))
        return SearchReport(
            library=view.card.name,
            encoder=view.card.encoder,
            query=query.described(),
            measure=measure,
            space=space,
            searched=searched,
            seconds=round(time.perf_counter() - started, 4),
            hits=[
                hit(entry, rank=rank, value=float(value), score=float(score), closeness=float(close), copies=copies)
                for rank, (entry, value, score, close, copies) in enumerate(
                    zip(view.entries(found), values, scores, closeness, contents.copies(found), strict=True), offset + 1
                )
            ],
            search=kind,
            total=len(view),
            notice=Message.joined(notices),
            matching=len(matching),
            refined=refined is not None,
        )

    def browse(
        self,
        *,
        library: str = "default",
        where: Sequence[Condition] = (),
        sort: Order = "newest",
        group: Group = "none",
        k: int = 5,
        offset: int = 0,
    ) -> SearchReport:
        """The library's pictures that satisfy `where`, in an order that needs no query; hits without a score.

        Args:
            library: where.
            where: conditions the hits must satisfy.
            sort: newest and oldest go by the date taken, pictures without one last.
            group: what stands together, each group in that order; pictures of none last.
            k: how many hits.
            offset: how many to pass over (paging).
        """
        started = time.perf_counter()
        with self.view(library) as view:
            matching = view.count(where)
            entries = view.entries(view.sorted_by(sort, where, group=group, k=k, offset=offset))
            return SearchReport(
                library=view.card.name,
                encoder=view.card.encoder,
                query={"sort": sort, "where": ", ".join(map(str, where)) or None},
                measure="cosine",
                space="embedding",
                searched=matching,
                seconds=round(time.perf_counter() - started, 4),
                hits=[hit(entry, rank=offset + place + 1) for place, entry in enumerate(entries)],
                total=len(view),
                matching=matching,
                notice="" if matching or not where else Message.joined(self._nothing_matches(view, where)),
            )

    @staticmethod
    def _nothing_matches(view: View, where: Sequence[Condition]) -> list[str]:
        """What to say when the filters leave nothing: of each that alone leaves nothing, which values there are."""
        said = []
        for condition in where:
            if not view.count([condition]):
                ordered = FIELDS[condition.field] in ("number", "date")
                known = view.span(condition.field) if ordered else list(view.counts(condition.field))
                said.append(nothing_holds(condition, known))
        return said or ["No picture satisfies all the filters together; leave one out."]

    @staticmethod
    def _kind(search: SearchKind, space: Space, where: Sequence[Condition], size: int) -> Literal["exact", "hnsw"]:
        able = space == "embedding" and not where
        return "hnsw" if able and (search == "hnsw" or (search == "auto" and size > EXACT_UP_TO)) else "exact"


def _outdated(card: Card) -> bool:
    try:
        return has_newer_recipe(card.encoder, card.fingerprint)
    except EncoderError:  # its weights are not here
        return False


def hit(
    entry: Entry,
    *,
    rank: int,
    value: float = 0.0,
    score: float = 0.0,
    closeness: float | None = None,
    copies: int = 1,
) -> Hit:
    """The entry as rank `rank` of a ranking; one whose file is not there now is marked as away."""
    shown = (
        "width", "height", "bytes", "taken", "camera", "latitude", "longitude", "rating", "keywords", "caption", "folder",
        "sha256",
    )  # fmt: skip
    metadata: dict[str, Scalar] = {name: found for name in shown if (found := getattr(entry, name)) is not None}
    if entry.keywords:
        metadata["keywords"] = entry.keywords.replace("\x1f", ", ")
    if entry.away or not (lies_elsewhere(entry.path, entry.folder) or Path(entry.path).exists()):
        metadata["away"] = True
    return Hit(
        rank=rank,
        id=entry.id,
        path=entry.path,
        label=entry.label,
        score=score,
        value=value,
        metadata=metadata,
        closeness=None if closeness is None else round(closeness, 4),
        match=None if closeness is None else match_of(closeness),
        copies=copies,
    )
