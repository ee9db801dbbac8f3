"""Uploaded pictures, or a zip of them, as a folder to index. Nothing is ever written outside that folder."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from imgret_tools.errors import BadInput
from imgret_tools.pictures.formats import SUFFIXES

MAX_FILES = 20_000
MAX_BYTES = 2_000_000_000
MAX_RATIO = 100


def unpack(files: Sequence[str], folder: Path) -> Path:
    """Put uploaded files into `folder`; of a zip only pictures, under the sub-folder that becomes their label.

    Raises:
        BadInput: a zip that is broken, or would unpack to more than it should.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in files:
        source = Path(name)
        if source.suffix.lower() == ".zip":
            _unzip(source, folder)
        else:
            shutil.copyfile(source, folder / source.name)
    return folder


def _unzip(archive: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if _wanted(member)]
            size = sum(member.file_size for member in members)
            if len(members) > MAX_FILES or size > MAX_BYTES or size > MAX_RATIO * max(archive.stat().st_size, 1):
                raise BadInput(
                    f"Zip {archive.name} would unpack to {len(members)} pictures of {size / 1e6:.0f} MB; "
                    f"at most {MAX_FILES} of {MAX_BYTES / 1e6:.0f} MB are taken. Split it, or index a folder."
                )
            for member in members:
                parts = PurePosixPath(member.filename.replace("\\", "/")).parts
                # Only the last folder's name and the file's own name are used, so no path leads out.
                label = parts[-2] if len(parts) > 1 and parts[-2] not in ("..", "/", ".") else ""
                target = folder / label.replace(":", "_") / parts[-1].replace(":", "_")
                target.parent.mkdir(exist_ok=True)
                with opened.open(member) as source, target.open("wb") as out:
                    shutil.copyfileobj(source, out)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError) as error:
        raise BadInput(f"Zip {archive.name} cannot be read ({error}); make it anew, without a password.") from error


def _wanted(member: zipfile.ZipInfo) -> bool:
    name = PurePosixPath(member.filename.replace("\\", "/")).name
    return not member.is_dir() and PurePosixPath(name).suffix.lower() in SUFFIXES and not name.startswith(".")
