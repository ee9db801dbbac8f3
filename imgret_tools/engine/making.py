"""What is made of one file's content: its hash, its facts and what an encoder takes. Threads do it, and processes elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgret_tools.errors import ImageError, Message, own_words
from imgret_tools.library.filters import BETWEEN_WORDS
from imgret_tools.library.survey import SeenFile
from imgret_tools.pictures.open import open_picture
from imgret_tools.pictures.pixels import resize_pixels
from imgret_tools.pictures.thumbnails import thumbnail
from imgret_tools.records import Entry
from imgret_tools.sources.source import UNKNOWN, Source

_IN_MEMORY = 64 << 20
"""Files up to this many bytes are read once, for hash and decoder together; larger ones of this machine twice."""

Prepare = Callable[[Image.Image], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Content:
    """What was made of a file's content: its hash, and what the library lacked of it.

    Attributes:
        sha256: its hash, "" where it cannot be read.
        facts: what it tells of itself, as an entry without id, path and label.
        prepared: what the encoder takes; None where `row` is there already.
        pixels: its pixel row (size * size * 3,) uint8.
        failure: why nothing was made of it.
        row: its unit row (dim,).
        thumbnail: a small JPEG of it.
        remark: what is odd about it.
        seconds: what hashing (with reading), decoding and encoding took.
    """

    sha256: str
    facts: Entry | None = None
    prepared: NDArray[np.float32] | None = None
    pixels: NDArray[np.uint8] | None = None
    failure: str = ""
    row: NDArray[np.float32] | None = None
    thumbnail: bytes | None = None
    remark: str = ""
    seconds: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Maker:
    """Reads a source's files and decodes them. Frozen and picklable: a process elsewhere makes the same of the same file.

    Attributes:
        source: where they come from.
        at_least: the side in pixels that encoder and pixel rows ask for.
        pixel_size: side of the pixel rows.
        max_megapixels: larger pictures are failures.
        thumbnails: make small JPEGs too.
    """

    source: Source
    at_least: int
    pixel_size: int
    max_megapixels: int
    thumbnails: bool

    def read(self, file: SeenFile) -> tuple[str, Path | bytes]:
        """A file's content hash, and its bytes where they fit in memory, else its path.

        Raises:
            ImageError: it cannot be read.
        """
        try:
            content = self.source.content(file.path, size=file.bytes, place=file.place)
            if isinstance(content, Path):
                if file.bytes > _IN_MEMORY:
                    with content.open("rb") as opened:
                        return hashlib.file_digest(opened, "sha256").hexdigest(), content
                content = content.read_bytes()
        except OSError as error:
            raise ImageError("cannot be read ({reason})", reason=own_words(error)) from error
        return hashlib.sha256(content).hexdigest(), content

    def hash(self, file: SeenFile) -> str:
        """A file's content hash, 64 hex digits.

        Raises:
            ImageError: it cannot be read.
        """
        try:
            content = self.source.content(file.path, size=file.bytes, place=file.place)
            with content.open("rb") if isinstance(content, Path) else BytesIO(content) as opened:
                return hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise ImageError("cannot be read ({reason})", reason=own_words(error)) from error

    def decode(self, file: SeenFile, sha256: str, content: Path | bytes | None, prepare: Prepare | None) -> Content:
        """What a file's content shows.

        Args:
            file: which.
            sha256: its content hash.
            content: its bytes or its path; None reads it again, and refuses another content than that of the hash.
            prepare: makes it ready for the encoder; without it only the pixel row is made.
        """
        try:
            if content is None:
                content = self.source.content(file.path, size=file.bytes, place=file.place)
                if isinstance(content, bytes) and hashlib.sha256(content).hexdigest() != sha256:
                    raise ImageError("it changes while it is read; the next run tries again")
            size = self.pixel_size
            picture = open_picture(content, at_least=self.at_least, max_megapixels=self.max_megapixels)
        except ImageError as error:
            return Content(sha256, failure=str(error))
        except OSError as error:
            return Content(sha256, failure=Message("cannot be read ({reason})", reason=own_words(error)))
        facts = Entry(
            id="",
            path="",
            folder="",
            label="",
            width=picture.width,
            height=picture.height,
            bytes=len(content) if file.bytes == UNKNOWN and isinstance(content, bytes) else file.bytes,
            mtime=file.mtime,
            sha256=sha256,
            taken=picture.taken,
            camera=picture.camera,
            latitude=picture.latitude,
            longitude=picture.longitude,
            rating=picture.rating,
            keywords=BETWEEN_WORDS.join(picture.keywords) or None,
            caption=picture.caption,
        )
        return Content(
            sha256,
            facts,
            prepare(picture.image) if prepare is not None else None,
            resize_pixels(picture.image, size),
            thumbnail=thumbnail(picture.image) if self.thumbnails and prepare is not None else None,
            remark=picture.remark,
        )
