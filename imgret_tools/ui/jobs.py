"""Long runs of the page's visitors: in a thread, with a real progress bar, a wish to stop, and errors as messages."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from html import escape
from typing import TypeVar

import gradio as gr

from imgret_tools.errors import ImgretError
from imgret_tools.records import Progress
from imgret_tools.ui.texts.messages import translated
from imgret_tools.ui.texts.table import Language, said

_Report = TypeVar("_Report")
Work = Callable[[Callable[[Progress], None], Callable[[], bool]], _Report]
"""What takes a while: called with where to tell progress and whom to ask whether to stop."""


class Runs:
    """The runs of one tab, one a visitor."""

    def __init__(self) -> None:
        self._stops: dict[str, threading.Event] = {}

    def cancel(self, request: gr.Request) -> None:
        """Ask the visitor's run to stop; it keeps what it has done."""
        if stop := self._stops.get(request.session_hash or ""):
            stop.set()

    def shown(
        self,
        language: Language,
        request: gr.Request,
        first: str,
        work: Work[_Report],
        told: Callable[[_Report], str],
    ) -> Iterator[str]:
        """The HTML to show while `work` runs: `first`, then its progress, then what `told` makes of its report."""
        visitor = request.session_hash or ""
        stop = self._stops[visitor] = threading.Event()
        states: queue.Queue[Progress | Callable[[], str]] = queue.Queue()

        def run() -> None:
            try:
                report = work(states.put, stop.is_set)
                states.put(lambda: told(report))
            except ImgretError as error:
                message = f"<p role='alert'>{escape(translated(language, error))}</p>"
                states.put(lambda: message)
            except BaseException as error:
                states.put(_raiser(error))

        yield f"<p>{escape(first)}</p>"
        threading.Thread(target=run, daemon=True).start()
        # A visitor who leaves stops looking, not the run: it goes on to its end.
        while isinstance(state := states.get(), Progress):
            if states.empty():  # a slow page skips to the newest
                yield _bar(language, state)
        if self._stops.get(visitor) is stop:
            del self._stops[visitor]
        yield state()


def _raiser(error: BaseException) -> Callable[[], str]:
    def raise_it() -> str:
        raise error

    return raise_it


def _bar(language: Language, state: Progress) -> str:
    share = 100 * min(1.0, state.done / max(state.total, 1))
    left = "–" if state.seconds_left is None else f"{state.seconds_left:.0f} s"
    text = said(language, "progress", done=state.done, total=state.total, rate=state.rate, left=left)
    return (
        f"<div class='imgret-bar' role='progressbar' aria-label='{escape(text)}' aria-valuenow='{share:.0f}'>"
        f"<i style='width:{share:.1f}%'></i></div><p>{escape(translated(language, state.stage))}: {escape(text)}</p>"
        f"<small>{escape(state.current)}</small>"
    )
