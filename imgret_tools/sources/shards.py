"""WebDataset: pictures in .tar files, each with its label, text and facts beside it under the same key.

A shard is listed by its headers and never unpacked; a picture is read by its place in it. Of the files of a key the pictures are entries,
`.cls` is the label, `.txt` the caption, and `.json` may have `label` (or `class`), `caption` (or `text`) and `id` (or `key`).
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, cast

from imgret_tools.errors import BadInput, ImageError, ImgretError, Message, NotFound, own_words
from imgret_tools.pictures.find import PassedOver, patterns
from imgret_tools.pictures.formats import SUFFIXES, suffix_of
from imgret_tools.records import quoted
from imgret_tools.sources import remote
from imgret_tools.sources.source import SHARD, UNKNOWN, Listed, excluded, inner, is_address, mark_of, separator

_SIDECAR = 1 << 20
"""Bytes up to which a file beside a picture is read."""


@dataclass(frozen=True, slots=True)
class Shards:
    """The pictures in a .tar, or in all .tar below a folder, here or afar."""

    root: str
    holds: bool = True

    def listed(self, *, leave_out: Collection[Path], exclude: Sequence[str]) -> Iterator[Listed | PassedOver]:
        """The pictures of one shard after the other, in the order in which they lie in it."""
        spec = patterns(exclude) if exclude else None
        place = inner(self.root)
        for shard, mark in _shards(place):
            try:
                for found in _members(shard, mark):
                    if spec is not None and spec.match_file(f"{shard[len(place) :]}{found.path}".lstrip("/\\")):
                        yield excluded(found.path)
                    else:
                        yield found
            except (OSError, tarfile.TarError, ImageError) as error:
                reason = Message("cannot be read: {reason}", reason=own_words(error))
                yield PassedOver(f"webdataset:{shard}", reason, kind="unreadable")

    def content(self, path: str, *, size: int = UNKNOWN, place: str = "") -> Path | bytes:
        """The picture's bytes, from its place in the shard."""
        shard, member = _parted(path)
        if not place:
            place = _places(shard).get(member, "")
        if not place:
            raise ImageError("it is not in its archive any more")
        start, count = map(int, place.split(":"))
        if is_address(shard):
            return remote.read(shard, start=start, end=start + count)
        with Path(shard).open("rb") as file:
            file.seek(start)
            data = file.read(count)
        if len(data) != count:
            raise ImageError("it changes while it is read; the next run tries again")
        return data


def _shards(place: str) -> Iterator[tuple[str, int | None]]:
    """The .tar files at a place, each with its change mark."""
    if is_address(place):
        if place.endswith(SHARD):
            yield place, remote.mark(remote.facts_of(place))
            return
        for facts in remote.below(place):
            if str(facts["path"]).endswith(SHARD):
                yield str(facts["path"]), remote.mark(facts)
        return
    path = Path(place)
    if not path.exists():
        raise NotFound(
            "No folder at {folder}; give the path of an existing folder with pictures.", folder=quoted(place)
        )
    for file in [path] if path.is_file() else sorted(path.rglob(f"*{SHARD}")):
        status = file.stat()
        yield str(file), mark_of(status.st_size, status.st_mtime_ns)


@contextmanager
def _opened(shard: str) -> Iterator[tarfile.TarFile]:
    if not is_address(shard):
        with tarfile.open(shard, "r:") as archive:
            yield archive
        return
    system, name = remote.opened(shard)
    with system.open(name, "rb") as file, tarfile.open(fileobj=cast(IO[bytes], file), mode="r:") as archive:
        yield archive


@dataclass(slots=True)
class _Sample:
    """The files of one key: pictures as (name, start, bytes, time in ns), and what stands beside them."""

    key: str = ""
    pictures: list[tuple[str, int, int, int]] = field(default_factory=list)
    beside: dict[str, str] = field(default_factory=dict)

    def entries(self, shard: str, mark: int | None) -> Iterator[Listed]:
        facts: object = {}
        try:
            facts = json.loads(self.beside.get("json", "{}"))
        except ValueError:
            facts = {}
        told = facts if isinstance(facts, dict) else {}
        label = self.beside.get("cls") or told.get("label", told.get("class"))
        caption = self.beside.get("txt") or told.get("caption", told.get("text"))
        key = str(told.get("id", told.get("key", "")) or "")
        for name, start, count, changed in self.pictures:
            yield Listed(
                f"webdataset:{shard}{separator(shard)}{name}",
                count,
                changed,
                mark_of(mark, start, label, caption, key),
                f"{start}:{count}",
                "" if label is None else str(label).strip(),
                key.strip(),
                None if caption is None else str(caption).strip(),
            )


def _members(shard: str, mark: int | None) -> Iterator[Listed]:
    sample = _Sample()
    with _opened(shard) as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # else it keeps every header that it has read
            if not member.isreg() or member.name.rpartition("/")[2].startswith("."):
                continue
            folder, mark_at, base = member.name.rpartition("/")
            stem, _, ending = base.partition(".")
            key = f"{folder}{mark_at}{stem}"
            if key != sample.key:
                yield from sample.entries(shard, mark)
                sample = _Sample(key)
            ending = ending.lower()
            if ending in ("cls", "txt", "json") and member.size <= _SIDECAR:
                file = archive.extractfile(member)
                sample.beside[ending] = file.read().decode("utf-8", "replace") if file is not None else ""
            elif suffix_of(base) in SUFFIXES:
                sample.pictures.append((member.name, member.offset_data, member.size, int(member.mtime) * 10**9))
        yield from sample.entries(shard, mark)


@lru_cache(maxsize=4)
def _places(shard: str) -> dict[str, str]:
    """Where each picture of a shard lies in it, for those who don't come from a listing."""
    try:
        return {_parted(found.path)[1]: found.place for found in _members(shard, None)}
    except (OSError, tarfile.TarError, ImgretError) as error:
        raise ImageError("cannot be read: {reason}", reason=own_words(error)) from error


def _parted(path: str) -> tuple[str, str]:
    """The shard of a picture and its name in it."""
    whole = inner(path)
    end = whole.find(f"{SHARD}{separator(whole)}")
    if end < 0:
        raise BadInput("{path!r} is no picture in a .tar of WebDataset.", path=path)
    end += len(SHARD)
    return whole[:end], whole[end + 1 :]
