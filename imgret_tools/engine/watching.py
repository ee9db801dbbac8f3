"""Follow a folder: an index run at once, and one after each time it has changed and been quiet.

The folder is watched before the first run, so that nothing changes unseen between two of them. A run that finds the library
in use is tried again until it is free; a folder that goes and comes back is watched again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from imgret_tools.errors import BadInput, LibraryLocked, NoPictures, NotFound, own_words
from imgret_tools.records import IndexReport, quoted

QUIET = 500
"""Milliseconds without a change after which a run is due: files of one copy are one run."""
_AT_MOST = 10_000
"""Milliseconds after the first change when it is due, however busy the folder is."""
TICK = 500
"""Milliseconds between two looks at `stop`."""
RETRY = 2.0
"""Seconds after which a run that found the library in use is tried again."""


def follow(
    folder: Path,
    run: Callable[[], IndexReport],
    *,
    poll: float = 0.0,
    leave_out: Collection[Path] = (),
    stop: Callable[[], bool],
) -> Iterator[IndexReport | str]:
    """Call `run` now and after every change below `folder`, until `stop` says so.

    Args:
        folder: which folder; it has to be there at the start.
        run: brings the library up to date with it.
        poll: seconds between two looks at all its files, for network drives, which send no events; 0 waits for events.
        leave_out: folders whose changes do not count, such as our own data folder.
        stop: asked twice a second, and by `run` itself.

    Yields:
        The report of each run, or a sentence that says what a run waits for.

    Raises:
        NotFound: there is no such folder at the start.
        BadInput: the folder cannot be watched.
        ImgretError: what `run` raises, but for a library in use and a folder that is empty or gone: these are waited for.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise NotFound(
            "No folder at {folder}; give the path of an existing folder to watch.", folder=quoted(str(folder))
        )
    due, not_before, waits = False, 0.0, False
    for changed in _changes(folder, poll, [path.resolve() for path in leave_out]):
        due = due or changed
        if stop():
            return
        if not due or time.monotonic() < not_before:
            continue
        try:
            report = run()
        except LibraryLocked as error:
            not_before = time.monotonic() + RETRY
            if not waits:
                yield f"{error} Trying again every {RETRY:.0f} s."
            waits = True
        except (NoPictures, NotFound) as error:
            if isinstance(error, NotFound) and folder.is_dir():
                raise
            due = waits = False
            yield f"{error} Waiting for pictures."
        else:
            due = waits = False
            yield report
        if stop():
            return


def _changes(folder: Path, poll: float, leave_out: Collection[Path]) -> Iterator[bool]:
    """True at once and after each change, False at least every `TICK` ms in between."""
    import watchfiles
    from watchfiles._rust_notify import WatchfilesRustInternalError

    own = tuple(f"{path}{os.sep}" for path in leave_out)

    def counts(_: object, path: str) -> bool:
        return not f"{path}{os.sep}".startswith(own)

    gone = False
    while True:
        watched = _identity(folder)
        if watched is None:  # look out for its return
            yield not gone
            gone = True
            time.sleep(TICK / 1000)
            continue
        opened, gone = True, False
        try:
            for changes in watchfiles.watch(
                folder,
                watch_filter=counts,
                debounce=_AT_MOST,
                step=QUIET,
                rust_timeout=TICK,
                yield_on_timeout=True,
                force_polling=poll > 0 or None,
                poll_delay_ms=max(1, round(poll * 1000)),
                ignore_permission_denied=True,
            ):
                yield opened or bool(changes)
                opened = False
                if _identity(folder) != watched:
                    break
        except (OSError, WatchfilesRustInternalError) as error:
            if _identity(folder) == watched:
                raise BadInput(
                    "Folder {folder} cannot be watched for events ({words}); --poll 30 looks at its files every 30 seconds instead.",
                    folder=quoted(str(folder)),
                    words=own_words(error),
                ) from error


def _identity(folder: Path) -> tuple[int, int] | None:
    """Which folder it is, or None where there is none: another one after a drive has come back."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
