"""What Gradio keeps of a visitor, made small: it draws up the settings of every component for each new one.

Those settings serve deep links alone, which this app does not have. Without them a session costs some 20 kB and no time worth
naming; with them 0.3 MB and 50 ms of the event loop, and every call of the API by its name is a session of its own.
"""

from __future__ import annotations

from copy import copy
from typing import Any

from gradio.blocks import Blocks
from gradio.routes import App
from gradio.state_holder import SessionState, StateHolder


class Session(SessionState):
    """A visitor's state without the settings that a deep link is made of."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks_config = copy(blocks.default_config)
        self.config_values: dict[int, dict[str, Any]] = {}
        self.state_data: dict[int, Any] = {}
        self._state_ttl: dict[int, Any] = {}
        self.is_closed = False
        self.STATE_TTL_WHEN_CLOSED = 3600

    def __setitem__(self, key: int, value: Any) -> None:
        super().__setitem__(key, value)
        self.config_values.clear()

    def _update_config(self, key: int) -> None:
        """Nothing: there are no settings."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Nothing: there are no settings."""


class Sessions(StateHolder):
    """The visitors' states, the most recent ones."""

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = Session(self.blocks)
        return super().__getitem__(session_id)


def keep_little(mounted: App) -> None:
    """Let a mounted Gradio app make every visitor's state as `Session`, and count nothing for its page of statistics."""
    mounted.state_holder = Sessions()  # type: ignore[no-untyped-call]
    mounted.state_holder.set_blocks(mounted.get_blocks())
    queue = mounted.get_blocks()._queue
    setattr(queue, "compute_analytics_summary", lambda records: {"functions": {}})  # noqa: B010 - a method made anew
    queue.ANALYTICS_MAX_EVENTS = 1
