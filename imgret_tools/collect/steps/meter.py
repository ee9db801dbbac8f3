"""Progress of a long run: a counter that knows its rate, safe in threads, and a stop signal fed by a callback."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from imgret_tools.records import Progress

OnProgress = Callable[[Progress], None]
Cancelled = Callable[[], bool]


class Meter:
    """Counts finished items and reports each; `total` may grow. Reports come one at a time, in order."""

    def __init__(self, stage: str, total: int, report: OnProgress | None) -> None:
        self.stage, self.total, self.done = stage, total, 0
        self._report = report
        self._started = time.monotonic()
        self._lock = threading.Lock()

    def tick(self, current: str = "", *, items: int = 1) -> None:
        """Counts `items` more as done and reports."""
        with self._lock:
            self.done += items
            if self._report is None:
                return
            rate = self.done / max(time.monotonic() - self._started, 1e-6)
            left = (self.total - self.done) / rate if rate and self.total >= self.done else None
            self._report(Progress(self.stage, self.done, self.total, rate, left, current))


def watch(
    finished: Callable[[], bool], stop: threading.Event, cancelled: Cancelled | None, *, every: float = 0.05
) -> None:
    """Waits until `finished()`; sets `stop` when `cancelled()` or on Ctrl-C (which is raised again), then waits on."""
    interrupt: KeyboardInterrupt | None = None
    while not finished():
        try:
            if cancelled is not None and not stop.is_set() and cancelled():
                stop.set()
            time.sleep(every)
        except KeyboardInterrupt as error:
            if interrupt is not None:
                raise
            interrupt = error
            stop.set()
    if interrupt is not None:
        raise interrupt
