"""The course: four lessons in two languages, as notebooks and as one report, on the demo library or on a folder of one's own.

A lesson is one Markdown file in `lessons/`: text in both languages, code once. `lesson` reads and runs them, `lab` is what
their code uses, `shop` is the site that the last one collects from, `report` draws what a run showed.
"""

from __future__ import annotations

from imgret_tools.course.lab import Course, open_course

__all__ = ["Course", "open_course"]
