"""Pictures that callers send from afar: a bounded store by content hash, for as long as they are asked about.

An upload is named `upload-` and 12 hex digits of its SHA-256, so nobody can name a picture that he has not got or been told of.
The files lie in a private temporary folder of the process; the oldest leave when there are too many, all leave at its end,
and none ever enters a library.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from imgret_tools.errors import BadInput, ImageError, NotFound
from imgret_tools.pictures.apart import APART

UPLOAD = re.compile(r"upload-[0-9a-f]{12}")
"""What an upload's id looks like."""

MOST_BYTES = 20_000_000
"""Bytes of one picture that is sent."""

_HEAD = re.compile(r"data:(?P<type>[^;,]{0,80})(?P<parameters>(?:;[^;,]{0,80})*),", re.IGNORECASE)


class Uploads:
    """Pictures that were sent, the most recently used ones.

    Args:
        most: How many are kept.
        total: How many bytes of them are kept.
        seconds: How long one is kept after its last use.
        max_megapixels: Larger ones are refused.
        clock: Seconds that only go up.
    """

    def __init__(
        self,
        *,
        most: int = 256,
        total: int = 512_000_000,
        seconds: float = 3600.0,
        max_megapixels: int = 200,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._total, self._seconds = most, total, seconds
        self._max_megapixels, self._clock = max_megapixels, clock
        self._lock = threading.Lock()
        self._used: dict[str, tuple[float, int]] = {}  # id -> last use, bytes; the least recently used first
        self._folder: Path | None = None

    def add(self, content: bytes) -> str:
        """Keep a picture, the whole content of its file; the id that names it.

        Raises:
            BadInput: too large, or no picture that can be opened.
        """
        if len(content) > MOST_BYTES:
            raise BadInput(
                "The picture sent has {size:.0f} MB; at most {most_bytes:.0f} MB are taken. Send it smaller: 1000 "
                "pixels a side are enough to search with.",
                size=len(content) / 1e6,
                most_bytes=MOST_BYTES / 1e6,
            )
        id_ = f"upload-{hashlib.sha256(content).hexdigest()[:12]}"
        with self._lock:
            known = id_ in self._used
        if not known:
            try:
                APART.check(content, max_megapixels=self._max_megapixels)
            except ImageError as error:
                raise BadInput(
                    "The picture sent cannot be used: {error}. Send a JPEG, PNG, WebP or HEIC file.", error=error
                ) from error
        with self._lock:
            if id_ not in self._used:
                self._path(id_).write_bytes(content)
            self._touch(id_, len(content))
            self._forget_old()
        return id_

    def path(self, id_: str) -> Path:
        """The file of an upload.

        Raises:
            NotFound: there is none of that id, or not any more.
        """
        with self._lock:
            self._forget_old()
            if id_ not in self._used:
                raise NotFound(
                    "There is no upload {id!r} here (uploads are kept for {minutes:.0f} minutes); send the picture "
                    "again.",
                    id=id_[:40],
                    minutes=self._seconds / 60,
                )
            self._touch(id_, self._used[id_][1])
            return self._path(id_)

    def __len__(self) -> int:
        return len(self._used)

    def __contains__(self, path: object) -> bool:
        return isinstance(path, Path) and path.parent == self._folder

    def _path(self, id_: str) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="imgret-")).resolve()
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder / id_

    def _touch(self, id_: str, size: int) -> None:
        self._used.pop(id_, None)
        self._used[id_] = (self._clock(), size)

    def _forget_old(self) -> None:
        size = sum(size for _, size in self._used.values())
        for id_, (used, bytes_) in list(self._used.items()):
            fits = len(self._used) <= self._most and size <= self._total
            if (fits or len(self._used) == 1) and self._clock() - used <= self._seconds:
                return
            del self._used[id_]
            self._path(id_).unlink(missing_ok=True)
            size -= bytes_


def of_data_url(url: str) -> bytes:
    """The content of a `data:image/...;base64,...` URL.

    Raises:
        BadInput: too long, of another type, or not base64; the message never repeats the data.
    """
    if len(url) > MOST_BYTES * 4 // 3 + 300:
        raise BadInput(
            "The data URL has {size:.0f} MB; pictures of at most {most_bytes:.0f} MB are taken. Send it "
            "smaller: 1000 pixels a side are enough to search with.",
            size=len(url) / 1e6,
            most_bytes=MOST_BYTES / 1e6,
        )
    head = _HEAD.match(url)
    if head is None or not head["type"].lower().startswith("image/"):
        kind = head["type"] if head else ""
        raise BadInput("A data URL of type {kind!r} was given; data:image/jpeg;base64,... is expected.", kind=kind[:40])
    if ";base64" not in head["parameters"].lower():
        raise BadInput("The data URL is not in base64; data:image/jpeg;base64,... is expected.")
    data = "".join(unquote(url[head.end() :]).split())
    try:
        return base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput(
            "The data URL's base64 is broken ({error}); encode the whole file, and send it unchanged.", error=error
        ) from error
