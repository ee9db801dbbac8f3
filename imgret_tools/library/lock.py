"""Locks between processes that name their holder: one for writing a library, one for having its Chroma folder open."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from imgret_tools.errors import LibraryLocked
from imgret_tools.library.faults import said_plainly

_POLL = 0.05


class FolderLock:
    """A lock file `NAME.lock` in a folder, held by one process at a time; the system frees it when its holder dies."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._note = folder, folder / f"{name}.holder"
        self._lock = FileLock(folder / f"{name}.lock", thread_local=False)

    @property
    def held(self) -> bool:
        """Whether this object holds it."""
        return bool(self._lock.is_locked)

    def acquire(self, doing: str, *, wait: float, subject: str, give_up: Callable[[], bool] = lambda: False) -> None:
        """Take the lock within `wait` seconds.

        Args:
            doing: what for; the refusal in another process names it.
            wait: seconds to wait for another holder.
            subject: what is locked, as the refusal calls it.
            give_up: asked while waiting.

        Raises:
            LibraryLocked: another process holds it; with that process's name.
            StorageError: the folder cannot be written to.
        """
        until = time.monotonic() + wait
        with said_plainly(self._folder):
            while True:
                try:
                    self._lock.acquire(timeout=0)
                    break
                except Timeout:
                    if time.monotonic() >= until or give_up():
                        raise LibraryLocked(
                            "{subject} is in use by {holder}; wait until it is done or stop it, then try again.",
                            subject=subject,
                            holder=self.holder(),
                        ) from None
                    time.sleep(_POLL)
            program = Path(sys.argv[0] or "python").name
            self._note.write_text(
                f"process {os.getpid()} ({program}, {doing} since {time.strftime('%H:%M:%S')})\n", "utf-8"
            )

    def holder(self) -> str:
        """Who holds it, as written by themselves."""
        try:
            return self._note.read_text("utf-8", "replace").strip() or "another process"
        except OSError:
            return "another process"

    def release(self) -> None:
        """Give it back; nothing happens when it is not held."""
        self._lock.release(force=True)
