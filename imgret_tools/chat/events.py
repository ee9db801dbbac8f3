"""What a page needs to know of a chat: the events of a turn, and how to ask. Who answers stands elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from imgret_tools.records import Progress
from imgret_tools.schemas import Report


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of the answer as it arrives."""

    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """A tool call that begins."""

    id: str
    name: str
    arguments: dict[str, object]


@dataclass(frozen=True, slots=True)
class Working:
    """How far a tool call has come."""

    id: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class Answered:
    """What a tool call came to: the text the model reads, and the record unless it failed."""

    id: str
    name: str
    text: str
    report: Report | None
    failed: bool


Event = Said | Called | Working | Answered


class Talk(Protocol):
    """One conversation."""

    def ask(self, text: str, picture: Path | None = None, *, cancelled: Callable[[], bool] = ...) -> Iterator[Event]:
        """One turn, event by event; a turn that fails or is left early leaves the talk as it was.

        `cancelled` is asked between calls and during long ones, which keep what they have done.
        """
