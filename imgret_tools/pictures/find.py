"""Pictures found in a folder, with what was passed over and why."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from imgret_tools.errors import BadInput, NotFound, own_words
from imgret_tools.pictures.open import SUFFIXES, kind_of_file
from imgret_tools.records import Failure, quoted


@dataclass(frozen=True, slots=True)
class FoundImage:
    """A file to index: `bytes` long, its content last changed at `mtime` ns, its inode at `ctime` ns."""

    path: Path
    bytes: int
    mtime: int
    ctime: int = 0


@dataclass(frozen=True, slots=True)
class Scan:
    """What a folder holds, sorted by path; letter case decides only between equals.

    `others` counts the files that are no pictures by their suffix.
    """

    images: list[FoundImage]
    skipped: list[Failure]
    others: int


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A file or folder that is not indexed, and why; `reason` is empty for what is no picture by its suffix."""

    path: str
    reason: str = ""
    folder: bool = False


def walk(folder: Path, *, leave_out: Collection[Path] = ()) -> Iterator[FoundImage | PassedOver]:
    """Every file under `folder`, one at a time in memory: pictures to index, and what is passed over with its reason.

    Folders and files come sorted by name; letter case decides only between equals.

    Hidden names (a leading dot), empty files, pipes, sockets and devices are skipped. Links to files inside `folder`
    are followed, links that leave it are not; links to folders never are, so a cycle cannot trap the walk.

    Args:
        folder: where to look.
        leave_out: real paths of folders to pass over without a word, such as our own data folder.

    Raises:
        NotFound: there is no such folder.
        BadInput: it is a file, or may not be read.
    """
    if not os.path.lexists(folder):
        raise NotFound(f"No folder at {quoted(str(folder))}; give the path of an existing folder with pictures.")
    if not folder.is_dir():
        raise BadInput(f"{quoted(str(folder))} is not a folder; give the folder that holds the pictures.")
    try:
        root, top = folder.resolve(), _listed(folder)
    except OSError as error:
        raise BadInput(
            f"The folder {quoted(str(folder))} cannot be read ({own_words(error)}); grant access or choose another."
        ) from error
    own = {str(path) for path in leave_out}
    pending = top[::-1]
    while pending:
        entry = pending.pop()
        verdict = _judged(entry, root)
        if isinstance(verdict, FoundImage):
            yield verdict
        elif isinstance(verdict, str):
            yield PassedOver(_printable(entry.path), verdict, entry.is_dir(follow_symlinks=False))
        elif verdict is not _FOLDER:
            yield PassedOver(_printable(entry.path))
        elif not own or str(Path(entry.path).resolve()) not in own:
            try:
                pending += _listed(Path(entry.path))[::-1]
            except OSError as error:
                yield PassedOver(_printable(entry.path), f"unreadable folder: {own_words(error)}", folder=True)


def find_images(folder: Path, *, leave_out: Collection[Path] = ()) -> Scan:
    """What `walk` finds, as lists; for folders that fit in memory."""
    scan = Scan([], [], 0)
    others = 0
    for found in walk(folder, leave_out=leave_out):
        if isinstance(found, FoundImage):
            scan.images.append(found)
        elif found.reason:
            scan.skipped.append(Failure(path=found.path, reason=found.reason))
        else:
            others += 1
    return replace(scan, others=others)


_FOLDER = object()


def _judged(entry: os.DirEntry[str], root: Path) -> FoundImage | str | object | None:
    """A picture, a reason to skip, `_FOLDER` to walk into, or None for a file that is no picture."""
    is_picture = Path(entry.name).suffix.lower() in SUFFIXES
    hidden = entry.name.startswith(".")
    try:
        if entry.is_symlink():
            if entry.is_dir():
                return f"link to a folder ({_printable(str(Path(entry.path).readlink()))}); index that folder itself"
            if not is_picture:
                return None
            if not Path(entry.path).resolve(strict=True).is_relative_to(root):
                return f"link leaving the folder ({_printable(str(Path(entry.path).readlink()))})"
        elif entry.is_dir():
            return "hidden folder" if hidden else _FOLDER
        if not is_picture:
            return None
        if hidden:
            return "hidden"
        facts = entry.stat()
        if not stat.S_ISREG(facts.st_mode):
            return f"not a regular file but {kind_of_file(facts.st_mode)}"
        if facts.st_size == 0:
            return "empty (zero bytes)"
        entry.path.encode()
    except UnicodeEncodeError:
        return "the name is not valid UTF-8; rename the file"
    except FileNotFoundError:
        return "link to nothing" if entry.is_symlink() else "vanished while the folder was read"
    except (OSError, RuntimeError) as error:
        return f"unreadable: {own_words(error)}"
    return FoundImage(Path(entry.path), facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: (entry.name.casefold(), entry.name))


def _printable(path: str) -> str:
    return path.encode(errors="surrogateescape").decode(errors="replace")


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits. Raises OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
