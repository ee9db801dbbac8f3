"""A folder of downloads made fit for use: nothing broken, nothing tiny, nothing twice, everything plain RGB.

Nothing is deleted: what goes, goes into a quarantine folder beside, `<reason>/<its old path>`, with a line in its
`report.jsonl`. All pictures are judged before the first one is moved, and what a conversion will change is judged as it
will be, so that a second run finds nothing to do.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Literal

from PIL import Image

from imgret_tools.collect.net.guard import picture_kind
from imgret_tools.collect.steps.duplicates import (
    NEAR,
    NEAR_COSINE,
    Rows,
    Signatures,
    first_alike,
    matrix_of,
    signature,
    stack,
)
from imgret_tools.collect.steps.manifest import FILE_LIST, MANIFEST
from imgret_tools.collect.steps.meter import Cancelled, Meter, OnProgress, watch
from imgret_tools.errors import BadInput, CollectError, ImageError, Message, NotFound
from imgret_tools.files import atomic_write
from imgret_tools.pictures.exif import TURNS
from imgret_tools.pictures.find import content_hash
from imgret_tools.pictures.formats import SUFFIXES, suffix_of
from imgret_tools.pictures.open import open_picture
from imgret_tools.records import Record, quoted

Reason = Literal["not_an_image", "corrupt", "too_small", "duplicate", "near_duplicate", "converted"]

# What Hugging Face's imagefolder and torchvision's ImageFolder both take, by name and by content.
_PLAIN = frozenset({"JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF"})
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_LOSSY = frozenset({"JPEG", "MPO", "HEIF", "AVIF", "JPEG2000"})
_OWN = frozenset({MANIFEST, FILE_LIST})
# What loaders and trainers look for beside the pictures.
_DATA = frozenset({".csv", ".json", ".jsonl", ".md", ".parquet", ".tsv", ".xml", ".xmp", ".yaml", ".yml"})
_ABOUT = frozenset(
    {"classes.txt", "labels.txt", "licence", "licence.txt", "license", "license.txt", "readme", "readme.txt"}
)
_OF_A_PICTURE = frozenset({".caption", ".captions", ".npy", ".npz", ".tags", ".txt"})


@dataclass(frozen=True, slots=True)
class Finding(Record):
    """One file that was (or, in a dry run, would be) moved or converted. Paths are relative, `detail` says why."""

    path: str
    reason: Reason
    detail: str
    new_path: str = ""


@dataclass(frozen=True, slots=True)
class CleanReport(Record):
    """What cleaning did. `removed` went into quarantine; of `converted` the original went there, a new file stays.

    `near` is the largest hash distance of near-duplicates in bits of 64 (-1: not looked for), `cosine` the least cosine
    of embedding rows where a caller gave some, else None. `side_files` stay: lists, captions and notes of a data set.
    """

    folder: str
    quarantine: str
    checked: int
    kept: int
    removed: list[Finding]
    converted: list[Finding]
    reasons: dict[str, int]
    near: int
    cosine: float | None
    min_pixels: int
    seconds: float
    dry_run: bool = False
    cancelled: bool = False
    side_files: int = 0

    def __str__(self) -> str:
        would = "would be " if self.dry_run else ""
        reasons = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in self.reasons.items()) or "none"
        lines = [
            f"Checked {self.checked} files in {quoted(self.folder)}: {self.kept} {would}kept, "
            f"{len(self.removed)} {would}moved to {quoted(self.quarantine)} ({reasons}), "
            f"{len(self.converted)} {would}converted to plain RGB; {self.seconds:.1f} s.",
            f"Smallest side {self.min_pixels} px; near-duplicates: "
            + (f"hash distance at most {self.near} of 64" if self.near >= 0 else "not looked for")
            + (f", or embedding cosine at least {self.cosine}." if self.cosine is not None else "."),
        ]
        if self.cancelled:
            lines.append("Stopped: what was done is kept; run it again to go on.")
        lines += [f"{found.reason} {quoted(found.path)}: {found.detail}" for found in self.removed[:5]]
        if len(self.removed) > 5:
            lines.append(f"... and {len(self.removed) - 5} more")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Checked:
    """A file that was opened: why it goes, or what it is like as it will be kept."""

    path: str
    reason: Reason | None
    detail: str = ""
    digest: str = ""
    pixels: int = 0
    bytes: int = 0
    signature: Signatures | None = None
    convert: str = ""


def clean(
    folder: Path,
    *,
    quarantine: Path | None = None,
    min_pixels: int = 50,
    near: int = NEAR,
    rows: Rows | None = None,
    cosine: float = NEAR_COSINE,
    dry_run: bool = False,
    progress: OnProgress | None = None,
    cancelled: Cancelled | None = None,
) -> CleanReport:
    """Moves what is broken, tiny or there twice out of `folder`, and makes the rest 3-channel RGB files.

    Args:
        folder: any tree of pictures; hidden files and a download's own lists are left alone.
        quarantine: where things go; default: `<folder>-quarantine` beside it. It must not lie inside `folder`.
        min_pixels: least width and least height.
        near: largest difference of two near-duplicates' hashes, in bits of 64; -1 looks for exact copies only.
        rows: embedding rows (d,) by path relative to `folder` with `/`; pictures with a cosine of at least `cosine`
            are near-duplicates too.
        cosine: see `rows`.
        dry_run: report only, touch nothing.

    Lists and notes of a data set (metadata.csv, labels, XMP, ...) stay, and what is called like a picture (its caption)
    stays or goes with it. Of two near-duplicates the one with more pixels stays, then the larger file, then the first by name. See-through
    parts become white, animations their first picture, camera turns are applied; lossless pictures become PNG, others
    JPEG of quality 95.

    Raises:
        NotFound: there is no such folder. BadInput: a number out of range. CollectError: it cannot be written.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotFound("There is no folder {folder}; give one that holds pictures.", folder=folder)
    target = Path(quarantine) if quarantine else folder.resolve().with_name(f"{folder.resolve().name}-quarantine")
    if target.resolve().is_relative_to(folder.resolve()):
        raise BadInput(
            "The quarantine {target} lies inside {folder}; choose a folder outside of it.", target=target, folder=folder
        )
    if not -1 <= near <= 32 or min_pixels < 0 or not 0 < cosine <= 1:
        raise BadInput("near must be between -1 and 32, min_pixels at least 0, cosine above 0 and at most 1.")
    started = time.monotonic()
    files = list(_files(folder))
    side = _side_files(files)
    checked, stopped = _check_all(folder, [path for path in files if path not in side], min_pixels, progress, cancelled)
    removed = [Finding(c.path, c.reason, c.detail) for c in checked if c.reason is not None]
    good = [c for c in checked if c.reason is None]
    doubles = _duplicates(good, near, rows, cosine)
    gone = {found.path for found in doubles}
    along = _going_along([*removed, *doubles], [c.path for c in good if c.path not in gone], side, folder)
    beside = {found.path for found in along}
    removed = sorted((*removed, *doubles, *along), key=lambda found: found.path)
    converted = [Finding(c.path, "converted", c.convert) for c in good if c.convert and c.path not in gone]
    if not dry_run and not stopped:
        try:
            removed, converted, stopped = _act(folder, target, removed, converted, cancelled)
        except OSError as error:
            raise CollectError(
                "{folder} cannot be cleaned ({error}); what was moved so far is in {target}.",
                folder=folder,
                error=error,
                target=target,
            ) from error
    return CleanReport(
        folder=str(folder),
        quarantine=str(target),
        checked=len(checked),
        kept=len(checked) - len(removed) + sum(found.path in beside for found in removed),
        removed=removed,
        converted=converted,
        reasons=dict(sorted(Counter(str(found.reason) for found in removed).items())),
        near=near,
        cosine=cosine if rows else None,
        min_pixels=min_pixels,
        seconds=time.monotonic() - started,
        dry_run=dry_run,
        cancelled=stopped,
        side_files=len(side) - sum(found.path in beside for found in removed),
    )


def _files(folder: Path) -> Iterator[Path]:
    """Every file that is not hidden, in a hidden folder, a link, or a download's own list; sorted."""
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(here, name)
            own = name.startswith(".") or (name in _OWN and path.parent == folder)
            if not own and path.is_file() and not path.is_symlink():
                yield path


def _side_files(files: list[Path]) -> set[Path]:
    """The files that a data set needs beside its pictures: lists and notes, and what is called like a picture."""
    pictures = {(path.parent, path.stem) for path in files if suffix_of(path.name) in SUFFIXES}
    return {
        path
        for path in files
        if (suffix := suffix_of(path.name)) in _DATA
        or path.name.lower() in _ABOUT
        or (
            suffix in _OF_A_PICTURE
            and ((path.parent, path.stem) in pictures or (path.parent, Path(path.stem).stem) in pictures)
        )
    }


def _going_along(removed: list[Finding], staying: list[str], side: set[Path], folder: Path) -> list[Finding]:
    """The side files of pictures that go, unless a picture of the same name stays."""
    stay = {(PurePosixPath(path).parent, PurePosixPath(path).stem) for path in staying}
    gone = {(PurePosixPath(found.path).parent, PurePosixPath(found.path).stem): found for found in removed}
    found = []
    for path in sorted(side):
        inside = PurePosixPath(path.relative_to(folder).as_posix())
        for stem in (inside.stem, PurePosixPath(inside.stem).stem):
            picture = gone.get((inside.parent, stem))
            if picture is not None and (inside.parent, stem) not in stay:
                found.append(Finding(str(inside), picture.reason, Message("belongs to {path}", path=picture.path)))
                break
    return found


def _check_all(
    folder: Path, files: list[Path], min_pixels: int, progress: OnProgress | None, cancelled: Cancelled | None
) -> tuple[list[_Checked], bool]:
    """Every file judged on its own, in path order, and whether the run was stopped before the last."""
    stop = threading.Event()
    meter = Meter("clean", len(files), progress)

    def one(path: Path) -> _Checked | None:
        if stop.is_set():
            return None
        found = _check(path, path.relative_to(folder).as_posix(), min_pixels)
        meter.tick(found.path)
        return found

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="clean") as pool:
        futures = [pool.submit(one, path) for path in files]
        watch(lambda: all(future.done() for future in futures), stop, cancelled, every=0.02)
        results = [future.result() for future in futures]
    return [found for found in results if found is not None], stop.is_set()


def _check(path: Path, name: str, min_pixels: int) -> _Checked:
    try:
        with path.open("rb") as file:
            kind = picture_kind(file.read(32))
        convert = _conversion(path) if kind else ""
        picture = open_picture(path, at_least=None if convert else 64)
        if min(picture.width, picture.height) < min_pixels:
            size = Message(
                "{width} x {height}, less than {min_pixels} on a side",
                width=picture.width,
                height=picture.height,
                min_pixels=min_pixels,
            )
            return _Checked(name, "too_small", size)
        image = (
            open_picture(_encoded(picture.image, path, convert), at_least=64).image
            if _recodes(convert)
            else picture.image
        )
    except (ImageError, OSError) as error:
        return _Checked(name, "corrupt" if kind else "not_an_image", str(error))
    return _Checked(
        name,
        None,
        digest=content_hash(path),
        pixels=picture.width * picture.height,
        bytes=path.stat().st_size,
        signature=signature(image),
        convert=convert,
    )


def _conversion(path: Path) -> str:
    """What must change for the file to be plain RGB under a common suffix, or ""."""
    try:
        with Image.open(path) as image:
            kind, mode, frames = image.format or "", image.mode, getattr(image, "n_frames", 1)
            turn = image.getexif().get(0x0112)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
    if kind not in _PLAIN or mode != "RGB" or (frames > 1 and kind != "MPO"):
        return f"{kind} {mode}" + (f" of {frames} frames" if frames > 1 else "")
    if turn in TURNS:  # most loaders do not look at the tag
        return f"{kind} turned by its tag ({turn})"
    return "" if path.suffix.lower() in _SUFFIXES else f"suffix {path.suffix or 'missing'} of a {kind}"


def _recodes(convert: str) -> bool:
    return bool(convert) and not convert.startswith("suffix ")


def _suffix(convert: str) -> str:
    kind = convert.rpartition(" ")[2] if not _recodes(convert) else convert.split(" ", 1)[0]
    if not _recodes(convert):
        return {"PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif"}.get(kind, ".jpg")
    return ".jpg" if kind in _LOSSY else ".png"


def _encoded(image: Image.Image, path: Path, convert: str) -> bytes:
    out = io.BytesIO()
    if _suffix(convert) == ".jpg":
        image.save(out, "JPEG", quality=95, subsampling=0)
    else:
        image.save(out, "PNG")
    return out.getvalue()


def _duplicates(good: list[_Checked], near: int, rows: Rows | None, cosine: float) -> list[Finding]:
    """The files to drop so that no two that stay are copies: each is compared with all better ones that stay."""
    order = sorted(range(len(good)), key=lambda i: (-good[i].pixels, -good[i].bytes, good[i].path))
    signatures = stack([c.signature for c in good])
    matrix = matrix_of(rows, [c.path for c in good])
    first: dict[str, str] = {}
    stay: list[int] = []
    found: list[Finding] = []
    for index in order:
        file = good[index]
        if file.digest in first:
            found.append(Finding(file.path, "duplicate", f"the same bytes as {first[file.digest]}"))
            continue
        first[file.digest] = file.path
        if alike := first_alike(index, stay, signatures, matrix, near=near, cosine=cosine):
            other, how = alike
            found.append(Finding(file.path, "near_duplicate", f"like {good[other].path}: {how}"))
        else:
            stay.append(index)
    return found


def _act(
    folder: Path, quarantine: Path, removed: list[Finding], converted: list[Finding], cancelled: Cancelled | None
) -> tuple[list[Finding], list[Finding], bool]:
    """Moves and converts, each with its line in the report first; returns what was done and whether it was stopped."""
    done: list[Finding] = []
    if not removed and not converted:
        return removed, converted, False
    quarantine.mkdir(parents=True, exist_ok=True)
    with (quarantine / "report.jsonl").open("a", encoding="utf-8", errors="surrogateescape") as report:
        for finding in (*removed, *converted):
            if cancelled is not None and cancelled():
                break
            source = folder / finding.path
            away = _free(quarantine / finding.reason / finding.path)
            stays = source
            if finding.reason == "converted":
                wanted = source.with_suffix(_suffix(finding.detail))
                same = source.suffix.lower() in (".jpeg", ".jpg") and wanted.suffix == ".jpg"
                stays = source if same or wanted == source else _free(wanted)
            moved = Finding(
                finding.path,
                finding.reason,
                finding.detail,
                stays.relative_to(folder).as_posix() if stays != source else away.relative_to(quarantine).as_posix(),
            )
            line = {
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                **moved.to_dict(),
                "quarantined": str(away),
            }
            report.write(json.dumps(line, ensure_ascii=False) + "\n")
            report.flush()
            away.parent.mkdir(parents=True, exist_ok=True)
            if finding.reason == "converted":
                _convert(source, stays, away, finding.detail)
            else:
                shutil.move(source, away)
            done.append(moved)
    count = len(removed)
    return (
        [found for found in done if found.reason != "converted"],
        [found for found in done if found.reason == "converted"],
        len(done) < count + len(converted),
    )


def _convert(source: Path, stays: Path, away: Path, detail: str) -> None:
    """Puts the plain RGB file at `stays` and the original at `away`; killed in between, both are there."""
    if not _recodes(detail):
        shutil.copy2(source, away)
        source.rename(stays)
        return
    data = _encoded(open_picture(source).image, source, detail)
    try:
        os.link(source, away)
    except OSError:
        shutil.copy2(source, away)
    with atomic_write(stays) as file:
        file.write(data)
    if stays != source:
        source.unlink()


def _free(path: Path) -> Path:
    """`path`, or the first of `name-2`, `name-3`... that is not taken."""
    number, free = 2, path
    while os.path.lexists(free):
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return free
