"""Long runs: each in a thread of the app, seen by whoever opens the page meanwhile, with a wish to stop and errors as messages."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from html import escape
from typing import Generic, TypeVar

import gradio as gr

from imgret_tools.errors import ImgretError
from imgret_tools.records import Progress
from imgret_tools.ui.texts.messages import translated
from imgret_tools.ui.texts.table import Language, said

_Report = TypeVar("_Report")
Work = Callable[[Callable[[Progress], None], Callable[[], bool]], _Report]
"""What takes a while: called with where to tell progress and whom to ask whether to stop."""


class Run(Generic[_Report]):
    """One run, from its start on in a thread of its own; a visitor who leaves stops looking, not the run.

    Attributes:
        report: what it gave; None while it runs and where it failed.
        running: whether it has not ended yet.
    """

    def __init__(self, first: str, work: Work[_Report], told: Callable[[Language, _Report], str]) -> None:
        """`first` is the key of the text shown before there is progress; `told` says the report as HTML."""
        self.report: _Report | None = None
        self._first, self._work, self._told = first, work, told
        self._stop, self._changed = threading.Event(), threading.Condition()
        self._state: Progress | None = None
        self._error: BaseException | None = None
        self.running = True
        threading.Thread(target=self._go, daemon=True, name="imgret-run").start()

    def cancel(self) -> None:
        """Ask it to stop; it keeps what it has done."""
        self._stop.set()

    def shown(self, language: Language) -> Iterator[str]:
        """The HTML to show: the first text, progress as it comes (a slow page skips to the newest), then the report."""
        yield f"<p>{escape(said(language, self._first))}</p>"
        shown: Progress | None = None
        while True:
            with self._changed:
                while self.running and self._state is shown:
                    self._changed.wait()
                shown, running = self._state, self.running
            if not running:
                yield self._end(language)
                return
            if shown is not None:
                yield _bar(language, shown)

    def _go(self) -> None:
        try:
            self.report = self._work(self._tell, self._stop.is_set)
        except BaseException as error:
            self._error = error
        with self._changed:
            self.running = False
            self._changed.notify_all()

    def _tell(self, state: Progress) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()

    def _end(self, language: Language) -> str:
        if isinstance(self._error, ImgretError):
            return f"<p role='alert'>{escape(translated(language, self._error))}</p>"
        if self._error is not None:
            raise self._error
        assert self.report is not None
        return self._told(language, self.report)


class Runs(Generic[_Report]):
    """The runs of one tab: those under way, and which of them each visitor sees."""

    def __init__(self) -> None:
        self._runs: list[Run[_Report]] = []
        self._seen: dict[str, Run[_Report]] = {}
        self._lock = threading.Lock()

    def start(self, first: str, work: Work[_Report], told: Callable[[Language, _Report], str]) -> Run[_Report]:
        """Begin a run, as `Run` takes it."""
        with self._lock:
            run = Run(first, work, told)
            self._runs = [*(one for one in self._runs if one.running), run]
            return run

    @property
    def latest(self) -> Run[_Report] | None:
        """The run that began last of those under way."""
        with self._lock:
            return next((run for run in reversed(self._runs) if run.running), None)

    def shown(self, language: Language, request: gr.Request, run: Run[_Report]) -> Iterator[str]:
        """What `Run.shown` gives, for a visitor who may cancel it meanwhile."""
        visitor = request.session_hash or ""
        self._seen[visitor] = run
        try:
            for html in run.shown(language):
                if self._seen.get(visitor) is not run:
                    return  # another one began meanwhile, which is shown in its place
                yield html
        finally:
            if self._seen.get(visitor) is run:
                del self._seen[visitor]

    def cancel(self, request: gr.Request, *, own: bool = False) -> None:
        """Ask the run that the visitor sees to stop, and where none is seen the latest, unless only `own` ones may be."""
        if (run := self._seen.get(request.session_hash or "") or (None if own else self.latest)) is not None:
            run.cancel()


def _bar(language: Language, state: Progress) -> str:
    share = 100 * min(1.0, state.done / max(state.total, 1))
    left = "–" if state.seconds_left is None else f"{state.seconds_left:.0f} s"
    text = said(language, "progress", done=state.done, total=state.total, rate=state.rate, left=left)
    return (
        f"<div class='imgret-bar' role='progressbar' aria-label='{escape(text)}' aria-valuenow='{share:.0f}'>"
        f"<i style='width:{share:.1f}%'></i></div><p>{escape(translated(language, state.stage))}: {escape(text)}</p>"
        f"<small>{escape(state.current)}</small>"
    )
