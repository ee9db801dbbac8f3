"""Small pictures for pages and models, kept in a private folder."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from PIL import Image

from imgret_tools.pictures.open import open_picture

CACHE_SIGN = b"Signature: 8a477f597d28d172789f06886806bc55"
"""How the file CACHEDIR.TAG of a cache folder begins."""


def thumbnail(image: Image.Image, side: int = 256) -> bytes:
    """`image` as a JPEG of at most `side` x `side` pixels in its own proportions, never larger than it is."""
    scale = min(1.0, side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    out = BytesIO()
    small.convert("RGB").save(out, "JPEG", quality=85)
    return out.getvalue()


class ThumbnailCache:
    """Small JPEGs in a private folder, made when first asked for; deleting the folder at any time costs only time.

    A thumbnail is filed under hashes of its `key` (an image id or path, never part of a file name) and its `stamp`
    (content hash, or size and mtime): a new stamp makes a new file and drops the old one.
    """

    def __init__(self, folder: Path, *, side: int = 256) -> None:
        self.folder = folder
        self._side = side

    def get(self, key: str, source: Path, stamp: object) -> Path:
        """The thumbnail's file, drawn from `source` if it is not there yet. Raises ImageError for a broken `source`."""
        return self.made(key, stamp) or self.put(key, stamp, open_picture(source, at_least=self._side).image)

    def made(self, key: str, stamp: object) -> Path | None:
        """The thumbnail's file, if it is there."""
        target = self._target(key, stamp)
        with suppress(OSError):
            if target.stat().st_size:
                return target
        return None

    def put(self, key: str, stamp: object, image: Image.Image | bytes) -> Path:
        """The file of a thumbnail drawn from `image` (upright RGB, or made already), in the place of earlier ones of `key`."""
        target = self._target(key, stamp)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        if not (tag := self.folder / "CACHEDIR.TAG").exists():  # searches and backups pass over such a folder
            tag.write_bytes(CACHE_SIGN + b"\n# Thumbnails of imgret; see https://bford.info/cachedir/\n")
        target.parent.mkdir(mode=0o700, exist_ok=True)
        part = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            part.write_bytes(image if isinstance(image, bytes) else thumbnail(image, self._side))
            part.chmod(0o600)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        for old in self._files(key):
            if old != target:
                old.unlink(missing_ok=True)
        return target

    def remove(self, key: str) -> None:
        """Forget `key`; nothing happens when it is not there."""
        for old in self._files(key):
            old.unlink(missing_ok=True)

    def _target(self, key: str, stamp: object) -> Path:
        name = _digest(key)
        return self.folder / name[:2] / f"{name}-{_digest(repr(stamp))[:16]}.jpg"

    def _files(self, key: str) -> Iterator[Path]:
        name = _digest(key)
        return (self.folder / name[:2]).glob(f"{name}-*.jpg")


def data_url(jpeg: bytes) -> str:
    """A JPEG, such as a thumbnail, inside an address."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]
