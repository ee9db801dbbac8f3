"""What goes wrong below a library, said in its user's words: SQLite, the disk, the operating system, Chroma.

One table for all of them, so that no raw error of theirs passes a library's methods and none gets a wrong remedy: a full
disk is not a damaged library.
"""

from __future__ import annotations

import errno
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imgret_tools.errors import (
    ImgretError,
    LibraryDamaged,
    LibraryError,
    LibraryLocked,
    Message,
    StorageError,
    own_words,
)

_log = logging.getLogger(__name__)

REPAIR = Message("`imgret doctor --rebuild` repairs what can be repaired")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


def plain(error: BaseException, home: Path) -> LibraryError:
    """The library's error for `error`, met while working in the folder `home`."""
    if isinstance(error, sqlite3.Error):
        return _of_sqlite(error, home)
    if isinstance(error, OSError):
        return _of_disk(error, home)
    return LibraryError(
        "The library at {home} cannot be used ({reason}); {repair}.", home=home, reason=own_words(error), repair=REPAIR
    )


def _of_disk(error: OSError, home: Path) -> LibraryError:
    where = error.filename or home
    if error.errno in _FULL:
        return full(home)
    if error.errno in _NOT_WRITABLE:
        return not_writable(home)
    if error.errno == errno.ENOENT:
        return LibraryDamaged("{where}, a file of the library, is missing; {repair}.", where=where, repair=REPAIR)
    return StorageError(
        "{where} cannot be used ({reason}); check the disk, then try again.", where=where, reason=own_words(error)
    )


def _of_sqlite(error: sqlite3.Error, home: Path) -> LibraryError:
    words, code = own_words(error), (getattr(error, "sqlite_errorname", "") or "")
    if code.startswith("SQLITE_FULL") or "disk is full" in words:
        return full(home)
    if code.startswith(("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_CANTOPEN")):
        return not_writable(home)
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return LibraryLocked(
            "The library at {home} is being written by another process; try again in a moment.", home=home
        )
    if code.startswith("SQLITE_IOERR"):
        return StorageError(
            "The disk refused the library at {home} ({words}); check it, then try again.", home=home, words=words
        )
    return LibraryDamaged(
        "The catalogue of the library at {home} is damaged ({words}); {repair}.", home=home, words=words, repair=REPAIR
    )


def full(home: Path) -> StorageError:
    """The disk is full."""
    return StorageError(
        "There is no space left on the disk of {home}; make room and run it again: what was done is kept.", home=home
    )


def not_writable(home: Path) -> StorageError:
    """The folder cannot be written."""
    return StorageError(
        "The library folder {home} cannot be written to (read-only, or not yours); searching works, for "
        "changes make it writable or choose another IMGRET_DATA_DIR.",
        home=home,
    )


@contextmanager
def said_plainly(home: Path) -> Iterator[None]:
    """Turn what SQLite and the operating system raise inside into a library's error; ours pass as they are."""
    try:
        yield
    except ImgretError:
        raise
    except (sqlite3.Error, OSError) as error:
        _log.debug("in %s", home, exc_info=True)
        raise plain(error, home) from error
