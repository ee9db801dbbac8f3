"""What one may filter and try in a library: its labels, months, cameras, sizes and folders, each with a count."""

from __future__ import annotations

from collections import Counter

from imgret_tools.library.filters import equal, parse_where
from imgret_tools.library.view import View
from imgret_tools.records import Entry
from imgret_tools.tools import ImageTools

FACETS = ("label", "taken", "camera", "size", "in_folder")
"""The choices of the form, in its order."""
_WIDTHS = (640, 1280, 1920, 3840)
_TRIED_WORDS, _TRIED_PICTURES = 3, 2


def facets(tools: ImageTools, view: View) -> dict[str, list[tuple[str, str]]]:
    """By facet, each choice with how many pictures it leaves, and the condition it stands for. A shared app tells no folders."""
    months: Counter[str] = Counter()
    for date, count in view.counts("taken").items():
        months.update({date[:4]: count, date[:7]: count})
    wide = {least: view.count(parse_where([f"width>={least}"])) for least in _WIDTHS}
    found = {
        "label": [(f"{name} ({count})", equal("label", name)) for name, count in view.counts("label").items()],
        "taken": [(f"{month} ({months[month]})", f"taken={month}") for month in sorted(months, reverse=True)],
        "camera": [(f"{name} ({count})", equal("camera", name)) for name, count in view.counts("camera").items()],
        "size": [(f"≥ {least} px ({count})", f"width>={least}") for least, count in wide.items() if count],
    }
    if not tools.runtime.settings.read_only:
        folders = view.counts("folder").items()
        found["in_folder"] = [(f"{name} ({count})", equal("folder", name)) for name, count in folders]
    return found


def to_try(view: View) -> tuple[list[str], list[Entry]]:
    """What one may begin with: words, the commonest labels, and pictures that are labelled otherwise where possible."""
    labels = sorted(view.labels().items(), key=lambda one: (-one[1], one[0]))
    words = [label for label, _ in labels[:_TRIED_WORDS]]
    of_others = [view.matching(parse_where([equal("label", label)])) for label, _ in labels[_TRIED_WORDS:]]
    numbers = [int(one[0]) for one in of_others[:_TRIED_PICTURES] if len(one)] or view.sorted_by(
        "newest", (), k=_TRIED_PICTURES
    )
    return words, view.entries(numbers)
