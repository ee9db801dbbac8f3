"""What a download has done, one JSON line a URL, appended as it happens: the state that a later run goes on from."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from imgret_tools.errors import BadInput

MANIFEST = "manifest.jsonl"
FILE_LIST = "filename.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """One line: a picture that was saved (`path` relative to the folder, `/` between parts), or `error` and no path.

    `permanent` errors are not tried again. `fetched` is the address that gave the picture where `url` itself led to none.
    `time` is UTC, ISO 8601; `bytes` the file's size; `page` and `license` are
    what the crawl read beside the picture.
    """

    url: str
    category: str
    term: str
    time: str
    path: str = ""
    sha256: str = ""
    bytes: int = 0
    format: str = ""
    width: int = 0
    height: int = 0
    page: str = ""
    license: str = ""
    credit: str = ""
    etag: str = ""
    last_modified: str = ""
    error: str = ""
    permanent: bool = False
    fetched: str = ""


class Manifest:
    """The lines of `manifest.jsonl`, the last one of a URL counting. A line torn by a crash is passed over."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / MANIFEST
        self.saved: dict[str, Saved] = {}
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        torn = False
        if self.path.exists():
            with self.path.open("rb") as file:
                for line in file:
                    torn = not line.endswith(b"\n")
                    try:
                        entry = Saved(**json.loads(line))
                    except ValueError:
                        continue
                    except TypeError as error:
                        raise BadInput(
                            "{path} holds a line this version cannot read: {error}.", path=self.path, error=error
                        ) from error
                    self.saved[entry.url] = entry
        self._torn = torn

    def add(self, entry: Saved) -> None:
        """Records `entry`; once this returns, a killed process does not lose it."""
        line = (
            json.dumps({k: v for k, v in asdict(entry).items() if v not in ("", 0, False)}, ensure_ascii=False) + "\n"
        )
        with self._lock:
            if self._file is None:
                self._file = self.path.open("ab", buffering=0)
                if self._torn:
                    self._file.write(b"\n")
            self._file.write(line.encode("utf-8", errors="surrogatepass"))
            self.saved[entry.url] = entry

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
