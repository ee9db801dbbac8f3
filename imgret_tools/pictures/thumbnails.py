"""Small pictures for pages and models, kept in a private folder."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from PIL import Image

from imgret_tools.pictures.open import open_picture

CACHE_SIGN = b"Signature: 8a477f597d28d172789f06886806bc55"
"""How the file CACHEDIR.TAG of a cache folder begins."""
_ENDING = "-6f49cdbd80e1b95d.jpg"  # of all names, so that thumbnails of every version are found


def thumbnail(image: Image.Image, side: int = 256) -> bytes:
    """`image` as a JPEG of at most `side` x `side` pixels in its own proportions, never larger than it is."""
    scale = min(1.0, side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image if size == image.size else image.resize(size, Image.Resampling.HAMMING, reducing_gap=2.0)
    out = BytesIO()
    small.convert("RGB").save(out, "JPEG", quality=85)
    return out.getvalue()


class ThumbnailCache:
    """Small JPEGs in a private folder, made when first asked for; deleting the folder at any time costs only time.

    A thumbnail is filed under a hash of its `key`, which is the content hash of its picture: other content, other thumbnail.
    """

    def __init__(self, folder: Path, *, side: int = 256) -> None:
        self.folder = folder
        self._side = side

    def get(self, key: str, source: Path) -> Path:
        """The thumbnail's file, drawn from `source` if it is not there yet. Raises ImageError for a broken `source`."""
        return self.made(key) or self.put(key, open_picture(source, at_least=self._side).image)

    def made(self, key: str) -> Path | None:
        """The thumbnail's file, if it is there."""
        target = self._target(key)
        with suppress(OSError):
            if target.stat().st_size:
                return target
        return None

    def put(self, key: str, image: Image.Image | bytes) -> Path:
        """The file of a thumbnail drawn from `image` (upright RGB, or made already), in the place of an earlier one."""
        content = image if isinstance(image, bytes) else thumbnail(image, self._side)
        target = self._target(key)
        part = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            try:
                _write(part, content)
            except FileNotFoundError:
                self._make_folder(target.parent)
                _write(part, content)
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return target

    def remove(self, key: str) -> None:
        """Forget `key`; nothing happens when it is not there."""
        self._target(key).unlink(missing_ok=True)

    def _make_folder(self, inner: Path) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        if not (tag := self.folder / "CACHEDIR.TAG").exists():  # searches and backups pass over such a folder
            tag.write_bytes(CACHE_SIGN + b"\n# Thumbnails of imgret; see https://bford.info/cachedir/\n")
        inner.mkdir(mode=0o700, exist_ok=True)

    def _target(self, key: str) -> Path:
        name = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:32]
        return self.folder / name[:2] / f"{name}{_ENDING}"


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def data_url(jpeg: bytes) -> str:
    """A JPEG, such as a thumbnail, inside an address."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
