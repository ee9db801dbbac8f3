"""Uploaded pictures, or a zip of them, as a folder to index. Nothing is ever written outside that folder."""

from __future__ import annotations

import filecmp
import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from imgret_tools.errors import BadInput, ImageError
from imgret_tools.pictures.apart import check_file
from imgret_tools.pictures.find import system_folder
from imgret_tools.pictures.formats import HEAD, OTHERS, SUFFIXES, format_of, suffix_of
from imgret_tools.pictures.open import open_picture

MAX_FILES = 20_000
MAX_BYTES = 2_000_000_000
MAX_RATIO = 100
MAX_MEGAPIXELS = 200

TAKEN = sorted({*SUFFIXES, ".zip"})
"""The suffixes that a file chooser offers."""

_SHOWN_BY_BROWSERS = frozenset({"JPEG", "PNG", "GIF", "WEBP", "BMP", "AVIF", "SVG", "ICO"})
_SIDE = 1600


def unpack(files: Sequence[str], folder: Path) -> Path:
    """Put uploaded files into `folder`; of a zip only pictures, under the sub-folder that becomes their label.

    Two files of one name both stay, the second as `name-2`; the same file again stays one.

    Raises:
        BadInput: a zip that is broken, or would unpack to more than it should.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in files:
        source = Path(name)
        if source.suffix.lower() == ".zip":
            _unzip(source, folder)
        else:
            with _arriving(folder / source.name) as part:
                shutil.copyfile(source, part)
    return folder


def showable(upload: str | None) -> str | None:
    """The file to show of an uploaded picture: itself, or beside it a PNG of what browsers do not show (HEIC, TIFF, ...).

    The PNG is upright, in sRGB, without loss, and at most 1600 pixels on its longer side. A file that cannot be opened
    is given back as it is: the search says what is wrong with it.
    """
    if not upload:
        return None
    path = Path(upload)
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
        if format_of(head) in _SHOWN_BY_BROWSERS:
            return upload
        check_file(path, max_megapixels=MAX_MEGAPIXELS)
        image = open_picture(path, max_megapixels=MAX_MEGAPIXELS).image
        image.thumbnail((_SIDE, _SIDE))
        preview = path.with_name(f"{path.name}.preview.png")
        image.save(preview, compress_level=1)
    except (ImageError, OSError):
        return upload
    return str(preview)


def _unzip(archive: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if _wanted(member)]
            size = sum(member.file_size for member in members)
            if len(members) > MAX_FILES or size > MAX_BYTES or size > MAX_RATIO * max(archive.stat().st_size, 1):
                raise BadInput(
                    "Zip {name} would unpack to {count} pictures of {size:.0f} MB; at most {max_files} of "
                    "{max_bytes:.0f} MB are taken. Split it, or index a folder.",
                    name=archive.name,
                    count=len(members),
                    size=size / 1e6,
                    max_files=MAX_FILES,
                    max_bytes=MAX_BYTES / 1e6,
                )
            for member in members:
                parts = _parts(member)
                # Only the last folder's name and the file's own name are used, so no path leads out.
                label = parts[-2] if len(parts) > 1 and parts[-2] not in ("..", "/", ".") else ""
                target = folder / label.replace(":", "_") / parts[-1].replace(":", "_")
                with opened.open(member) as source:
                    head = source.read(HEAD)
                    if suffix_of(target.name) not in SUFFIXES and not format_of(head):
                        continue
                    target.parent.mkdir(exist_ok=True)
                    with _arriving(target) as part:
                        with part.open("wb") as out:
                            out.write(head)
                            shutil.copyfileobj(source, out)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError) as error:
        raise BadInput(
            "Zip {name} cannot be read ({error}); make it anew, without a password.", name=archive.name, error=error
        ) from error


def _wanted(member: zipfile.ZipInfo) -> bool:
    """Whether a member may be a picture: no folder, not hidden, in no system folder, not named as something else."""
    *folders, name = _parts(member) or ("",)
    return not (
        not member.filename
        or member.is_dir()
        or not name
        or name.startswith(".")
        or suffix_of(name) in OTHERS
        or any(system_folder(folder) or (folder.startswith(".") and folder not in (".", "..")) for folder in folders)
    )


def _parts(member: zipfile.ZipInfo) -> tuple[str, ...]:
    """A member's path; names that a Mac or Linux wrote in UTF-8 without saying so are read as such."""
    name = member.filename
    if not member.flag_bits & 0x800:
        try:
            name = name.encode("cp437").decode()
        except UnicodeError:
            name = member.filename
    return PurePosixPath(name.replace("\\", "/")).parts


@contextmanager
def _arriving(target: Path) -> Iterator[Path]:
    """A place to write to; what was written gets the name `target`, or the first free one of `name-2`, `name-3`...

    The very same file under such a name stays the only one.
    """
    part = target.with_name(f".{target.name[:100]}.{os.getpid()}.part")
    try:
        yield part
        number, free = 2, target
        while os.path.lexists(free):
            if free.is_file() and filecmp.cmp(part, free, shallow=False):
                return
            free = target.with_name(f"{target.stem}-{number}{target.suffix}")
            number += 1
        part.rename(free)
    finally:
        part.unlink(missing_ok=True)
